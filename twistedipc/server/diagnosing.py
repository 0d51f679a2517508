"""
Why a build failed, as its log says it: the line of the cause, what is around it, and what no success has printed.
``server``; called by ``web``. What lines mean is `builds.causes`.

It is a search by its work, so it has a search's turn, its threads and its time (`searching`). Of a log of any size some
is read: the end of the step that failed; if the step is longer, the first line before it that is surely an error; and
the end of the same step of the project's last success.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from twistedipc.builds.attempt import StepResult
from twistedipc.builds.causes import Cause, find_cause, new_lines
from twistedipc.builds.explanations import Explanation
from twistedipc.builds.states import AttemptState
from twistedipc.builds.templates import templates
from twistedipc.finding.blocks import Line, near
from twistedipc.finding.query import Needle, Query
from twistedipc.finding.scanning import Wanted
from twistedipc.finding.texts import blocks_of
from twistedipc.sealed.outline import Outline, Remark
from twistedipc.server.boundaries import Diagnosis, NewLines
from twistedipc.server.searching import Searching, SearchTurn
from twistedipc.storage import attempts, builds
from twistedipc.storage.log_parts import LogPart
from twistedipc.storage.outlines import outline_of, outlined
from twistedipc.storage.rows import AttemptRow

#: How much text of the failed step's end is looked at, in characters, and of the same step of the last success.
MAX_TEXT: Final = 1 << 20
MAX_GREEN: Final = 4 << 20

# What a line takes beside its text.
_LINE: Final = 20

#: Bytes of stored chunks that are read at a time: of what is sealed, that is ten times as much text.
PART: Final = 32 * 1024

#: Records around the cause, and how many lines that no success has printed are given.
BEFORE: Final = 10
AFTER: Final = 10
NEW: Final = 20

#: How many successes are looked at for one whose log is kept.
_GREEN: Final = 10

# What is surely an error, for RE2: it is searched for in what comes before the end of a long step.
_SURE: Final = (
    r"^(?:npm (?:error|ERR!)|\s*(?:Uncaught )?(?:[A-Z][A-Za-z]*)?(?:Error|Exception)(?: \[\w+\])?: |ERROR in |\s+● )"
    r"|error TS\d|✘ \[ERROR\]|ERR_[A-Z]+_|Module not found|[Ff]ailed to resolve import|is not exported by|FATAL ERROR"
    r"|^\s+\d+:\d+\s+error\s|: command not found$"
)


class _About(msgspec.Struct, frozen=True):
    """What the ledger says before anything is read: an attempt, and the last success before it."""

    row: AttemptRow
    records: int
    outline: Outline
    green: AttemptRow | None
    green_outline: Outline
    green_records: int


class _Span(msgspec.Struct, frozen=True):
    """Records of an attempt's log."""

    attempt: str
    first: int
    last: int


class _Read(msgspec.Struct, frozen=True):
    """What was read of a span, from its end back. ``first``: the first record that was looked at."""

    lines: list[Line]
    first: int


class Diagnosing:
    """Diagnoses failed attempts. Implements `boundaries.Diagnoses`."""

    def __init__(self, searching: Searching) -> None:
        self._searching = searching

    async def diagnose(self, attempt: str, who: str) -> Diagnosis | None:
        """See `boundaries.Diagnoses`."""
        about = await self._searching.ledger.read(_about, attempt)
        if about is None:
            return None
        step = failed_step(about.row)
        if about.row.log_removed is not None or not about.records:
            return _diagnosis(about, step)
        turn = await self._searching.turn(who)
        try:
            return await self._read(about, step, turn)
        finally:
            turn.end()

    async def _read(self, about: _About, step: StepResult | None, turn: SearchTurn) -> Diagnosis:
        span = _span(about.row.name, about.outline, step, about.records)
        said = _said(about.outline, step)
        events = _events(about.outline)
        found = await self._end(span, MAX_TEXT, turn)
        lines = [line for line in found.lines if line.record not in events or line.record in said]
        if found.first > span.first:
            lines = [*await self._first_sure(_Span(span.attempt, span.first, found.first - 1), turn), *lines]
        known: frozenset[str] = frozenset()
        new: NewLines | None = None
        if about.green is not None and step is not None:
            of_green = _same(about.green, step)
            if of_green is not None:
                green = _span(about.green.name, about.green_outline, of_green, about.green_records)
                seen = await self._end(green, MAX_GREEN, turn)
                known = await self._searching.in_thread(_templates, seen.lines)
                whole = seen.first <= green.first and found.first <= span.first and not turn.is_over()
                found_new = await self._searching.in_thread(
                    _new, [line for line in lines if line.record not in said], known
                )
                new = NewLines(attempt=about.green.name, lines=found_new[0], count=found_new[1], complete=whole)
        exit_code = None if step is None else step.exit_code
        cause = await self._searching.in_thread(_cause, lines, exit_code, known, said)
        around: list[Line] = []
        record = None if cause.at is None else lines[cause.at].record
        if record is not None:
            first, last = max(span.first, record - BEFORE), min(span.last, record + AFTER)
            around = await self._searching.near(span.attempt, first, last)
        line = None if cause.at is None else lines[cause.at]
        return _diagnosis(about, step, cause.explanation, line, around, new, found.first)

    async def _end(self, span: _Span, room: int, turn: SearchTurn) -> _Read:
        """Read a span's end, of about so many characters."""
        read: list[list[Line]] = []
        first, last = span.first, span.last
        while room > 0 and first <= last and not turn.is_over():
            found = await self._searching.parts(span.attempt, first, last, PART, newest=True)
            lines, room = await self._searching.in_thread(_lines, found.parts, span.first, last, room)
            read.append(lines)
            if room <= 0 and lines:
                first = lines[0].record
                break
            first, last = found.first, found.last
        else:
            first = last + 1 if first <= last else span.first
        return _Read([line for lines in reversed(read) for line in lines], first)

    async def _first_sure(self, span: _Span, turn: SearchTurn) -> list[Line]:
        """Return the first line of a span that is surely an error, with what follows it; none: there is none."""
        needle = await self._searching.in_thread(Needle, Query(text=_SURE, kind="regex", case=True))
        wanted = Wanted(needle=needle, most=1, context=AFTER)
        first, last = span.first, span.last
        while first <= last and not turn.is_over():
            found = await self._searching.parts(span.attempt, first, last, 8 * PART, newest=False)
            end = found.first - 1 if found.first <= found.last else last
            scanned = await self._searching.scan(span.attempt, wanted, found, first, end, turn.stop)
            if scanned.hits:
                hit = scanned.hits[0]
                return [Line(hit.found.record, "".join(hit.found.parts)), *hit.after]
            first, last = found.first, found.last
        return []


def failed_step(row: AttemptRow) -> StepResult | None:
    """Return the step with which an attempt failed: the last one that didn't succeed; None if there is none."""
    return next((step for step in reversed(row.steps) if step.outcome != "succeeded"), None)


def _about(connection: Connection, attempt: str) -> _About | None:
    found = outlined(connection, attempt)
    if found is None:
        return None
    row, records, _size, outline = found
    names = frozenset({row.project})
    succeeded = frozenset({AttemptState.SUCCEEDED})
    for build in builds.list_page(connection, projects=names, states=succeeded, before=row.build, limit=_GREEN):
        name = f"{build.id}-{build.attempt}"
        green = attempts.get(connection, name)
        if green is not None and green.log_removed is None and green.lines:
            return _About(row, records, outline, green, outline_of(connection, name), green.lines)
    return _About(row, records, outline, None, Outline(), 0)


def _span(attempt: str, outline: Outline, step: StepResult | None, records: int) -> _Span:
    """Return the records of a step, without its events; of the whole log, if that isn't known."""
    spans = [] if step is None else [span for span in outline.steps if span.index == step.index]
    if not spans:
        return _Span(attempt, 1, records)
    last = spans[0].last - 1 if spans[0].last else records
    return _Span(attempt, spans[0].first + 1, max(spans[0].first, last))


def _same(green: AttemptRow, step: StepResult) -> StepResult | None:
    """Return the step of a success that is to be compared with."""
    return next((each for each in green.steps if each.name == step.name), None)


def _events(outline: Outline) -> frozenset[int]:
    """Return the records that aren't output: what the platform itself says of a failure isn't its cause."""
    told = (outline.remarks, outline.errors, outline.groups)
    return frozenset(each.record for list in told for each in list)


def _said(outline: Outline, step: StepResult | None) -> dict[int, str]:
    """
    Return the errors that a step has said itself, by their records: its commands (``::error::``) are in no other line.
    What the platform says of a failed step comes after its end.
    """
    span = None if step is None else next((each for each in outline.steps if each.index == step.index), None)
    if span is None:
        return {}
    last = span.last or math.inf
    return {
        each.record: each.message
        for each in outline.remarks
        if each.level == "error" and span.first < each.record < last
    }


def _lines(parts: list[LogPart], first: int, last: int, room: int) -> tuple[list[Line], int]:
    """Return the last lines of these parts that there is room for, and how much room is left."""
    backwards: list[Line] = []
    for block in blocks_of(parts, newest=True):
        for line in reversed(near(block, first, last)):
            backwards.append(line)
            room -= len(line.text) + _LINE
            if room <= 0:
                return backwards[::-1], room
    return backwards[::-1], room


def _templates(lines: Sequence[Line]) -> frozenset[str]:
    return frozenset(templates(line.text for line in lines))


def _new(lines: Sequence[Line], known: frozenset[str]) -> tuple[list[Line], int]:
    found, count = new_lines([line.text for line in lines], known, NEW)
    return [lines[at] for at in found], count


def _cause(lines: Sequence[Line], exit_code: int | None, known: frozenset[str], said: Mapping[int, str]) -> Cause:
    annotated = {at: said[line.record] for at, line in enumerate(lines) if line.record in said}
    return find_cause([line.text for line in lines], exit_code, known, annotated)


def _diagnosis(
    about: _About,
    step: StepResult | None,
    explanation: Explanation | None = None,
    cause: Line | None = None,
    around: Sequence[Line] = (),
    new: NewLines | None = None,
    read_from: int = 1,
) -> Diagnosis:
    span = None if step is None else next((each for each in about.outline.steps if each.index == step.index), None)
    return Diagnosis(
        row=about.row,
        records=about.records,
        step=step,
        first=None if span is None else span.first,
        last=None if span is None or not span.last else span.last,
        explanation=explanation,
        cause=cause,
        around=list(around),
        remarks=_errors_first(about.outline.remarks),
        new=new,
        read_from=read_from,
    )


def _errors_first(remarks: Sequence[Remark]) -> list[Remark]:
    order = {"error": 0, "warning": 1}
    return sorted(remarks, key=lambda remark: order.get(remark.level, 2))
