"""
What tools print that means something to other platforms: a step's output -> the same output and messages, in their
order. No I/O; used by ``interleaving``.

Lines that are *commands* (``commands``) are taken out of the output, and their messages stand in their place. Errors
that tools print (``problems``) stay in the output, and their messages come right behind them.

A line is a command only as a whole. One that may become one is kept back until its end, at most `MAX_HELD` bytes of it,
and not if nothing more comes for a while: then it is a prompt, unless it may yet hide a value. All other output passes
at once. Output in which nothing looks like a command or a problem costs four searches in C.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from twistedipc.builds.logs import Group
from twistedipc.runner.speech import Mask, Message

if TYPE_CHECKING:
    from twistedipc.runner.commands import Command, Commands
    from twistedipc.runner.problems import Problems

#: The most bytes of a line that are kept back, since it may become a command. A longer line is none.
MAX_HELD = 16 * 1024

#: The most problems of a step that become annotations, and the most of its lines that are looked at for them. Then its
#: output is no longer searched for any.
MAX_PROBLEMS = 1000
MAX_LOOKS = 200_000

# How many of the last lines are remembered, and their bytes: a problem's file may be said above it.
_ABOVE = 8
_RECENT = 2048

# The most bytes that are remembered of the beginning of a line that has passed.
_MAX_BEGUN = 8 * 1024

# What begins the line of a command; and what may be the beginning of that, at the end of what has come. Behind "::" a
# token may stand that makes lines commands again, and it may begin with anything.
_BEGINNING = re.compile(rb"[ \t]{0,64}::\S|(?:\x1b\[0?K)?section_(?:start|end):|(?:---|\+\+\+|~~~) \S|\^\^\^ \+\+\+")
_MAYBE = re.compile(
    rb"(?:[ \t]{0,64}:{0,2}|[ \t]{0,64}::\S[^\n]*"
    rb"|(?:\x1b(?:\[(?:0?K?)?)?)?(?:s(?:e(?:c(?:t(?:i(?:o(?:n(?:_[^\n]*)?)?)?)?)?)?)?)?"
    rb"|-{1,3}|\+{1,3}|~{1,3}|(?:---|\+\+\+|~~~) [^\n]*|\^{1,3}|\^\^\^ [^\n]*)\Z"
)
# The same behind a newline. The newline is a literal, which makes the search one in C.
_COMMAND = re.compile(rb"\n(?=" + _BEGINNING.pattern + rb")")

# A line that is to hide a value, as far as that can be said of its beginning.
_HIDING = re.compile(rb"[ \t]*::add-mask(?:::|[ \t])", re.IGNORECASE)

# How such a line begins, without blanks and in small letters.
_ADD_MASK = b"::add-mask"

# What is looked for, with either kind of letters. `re` finds a literal faster than `bytes.find` does.
_NEEDLES = [re.compile(needle) for needle in (rb"rror", rb"RROR", rb"arning", rb"ARNING")]
_ALL_NEEDLES = [*_NEEDLES, *(re.compile(needle.encode()) for needle in ("●", "FAIL ", "╭"))]

Part = bytes | list[Message]


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
        self._problems: Problems | None = None
        self._commands: Commands | None = None
        self._left = MAX_PROBLEMS
        self._looks = MAX_LOOKS
        self._held = b""  # the beginning of a line that may be a command
        self._begun = b""  # the beginning of a line that is none, and has passed
        self._passing = False  # whether the line goes on whose beginning has passed, however long
        self._hiding = False  # whether the rest of a line is left out: its value is too long to be hidden
        self._recent = b""  # the last lines
        self._heading: tuple[bytes, Group] | None = None  # "--- NAME", which may yet be the first line of a difference

    @property
    def holds(self) -> bool:
        """Whether `release` would give something."""
        return self._heading is not None or self._is_prompt

    @property
    def _is_prompt(self) -> bool:
        """Whether a line's beginning that is held back can be shown: it isn't that of a line that hides a value."""
        begun = self._held.lstrip(b" \t").lower()
        return bool(begun) and not _ADD_MASK.startswith(begun[: len(_ADD_MASK)])

    @property
    def _stopped(self) -> bool:
        return self._commands is not None and self._commands.stopped

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
        tail = data[end:]
        passes = len(data) if (begins or end) and tail and _MAYBE.match(tail) is None else end
        if not begins and not end:
            passes = len(data)
        parts = self._lines(data, end, passes, begins)
        if end:
            self._recent = self._before(end, data)
            self._begun = b""
        if passes == len(data):
            self._begun = (self._begun + tail)[:_MAX_BEGUN]
        elif len(tail) <= MAX_HELD:
            self._held = tail
        elif not self._stopped and _HIDING.match(tail) is not None:
            parts.append([Mask(tail.decode("utf-8", "replace"))])
            self._hiding = True
        else:
            parts.append(tail)
        self._passing = bool(tail) and not self._held and not self._hiding
        return parts

    def _before(self, place: int, data: bytes) -> bytes:
        """Return the last lines before a line that begins at a place in the data, as they are remembered."""
        if place == 0:
            return self._recent
        if place >= _RECENT:
            return data[place - _RECENT : place]
        return (self._recent + self._begun + data[:place])[-_RECENT:]

    def release(self) -> list[Part]:
        """Return what was held back, a group or the beginning of a line: nothing has come for a while."""
        parts = self._say_heading()
        if self._is_prompt:
            line, self._held = self._held, b""
            self._begun, self._passing = line[:_MAX_BEGUN], True
            parts.append(line)
        return parts

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
            if self._problems is not None or any(needle.search(last) for needle in _ALL_NEEDLES):
                parts.append(self._problems_of(last, 0, b""))
        if self._problems is not None:
            parts.append(list(self._problems.finish()))
        return [part for part in parts if part]

    def _lines(self, data: bytes, end: int, passes: int, begins: bool) -> list[Part]:
        """Return ``data[:passes]``, with what the whole lines in it mean, which are ``data[:end]``."""
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
        if passes > end and self._heading is not None:
            out.to(end)
            out.parts += self._say_heading()
        out.to(passes)
        return out.parts

    def _looked_at(self, data: bytes, end: int, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """
        Yield where the lines begin and end that may mean something: those at ``starts``, and each behind a line that
        wants to know the next one.
        """
        at = 0
        while at < end:
            if self._heading is None and not (self._problems is not None and self._problems.waiting):
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
        for needle in _NEEDLES if data.isascii() else _ALL_NEEDLES:
            at = 0
            while (match := needle.search(data, at, end)) is not None:
                found.add(data.rfind(b"\n", 0, match.start()) + 1)
                at = data.index(b"\n", match.start())
        if self._begun:
            line = self._begun + data[: data.find(b"\n") + 1]
            if any(needle.search(line) for needle in _ALL_NEEDLES):
                found.add(0)
        return sorted(found)

    # Both are loaded for the first line that needs them: most steps have none, and a runner is to stay small.

    def _command(self, line: bytes) -> Command | None:
        """Return what a line commands; None if it is no command."""
        if _BEGINNING.match(line) is None:
            return None
        if self._commands is None:
            from twistedipc.runner.commands import Commands

            self._commands = Commands(self._tops)
        return self._commands.take(line)

    def _problems_of(self, line: bytes, start: int, data: bytes) -> list[Message]:
        """Return what is wrong according to a line, which begins at ``start``, and those before it."""
        if self._problems is None:
            from twistedipc.runner.problems import Problems

            self._problems = Problems(self._tops)
        if self._looks <= 0:
            return list(self._problems.finish())
        self._looks -= 1

        def above() -> list[bytes]:
            return self._before(start, data).removesuffix(b"\n").split(b"\n")[-_ABOVE:]

        found = self._problems.take(line, above)
        self._left -= len(found)
        if self._left <= 0:
            self._looks = 0
        return list(found)
