"""
Consecutive records of a log as one text, and the lines of it that match. ``finding``; pure, for any thread.

A line that doesn't match costs no Python, and of those that match only what is asked for becomes objects. RE2 says what
matches; plain strings are found without it, many lines at once (`literals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from twistedipc.finding.literals import firsts_with, lines_with
from twistedipc.finding.query import Needle

#: How much of a line a hit shows, in characters, and how much of that is before the first match, at most.
MAX_SHOWN: Final = 2000
BEFORE_MATCH: Final = 200

#: The longest line near a hit, in characters; what is longer is cut.
MAX_NEAR: Final = 500

#: How many bytes are searched in one call of RE2, and some of a line. In the worst case that takes some tenths of a
#: second with the largest program (`query.MAX_PROGRAM`); a search is stopped between two such calls, or after some that
#: have found a line each.
PIECE: Final = 32 * 1024
_CALLS: Final = 256

#: How many bytes are looked through for plain strings at once, and in how many RE2 takes as long as for a call: with
#: more lines to be looked at, it rather goes through all of them. A chunk's text is mostly one such piece: with smaller
#: ones, threads that search side by side wait for one another more often, since numpy lets each of them go on for each
#: pass over a piece.
WIDE: Final = 256 * 1024
_BYTES_PER_CALL: Final = 1024

# Bytes in which lines are counted one by one.
_NEAR: Final = 256


class Block(msgspec.Struct, frozen=True, gc=False):
    """
    Consecutive records, so many from number ``first`` on: each one line of ``text``, UTF-8 as `shown.shown` returns it,
    ended by a newline.
    """

    first: int
    records: int
    text: bytes

    def offset(self, record: int) -> int:
        """Return where a record begins in the text, which holds it or ends before it."""
        return _offset(self.text, 0, record - self.first)

    def part(self, first: int, last: int) -> Block:
        """Return the records ``first`` to ``last`` of it."""
        if first <= self.first and last >= self.first + self.records - 1:
            return self
        skip = min(max(0, first - self.first), self.records)
        records = max(0, min(last + 1 - self.first, self.records) - skip)
        begin = self.offset(self.first + skip)
        return Block(self.first + skip, records, self.text[begin : _offset(self.text, begin, records)])


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line near a hit. A long one is cut."""

    record: int
    text: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """
    A line that matches. ``parts`` is its text in pieces: every second one is a match, the first is before it. Of a long
    line it is the part around the first match: ``skipped`` characters are before that, and there is more if it is
    ``cut``.
    """

    record: int
    parts: list[str]
    skipped: int = 0
    cut: bool = False


class Matches(msgspec.Struct, frozen=True):
    """How many lines of a block match, and which: the record and the offset of the first match of each."""

    count: int
    lines: list[tuple[int, int]]


def matches(
    needle: Needle,
    block: Block,
    most: int,
    *,
    newest: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Matches | None:
    """
    Return how many lines match, and the first ``most`` of them; ``newest``: the last, from the last on. None: the
    search was stopped before its end.
    """
    text = block.text
    starts: list[int] = []  # of each line's first match
    count = 0
    for begin, end in _pieces(text, 0, len(text), WIDE):
        wanted = len(text) if newest else max(0, most - count)
        found = _by_literals(needle, text, begin, end, wanted) or _by_calls(needle, text, begin, end, wanted, stopped)
        if found is None or stopped():
            return None
        count += found[0]
        starts += found[1]
    if newest:
        starts = starts[max(0, count - most) :]
    lines = _numbered(block, starts)
    return Matches(count, lines[::-1] if newest else lines)


def _pieces(text: bytes, begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text of this size and some of a line; each ends behind a newline, as the text does."""
    while begin < end:
        stop = text.index(b"\n", begin + size) + 1 if begin + size < end else end
        yield begin, stop
        begin = stop


def _by_literals(needle: Needle, text: bytes, begin: int, end: int, most: int) -> tuple[int, list[int]] | None:
    """
    Return how many lines of a part of the text match, and where in the first ``most`` of them; None if RE2 finds that
    sooner.
    """
    literals = needle.literals
    if literals is None:
        return None
    if literals.exact:
        firsts = firsts_with(literals, text, begin, end)
        return None if firsts is None else (len(firsts), firsts[:most].tolist())
    lines = lines_with(literals, text, begin, end)
    if lines is None:
        return None
    if len(lines.firsts) > min(_CALLS, (end - begin) // _BYTES_PER_CALL):
        return None
    starts: list[int] = []
    for from_, to in zip(lines.begins.tolist(), lines.ends.tolist(), strict=True):
        start, _stop = needle.search(text, from_, to)
        if start >= 0:
            starts.append(start)
    return len(starts), starts[:most]


def _by_calls(
    needle: Needle, text: bytes, begin: int, end: int, most: int, stopped: Callable[[], bool]
) -> tuple[int, list[int]] | None:
    """Return the same, by a call of RE2 for each line that matches, or for many that don't; None: it was stopped."""
    search = needle.search
    starts: list[int] = []
    count = 0
    for position, behind in _pieces(text, begin, end, PIECE):
        last = behind - 1  # the newline: behind it is another line
        calls = 0
        while position <= last:
            if calls % _CALLS == 0 and stopped():
                return None
            calls += 1
            start, stop = search(text, position, last)
            if start < 0:
                break
            count += 1
            if count <= most:
                starts.append(start)
            position = text.index(b"\n", stop) + 1
    return count, starts


def near(block: Block, first: int, last: int) -> list[Line]:
    """Return those of the records ``first`` to ``last`` that are in the block."""
    part = block.part(first, last)
    return [Line(part.first + at, _short(line)) for at, line in enumerate(part.text.split(b"\n")[:-1])]


def around(block: Block, record: int, offset: int, context: int) -> tuple[list[Line], list[Line]]:
    """
    Return up to ``context`` lines before and after a record, as far as they are in the block. ``offset``: somewhere in
    its line. It looks at these lines alone: a block may have 100,000, and each of them may be a hit.
    """
    text = block.text
    before: list[Line] = []
    begin = text.rfind(b"\n", 0, offset) + 1
    while begin > 0 and len(before) < context:
        end = begin - 1
        begin = text.rfind(b"\n", 0, end) + 1
        before.append(Line(record - len(before) - 1, _short(text[begin:end])))
    after: list[Line] = []
    begin = text.index(b"\n", offset) + 1
    while begin < len(text) and len(after) < context:
        end = text.index(b"\n", begin)
        after.append(Line(record + len(after) + 1, _short(text[begin:end])))
        begin = end + 1
    return before[::-1], after


def _numbered(block: Block, offsets: list[int]) -> list[tuple[int, int]]:
    """Return the record that each of these offsets, in ascending order, is in."""
    numbered: list[tuple[int, int]] = []
    record, counted = block.first, 0
    for offset in offsets:
        record += block.text.count(b"\n", counted, offset)
        counted = offset
        numbered.append((record, offset))
    return numbered


def show(needle: Needle, block: Block, record: int, start: int) -> Found:
    """Return a line of `Matches` as it is shown."""
    text = block.text
    begin, end = text.rfind(b"\n", 0, start) + 1, text.index(b"\n", start)
    before = _text(text[begin:start])
    skipped = max(0, len(before) - BEFORE_MATCH) if len(_text(text[begin:end])) > MAX_SHOWN else 0
    parts = [before[skipped:]]
    told = position = start  # up to where the line is in `parts`, and is searched
    last = min(end, start + 4 * MAX_SHOWN)  # what is behind this isn't shown
    while position < last:
        start, stop = needle.search(text, position, end)
        if start < 0:
            break
        if start == stop:  # an empty match shows nothing
            position = stop + 1
            continue
        parts[-1] += _text(text[told:start])
        parts += [_text(text[start:stop]), ""]
        told = position = stop
    parts[-1] += _text(text[told:end])
    return _cut(record, parts, skipped)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _short(line: bytes) -> str:
    """Return the text of a line near a hit."""
    return _text(line)[:MAX_NEAR]


def _cut(record: int, parts: list[str], skipped: int) -> Found:
    """Return the line with at most `MAX_SHOWN` characters of it."""
    left = MAX_SHOWN
    for index, part in enumerate(parts):
        if len(part) > left:
            return Found(record=record, parts=[*parts[:index], part[:left]], skipped=skipped, cut=True)
        left -= len(part)
    return Found(record=record, parts=parts, skipped=skipped)


def _offset(text: bytes, begin: int, lines: int) -> int:
    """Return the offset behind so many lines from ``begin`` on."""
    # Newlines are counted in C, in halves, until the place is near: there may be 100,000 before it.
    end = len(text)
    while lines > 0 and end - begin > _NEAR:
        middle = (begin + end) // 2
        here = text.count(b"\n", begin, middle)
        if here < lines:
            begin, lines = middle, lines - here
        else:
            end = middle
    for _ in range(lines):
        begin = text.index(b"\n", begin) + 1
    return begin
