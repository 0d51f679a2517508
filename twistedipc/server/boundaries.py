"""
The seams of the server: Protocols without logic, which ``web`` is written against and ``server`` implements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from twistedipc.builds.attempt import StepResult, StoredTool
from twistedipc.builds.explanations import Explanation
from twistedipc.builds.frames import Form
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.hooks.events import HookEvent
from twistedipc.builds.priorities import Priority
from twistedipc.builds.retention import Lost, Plan, Rules, Run
from twistedipc.builds.states import STATES
from twistedipc.finding.blocks import Line
from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.finding.query import Query
from twistedipc.ipc import NamedKey
from twistedipc.outgoing.exchange import Answer, Request
from twistedipc.sealed.outline import Remark
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.rows import Actor, AttemptRow, BuilderRow, BuildRow, PackageRequestRow, Place
from twistedipc.storage.taking import Taken

_T = TypeVar("_T")

#: Names of the duties (``shared_duties``) that use one-time passwords: publishing what builds have stored, and doing
#: what is asked about packages. Two apiservers may have them.
DELIVERING: Final = "delivering"
REQUESTING: Final = "requesting"

#: Returns so many unpredictable bytes, as `os.urandom` does.
RandomBytes = Callable[[int], bytes]


class Requests(Protocol):
    """
    Sends requests to services outside. None goes to an address of this machine or of its cloud, unless the operator has
    allowed the host; a redirect isn't followed.
    """

    async def send(self, request: Request) -> Answer:
        """Return the answer; one with a ``problem`` if there is none."""


class MailSending(Protocol):
    """Sends mail, by the server that the operator has set up."""

    @property
    def sender(self) -> str:
        """From whom mail is; "" if none can be sent."""

    async def send(self, to: Sequence[str], message: bytes) -> Answer:
        """Return an answer with the status 200 if the server has taken it for all; else with a ``problem``."""


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


class TooManySearches(Exception):
    """Other searches run, and wait, already; the message is for who asked."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """
    What somebody searches for: see `scanning.Wanted`. ``count``: what matches is counted, also when all hits that are
    wanted are found. ``who``: a name of the person (or of the program) that no other has, by which turns are shared.
    """

    who: str
    query: Query
    newest: bool = False
    most: int = 100
    context: int = 0
    room: int = 1 << 20
    count: bool = True


class LogRange(msgspec.Struct, frozen=True, kw_only=True):
    """
    Records ``first`` to ``last`` of an attempt's log. ``removed``: what is said of a log that isn't kept any more.
    """

    build: int
    attempt: int
    first: int
    last: int
    removed: str = ""

    @property
    def name(self) -> str:
        """The attempt's name."""
        return f"{self.build}-{self.attempt}"


class ProjectRange(msgspec.Struct, frozen=True, kw_only=True):
    """
    The logs of a project's attempts, at most ``logs`` of them: of those ``before`` and ``after`` an attempt, by build
    and number, the ``newest`` first or the oldest. Of each at most ``each`` hits are given.
    """

    project: int
    newest: bool = True
    before: tuple[int, int] | None = None
    after: tuple[int, int] | None = None
    logs: int = 100
    each: int = 10


class Search(Protocol):
    """One search: who asked takes what it finds, step by step, and closes it."""

    @property
    def end(self) -> SearchEnd | None:
        """None: there may be more."""

    async def more(self) -> list[LogHit | SearchedLog]:
        """
        Return what the next step has found, maybe nothing. To be called once at a time, while there is no `end`. Raises
        `LedgerUnavailable`.
        """

    def close(self) -> None:
        """End the search, and let another one begin. Idempotent."""


class Searches(Protocol):
    """
    Searches in logs. Some run at once and some wait for their turn; `log` and `logs` return when it has come, and the
    query has been compiled. They raise `TooManySearches`, and `query.BadQuery`.
    """

    async def log(self, asked: Asked, within: LogRange) -> Search:
        """Search one log."""

    async def logs(self, asked: Asked, within: ProjectRange) -> Search:
        """Search the logs of a project, build by build."""


class NewLines(msgspec.Struct, frozen=True, kw_only=True):
    """
    Lines that the same step of an earlier ``attempt``, a success, never printed: the first of them, one of each kind,
    and how many kinds there are. ``complete``: all of both steps was read.
    """

    attempt: str
    lines: list[Line]
    count: int
    complete: bool


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """
    Why an attempt failed. ``step`` (with its records, ``first`` and ``last``) is the one that did; ``cause`` the line
    that says why, and ``around`` what is near it; ``explanation`` what that means, if it is known; ``remarks`` the
    annotations, errors first; ``read_from``: the first record that was read, but for what is surely an error.
    """

    row: AttemptRow
    records: int
    step: StepResult | None
    first: int | None
    last: int | None
    explanation: Explanation | None
    cause: Line | None
    around: list[Line]
    remarks: list[Remark]
    new: NewLines | None
    read_from: int


class Diagnoses(Protocol):
    """Says why builds failed. Implemented by `diagnosing.Diagnosing`."""

    async def diagnose(self, attempt: str, who: str) -> Diagnosis | None:
        """
        Return why an attempt failed that has ended; None if there is no such attempt. ``who``: as in `Asked`. Raises
        `TooManySearches`, `LedgerUnavailable`.
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
    tools: list[StoredTool] | None = None  # what it has fetched for builds; None: it doesn't say, or hasn't yet


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

    @property
    def no_builder_since(self) -> int | None:
        """Since when no builder is linked, in milliseconds since the epoch; None while one is."""

    def why_waiting(self, row: AttemptRow, place: Place | None) -> Waiting | None:
        """Why this attempt doesn't go on now; None if it does, or has ended. ``place``: where it is in the queue."""

    def wake(self) -> None:
        """Look at the queue: what a project says of it has changed."""


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
        bump: str,
        parameters: dict[str, str],
        by: Actor,
        idempotency: Idempotency | None,
        priority: Priority | None = None,
    ) -> Awaitable[tuple[BuildRow, bool]]:
        """
        Queue a new build's first attempt. Return the build, and whether it is new: it isn't, if the same request was
        made before. ``may_publish``: who asks has the scope publish. ``bump``: how versions of packages are raised; "":
        they aren't. ``priority``: None is what the project's rules say. Raises as `storage.builds.create`.
        """

    def retry_build(self, build: int, by: Actor, *, may_publish: bool) -> Awaitable[AttemptRow]:
        """
        Queue another attempt of a build that has ended. ``may_publish``: who asks has the scope publish. Raises as
        `storage.builds.retry`.
        """

    def approve_build(self, build: int, by: Actor, otp: str = "") -> Awaitable[AttemptRow]:
        """
        Have what a build made go live, which waits for that. Raises as `storage.approvals.approve`. ``otp``: the
        one-time password for what is staged in a registry.
        """

    def refuse_build(self, build: int, reason: str, by: Actor, otp: str = "") -> Awaitable[AttemptRow]:
        """
        End a build that waits for an approval. Raises as `storage.approvals.refuse`. ``otp``: the one-time password
        with which what is staged in a registry is taken back.
        """

    def cancel_build(self, build: int, reason: str, by: Actor) -> Awaitable[None]:
        """
        Make the cancellation durable, in one transaction with its record in the audit, and tell the builder if one is
        at work. Raises `storage.builds.NotPossible` if the build has ended already.
        """

    def cancel_queued(self, project: str, reason: str, by: Actor) -> Awaitable[int]:
        """Cancel all builds of a project that are queued. Return how many these were."""


class Retention(Protocol):
    """What removes what isn't kept any more. Implemented by `pruning.Pruning`."""

    @property
    def rules(self) -> Rules:
        """The rules of projects that have none of their own."""

    @property
    def run(self) -> Run | None:
        """The run that goes on, else the last one; None: there was none since the start."""

    async def plan(self, projects: frozenset[str] | None) -> Plan:
        """Say what would go now, of these projects (None: all, and what is of none). Raises `LedgerUnavailable`."""

    async def lost(self, projects: frozenset[str] | None) -> Lost:
        """Say what not even the newest would be left of; ``projects`` as in `plan`. Raises `LedgerUnavailable`."""

    def begin(self, projects: frozenset[str] | None, by: Actor) -> Run:
        """Begin to remove it, unless a run goes on: that one."""


class HookRequests(Protocol):
    """
    What the hosts of repositories tell, and what members say of it. Implemented by `lifecycle.Lifecycle`. Each answer
    comes after the commit. All of them raise `LedgerUnavailable`.
    """

    def take_message(self, project: str, event: HookEvent) -> Awaitable[Taken]:
        """Take a message that was proven to come from the project's host. Raises as `storage.taking.take`."""

    def allow_message(self, project: str, message: int, by: Actor) -> Awaitable[Taken]:
        """Build what a stranger's message brings. Raises as `storage.taking.allow`."""

    def repeat_message(self, project: str, message: int, by: Actor) -> Awaitable[Taken]:
        """Do once more what a message asks for. Raises as `storage.taking.again`."""


class Looks(Protocol):
    """Looks at repositories whose hosts can't send hooks. Implemented by `polling.Polling`."""

    def wake(self) -> None:
        """Look which are due: something has changed there."""


class PackageRequests(Protocol):
    """
    What people ask to be done with packages that are published. Implemented by `requesting.Requesting`. A one-time
    password is kept nowhere but in memory until it is used. All of them raise `LedgerUnavailable`.
    """

    def request(
        self,
        *,
        project: str,
        package: str,
        kind: str,
        tag: str,
        version: str,
        message: str,
        otp: str,
        by: Actor,
    ) -> Awaitable[PackageRequestRow]:
        """Ask for it, durably. Raises as `storage.package_requests.add`."""

    def give_password(self, project: str, request: int, otp: str, by: Actor) -> Awaitable[PackageRequestRow]:
        """Give a one-time password to a request that waits for one. Raises as `storage.package_requests.resume`."""
