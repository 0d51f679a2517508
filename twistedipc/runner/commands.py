"""
The commands that tools print for other platforms: a line -> messages. Pure; used by ``printed``, which knows which
lines may be one.

- GitHub's: ``::group::NAME``, ``::endgroup::``, ``::error file=F,line=L,col=C,title=T::MESSAGE`` (``warning``,
  ``notice``), ``::add-mask::VALUE``; between ``::stop-commands::TOKEN`` and ``::TOKEN::`` no line is a command
- GitLab's: ``section_start:TIME:NAME[collapsed=true]\\r\\e[0KTITLE``, ``section_end:TIME:NAME\\r\\e[0K``
- Buildkite's: ``--- NAME``, ``+++ NAME``, ``~~~ NAME``, ``^^^ +++``

Nothing else is one, and no command does more than the messages of ``speech`` do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from twistedipc.builds.logs import MAX_NAME, MAX_REMARK, Annotation, Group
from twistedipc.runner.problems import cut, plain, relative
from twistedipc.runner.speech import Mask, Message

# The most characters of the token that makes lines commands again.
_MAX_TOKEN = 200

# One blank before the properties, so that a line of blanks takes linear time; further ones are trimmed with them.
_WORKFLOW = re.compile(r"[ \t]*::([A-Za-z][\w-]{0,30})(?:[ \t]([^\n]*?))?::(.*)", re.ASCII)
_SECTION = re.compile(
    r"(?:\x1b\[0?K)?section_(?P<what>start|end):\d{1,20}:(?P<id>[\w.-]{1,200})(?P<options>\[[^\]\r\n]{0,200}\])?"
    r"\r\x1b\[0?K",
    re.ASCII,
)
_BUILDKITE = re.compile(r"(---|\+\+\+|~~~) (.*)")
# Files in the heading of a difference, as git and diff write it.
_OF_DIFFERENCE = re.compile(r"[ab]/|/dev/null|\S+\t")

_ESCAPED = re.compile("%(0D|0A|25|3A|2C)", re.IGNORECASE)
_MEANT = {"0D": "\r", "0A": "\n", "25": "%", "3A": ":", "2C": ","}

_LEVELS: dict[str, Literal["notice", "warning", "error"]] = {"error": "error", "warning": "warning", "notice": "notice"}


class Command(msgspec.Struct):
    """What a line commands. ``rest``: what else is on it, which stays."""

    messages: list[Message] = []
    rest: bytes = b""
    heading: Group | None = None  # it begins this group, unless the next line says that it is no command


class Commands:
    """
    The commands of one step. ``tops`` are the folders that paths in them are made relative to, each with "/" at its
    end.
    """

    def __init__(self, tops: Sequence[str] = ()) -> None:
        self._tops = tops
        self._until = ""  # the token that makes lines commands again
        self._section = ""  # of GitLab, that is open

    @property
    def stopped(self) -> bool:
        """Whether no line is a command now but the one that makes lines commands again."""
        return bool(self._until)

    def take(self, line: bytes) -> Command | None:
        """Return what a line commands that looks like a command; None if it is none."""
        text = line.decode("utf-8", "replace").removesuffix("\r")
        if self._until:
            if text.strip() == f"::{self._until}::":
                self._until = ""
            return None
        if text.startswith("^^^"):
            return Command() if text.strip() == "^^^ +++" else None
        if (match := _BUILDKITE.fullmatch(text)) is not None:
            return _buildkite(match[1], plain(match[2]).strip())
        if (match := _SECTION.match(text)) is not None:
            return self._sections(match, text)
        if (match := _WORKFLOW.fullmatch(text)) is not None:
            return self._workflow(match[1].lower(), match[2] or "", match[3])
        return None

    def _workflow(self, name: str, properties: str, data: str) -> Command | None:
        value = _unescaped(data)
        if name == "group":
            return Command([_group(value)]) if value.strip() else None
        if name == "endgroup":
            return Command([Group("")])
        if name == "add-mask":
            return Command([Mask(value)])
        if name in _LEVELS:
            return self._remark(_LEVELS[name], properties, value)
        if name == "stop-commands" and 0 < len(value.strip()) <= _MAX_TOKEN:
            self._until = value.strip()
        return None

    def _remark(self, level: Literal["notice", "warning", "error"], properties: str, message: str) -> Command | None:
        said = {}
        for each in properties.split(","):
            key, _, value = each.partition("=")
            said[key.strip().lower()] = _unescaped(value).strip()
        if title := said.get("title"):
            message = f"{title}: {message}" if message else title
        if not message.strip():
            return None
        file = relative(said.get("file", ""), self._tops)
        line = _number(said.get("line", "")) if file else 0
        column = _number(said.get("col", "") or said.get("column", "")) if line else 0
        return Command([Annotation(level, cut(message, MAX_REMARK), file, line, column)])

    def _sections(self, match: re.Match[str], text: str) -> Command:
        """Return what one section of GitLab commands, or several on a line: where one ends, another may begin."""
        messages: list[Message] = []
        while True:
            text = text[match.end() :]
            if match["what"] == "start":
                self._section = match["id"]
                folded = "collapsed=true" in (match["options"] or "").replace(" ", "")
                return Command([*messages, _group(text if plain(text).strip() else match["id"], folded=folded)])
            if match["id"] == self._section:
                self._section = ""
                messages.append(Group(""))
            more = _SECTION.match(text)
            if more is None:
                return Command(messages, rest=text.encode() + b"\n" if plain(text).strip() else b"")
            match = more


def _buildkite(mark: str, name: str) -> Command | None:
    if not any(character.isalnum() for character in name) or _OF_DIFFERENCE.match(name) is not None:
        return None
    group = _group(name, folded=mark == "~~~")
    return Command(heading=group) if mark == "---" else Command([group])


def _group(name: str, *, folded: bool = False) -> Group:
    # Blanks within a line stay as they are: a secret that has several is hidden as it is spelt.
    return Group(cut(" ".join(line.strip() for line in plain(name).splitlines() if line.strip()), MAX_NAME), folded)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: _MEANT[match[1].upper()], text) if "%" in text else text


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
