"""
The apiserver's end of each builder's link: what a builder says becomes commits, and commits become what is said
to it. Made by the link's factory for each connection; calls ``logs``, ``commits``, ``releasing`` and the ledger.

The rule for every message: check it against the ledger by attempt *and lease* (compare-and-set), commit, then
answer. A message about a lease that is no longer good is answered with `Stop`, so the builder kills what it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Permit
from twistedipc.builds.states import TERMINAL, AttemptState
from twistedipc.ipc import CallFailed, NotConnected, Peer, PeerInfo, Vocabulary
from twistedipc.ipc.connections.load import Load
from twistedipc.ipc.wire.windows import Hole
from twistedipc.server.away import Away
from twistedipc.server.boundaries import GistFeed, StateChange, StateFeed
from twistedipc.server.fanout.commits import LogCommits
from twistedipc.server.fanout.logs import BadBatch, EndOfLog, LiveLog, LogStore
from twistedipc.server.permits import Permits
from twistedipc.server.releasing import Releasing
from twistedipc.server.resting import Resting
from twistedipc.server.uploads import UploadGrants
from twistedipc.storage import artifacts, attempts, logs, reruns
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.columns import attempt_name, split_attempt
from twistedipc.storage.errors import LogOrder
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.secrets import SecretBox

#: Bytes of unacknowledged records that a builder may have under way for one attempt; see `logs.OVERDRAFT`.
CREDIT = 1 << 20

#: The most slots that a builder is believed to have.
MAX_SLOTS = 1000

#: How many workflows may be under way for a builder to link. Each link may have `load.MAX_RUNNING` of them.
MAX_WORKFLOWS = 4096

#: How much of a builder's reason is logged, in characters.
REASON_LIMIT = 500

#: Seconds for a builder that has linked to sync: one that doesn't would keep its attempts from being given up.
SYNC_DEADLINE = 60.0

#: Seconds until what the ledger couldn't take is tried again.
RETRY_INTERVAL = 1.0

VOCABULARY = Vocabulary(
    receives=(m.Status, m.Accept, m.Decline, m.Started, m.Log, m.Final),
    answers={m.Sync: m.Orders, m.WantPermit: Permit, m.WantUpload: m.UploadGrant},
    calls={},
    # Without its records the log would stand still: to ask for them again brings the same.
    essential=(m.Log,),
)


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """What every builder's link works with."""

    clock: IReactorTime
    now: Callable[[], int]  # milliseconds since the epoch
    ledger: Ledger
    logs: LogStore
    feed: StateFeed
    gists: GistFeed
    grants: UploadGrants
    artifact_store: ArtifactStore
    releasing: Releasing
    secret_box: SecretBox
    uploads_url: str  # where builders upload to
    lost_after: float  # seconds that a builder may be away before its attempts are lost


def _nothing() -> Deferred[None]:
    """What wasn't asked of the ledger, as if it had been asked in vain."""
    return succeed(None)


class Builders:
    """All builders that are linked now, by name."""

    _log = Logger()

    def __init__(self, collaborators: Collaborators, changed: Callable[[], None]) -> None:
        self._with = collaborators
        self._changed = changed  # a builder came, or has a free slot: the dispatch looks again
        self._linked: dict[str, BuilderLink] = {}
        self.away = Away(collaborators.clock, collaborators.now, collaborators.lost_after, self._give_up)
        self.resting = Resting(collaborators.clock, changed)
        self._writers: dict[LiveLog, BuilderLink] = {}
        self.commits = LogCommits(collaborators.clock, collaborators.ledger, self._committed, self._refused, self._said)
        self.permits = Permits(collaborators.ledger, collaborators.secret_box, collaborators.now, self.announce)
        self._workflows: set[Deferred[None]] = set()
        self._stopping = False

    # -- what the dispatch and the service ask

    def ready(self) -> list[BuilderLink]:
        """The links that have synced."""
        return [link for link in self._linked.values() if link.synced]

    def others_could(self, builder: str) -> bool:
        """Whether there is another builder that may be asked now or has its slots full: one that works."""
        return any(
            link.slots > 0 and not link.draining and not self.resting.rests(link.peer.info.name)
            for link in self.ready()
            if link.peer.info.name != builder
        )

    def link_of(self, builder: str) -> BuilderLink | None:
        """The link of the builder with this name."""
        return self._linked.get(builder)

    def refuse(self, peer: PeerInfo) -> str | None:
        """Why this peer may not link now; None if it may. The same incarnation takes its own place over."""
        linked = self._linked.get(peer.name)
        if linked is not None and linked.peer.info.incarnation != peer.incarnation:
            return f"a builder named {peer.name} is linked already"
        if len(self._workflows) >= MAX_WORKFLOWS:
            # What the links of before have begun goes on without them, and waits for the ledger.
            return f"{len(self._workflows)} things wait for the ledger: later"
        return None

    def application(self, peer: Peer) -> BuilderLink:
        """A builder has linked. The framework's application factory."""
        previous = self._linked.get(peer.info.name)
        if previous is not None:
            previous.superseded = True
            previous.peer.close("superseded", "the same builder has linked again")
        self.away.back(peer.info.name)
        self.resting.came(peer.info.name, peer.info.incarnation)
        link = BuilderLink(self, self._with, peer)
        self._linked[peer.info.name] = link
        self._log.info("builder {name} linked from {address}", name=peer.info.name, address=peer.info.address)
        return link

    async def recover(self) -> None:
        """
        At start: no offer is open any more, and every other lease waits for its builder to come back. Uploads of
        attempts that have ended will never go on.
        """
        ledger, now = self._with.ledger, self._with.now
        for attempt in self._with.artifact_store.under_way():
            uploading = await ledger.read(attempts.get, attempt)
            if uploading is None or uploading.state in TERMINAL:
                self._with.artifact_store.discard(attempt)
        names: set[str] = set()
        for row in await ledger.read(attempts.leased, None):
            if row.state is AttemptState.OFFERED:
                await ledger.write(attempts.requeue, row.name, row.lease, now())
            else:
                names.add(row.builder)
        for name in sorted(names):
            for row in await ledger.write(attempts.disconnected, name, now()):
                self.announce(row)
            self.away.expect(name)

    async def stop(self) -> None:
        """Wait for what is under way. The links are closed by then."""
        self._stopping = True
        self.away.stop()
        self.resting.stop()
        await self.commits.stop()
        for workflow in list(self._workflows):
            await workflow

    # -- what the links ask

    def launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> Deferred[None]:
        """Run a workflow of this service; its failure is logged, its end awaited by `stop`, and may be by others."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._workflows.add(running)

        def ended(result: object) -> None:
            self._workflows.discard(running)

        def failed(failure: Failure) -> None:
            if self._stopping and failure.check(LedgerUnavailable):
                # Whatever it was is done again after the next start: the ledger has it as it was.
                self._log.info("{about} was given up: {error}", about=about, error=failure.value)
            else:
                self._log.failure("{about} failed", failure, about=about)

        running.addErrback(failed)
        running.addBoth(ended)
        return running

    async def insist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Do ``ask`` until the ledger can, or the service stops (then `LedgerUnavailable` is raised)."""
        while True:
            try:
                return await ask()
            except LedgerUnavailable:
                if self._stopping:
                    raise
                pause: Deferred[None] = Deferred()
                self._with.clock.callLater(RETRY_INTERVAL, pause.callback, None)
                await pause

    def announce(self, row: AttemptRow) -> None:
        """A committed change of state: to whoever listens, and to the log's readers if it is the end."""
        self._with.feed.publish(StateChange.of(row, self._with.now()))
        if row.state in TERMINAL:
            self.resting.forget_attempt(row.name)
            self._with.gists.changed(row.build)  # what has ended isn't on its way any more
            self._with.grants.revoke(row.name)
            self._with.logs.finish(row.name, EndOfLog(row.lines or 0, row.sha256, row.state.value, row.complete))

    def free(self) -> None:
        """A slot may be free."""
        self._changed()

    def writes(self, live: LiveLog, link: BuilderLink) -> None:
        """This link writes this log from now on."""
        live.active = True
        self._writers[live] = link

    def written(self, live: LiveLog) -> None:
        """This log has ended: nobody writes it any more."""
        self._writers.pop(live, None)

    async def take_back(self, row: AttemptRow, reason: str = "", still: Callable[[], bool] = lambda: True) -> bool:
        """
        Void an offer, for a ``reason`` that people are to know, unless it was accepted or, when the ledger can take it,
        is ``still`` wanted no more; whether it was voided. For `launch` or a workflow: it must be announced even if
        the link that found it is gone by then.
        """
        ledger, now = self._with.ledger, self._with.now
        back = await self.insist(
            lambda: ledger.write(attempts.requeue, row.name, row.lease, now(), reason) if still() else _nothing()
        )
        if back is None:
            return False
        self.announce(back)
        return True

    async def lose(self, row: AttemptRow, reason: str, still: Callable[[], bool] = lambda: True) -> None:
        """The same for an attempt of which nobody will tell any more how it ended."""
        ledger, now = self._with.ledger, self._with.now
        rows = await self.insist(
            lambda: ledger.write(reruns.lose, row.name, row.lease, reason, now()) if still() else _nothing()
        )
        for each in rows or ():
            self.announce(each)
        self.free()  # what is tried again is queued

    def lost_link(self, link: BuilderLink) -> None:
        """The link is gone."""
        for live, writer in list(self._writers.items()):
            if writer is link:
                del self._writers[live]
                live.active = False
                self._with.logs.release(live)
        if self._linked.get(link.peer.info.name) is link:
            del self._linked[link.peer.info.name]
        if not link.superseded and not self._stopping:
            self.away.expect(link.peer.info.name)
            self.launch(self._disconnect(link.peer.info.name), "noting a lost link")

    async def _disconnect(self, name: str) -> None:
        ledger, now = self._with.ledger, self._with.now

        # Asked again before each try: while the ledger was away the builder may have come back, and its sync says more.
        def away() -> bool:
            return name not in self._linked

        for row in await self.insist(partial(ledger.read, attempts.leased, name)):
            if row.state is AttemptState.OFFERED:
                await self.take_back(row, still=away)
        gone = await self.insist(lambda: ledger.write(attempts.disconnected, name, now()) if away() else _nothing())
        for row in gone or ():
            self.announce(row)
        self._changed()

    def _give_up(self, name: str) -> None:
        self.launch(self._lose_all(name), f"giving builder {name} up")

    async def _lose_all(self, name: str) -> None:
        reason = f"builder {name} has been away for {self._with.lost_after:.0f} s"
        for row in await self.insist(partial(self._with.ledger.read, attempts.leased, name)):
            await self.lose(row, reason, lambda: name not in self._linked)

    def _refused(self, live: LiveLog) -> None:
        """The ledger has this log otherwise than we do: forget ours, and let builder and viewers begin anew."""
        self._with.logs.changed(live)
        self._with.logs.release(live)
        self._said(live)  # perhaps by a commit that was made, and said to have failed
        link = self._writers.get(live)
        if link is not None:
            link.peer.close("log_order", f"the log of {live.attempt} is not what was expected")

    def _committed(self, live: LiveLog) -> None:
        link = self._writers.get(live)
        if link is not None:
            link.acknowledge(live)

    def _said(self, live: LiveLog) -> None:
        build, _number = split_attempt(live.attempt)
        self._with.gists.changed(build)


class BuilderLink:
    """One connection of one builder. The framework's application."""

    _log = Logger()

    def __init__(self, builders: Builders, collaborators: Collaborators, peer: Peer) -> None:
        self.peer = peer
        self.superseded = False
        self.synced = False
        self.draining = False
        self.slots = 0
        self._leases: dict[str, str] = {}  # the attempts that fill its slots, and under which lease
        self._unanswered: dict[str, str] = {}  # those of them that it was offered, and has said nothing of
        self._proven = False  # on this link it has accepted something, or has brought something
        self._builders = builders
        self._with = collaborators
        self._logs: dict[str, tuple[str, LiveLog]] = {}  # attempt -> its lease and its log, as synced or accepted
        self._finishing: set[str] = set()
        self._cancelled: dict[str, str] = {}  # attempt -> reason: cancelled while the sync was under way
        self._load = Load(peer)
        self._syncing = False
        self._gone = False
        self._deadline = collaborators.clock.callLater(SYNC_DEADLINE, self._not_synced)

    def _not_synced(self) -> None:
        self.peer.close("no_sync", f"no sync within {SYNC_DEADLINE:.0f} s")

    @property
    def free_slots(self) -> int:
        """How many more attempts it may be offered now."""
        resting, name = self._builders.resting, self.peer.info.name
        if self.draining or self._gone or resting.rests(name):
            return 0
        free = max(0, min(self.slots, MAX_SLOTS) - len(self._leases))
        if not self._proven or resting.trouble(name) is not None:
            # One at a time, until it takes one: what isn't answered is kept from all other builders for a while.
            return min(free, max(0, 1 - len(self._unanswered)))
        return free

    # -- the framework's side

    def message_received(self, message: msgspec.Struct) -> None:
        """One-way messages, in their order."""
        match message:
            case m.Log():
                self._log_received(message)
            case m.Accept():
                crash_point(CrashPoint.APISERVER_ACCEPT_RECEIVED)
                self._launch(self._accepted(message), "an acceptance")
            case m.Decline():
                self._launch(self._declined(message), "a declined offer")
            case m.Started():
                self._launch(self._started(message), "a start")
            case m.Final():
                # The time counts from here: what follows may wait for the ledger.
                ago, now = message.resolved_ago, self._with.now()
                self._launch(self._final(message, None if ago is None else now - ago), "an attempt's end")
            case m.Status():
                self.slots, self.draining = message.slots, message.draining
                self._builders.free()
            case _:
                raise AssertionError(f"not in the vocabulary: {message!r}")

    def _launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> None:
        """Run a workflow of the service: it outlives this link, which isn't read while too many are under way."""
        self._load.add(self._builders.launch(work, about))

    async def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        """Calls; each waits for the ledger."""
        try:
            match request:
                case m.Sync():
                    return await self._sync_once(request)
                case m.WantPermit():
                    return await self._permit(request)
                case m.WantUpload():
                    return await self._upload(request)
                case _:
                    raise AssertionError(f"not in the vocabulary: {request!r}")
        except LedgerUnavailable as error:
            raise CallFailed("unavailable", str(error)) from error

    def connection_lost(self, reason: str) -> None:
        """The link is gone; what the builder runs goes on there."""
        self._gone = True
        self.synced = False
        if not self.superseded:
            for attempt in self._unanswered:
                alone = not self._builders.others_could(self.peer.info.name)
                self._builders.resting.left(self.peer.info, attempt, alone=alone)
        if self._deadline.active():
            self._deadline.cancel()
        self._log.info("the link to builder {name} is lost: {reason}", name=self.peer.info.name, reason=reason)
        self._builders.lost_link(self)

    def writing_paused(self) -> None:
        """Acknowledgements and orders are small and bounded by what the builder sent: nothing to stop."""

    def writing_resumed(self) -> None:
        """See `writing_paused`."""

    # -- what the dispatch asks

    def offer(self, offer: m.Offer) -> None:
        """Offer an attempt that the ledger has as offered to this builder. `LocalProtocolError` if it is too big."""
        self._send(offer)
        self._leases[offer.attempt] = self._unanswered[offer.attempt] = offer.lease

    def stop(self, attempt: str, lease: str) -> None:
        """The lease is not good (any more): the offer has expired, or the builder speaks of what isn't its own."""
        self._send(m.Stop(attempt=attempt, lease=lease))
        self._release(attempt, lease)

    async def expire(self, row: AttemptRow, seconds: float) -> None:
        """It was offered ``row`` so many seconds ago. If it hasn't answered, the attempt is for others to take."""
        if self._unanswered.get(row.name) != row.lease:
            return
        info = self.peer.info
        reason = f"builder {info.name} didn't answer the offer within {seconds:.0f} s"
        if await self._builders.take_back(row, reason):
            alone = not self._builders.others_could(info.name)
            self._builders.resting.silent(info, row.name, seconds, alone=alone)
            self._log.warn("{reason}: {attempt}", reason=reason, attempt=row.name)
            self.stop(row.name, row.lease)  # frees its slot, and has the queue looked at

    def cancel(self, row: AttemptRow) -> None:
        """Someone wants the attempt to end."""
        if self.synced:
            self._send(m.CancelAttempt(attempt=row.name, lease=row.lease, reason=row.cancel_reason))
        else:
            self._cancelled[row.name] = row.cancel_reason  # the order in the sync's answer says it

    def acknowledge(self, live: LiveLog) -> None:
        """Records of this log have been committed."""
        crash_point(CrashPoint.APISERVER_LOG_COMMITTED)
        self._send(m.Ack(attempt=live.attempt, next=live.committed))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_ACK_SENT)

    # -- sync

    async def _sync_once(self, sync: m.Sync) -> m.Orders:
        if self.synced or self._syncing:
            raise CallFailed("synced", "this link has synced already")
        self._syncing = True
        try:
            return await self._sync(sync)
        finally:
            self._syncing = False

    async def _sync(self, sync: m.Sync) -> m.Orders:
        ledger, name = self._with.ledger, self.peer.info.name
        held = {(attempt.attempt, attempt.lease) for attempt in sync.attempts}
        orders = [await self._order(attempt) for attempt in sync.attempts]
        for row in await ledger.read(attempts.leased, name):
            if (row.name, row.lease) in held:
                continue
            # Workflows of the service: this call is cancelled if the link is lost, and what is committed must be told.
            if row.state is AttemptState.OFFERED:
                self._builders.launch(self._take_back(row), "taking an offer back")
            else:
                reason = f"builder {name} no longer has it"
                self._builders.launch(self._builders.lose(row, reason), "noting a lost attempt")
        if self._gone:
            raise CallFailed("gone", "the link was lost during the sync")
        orders = [
            msgspec.structs.replace(order, cancel=order.cancel or self._cancelled.get(order.attempt, ""))
            for order in orders
        ]
        self.slots, self.draining, self.synced = sync.slots, sync.draining, True
        if self._deadline.active():
            self._deadline.cancel()
        self._builders.free()
        return m.Orders(orders=orders, credit=CREDIT, uploads=self._with.uploads_url)

    async def _take_back(self, row: AttemptRow) -> None:
        if await self._builders.take_back(row):
            self._builders.free()

    async def _order(self, held: m.HeldAttempt) -> m.Order:
        ledger, now = self._with.ledger, self._with.now
        row = await ledger.read(attempts.get, held.attempt)
        if row is None or row.lease != held.lease:
            return m.Order(attempt=held.attempt, lease=held.lease, order="stop")
        if row.state in TERMINAL:
            order: Any = "forget" if held.phase == "ended" else "stop"
            return m.Order(attempt=held.attempt, lease=held.lease, order=order)
        if row.state is AttemptState.OFFERED:
            # Its acceptance was lost on the way; that it is held says the same.
            row = await ledger.write(attempts.accept, held.attempt, held.lease, now())
            if row is None:
                return m.Order(attempt=held.attempt, lease=held.lease, order="stop")
            self._builders.announce(row)
        phase = AttemptState.ACCEPTED if held.phase == "accepted" else AttemptState.RUNNING
        back = await ledger.write(attempts.reconnected, held.attempt, held.lease, phase, now())
        if back is None:  # it was given up at the same time
            return m.Order(attempt=held.attempt, lease=held.lease, order="stop")
        self._builders.announce(back)
        live = await self._adopt(held.attempt, held.lease)
        self._leases[held.attempt] = held.lease
        self._proven = True
        return m.Order(
            attempt=held.attempt,
            lease=held.lease,
            order="go" if held.phase == "accepted" else "continue",
            next=live.window.position(),
            cancel=row.cancel_reason,
        )

    async def _adopt(self, attempt: str, lease: str) -> LiveLog:
        """From now on this link writes this log."""
        live = self._with.logs.live(attempt)
        self._builders.writes(live, self)
        await self._with.logs.load(live)
        self._logs[attempt] = (lease, live)
        return live

    # -- an attempt's life

    async def _accepted(self, accept: m.Accept) -> None:
        ledger, now = self._with.ledger, self._with.now
        row = await self._builders.insist(
            lambda: ledger.write(attempts.accept, accept.attempt, accept.lease, now()),
        )
        if row is None or row.state is not AttemptState.ACCEPTED:
            if row is not None:
                self._builders.announce(row)
            self.stop(accept.attempt, accept.lease)
            return
        crash_point(CrashPoint.APISERVER_ACCEPT_COMMITTED)
        self._answered(accept.attempt, accept.lease)
        self._proven = True
        self._builders.resting.took(self.peer.info.name, accept.attempt)
        self._builders.announce(row)
        self._builders.free()  # it may be offered more than one at a time now
        if self._gone:
            return  # the log is the next link's to write, which says `go` in its sync
        await self._builders.insist(lambda: self._adopt(accept.attempt, accept.lease))
        self._send(m.Go(attempt=accept.attempt, lease=accept.lease))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_GO_SENT)
        if row.cancel_reason:
            self.cancel(row)

    async def _declined(self, decline: m.Decline) -> None:
        ledger, now, info = self._with.ledger, self._with.now, self.peer.info
        reason = decline.reason[:REASON_LIMIT]
        self._log.info(
            "builder {name} declined {attempt}: {reason}", name=info.name, attempt=decline.attempt, reason=reason
        )
        if self._leases.get(decline.attempt) == decline.lease:
            del self._leases[decline.attempt]
            # Only of what it was offered on this link: else any number of attempts would be remembered.
            alone = not self._builders.others_could(info.name)
            self._builders.resting.declined(info, decline.attempt, reason, alone=alone)
        self._answered(decline.attempt, decline.lease)
        said = f"builder {info.name} declined it: {reason}"
        row = await self._builders.insist(
            lambda: ledger.write(attempts.requeue, decline.attempt, decline.lease, now(), said),
        )
        if row is not None:
            self._builders.announce(row)
        self._builders.free()

    def _answered(self, attempt: str, lease: str) -> None:
        if self._unanswered.get(attempt) == lease:
            del self._unanswered[attempt]

    async def _started(self, started: m.Started) -> None:
        ledger, now = self._with.ledger, self._with.now
        row = await self._builders.insist(
            lambda: ledger.write(attempts.started, started.attempt, started.lease, started.time, now()),
        )
        crash_point(CrashPoint.APISERVER_STARTED_COMMITTED)
        if row is not None:
            self._builders.announce(row)

    def _log_received(self, log: m.Log) -> None:
        known = self._logs.get(log.attempt)
        if known is None or known[0] != log.lease:
            self.stop(log.attempt, log.lease)
            return
        live = known[1]
        crash_point(CrashPoint.APISERVER_LOG_RECEIVED)
        try:
            added = live.append(log.batches)
        except Hole as hole:
            if not hole.again:
                self._send(m.Resend(attempt=log.attempt, next=hole.next))
            return
        except BadBatch as error:
            self._log.error(
                "builder {name} sent what can't be of {attempt}: {error}",
                name=self.peer.info.name,
                attempt=log.attempt,
                error=error,
            )
            self.peer.close("bad_log", str(error))
            return
        if not added:
            self.acknowledge(live)
            return
        # In this order, so that viewers have what is new before a commit that is due at once competes with them.
        self._with.logs.changed(live)
        self._builders.commits.add(live, added)

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
        row = await self._builders.insist(lambda: ledger.read(attempts.get, final.attempt))
        known = self._logs.get(final.attempt)
        if row is None or row.lease != final.lease:
            self.stop(final.attempt, final.lease)
            return
        if row.state not in TERMINAL:
            if known is None or known[0] != final.lease:
                self.stop(final.attempt, final.lease)
                return
            live = known[1]
            if live.next <= result.lines:
                self._send(m.Resend(attempt=final.attempt, next=live.window.position()))
                return
            try:
                await self._builders.commits.durable(live, live.next)
            except LogOrder:
                return  # the link is being closed: the next sync begins anew
            if live.next > result.lines + 1:
                # The builder's disk has lost since what is here: the log has all records that its viewers have seen.
                result = msgspec.structs.replace(result, lines=live.next - 1, sha256="")
            complete = bool(result.sha256) and await self._digest(live) == result.sha256
            if not complete:
                self._log.error("the log of {attempt} is not what its runner wrote", attempt=final.attempt)
            finished = await self._builders.insist(
                lambda: self._with.releasing.finish(row, final.lease, result, complete, resolved),
            )
            if finished is None:
                self.stop(final.attempt, final.lease)
                return
            self._builders.announce(finished)
            if finished.state is AttemptState.LOST:
                await self._tried_again(finished)
        self._send(m.FinalAck(attempt=final.attempt, lease=final.lease))
        crash_after_turn(self._with.clock, CrashPoint.APISERVER_FINAL_ACK_SENT)
        self._release(final.attempt, final.lease)

    async def _tried_again(self, lost: AttemptRow) -> None:
        """Tell of the attempt that was queued in the place of this one, if its project wants that."""
        name = attempt_name(lost.build, lost.number + 1)
        again = await self._builders.insist(lambda: self._with.ledger.read(attempts.get, name))
        if again is not None:
            self._builders.announce(again)
            self._builders.free()

    async def _digest(self, live: LiveLog) -> str:
        if live.digest is not None:
            return live.digest.hexdigest()
        _count, sha256 = await self._builders.insist(lambda: self._with.ledger.read(logs.verify, live.attempt))
        return str(sha256)

    # -- publishing

    async def _row_of(self, attempt: str, lease: str) -> AttemptRow:
        """The attempt's row, marked as publishing; `CallFailed` unless this lease is good."""
        ledger, now = self._with.ledger, self._with.now
        row = await ledger.read(attempts.get, attempt)
        if row is None or row.lease != lease or row.state in TERMINAL:
            self.stop(attempt, lease)
            raise CallFailed("void", "this lease is not good any more")
        if row.state is not AttemptState.PUBLISHING:
            publishing = await ledger.write(attempts.publishing, attempt, lease, now())
            if publishing is None:
                raise CallFailed("void", "this attempt can't publish now")
            self._builders.announce(publishing)
            row = publishing
        return row

    async def _permit(self, want: m.WantPermit) -> Permit:
        known = self._logs.get(want.attempt)
        if known is None or known[0] != want.lease:
            self.stop(want.attempt, want.lease)
            raise CallFailed("void", "this lease is not good any more")
        live = known[1]
        try:
            # What has been said of its steps decides: all of it that has come.
            await self._builders.commits.durable(live, live.next)
        except LogOrder as error:
            raise CallFailed("not_yet", str(error)) from error
        try:
            return await self._builders.permits.ask(want, self.peer.info.name)
        except CallFailed as error:
            if error.code == "void":
                self.stop(want.attempt, want.lease)
            raise

    async def _upload(self, want: m.WantUpload) -> m.UploadGrant:
        row = await self._row_of(want.attempt, want.lease)
        try:
            self._with.artifact_store.check(want.size, want.sha256)
        except ValueError as error:
            raise CallFailed("refused", str(error)) from error
        if want.trouble:
            said = await self._with.ledger.write(
                attempts.note_trouble, want.attempt, want.lease, want.trouble[:REASON_LIMIT]
            )
            if said is not None:
                self._log.info("{attempt} can't be uploaded: {reason}", attempt=row.name, reason=said.reason)
                self._builders.announce(said)
        stored = await self._with.ledger.write(artifacts.begin, want.attempt, want.size, want.sha256, self._with.now())
        crash_point(CrashPoint.APISERVER_UPLOAD_GRANTED)
        path = f"/api/v1/uploads/{row.name}"
        if stored.complete:
            return m.UploadGrant(path=path, token="", complete=True)
        return m.UploadGrant(path=path, token=self._with.grants.grant(want.attempt, want.size, want.sha256))

    def _release(self, attempt: str, lease: str) -> None:
        """Nothing of this lease fills a slot, or writes a log, any more."""
        known = self._logs.get(attempt)
        if known is not None and known[0] == lease:
            del self._logs[attempt]
            self._builders.written(known[1])
        self._answered(attempt, lease)
        if self._leases.get(attempt) == lease:
            del self._leases[attempt]
            self._builders.free()

    def _send(self, message: msgspec.Struct) -> None:
        """Say it, unless the link has gone meanwhile: then the next sync says it."""
        with contextlib.suppress(NotConnected):
            self.peer.send(message)
