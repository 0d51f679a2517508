"""
The feed of gists: listeners are told how far builds are and how many remarks they have made, soon after that is
committed. Implements `boundaries.GistFeed`. Called by ``writers`` and ``lifecycle`` (a gist may have changed) and
``web`` (a viewer listens); asks the ledger.

A build may change its gist a hundred times a second. So a change is only noted, and the gists of all builds that have
changed are read in rounds, a second apart, by one query, and encoded once for all listeners. The first change after a
pause is told at once. A new listener is told about all builds that go on, in the same round. One round is under way at
a time, so a listener is never told an older gist after a newer one. Without listeners, nothing is noted and nothing
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from typing import Final

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.builds.frames import text_frame
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.states import states_where
from twistedipc.server.boundaries import GistChange
from twistedipc.storage import builds
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import BuildRow

#: Seconds between the beginnings of two rounds.
ROUND_INTERVAL = 1.0

#: How many changed builds a round tells about; more wait for the next one.
MAX_CHANGED = 1000

#: A new listener gets the gists of so many builds that go on, the newest.
MAX_GOING_ON = 1000

_TALKING: Final = states_where(lambda info: info.talks)

_encoder = msgspec.json.Encoder()


class BuildGist:
    """One build's gist, encoded once. See `boundaries.EncodedGist`."""

    __slots__ = ("build", "frame", "project")

    def __init__(self, row: BuildRow) -> None:
        self.build = row.id
        self.project = row.project
        self.frame = text_frame(_encoder.encode(change_of(row)))


class Round(tuple[BuildGist, ...]):
    """The gists of one round. See `boundaries.GistRound`."""

    @cached_property
    def frames(self) -> bytes:
        """The frames of all, joined when the first viewer wants them."""
        return b"".join([gist.frame for gist in self])


class _Listener:
    """A listener. While it is ``new``, it must still be told about all builds that go on."""

    __slots__ = ("heard", "new")

    def __init__(self, heard: Callable[[Round], None]) -> None:
        self.heard = heard
        self.new = True


class Gists:
    """Tells every listener, in rounds. A listener that raises is logged and doesn't harm the others."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, ledger: Ledger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._listeners: dict[object, _Listener] = {}
        self._changed: dict[int, None] = {}  # builds, in the order in which they will be told
        self._last = float("-inf")  # when the last round began
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False

    def listen(self, heard: Callable[[Round], None]) -> Callable[[], None]:
        """See `boundaries.GistFeed`."""
        key = object()
        self._listeners[key] = _Listener(heard)
        self._schedule()

        def deafen() -> None:
            self._listeners.pop(key, None)
            if not self._listeners:
                self._changed.clear()
                self._cancel()

        return deafen

    def changed(self, build: int) -> None:
        """Tell the listeners soon: a build's gist may have changed, and that is committed."""
        if self._listeners:
            self._changed[build] = None
            self._schedule()

    async def stop(self) -> None:
        """Stop telling, and wait for the round that is under way."""
        self._stopped = True
        self._cancel()
        if self._running is not None:
            await self._running

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._running is None and not self._stopped:
            delay = max(0.0, self._last + ROUND_INTERVAL - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._last = self._clock.seconds()
        running = self._running = Deferred.fromCoroutine(self._round())
        running.addErrback(lambda failure: self._log.failure("telling the gists of builds failed", failure))
        running.addCallback(self._ended)

    def _ended(self, _result: None) -> None:
        self._running = None
        if self._changed or any(listener.new for listener in self._listeners.values()):
            self._schedule()

    async def _round(self) -> None:
        changed = list(islice(self._changed, MAX_CHANGED))
        for build in changed:
            del self._changed[build]
        newcomers = [listener for listener in self._listeners.values() if listener.new]
        try:
            found, going_on = await self._ledger.read(_look, tuple(changed), bool(newcomers))
        except LedgerUnavailable:  # what writes to the ledger logs that
            if self._listeners:
                self._changed = dict.fromkeys([*changed, *self._changed])
            return
        for listener in newcomers:
            listener.new = False
        newest = _round_of(found)
        everything = _round_of({row.id: row for row in [*going_on, *found]}.values()) if newcomers else newest
        for key, listener in list(self._listeners.items()):
            # A listener that came during the query hears everything in the next round, and the changes in this one.
            told = everything if listener in newcomers else newest
            if not told or key not in self._listeners:
                continue
            try:
                listener.heard(told)
            except Exception:
                self._log.failure("a listener of gists failed")


def change_of(row: BuildRow) -> GistChange:
    """Return the message for listeners about a build."""
    gist = row.gist
    return GistChange(
        build=row.id,
        attempt=row.attempt,
        project=row.project,
        progress=None if gist.progress is None else Progress(gist.progress.value, gist.progress.label),
        annotations=Annotations(gist.errors, gist.warnings, gist.notices),
    )


def _round_of(rows: Iterable[BuildRow]) -> Round:
    return Round(map(BuildGist, rows))


def _look(connection: Connection, changed: tuple[int, ...], all_too: bool) -> tuple[list[BuildRow], list[BuildRow]]:
    """Return the builds that have changed, also if they have ended; and, if ``all_too``, those that go on."""
    found = builds.some(connection, changed) if changed else []
    if not all_too:
        return found, []
    return found, builds.list_page(connection, projects=None, states=_TALKING, before=None, limit=MAX_GOING_ON)
