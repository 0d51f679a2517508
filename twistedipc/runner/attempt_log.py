"""
The log that one attempt writes: what is captured, into the journal, and the wait for a disk that takes no more of it.
Used by ``course`` and ``steps``.

While the disk takes no more of the journal, or has less room than the reserve, the log *waits*, and no output is read.
Events are written all the same: the reserve is kept from builds, not from the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from twistedipc.attempts.journal import Journal
from twistedipc.attempts.room import Room, readable
from twistedipc.builds.logs import Event, Lines, Notice
from twistedipc.runner.capture import Capture


class AttemptLog:
    """
    The log of one attempt. ``now`` gives milliseconds since the epoch; ``clock`` gives seconds, and never goes back.
    """

    def __init__(
        self, *, journal: Journal, capture: Capture, room: Room, now: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._capture = capture
        self._room = room
        self._now = now
        self._clock = clock
        self._waiting: tuple[float, str] | None = None  # since when, and why
        #: the index of the step that runs
        self.step = -1
        #: whether less is free than the reserve
        self.low = False
        #: whether the log has had to wait; for others to set back
        self.short_of_room = False

    # -- what is hidden --

    def mask(self, secret: str) -> None:
        """Hide a secret from now on."""
        self._capture.mask([secret])

    def mask_within_bounds(self, secrets: Iterable[str]) -> list[str]:
        """Hide values that a build wants hidden, from now on. Return a sentence for each that can't be: why not."""
        return self._capture.mask_within_bounds(secrets)

    def hide(self, text: str) -> str:
        """Return a text that goes elsewhere than into the log, without what is hidden there."""
        return self._capture.hide(text)

    def first_with_secret(self, texts: Sequence[str]) -> str | None:
        """Return the first of these texts that has something in it which is hidden; None if none has."""
        return self._capture.first_with_secret(texts)

    # -- what is written --

    def event(self, event: Event) -> None:
        """Put an event into the log, after all that was read so far."""
        self._append(self._capture.event(event, self._now(), self.step))

    def events(self, events: Sequence[Event]) -> None:
        """Put several events into the log."""
        self._append(self._capture.events(events, self._now(), self.step))

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """Put a notice of the platform's own into the log."""
        self.event(Notice(level, message))

    def feed(self, data: bytes) -> None:
        """Put the next bytes of output into the log."""
        self._append(self._capture.feed(data, self._now(), self.step))
        self._room.written(len(data))

    @property
    def pending(self) -> bool:
        """Whether there is a partial line that `show_partial` would show."""
        return self._capture.pending

    def show_partial(self) -> None:
        """Put the line that has no end yet into the log, as far as it has come."""
        self._append(self._capture.flush_partial(self._now(), self.step))

    def end_output(self) -> None:
        """Put what is left of a step's output into the log, as a line: the output has ended."""
        self._append(self._capture.end_output(self._now(), self.step))

    def _append(self, batches: list[Lines]) -> None:
        for batch in batches:
            self._journal.append(batch)
        if self._journal.blocked:
            self._begin_to_wait(f"the builder's disk took no more ({self._journal.blocked})")

    # -- the disk --

    @property
    def blocked(self) -> bool:
        """Whether the disk takes no more of the journal."""
        return bool(self._journal.blocked)

    def sync(self) -> bool:
        """Make all of the log durable. Return whether the disk took it."""
        return self._journal.sync()

    def look_at_room(self) -> None:
        """Let the log wait while less is free than the reserve, and put a notice into it."""
        was, self.low = self.low, self._room.low()
        if self.low and not was:
            self._begin_to_wait("the builder's disk was nearly full")
            size = readable(self._room.reserve)
            self.note("warning", f"the builder's disk is nearly full: the build waits until more than {size} are free")

    def retry(self) -> float:
        """Try the disk again if the log waits for it. Return the seconds that it has waited, if the wait is over."""
        if self._waiting is None or (self._journal.blocked and not self._journal.retry()) or self.low:
            return 0.0
        since, why = self._waiting
        self._waiting = None
        seconds = self._clock() - since
        self.note("warning", f"{why}: the build waited for {seconds:.1f} s")
        return seconds

    def takes_more(self) -> bool:
        """Look at the disk, and try it again. Return whether the log doesn't wait for it."""
        self.look_at_room()
        self.retry()
        return self._waiting is None

    def _begin_to_wait(self, why: str) -> None:
        self.short_of_room = True
        if self._waiting is None:
            self._waiting = self._clock(), why
