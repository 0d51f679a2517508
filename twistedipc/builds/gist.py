"""
The gist of a log: how far the build is, how many annotations it has made, and its last summary. Bottom layer; the
apiserver keeps the gist beside the log, so that a list of builds needs no logs.

The gist is a fold over the records in their order: the gist of a part, added to that of all before it, is the gist of
both. So it never has more than the log, and each part is folded once, when it arrives.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.builds import logs
from twistedipc.builds.logs import Annotation, Event, StepEnded, StepStarted, Summary


class Progress(msgspec.Struct, frozen=True):
    """How far the running step is, by the build's own word."""

    value: float  # 0 to 1
    label: str  # what it is at, a stranger's text; may be empty


class Annotations(msgspec.Struct, frozen=True):
    """How many remarks on the sources the build has made. They are in its log."""

    errors: int
    warnings: int
    notices: int


class Gist(msgspec.Struct, kw_only=True):
    """What some consecutive records say. UNSET: nothing, what was said before them holds."""

    progress: logs.Progress | UnsetType | None = UNSET  # None: no more, its step is over
    summary: str | UnsetType = UNSET  # Markdown
    errors: int = 0  # annotations of this level
    warnings: int = 0
    notices: int = 0

    def add(self, event: Event) -> None:
        """Take the next event into account."""
        match event:
            case logs.Progress():
                self.progress = event
            case StepStarted() | StepEnded():
                self.progress = None
            case Summary():
                self.summary = event.markdown
            case Annotation(level="error"):
                self.errors += 1
            case Annotation(level="warning"):
                self.warnings += 1
            case Annotation():
                self.notices += 1
            case _:
                pass  # notices are the platform's own, and groups only structure the log

    def extend(self, later: Gist) -> None:
        """The gist of the records that follow."""
        if later.progress is not UNSET:
            self.progress = later.progress
        if later.summary is not UNSET:
            self.summary = later.summary
        self.errors += later.errors
        self.warnings += later.warnings
        self.notices += later.notices

    @property
    def says_something(self) -> bool:
        """Whether there is anything to keep, if nothing was kept before."""
        return bool(self.progress or self.summary or self.errors or self.warnings or self.notices)
