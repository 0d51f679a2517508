"""
What tools print that means something to other platforms: a step's output -> the same output and messages, in their
order. No I/O; used by ``interleaving``.

These lines are *commands*. Each is taken out of the output, and its message stands in its place:

- GitHub's: ``::group::NAME``, ``::endgroup::``, ``::error file=F,line=L,col=C,title=T::MESSAGE`` (``warning``,
  ``notice``), ``::add-mask::VALUE``; between ``::stop-commands::TOKEN`` and ``::TOKEN::`` no line is a command
- GitLab's: ``section_start:TIME:NAME[collapsed=true]\\r\\e[0KTITLE``, ``section_end:TIME:NAME\\r\\e[0K``
- Buildkite's: ``--- NAME``, ``+++ NAME``, ``~~~ NAME``, ``^^^ +++``

Nothing else is one, and no command does more than the messages of ``speech`` do. Errors that tools print (``problems``)
stay in the output, and their messages come right behind them.

A line is a command only as a whole. One that may become one is kept back until its end, at most `MAX_HELD` bytes of it;
all other output passes at once. Output in which nothing looks like a command or a problem costs four searches in C.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from twistedipc.builds.logs import MAX_NAME, MAX_REMARK, Annotation, Group
from twistedipc.runner.problems import ABOVE, MAX_LINE, NEEDLES, NEEDLES_BEYOND_ASCII, Problems, cut, plain, relative
from twistedipc.runner.speech import Mask, Message

#: The most bytes of a line that are kept back, since it may become a command. A longer line is none.
MAX_HELD = 16 * 1024

#: The most problems of a step that become annotations, and the most of its lines that are looked at for them. Then its
#: output is no longer searched for any.
MAX_PROBLEMS = 1000
MAX_LOOKS = 200_000

# Bytes of the last lines that are remembered: a problem's file may be said above it.
_RECENT = 2048

# The most characters of the token that makes lines commands again.
_MAX_TOKEN = 200

# What begins the line of a command; and what may be the beginning of that, at the end of what has come.
_BEGINNING = re.compile(
    rb"[ \t]{0,64}::[A-Za-z]|(?:\x1b\[0?K)?section_(?:start|end):|(?:---|\+\+\+|~~~) \S|\^\^\^ \+\+\+"
)
_MAYBE = re.compile(
    rb"(?:[ \t]{0,64}:{0,2}|[ \t]{0,64}::[A-Za-z][^\n]*"
    rb"|(?:\x1b(?:\[(?:0?K?)?)?)?(?:s(?:e(?:c(?:t(?:i(?:o(?:n(?:_[^\n]*)?)?)?)?)?)?)?)?"
    rb"|-{1,3}|\+{1,3}|~{1,3}|(?:---|\+\+\+|~~~) [^\n]*|\^{1,3}|\^\^\^ [^\n]*)\Z"
)
# The same behind a newline. The newline is a literal, which makes the search one in C.
_COMMAND = re.compile(rb"\n(?=" + _BEGINNING.pattern + rb")")

_WORKFLOW = re.compile(r"[ \t]*::([A-Za-z][\w-]{0,30})(?:[ \t]+([^\n]*?))?::(.*)", re.ASCII)
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

# Patterns, since `re` looks for a literal faster than `bytes.find` does.
_NEEDLES = [re.compile(re.escape(needle.encode())) for needle in NEEDLES]
_ALL_NEEDLES = [*_NEEDLES, *(re.compile(re.escape(needle.encode())) for needle in NEEDLES_BEYOND_ASCII)]

Part = bytes | list[Message]


class _Command(msgspec.Struct):
    """What a line commands. ``rest``: what else is on it, which stays."""

    messages: list[Message] = []
    rest: bytes = b""
    heading: Group | None = None  # it begins this group, unless the next line says that it is no command


class _Out:
    """What becomes of some data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0  # what is before it has been dealt with
        self.parts: list[Part] = []

    def to(self, end: int) -> None:
        """Let the data pass up to there."""
        if end > self.at:
            self.parts.append(self._data[self.at : end])
            self.at = end

    def add(self, part: Part) -> None:
        """Add something that stands here."""
        if part:
            self.parts.append(part)


class Printed:
    """
    The output of one step. ``tops`` are the folders that paths in it are made relative to, the deepest first, each with
    "/" at its end.
    """

    def __init__(self, tops: Sequence[str] = ()) -> None:
        self._tops = tops
        self._problems = Problems(tops)
        self._left = MAX_PROBLEMS
        self._looks = MAX_LOOKS
        self._held = b""  # the beginning of a line that may be a command
        self._begun = b""  # the beginning of a line that is none, and has passed
        self._passing = False  # whether the line goes on whose beginning has passed, however long
        self._hiding = False  # whether the rest of a line is left out: its value is too long to be hidden
        self._recent = b""  # the last lines
        self._until = ""  # the token that makes lines commands again
        self._section = ""  # of GitLab, that is open
        self._heading: tuple[bytes, Group] | None = None  # "--- NAME", which may yet be the first line of a difference

    @property
    def holds(self) -> bool:
        """Whether `release` would give something."""
        return self._heading is not None

    def feed(self, data: bytes) -> list[Part]:
        """Take the next bytes of output. Return output and messages in their order."""
        if self._hiding:
            end = data.find(b"\n") + 1
            if not end:
                return []
            self._hiding = False
            data = data[end:]
        begins = not self._passing  # whether the data begins with a line's beginning
        data, self._held = self._held + data, b""
        end = data.rfind(b"\n") + 1
        parts = self._lines(data, end, begins) if end else []
        if end:
            self._recent = self._before(end, data)
            self._begun = b""
            begins = True
            data = data[end:]
        if begins and data and _MAYBE.match(data) is not None:
            if len(data) <= MAX_HELD:
                self._held = data
            elif data.lstrip().startswith(b"::add-mask::"):
                parts.append([Mask(data.decode("utf-8", "replace"))])
                self._hiding = True
            data = b"" if self._held or self._hiding else data
        self._passing = bool(data) or not begins
        if data:
            self._begun = (self._begun + data)[: 4 * MAX_LINE + 1]
            parts += [*self._say_heading(), data]
        return parts

    def _before(self, place: int, data: bytes) -> bytes:
        """Return the last lines before a line that begins at a place in the data, as they are remembered."""
        if place == 0:
            return self._recent
        if place >= _RECENT:
            return data[place - _RECENT : place]
        return (self._recent + self._begun + data[:place])[-_RECENT:]

    def release(self) -> list[Part]:
        """Return the group that was held back: nothing has come for a while."""
        return self._say_heading()

    def finish(self) -> list[Part]:
        """Return what was held back: the output ends here."""
        line, self._held = self._held, b""
        parts: list[Part] = []
        command = self._command(line) if line else None
        if command is not None:
            parts += [*self._say_heading(), command.messages]
            if command.heading is not None:
                parts.append([command.heading])
            if command.rest:
                parts.append(command.rest)
        else:
            parts += self._say_heading()
            if line:
                parts.append(line)
            last = self._begun or line
            if last:
                parts.append(self._problems_of(last, 0, b""))
        parts.append(list(self._problems.finish()))
        return [part for part in parts if part]

    def _lines(self, data: bytes, end: int, begins: bool) -> list[Part]:
        """Return the whole lines of ``data[:end]``, with what they mean."""
        out = _Out(data)
        for start, stop in self._looked_at(data, end, self._starts(data, end, begins)):
            line = data[start:stop]
            whole = begins or start > 0
            command = self._command(line) if whole else None
            if self._heading is not None:
                out.to(start)
                if line.startswith(b"+++ "):  # both are of a difference
                    command = None
                    out.add(self._heading[0] + b"\n")
                    self._heading = None
                else:
                    out.parts += self._say_heading()
            if command is not None:
                out.to(start)
                out.at = stop + 1
                out.add(command.messages)
                out.add(command.rest)
                if command.heading is not None:
                    self._heading = (line, command.heading)
            elif messages := self._problems_of(line if whole else self._begun + line, start, data):
                out.to(stop + 1)
                out.add(messages)
        out.to(end)
        return out.parts

    def _looked_at(self, data: bytes, end: int, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """
        Yield where the lines begin and end that may mean something: those at ``starts``, and each behind a line that
        wants to know the next one.
        """
        at = 0
        while at < end:
            if not self._problems.waiting and self._heading is None:
                index = bisect_left(starts, at)
                if index == len(starts):
                    return
                at = starts[index]
            stop = data.index(b"\n", at)
            yield at, stop
            at = stop + 1

    def _say_heading(self) -> list[Part]:
        if self._heading is None:
            return []
        (_line, group), self._heading = self._heading, None
        return [[group]]

    # -- which lines are looked at --

    def _starts(self, data: bytes, end: int, begins: bool) -> list[int]:
        """Return where lines begin that may mean something, in order."""
        found = {match.start() + 1 for match in _COMMAND.finditer(data, 0, end)}
        if begins and _BEGINNING.match(data) is not None:
            found.add(0)
        if self._looks <= 0:
            return sorted(found)
        lower = data.lower()
        for needle in _NEEDLES if data.isascii() else _ALL_NEEDLES:
            at = 0
            while (match := needle.search(lower, at, end)) is not None:
                found.add(data.rfind(b"\n", 0, match.start()) + 1)
                at = data.index(b"\n", match.start())
        if self._begun:
            line = (self._begun + data[: data.index(b"\n")]).lower()
            if any(needle.search(line) for needle in _ALL_NEEDLES):
                found.add(0)
        return sorted(found)

    def _problems_of(self, line: bytes, start: int, data: bytes) -> list[Message]:
        """Return what is wrong according to a line, which begins at ``start``, and those before it."""
        if self._looks <= 0:
            return list(self._problems.finish())
        self._looks -= 1

        def above() -> list[bytes]:
            return self._before(start, data).removesuffix(b"\n").split(b"\n")[-ABOVE:]

        found = self._problems.take(line, above)
        self._left -= len(found)
        if self._left <= 0:
            self._looks = 0
        return list(found)

    # -- commands --

    def _command(self, line: bytes) -> _Command | None:
        """Return what a line commands; None if it is no command."""
        if _BEGINNING.match(line) is None:
            return None
        text = line.decode("utf-8", "replace").removesuffix("\r")
        if self._until:
            if text.strip() == f"::{self._until}::":
                self._until = ""
            return None
        if text.startswith("^^^"):
            return _Command() if text.strip() == "^^^ +++" else None
        if (match := _BUILDKITE.fullmatch(text)) is not None:
            return _buildkite(match[1], plain(match[2]).strip())
        if (match := _SECTION.match(text)) is not None:
            return self._sections(match, text)
        if (match := _WORKFLOW.fullmatch(text)) is not None:
            return self._workflow(match[1].lower(), match[2] or "", match[3])
        return None

    def _workflow(self, name: str, properties: str, data: str) -> _Command | None:
        value = _unescaped(data)
        if name == "group":
            return _Command([_group(value)]) if value.strip() else None
        if name == "endgroup":
            return _Command([Group("")])
        if name == "add-mask":
            return _Command([Mask(value)])
        if name in _LEVELS:
            return self._remark(_LEVELS[name], properties, value)
        if name == "stop-commands" and 0 < len(value.strip()) <= _MAX_TOKEN:
            self._until = value.strip()
        return None

    def _remark(self, level: Literal["notice", "warning", "error"], properties: str, message: str) -> _Command | None:
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
        return _Command([Annotation(level, cut(message, MAX_REMARK), file, line, column)])

    def _sections(self, match: re.Match[str], text: str) -> _Command:
        """Return what one section of GitLab commands, or several on a line: where one ends, another may begin."""
        messages: list[Message] = []
        while True:
            text = text[match.end() :]
            if match["what"] == "start":
                self._section = match["id"]
                folded = "collapsed=true" in (match["options"] or "").replace(" ", "")
                return _Command([*messages, _group(text if plain(text).strip() else match["id"], folded=folded)])
            if match["id"] == self._section:
                self._section = ""
                messages.append(Group(""))
            more = _SECTION.match(text)
            if more is None:
                return _Command(messages, rest=text.encode() + b"\n" if plain(text).strip() else b"")
            match = more


def _buildkite(mark: str, name: str) -> _Command | None:
    if not any(character.isalnum() for character in name) or _OF_DIFFERENCE.match(name) is not None:
        return None
    group = _group(name, folded=mark == "~~~")
    return _Command(heading=group) if mark == "---" else _Command([group])


def _group(name: str, *, folded: bool = False) -> Group:
    return Group(cut(" ".join(plain(name).split()), MAX_NAME), folded)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: _MEANT[match[1].upper()], text) if "%" in text else text


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
