"""
The apiserver's end of one builder's link: what the builder says becomes transitions (``lifecycle``) and commits of log
records (``writers``), and what they answer is what the builder is told. Made by ``builders`` for each connection.

The rule for every message: check it against the ledger by attempt, lease *and builder* (compare-and-set), commit, then
answer. A message about a lease that is no longer good is answered with `Stop`, so the builder kills what it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Permit, Secrets, StoredTool
from twistedipc.builds.isolation import Kind, kind_of
from twistedipc.builds.names import shown
from twistedipc.builds.needs import said_by_itself
from twistedipc.builds.states import STATES, AttemptState, LeaseStatus
from twistedipc.ipc import CallFailed, Code, Hole, Load, NotConnected, Peer, Vocabulary
from twistedipc.publish.archive import short
from twistedipc.server.bell import Bell
from twistedipc.server.boundaries import Program
from twistedipc.server.builder_keys import BuilderKeys
from twistedipc.server.fanout.live import BadBatch, LiveLog
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.intake import LogIntake, Unreadable
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.linked import LinkedBuilders
from twistedipc.server.permits import Permits
from twistedipc.server.releasing import Releasing
from twistedipc.server.resting import Resting
from twistedipc.server.secrets import BuildSecrets
from twistedipc.server.slots import Slots
from twistedipc.server.uploads import UploadGrants, UploadTarget
from twistedipc.server.workflows import Workflows
from twistedipc.server.writers import LogWriters
from twistedipc.server.writes import Writes
from twistedipc.storage import artifacts, attempts, publications, tenures
from twistedipc.storage.apiservers import Incarnation
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import LogOrder, NotFound, NotPossible, TenureLost
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import AttemptRow, Holder
from twistedipc.storage.tenures import Taken, Tenure

#: Bytes of unacknowledged records that a builder may have under way for one attempt; see `fanout.limits.LogLimits`.
CREDIT = 1 << 20

#: How much of what a builder says of itself is shown, in characters of each word.
WORD_LIMIT = 40

#: How much of a builder's reason is logged, in characters.
REASON_LIMIT = 500

#: A builder is told of so many contents that are stored; more don't fit into a frame.
MAX_STORED = 90_000

#: Seconds for a builder that has linked to sync: one that doesn't would keep its attempts from being given up.
SYNC_DEADLINE = 60.0

#: Seconds after a sync until an attempt is lost that it should have listed and didn't. It may have come from a process
#: that has taken the builder's name, which the builder takes back meanwhile.
MISSING_DEADLINE = 60.0

VOCABULARY = Vocabulary(
    receives=m.FROM_BUILDER,
    answers=m.CALLS,
    calls=m.QUESTIONS,
    fallbacks={m.Log: m.UnreadLog},
)


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """What every builder's link works with."""

    clock: IReactorTime
    now: Callable[[], int]  # milliseconds since the epoch
    here: Callable[[], Incarnation | None]  # which of several apiservers this is; None: the only one
    cut_off: Callable[[], bool]  # others may have given this one up without its knowing
    database_time: Callable[[Connection], int]
    ledger: Ledger
    logs: LogStore
    lifecycle: Lifecycle
    workflows: Workflows
    writers: LogWriters
    linked: LinkedBuilders
    resting: Resting
    bell: Bell
    keys: BuilderKeys
    permits: Permits
    secrets: BuildSecrets
    releasing: Releasing
    grants: UploadGrants
    artifact_store: ArtifactStore
    uploads_url: str  # where builders upload to
    max_running: int  # of the workflows that one link has begun; beyond, it isn't read


class Phase(Enum):
    """How far the opening of a link has got."""

    LINKED = "linked"
    SYNCING = "syncing"
    SYNCED = "synced"
    LOST = "lost"


class BuilderLink:
    """One connection of one builder. The framework's application."""

    _log = Logger()

    def __init__(self, collaborators: Collaborators, peer: Peer, lost: Callable[[BuilderLink], None]) -> None:
        self.peer = peer
        self.superseded = False
        self.since = collaborators.now()
        self.program = Program()
        # Until the sync this link may write nothing: another apiserver may have the builder.
        self.tenure = None if collaborators.here() is None else Tenure(peer.info.name, 0)
        self._with = collaborators
        self._lost = lost
        self._phase = Phase.LINKED
        self._slots = Slots()
        self._features: frozenset[str] = frozenset()
        self._logs: dict[str, LogIntake] = {}  # by attempt, as synced or accepted
        self._finishing: set[str] = set()
        self._cancelled: dict[str, str] = {}  # attempt -> reason: cancelled before the link had synced
        self._load = Load(peer, collaborators.max_running)
        # Until the sync is late; then until what it should have listed is given up.
        self._deadline = collaborators.clock.callLater(SYNC_DEADLINE, self._sync_is_late)

    # -- what others ask: see `linked.Link`

    @property
    def synced(self) -> bool:
        """See `linked.Link`."""
        return self._phase is Phase.SYNCED

    @property
    def draining(self) -> bool:
        """See `linked.Link`."""
        return self._slots.draining or self._with.keys.drained(self.peer.info)

    @property
    def isolation(self) -> Kind | None:
        """What isolates builds there; None: by its words nothing does, or it doesn't say."""
        return kind_of(self.program.isolation)

    @property
    def features(self) -> frozenset[str]:
        """See `linked.Link`."""
        return self._features | self._with.keys.features(self.peer.info)

    @property
    def slots(self) -> int:
        """See `linked.Link`."""
        return self._slots.total

    @property
    def free_slots(self) -> int:
        """See `linked.Link`."""
        resting, name = self._with.resting, self.peer.info.name
        if self._phase is Phase.LOST or self.draining or resting.rests(name):
            return 0
        return self._slots.free(in_trouble=resting.trouble(name) is not None)

    def offer(self, offer: m.Offer) -> None:
        """See `linked.Link`."""
        self._send(offer)
        self._slots.offer(offer.attempt, offer.lease)

    def ask(self, question: msgspec.Struct, seconds: float) -> Deferred[Any]:
        """See `linked.Link`."""
        return self.peer.call(question, timeout=seconds)

    async def expire_offer(self, row: AttemptRow, seconds: float) -> None:
        """See `linked.Link`."""
        if not self._slots.awaits_answer(row.name, row.lease):
            return
        info = self.peer.info
        reason = f"builder {info.name} didn't answer the offer within {seconds:.0f} s"

        def note_silence() -> None:
            self._with.resting.silent(info, row.name, seconds, alone=self._is_alone())
            self._log.warn("{reason}: {attempt}", reason=reason, attempt=row.name)
            self.stop_attempt(row.name, row.lease)

        await self._while_ours(self._expire(row, reason, note_silence))

    async def _expire(self, row: AttemptRow, reason: str, first: Callable[[], None]) -> None:
        await self._lifecycle.return_to_queue(row.name, row.holder, reason, first=first)

    def cancel_attempt(self, row: AttemptRow) -> None:
        """See `linked.Link`."""
        if self.synced:
            self._send(m.CancelAttempt(attempt=row.name, lease=row.lease, reason=row.cancel_reason))
        else:
            self._cancelled[row.name] = row.cancel_reason  # the order in the sync's answer says it

    def stop_attempt(self, attempt: str, lease: str) -> None:
        """Tell the builder that the lease is not valid: the offer has expired, or the attempt isn't the builder's."""
        self._send(m.Stop(attempt=attempt, lease=lease))
        self._release(attempt, lease)

    def acknowledge(self, live: LiveLog) -> None:
        """See `writers.LogWriter`."""
        crash_point(CrashPoint.APISERVER_LOG_COMMITTED)
        self._send(m.Ack(attempt=live.attempt, next=live.committed))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_ACK_SENT)

    # -- the framework's side

    def message_received(self, message: msgspec.Struct) -> None:
        """Take the next one-way message."""
        match message:
            case m.Log() | m.UnreadLog():
                self._log_received(message)
            case m.Accept():
                crash_point(CrashPoint.APISERVER_ACCEPT_RECEIVED)
                self._launch(self._accepted(message), "an acceptance")
            case m.Decline():
                self._launch(self._declined(message), "a declined offer")
            case m.Started():
                self._launch(self._started(message), "a start")
            case m.CheckedOut():
                self._launch(self._checked_out(message, self._resolved(message.resolved_ago)), "a checkout")
            case m.Final():
                # The time counts from here: what follows may wait for the ledger.
                self._launch(self._final(message, self._resolved(message.resolved_ago)), "an attempt's end")
            case m.Tools():
                self._launch(self._tools(message), "which tools a builder has")
            case m.Status():
                self._slots.resize(message.slots, message.draining)
                self._with.bell.ring(Topic.BUILDER)
            case _:
                raise AssertionError(f"not in the vocabulary: {message!r}")

    def _launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> None:
        """Run a workflow of the service: it outlives this link, which isn't read while too many are under way."""
        self._load.add(self._with.workflows.launch(self._while_ours(work), about))

    async def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        """Answer a call, once the ledger has its answer."""
        try:
            match request:
                case m.Sync():
                    return await self._sync_once(request)
                case m.WantPermit():
                    return await self._permit(request)
                case m.WantSecrets():
                    return await self._secrets(request)
                case m.WantContents():
                    return await self._contents(request)
                case m.WantUpload():
                    return await self._upload(request)
                case _:
                    raise AssertionError(f"not in the vocabulary: {request!r}")
        except LedgerUnavailable as error:
            raise CallFailed("unavailable", str(error)) from error
        except TenureLost as error:
            self.moved()
            raise CallFailed("unavailable", str(error)) from error

    def connection_lost(self, reason: str) -> None:
        """The link is gone; what the builder runs goes on there."""
        self._phase = Phase.LOST
        if not self.superseded:
            for attempt in self._slots.unanswered:
                self._with.resting.left(self.peer.info, attempt, alone=self._is_alone())
        if self._deadline.active():
            self._deadline.cancel()
        self._log.info("the link to builder {name} is lost: {reason}", name=self.peer.info.name, reason=reason)
        self._lost(self)

    def writing_paused(self) -> None:
        """Acknowledgements and orders are small and bounded by what the builder sent: nothing to stop."""

    def writing_resumed(self) -> None:
        """See `writing_paused`."""

    # -- whose the builder is

    @property
    def _lifecycle(self) -> Lifecycle:
        """Return by what this link changes attempts."""
        return self._with.lifecycle.under(self.tenure)

    def moved(self) -> None:
        """See `linked.Link`."""
        self.superseded = True
        self.peer.close(Code.SUPERSEDED, "the same builder has linked again, at another apiserver")

    async def _take_tenure(self) -> None:
        """Have the builder from now on, if several apiservers share the database. Raises `CallFailed`."""
        here, info = self._with.here(), self.peer.info
        if here is None:
            return

        def take(connection: Connection) -> Tenure | Taken:
            return tenures.take(connection, info.name, info.incarnation, here, self._with.database_time(connection))

        taken = await self._with.ledger.write(take)
        crash_point(CrashPoint.APISERVER_BUILDER_TAKEN)
        if isinstance(taken, Taken):
            self.superseded = True  # what it has is the other apiserver's matter
            why = f"a builder named {info.name} is linked already, at apiserver {taken.apiserver}"
            self.peer.close(Code.NAME_TAKEN, why)
            raise CallFailed(Code.NAME_TAKEN, why)
        self.tenure = taken

    async def _while_ours(self, work: Awaitable[None]) -> None:
        """Do what the link drives. If the builder has moved meanwhile, that changes nothing, and the link ends."""
        try:
            await work
        except TenureLost:
            self.moved()

    # -- sync

    def _sync_is_late(self) -> None:
        self.peer.close("no_sync", f"no sync within {SYNC_DEADLINE:.0f} s")

    async def _sync_once(self, sync: m.Sync) -> m.Orders:
        if self._phase is not Phase.LINKED:
            raise CallFailed("synced", "this link has synced already")
        self._phase = Phase.SYNCING
        try:
            return await self._sync(sync)
        finally:
            if self._phase is Phase.SYNCING:
                self._phase = Phase.LINKED  # it failed, and may be tried again

    async def _sync(self, sync: m.Sync) -> m.Orders:
        await self._take_tenure()
        ledger, lifecycle, name = self._with.ledger, self._lifecycle, self.peer.info.name
        held = {(attempt.attempt, attempt.lease) for attempt in sync.attempts}
        orders = [await self._order(attempt) for attempt in sync.attempts]
        missing: list[AttemptRow] = []
        for row in await ledger.read(attempts.leased, name):
            if (row.name, row.lease) in held:
                continue
            # Workflows of the service: this call is cancelled if the link is lost, and what is committed must be told.
            if STATES[row.state].lease is LeaseStatus.OFFERED:
                self._with.workflows.launch(self._while_ours(self._return_offer(row)), "taking an offer back")
            else:
                missing.append(row)
                reason = (
                    f"builder {name} has linked without it: it is lost after {MISSING_DEADLINE:.0f} s, unless the "
                    "builder that has it links again"
                )
                self._with.workflows.launch(self._while_ours(lifecycle.miss(row, reason)), "noting a missing attempt")
        if self._phase is Phase.LOST:
            raise CallFailed("gone", "the link was lost during the sync")
        orders = [replace(order, cancel=order.cancel or self._cancelled.get(order.attempt, "")) for order in orders]
        self._slots.resize(sync.slots, sync.draining)
        self._features = said_by_itself(sync.features)
        self.program = Program(version=sync.version[:WORD_LIMIT], isolation=(sync.isolation or "")[:WORD_LIMIT])
        self._phase = Phase.SYNCED
        if self._deadline.active():
            self._deadline.cancel()
        if missing:
            self._log.warn(
                "builder {name} linked from {address} without {attempts}",
                name=name,
                address=self.peer.info.address,
                attempts=", ".join(row.name for row in missing),
            )
            self._deadline = self._with.clock.callLater(MISSING_DEADLINE, self._give_missing_up, missing)
        self._with.bell.ring(Topic.BUILDER)
        return m.Orders(
            orders=orders, credit=CREDIT, uploads=self._with.uploads_url, features=list(m.APISERVER_FEATURES)
        )

    def _give_missing_up(self, missing: Sequence[AttemptRow]) -> None:
        """This link has lasted, and its builder doesn't have these attempts: nothing will tell how they ended."""
        for row in missing:
            reason = f"builder {row.builder} no longer has it"
            lose = self._lose(row.name, row.lease, reason)
            self._with.workflows.launch(self._while_ours(lose), "noting a lost attempt")

    async def _return_offer(self, row: AttemptRow) -> None:
        await self._lifecycle.return_to_queue(row.name, row.holder)

    async def _order(self, held: m.HeldAttempt) -> m.Order:
        row = await self._with.ledger.read(attempts.get, held.attempt)
        stop = m.Order(attempt=held.attempt, lease=held.lease, order="stop")
        if row is None or row.holder != self._holder(held.lease):
            return stop
        if STATES[row.state].builder_done:
            return replace(stop, order="forget") if held.phase == "ended" else stop
        phase = AttemptState.ACCEPTED if held.phase == "accepted" else AttemptState.RUNNING
        back = await self._lifecycle.reconnect(row, phase, self.isolation)
        if back is None:  # it was given up at the same time
            return stop
        live = await self._adopt_log(held.attempt, held.lease)
        self._slots.hold(held.attempt, held.lease)
        return m.Order(
            attempt=held.attempt,
            lease=held.lease,
            order="go" if held.phase == "accepted" else "continue",
            next=live.window.position(),
            cancel=back.cancel_reason,
        )

    async def _adopt_log(self, attempt: str, lease: str) -> LiveLog:
        """Return the attempt's log, which this link writes from now on."""
        if self.tenure is not None:
            self._with.logs.reload(attempt)  # another apiserver may have written it meanwhile
        live = self._with.logs.live(attempt)
        self._with.writers.begin(live, self)
        await self._with.logs.load(live)
        self._logs[attempt] = LogIntake(lease, live)
        return live

    # -- an attempt's life

    async def _accepted(self, accept: m.Accept) -> None:
        row = await self._lifecycle.accept(accept.attempt, self._holder(accept.lease), self.isolation)
        if row is None:
            self.stop_attempt(accept.attempt, accept.lease)
            return
        self._slots.accept(accept.attempt, accept.lease)
        self._with.resting.took(self.peer.info.name, accept.attempt)
        self._with.bell.ring(Topic.BUILDER)  # it may be offered more than one at a time now
        if self._phase is Phase.LOST:
            return  # the log is the next link's to write, which says `go` in its sync
        await self._with.workflows.retry_until_available(lambda: self._adopt_log(accept.attempt, accept.lease))
        self._send(m.Go(attempt=accept.attempt, lease=accept.lease))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_GO_SENT)
        if row.cancel_reason:
            self.cancel_attempt(row)

    async def _declined(self, decline: m.Decline) -> None:
        info = self.peer.info
        reason = shown(decline.reason, REASON_LIMIT)
        self._log.info(
            "builder {name} declined {attempt}: {reason}", name=info.name, attempt=decline.attempt, reason=reason
        )
        if self._slots.release(decline.attempt, decline.lease):
            # Only of what it was offered on this link: else any number of attempts would be remembered.
            self._with.resting.declined(info, decline.attempt, reason, alone=self._is_alone())
        said = f"builder {info.name} declined it: {reason}"
        await self._lifecycle.return_to_queue(decline.attempt, self._holder(decline.lease), said)
        self._with.bell.ring(Topic.BUILDER)

    async def _started(self, started: m.Started) -> None:
        await self._lifecycle.start(started.attempt, self._holder(started.lease), started.time)

    async def _checked_out(self, said: m.CheckedOut, resolved: int | None) -> None:
        await self._lifecycle.check_out(said.attempt, self._holder(said.lease), said.found, resolved)

    async def _tools(self, said: m.Tools) -> None:
        tools = [
            StoredTool(name=shown(each.name, WORD_LIMIT), version=shown(each.version, WORD_LIMIT))
            for each in said.tools
        ]
        self.program = replace(self.program, tools=tools)
        await self._with.keys.note_tools(self.peer.info, tools)

    def _resolved(self, ago: int | None) -> int | None:
        """Return when a ref was found to lead to a commit, which a message says that comes now."""
        return None if ago is None else self._with.now() - ago

    def _is_alone(self) -> bool:
        """True if no other builder could take what this one doesn't."""
        return not self._with.linked.others_could(self.peer.info.name)

    def _log_received(self, log: m.Log | m.UnreadLog) -> None:
        intake = self._logs.get(log.attempt)
        if intake is None or intake.lease != log.lease:
            self.stop_attempt(log.attempt, log.lease)
            return
        live = intake.live
        crash_point(CrashPoint.APISERVER_LOG_RECEIVED)
        try:
            added = intake.take(log)
        except Hole as hole:
            if not hole.again:
                self._send(m.Resend(attempt=log.attempt, next=hole.next))
            return
        except BadBatch:  # the attempt was ended by the apiserver meanwhile
            self.stop_attempt(log.attempt, log.lease)
            return
        except Unreadable as error:
            self._launch(self._lose(log.attempt, log.lease, str(error)), "an unreadable log")
            self.stop_attempt(log.attempt, log.lease)
            return
        if intake.complaint:
            self._log.error(
                "builder {name} sent what can't be read of {attempt}: {complaint}",
                name=self.peer.info.name,
                attempt=log.attempt,
                complaint=intake.complaint,
            )
            self.peer.complain("bad_log", f"{log.attempt}: {intake.complaint}")
            if not added:
                return  # what can be read after it says how much that is
        if not added:
            self.acknowledge(live)
            return
        # In this order, so that viewers have what is new before a commit that is due at once competes with them.
        self._with.logs.changed(live)
        self._with.writers.commits.add(live, added, self.tenure)

    async def _lose(self, attempt: str, lease: str, reason: str) -> None:
        """Lose an attempt of which nothing can be known any more."""
        ledger = self._with.ledger
        row = await self._with.workflows.retry_until_available(lambda: ledger.read(attempts.get, attempt))
        if row is not None and row.holder == self._holder(lease) and not STATES[row.state].builder_done:
            await self._lifecycle.lose(row, reason)

    async def _final(self, final: m.Final, resolved: int | None) -> None:
        if final.attempt in self._finishing:
            return
        self._finishing.add(final.attempt)
        try:
            await self._finish(final, resolved)
        finally:
            self._finishing.discard(final.attempt)

    async def _finish(self, final: m.Final, resolved: int | None) -> None:
        ledger, result = self._with.ledger, final.result
        crash_point(CrashPoint.APISERVER_FINAL_RECEIVED)
        row = await self._with.workflows.retry_until_available(lambda: ledger.read(attempts.get, final.attempt))
        known = self._logs.get(final.attempt)
        if row is None or row.holder != self._holder(final.lease):
            self.stop_attempt(final.attempt, final.lease)
            return
        if not STATES[row.state].builder_done:
            if known is None or known.lease != final.lease:
                self.stop_attempt(final.attempt, final.lease)
                return
            live = known.live
            if added := known.conclude(result.lines):
                self._with.logs.changed(live)
                self._with.writers.commits.add(live, added, self.tenure)
            if live.next <= result.lines:
                self._send(m.Resend(attempt=final.attempt, next=live.window.position()))
                return
            try:
                await self._with.writers.commits.durable(live, live.next)
            except (LogOrder, TenureLost):
                return  # the link is being closed: the next sync begins again from what the ledger has
            # What has come counts: a builder's disk may have lost some of it since, and viewers have seen it.
            lines, sha256 = live.next - 1, await self._digest(live) if result.sha256 else ""
            finished = await self._lifecycle.finish(row, result, lines=lines, sha256=sha256, resolved=resolved)
            if finished is None:
                self.stop_attempt(final.attempt, final.lease)
                return
            if not finished.complete:
                self._log.error("the log of {attempt} is not what its runner wrote", attempt=final.attempt)
        self._send(m.FinalAck(attempt=final.attempt, lease=final.lease))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_FINAL_ACK_SENT)
        self._release(final.attempt, final.lease)

    async def _digest(self, live: LiveLog) -> str:
        if live.digest is not None:
            return live.digest.hexdigest()
        _count, sha256 = await self._with.workflows.retry_until_available(lambda: self._with.logs.verify(live.attempt))
        return str(sha256)

    # -- publishing

    async def _publishing(self, attempt: str, lease: str) -> AttemptRow:
        """Return the attempt's row, marked as publishing. Raises `CallFailed` unless this lease is valid."""
        row = await self._with.ledger.read(attempts.get, attempt)
        if row is None or row.holder != self._holder(lease) or STATES[row.state].builder_done:
            self.stop_attempt(attempt, lease)
            raise CallFailed("void", "this lease is not valid any more")
        if row.state is AttemptState.PUBLISHING:
            return row
        publishing = await self._lifecycle.start_publishing(attempt, row.holder)
        if publishing is None:
            raise CallFailed("void", "this attempt can't publish now")
        return publishing

    async def _permit(self, want: m.WantPermit) -> Permit:
        with self._stopping_if_void(want):
            await self._all_committed(want)
            return await self._with.permits.under(self._lifecycle).ask(want, self.peer.info.name)

    async def _secrets(self, want: m.WantSecrets) -> Secrets:
        with self._stopping_if_void(want):
            await self._all_committed(want)
            return await self._with.secrets.give(want, self.peer.info.name)

    async def _contents(self, want: m.WantContents) -> m.StoredContents:
        known = self._logs.get(want.attempt)
        row = None if known is None else await self._with.ledger.read(attempts.get, want.attempt)
        if known is None or known.lease != want.lease or row is None:
            raise CallFailed("void", "this lease is not valid any more")
        contents = await self._with.releasing.count_on(row.project, row.name)
        return m.StoredContents(
            contents=b"".join(bytes.fromhex(short(each)) for each in islice(contents, MAX_STORED)),
            live=await self._with.releasing.live_files(row.project),
        )

    @contextlib.contextmanager
    def _stopping_if_void(self, want: m.WantPermit | m.WantSecrets) -> Iterator[None]:
        """Have the builder stop the attempt if the answer is that its lease is not valid."""
        try:
            yield
        except CallFailed as error:
            if error.code == "void":
                self.stop_attempt(want.attempt, want.lease)
            raise

    async def _all_committed(self, want: m.WantPermit | m.WantSecrets) -> None:
        """Wait until all that has come of the attempt's log is committed: what it says of the steps decides."""
        known = self._logs.get(want.attempt)
        if known is None or known.lease != want.lease:
            raise CallFailed("void", "this lease is not valid any more")
        try:
            await self._with.writers.commits.durable(known.live, known.live.next)
        except (LogOrder, TenureLost) as error:
            raise CallFailed("not_yet", str(error)) from error

    async def _upload(self, want: m.WantUpload) -> m.UploadGrant:
        row = await self._publishing(want.attempt, want.lease)
        try:
            self._with.artifact_store.check(want.size, want.sha256)
        except ValueError as error:
            raise CallFailed("refused", str(error)) from error
        if want.trouble:
            said = await self._lifecycle.note_upload_trouble(
                want.attempt, row.holder, shown(want.trouble, REASON_LIMIT)
            )
            if said is not None:
                self._log.info("{attempt} can't be uploaded: {reason}", attempt=row.name, reason=said.reason)
        try:
            target = await self._upload_target(want)
        except (NotFound, NotPossible) as error:
            raise CallFailed("refused", str(error)) from error
        crash_point(CrashPoint.APISERVER_UPLOAD_GRANTED)
        path = f"/api/v1/uploads/{row.name}"
        if target is None:
            return m.UploadGrant(path=path, token="", complete=True)
        return m.UploadGrant(path=path, token=self._with.grants.grant(target))

    async def _upload_target(self, want: m.WantUpload) -> UploadTarget | None:
        """Return what may be uploaded; None if it is there already. Raises `NotFound`, `NotPossible`."""
        write, now = Writes(self._with.ledger, self.tenure), self._with.now()
        target = UploadTarget(attempt=want.attempt, size=want.size, sha256=want.sha256)
        if not want.target:
            archive = await write(artifacts.begin, want.attempt, want.size, want.sha256, now)
            return None if archive.complete else target
        of_package = (want.attempt, want.target, want.position)
        package = await write(publications.begin_upload, *of_package, want.size, now)
        if package.sha256:
            return None
        return replace(target, target=want.target, position=want.position, integrity=package.integrity)

    def _release(self, attempt: str, lease: str) -> None:
        """Free the slot of this lease, and end its log's writing."""
        known = self._logs.get(attempt)
        if known is not None and known.lease == lease:
            del self._logs[attempt]
            self._with.writers.end(known.live)
        if self._slots.release(attempt, lease):
            self._with.bell.ring(Topic.BUILDER)

    def _holder(self, lease: str) -> Holder:
        """Whoever says this here: this builder, under the lease that it names."""
        return Holder(lease, self.peer.info.name)

    def _send(self, message: msgspec.Struct) -> None:
        """Send the message, unless the link is lost: then the next sync says the same."""
        with contextlib.suppress(NotConnected):
            self.peer.send(message)
