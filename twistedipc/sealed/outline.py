"""
The outline of a log: where its steps, groups, remarks and errors are, so that nobody reads a log to find them. Pure.

It is a fold over the events of a log that doesn't depend on their order: the apiserver adds each as it commits it, and
once more as it seals what it has (of a log that is older than outlines, for the first time). An event that is there
already changes nothing.

Each list is bounded, and has what comes first in the log.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from twistedipc.builds.logs import Annotation, Batch, Event, Gap, Group, Notice, StepEnded, StepStarted, event_of
from twistedipc.builds.names import shown

#: How many of each are kept.
MAX_STEPS: Final = 64
MAX_GROUPS: Final = 300
MAX_REMARKS: Final = 100
MAX_ERRORS: Final = 50

#: Characters that are kept of a text.
MAX_TEXT: Final = 300


class Marked(NamedTuple):
    """An event, with where and when it is."""

    record: int
    time: int  # milliseconds since the epoch
    step: int  # -1 before the first
    event: Event


class Span(msgspec.Struct, gc=False):
    """The records of a step: its events, and all that is between them."""

    index: int
    first: int
    last: int = 0  # 0: it hasn't ended


class Heading(msgspec.Struct, frozen=True, gc=False):
    """A group begins with this record, or the one before it ends (a name that is empty)."""

    record: int
    time: int
    step: int
    name: str


class Remark(msgspec.Struct, frozen=True, gc=False):
    """An annotation."""

    record: int
    step: int
    level: str
    message: str  # cut
    file: str = ""
    line: int = 0
    column: int = 0


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Something says here that it has failed: ``what`` is "annotation", "notice" or "step"."""

    record: int
    step: int
    what: str
    message: str  # cut


class _Placed(Protocol):
    @property
    def record(self) -> int: ...


_P = TypeVar("_P", bound=_Placed)
_record: Any = attrgetter("record")
_first: Any = attrgetter("first")


class Outline(msgspec.Struct, gc=False):
    """Where things are in a log, each list in the log's order."""

    steps: list[Span] = []
    groups: list[Heading] = []
    remarks: list[Remark] = []
    errors: list[Failure] = []

    def add(self, marked: Marked) -> bool:
        """Take an event into account; whether that changed anything."""
        record, time, step, event = marked
        match event:
            case StepStarted():
                return self._begin(event.index, record)
            case StepEnded():
                changed = self._end(event.index, record)
                if event.outcome == "succeeded":
                    return changed
                failed = Failure(record, step, "step", f"the step has {_ways.get(event.outcome, 'failed')}")
                return _keep(self.errors, failed, MAX_ERRORS) or changed
            case Group():
                return _keep(self.groups, Heading(record, time, step, _cut(event.name)), MAX_GROUPS)
            case Annotation():
                message = _cut(event.message)
                remark = Remark(record, step, event.level, message, _cut(event.file), event.line, event.column)
                changed = _keep(self.remarks, remark, MAX_REMARKS)
                if event.level != "error":
                    return changed
                return _keep(self.errors, Failure(record, step, "annotation", message), MAX_ERRORS) or changed
            case Notice(level="error"):
                return _keep(self.errors, Failure(record, step, "notice", _cut(event.message)), MAX_ERRORS)
            case _:
                return False

    def _begin(self, index: int, record: int) -> bool:
        if any(span.index == index for span in self.steps) or len(self.steps) >= MAX_STEPS:
            return False
        self.steps.insert(bisect_left(self.steps, record, key=_first), Span(index, record))
        return True

    def _end(self, index: int, record: int) -> bool:
        for span in self.steps:
            if span.index == index and span.last != record:
                span.last = record
                return True
        return False


_ways = {"cancelled": "been cancelled", "timed_out": "timed out"}


def marked_of(batch: Batch) -> list[Marked]:
    """Return the events of a batch that an outline may want."""
    if isinstance(batch, Gap) or set(map(type, batch.lines)) == {str}:
        return []
    found: list[Marked] = []
    for record, said in enumerate(batch.lines, batch.first):
        event = None if isinstance(said, str) else event_of(said)
        if event is not None and is_wanted(event):
            found.append(Marked(record, batch.time, batch.step, event))
    return found


def is_wanted(event: Event) -> bool:
    """Return whether an outline may want this."""
    return isinstance(event, StepStarted | StepEnded | Group | Annotation | Notice)


def _keep(kept: list[_P], new: _P, most: int) -> bool:
    """Insert what isn't there yet in its place, and let go of what comes last if there are too many."""
    at = bisect_left(kept, new.record, key=_record)
    if at < len(kept) and kept[at].record == new.record:
        return False
    if at >= most:
        return False
    kept.insert(at, new)
    del kept[most:]
    return True


def _cut(text: str) -> str:
    return shown(text, MAX_TEXT)
