"""
The seams of the server: Protocols without logic, which ``web`` is written against and ``server`` implements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from twistedipc.builds.frames import Form
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.states import STATES
from twistedipc.ipc import NamedKey
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.rows import Actor, AttemptRow, BuilderRow, BuildRow

_T = TypeVar("_T")

#: Returns so many unpredictable bytes, as `os.urandom` does.
RandomBytes = Callable[[int], bytes]


class InThread(Protocol):
    """Runs a blocking function in a thread; never in the reactor's shared pool, whose threads DNS needs."""

    def __call__(self, function: Callable[..., _T], /, *args: object) -> Deferred[_T]:
        """Fires in the reactor's thread."""


#: In place of a file's descriptor: there is none.
NO_FILE: Final = -1


class SharedFrames(Protocol):
    """The same frames for many sockets."""

    @property
    def data(self) -> bytes:
        """The frames, as bytes."""

    def file_for(self, sockets: int) -> int:
        """
        The descriptor of a file that has the frames too, if it's worth having for so many; else `NO_FILE`. It is closed
        with the last reference to this.
        """


class LogEntry(Protocol):
    """One message of a log (`lines`, `gap`, `end`), encoded once and shared by all its readers."""

    @property
    def first(self) -> int:
        """The number of its first record; of an `end`, the number after the last record."""

    @property
    def end(self) -> int:
        """The number after the entry's last record."""

    @property
    def message(self) -> bytes:
        """The entry's JSON, without a newline."""

    def frame(self, form: Form) -> bytes:
        """
        The message as one unmasked WebSocket text frame, made once for all. Deflated by itself, where that is worth it;
        tagged: with ``build`` and ``attempt`` in it.
        """

    @property
    def final(self) -> bool:
        """True for the `end`, after which nothing comes."""


class LogRun(Protocol):
    """Consecutive entries of a log, shared by all cursors at the same place: made once, joined once."""

    @property
    def more(self) -> bool:
        """True if there may be more at once; else the cursor's ``wake`` will be called when there is."""

    @property
    def final(self) -> bool:
        """True if the last entry is the `end`."""

    @property
    def frames(self) -> Mapping[Form, SharedFrames]:
        """All entries' frames in each form, joined once for all."""

    def __iter__(self) -> Iterator[LogEntry]: ...

    def __len__(self) -> int: ...


class Cursor(Protocol):
    """
    A place in one log, of one viewer, or of several that read together. Viewers pull; there is no queue per viewer.
    """

    #: Called, never from within `take`, when there is something to take after `take` had given all there was; also if
    #: it was taken meanwhile. May be changed.
    wake: Callable[[], object]

    @property
    def place(self) -> object:
        """Where it is: cursors with equal places will be given the same."""

    def branch(self, place: object, wake: Callable[[], object]) -> Cursor:
        """Another cursor of this log, at a `place` where this one is or was. This one must not be closed yet."""

    def take(self, limit: int) -> LogRun | None:
        """
        The next entries, of about ``limit`` bytes at most (at least one, if there is one), and move past them. An
        empty run: there is nothing now, and ``wake`` will be called once there is. None: what comes next must be
        fetched first; call `fetch`, then `take` again.
        """

    def fetch(self) -> Awaitable[None]:
        """Get what comes next from the store. To be called once at a time, only after `take` gave None."""

    def close(self) -> None:
        """Forget this cursor. Idempotent."""


class Logs(Protocol):
    """The logs of all attempts: what is live and what is stored, as one."""

    def cursor(self, attempt: str, after: int, wake: Callable[[], object]) -> Cursor:
        """
        A cursor behind record ``after`` (0: the beginning). ``wake``: see `Cursor`.
        """


class StateChange(msgspec.Struct, frozen=True, kw_only=True, tag="state", tag_field="type"):
    """A build's attempt has changed its state. This is the WebSocket's ``state`` message."""

    build: int
    attempt: int
    project: str
    state: str
    ended: bool  # the state is terminal
    tone: str  # how the state is shown: `builds.states.Tone`
    reason: str
    time: int  # milliseconds since the epoch

    @classmethod
    def of(cls, row: AttemptRow, now: int) -> StateChange:
        """The change that an attempt's new row stands for. ``now``: milliseconds since the epoch."""
        return cls(
            build=row.build,
            attempt=row.number,
            project=row.project,
            state=row.state.value,
            ended=STATES[row.state].ended,
            tone=STATES[row.state].tone.value,
            reason=row.reason,
            time=now,
        )


class StateFeed(Protocol):
    """Tells all listeners about every committed change of state, in order."""

    def listen(self, heard: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call ``heard`` with each change from now on, until the function that is returned has been called."""

    def publish(self, change: StateChange) -> None:
        """Tell all listeners. Only after the commit."""


class GistChange(msgspec.Struct, frozen=True, kw_only=True, tag="said", tag_field="type"):
    """A build's gist, by its newest attempt, as the WebSocket's ``said`` message."""

    build: int
    attempt: int
    project: str
    progress: Progress | None  # None: nothing runs of which it was said
    annotations: Annotations


class EncodedGist(Protocol):
    """One `GistChange`, encoded once and shared by all listeners."""

    @property
    def build(self) -> int:
        """The number of the build."""

    @property
    def project(self) -> str:
        """The name of the build's project."""

    @property
    def frame(self) -> bytes:
        """The message as one unmasked WebSocket text frame."""


class GistRound(Protocol):
    """The gists that are told at once, at most one of each build."""

    @property
    def frames(self) -> bytes:
        """All frames, joined once for all."""

    def __iter__(self) -> Iterator[EncodedGist]: ...


class GistFeed(Protocol):
    """Tells all listeners the gists of builds, once they are committed: each build's once a second at most."""

    def listen(self, heard: Callable[[GistRound], None]) -> Callable[[], None]:
        """
        Call ``heard`` soon with the gist of each build that goes on, and then with the gists that have changed, until
        the function that is returned has been called. A listener never hears an older gist after a newer one.
        """

    def changed(self, build: int) -> None:
        """Note that this build's gist may have changed. Only after the commit."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a build doesn't go on now."""

    code: str  # one of `web.schemas.WaitingCode`
    text: str  # a sentence without its end, for people
    position: int | None = None  # in the queue, from 1
    until: int | None = None  # milliseconds since the epoch: when it is lost, unless its builder is back by then


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder says of its program, for people."""

    version: str = ""  # "": it doesn't say
    isolation: str = ""  # what keeps its builds apart; "": it doesn't say, or can't


class LinkedBuilder(msgspec.Struct, frozen=True, kw_only=True):
    """A builder that is linked, as its link says."""

    name: str
    since: int  # milliseconds since the epoch
    address: str
    key: str  # the id of the key of its own by which it is proven; "": the shared one, or none
    slots: int
    draining: bool
    program: Program


class KnownBuilders(Protocol):
    """The builders and their keys, on their links. Implemented by `builders.Builders`."""

    def linked(self) -> list[LinkedBuilder]:
        """Return the builders that are linked now."""

    def added(self, row: BuilderRow, key: NamedKey) -> None:
        """Take note of a key that was made, and is committed."""

    def changed(self, row: BuilderRow) -> None:
        """Take note of a builder's row as it is committed."""

    def revoked(self, row: BuilderRow) -> None:
        """End a builder's link, and what it has, at once: its keys have ended, and that is committed."""


class Dispatch(Protocol):
    """The part of the server that hands attempts to builders, as far as people ask about it."""

    @property
    def isolations(self) -> list[str]:
        """By what the linked builders isolate builds, each once; "": nothing does, or it isn't known."""

    @property
    def linked(self) -> int:
        """How many builders are linked now."""

    def why_waiting(self, row: AttemptRow, before: int | None) -> Waiting | None:
        """
        Why this attempt doesn't go on now; None if it does, or has ended. ``before``: how many attempts are queued
        before it.
        """


class BuildRequests(Protocol):
    """What people ask of builds. Implemented by `lifecycle.Lifecycle`. All of them raise `LedgerUnavailable`."""

    def request_build(
        self,
        *,
        project: str,
        ref: str,
        publish: bool,
        live: bool,
        may_publish: bool,
        parameters: dict[str, str],
        by: Actor,
        idempotency: Idempotency | None,
    ) -> Awaitable[tuple[BuildRow, bool]]:
        """
        Queue a new build's first attempt. Return the build, and whether it is new: it isn't, if the same request was
        made before. ``may_publish``: who asks has the scope publish. Raises as `storage.builds.create`.
        """

    def retry_build(self, build: int, by: Actor, *, may_publish: bool) -> Awaitable[AttemptRow]:
        """
        Queue another attempt of a build that has ended. ``may_publish``: who asks has the scope publish. Raises as
        `storage.builds.retry`.
        """

    def approve_build(self, build: int, by: Actor) -> Awaitable[AttemptRow]:
        """Have what a build made go live, which waits for that. Raises as `storage.approvals.approve`."""

    def refuse_build(self, build: int, reason: str, by: Actor) -> Awaitable[AttemptRow]:
        """End a build that waits for an approval. Raises as `storage.approvals.refuse`."""

    def cancel_build(self, build: int, reason: str, by: Actor) -> Awaitable[None]:
        """
        Make the cancellation durable, in one transaction with its record in the audit, and tell the builder if one is
        at work. Raises `storage.builds.NotPossible` if the build has ended already.
        """
