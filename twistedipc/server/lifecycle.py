"""
An attempt's life: every change of an attempt's state is one function here, and nothing else in the server writes
attempts (``tests/test_layers.py`` holds it to that). Called by ``web`` (people ask), ``dispatch`` (the queue moves),
``builder_link`` (a builder's word) and ``builders`` (links come and go).

Each function is the whole transition: the compare-and-set in the ledger, the retry, the announcement to all
listeners, and what follows from it (the queue is looked at, a log ends, a builder is told). The table in
``builds.states`` says which states may follow which, and what is true in them. Each function returns the new row, or
None if the compare-and-set missed: then something else happened first.

What follows from a builder's message, or from a lost link, is retried until the ledger takes it. Where a caller
waits for the answer, `LedgerUnavailable` is raised instead; the docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TypeVar, assert_never

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import FoundCommit, Published, Result
from twistedipc.builds.hooks.events import HookEvent
from twistedipc.builds.isolation import Kind
from twistedipc.builds.logs import End
from twistedipc.builds.messages import WantPermit
from twistedipc.builds.priorities import Priority
from twistedipc.builds.protection import is_protected
from twistedipc.builds.states import (
    STATES,
    AttemptState,
    Cancellation,
    LeaseStatus,
    PublicationState,
    ReleaseState,
)
from twistedipc.builds.word import Believed, believe, believe_commit, must_be
from twistedipc.publish.record import Outcome
from twistedipc.publish.stored import Row, StepBegins
from twistedipc.server.bell import Bell
from twistedipc.server.boundaries import GistFeed, StateChange, StateFeed
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.linked import LinkedBuilders
from twistedipc.server.passwords import Passwords
from twistedipc.server.provenance import Provenance
from twistedipc.server.releasing import Releasing
from twistedipc.server.resting import Resting
from twistedipc.server.uploads import UploadGrants
from twistedipc.server.workflows import Workflows
from twistedipc.server.writes import Writes
from twistedipc.storage import (
    access,
    approvals,
    attempts,
    audit,
    builds,
    moved,
    permits,
    previews,
    projects,
    publications,
    queue,
    releases,
    reruns,
    schedules,
    seen,
    taking,
    tenures,
)
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.columns import attempt_name
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import (
    APISERVER,
    Actor,
    AttemptRow,
    BuildRow,
    Holder,
    OfferRow,
    PollRow,
    ReleaseRow,
    ScheduleRow,
    builder_actor,
)
from twistedipc.storage.standing import note_standing
from twistedipc.storage.taking import Taken
from twistedipc.storage.tenures import Tenure

_T = TypeVar("_T")

#: How many builds of a queue are cancelled in one write: others come between two of them.
MOST_CANCELLED = 100


def _always() -> bool:
    return True


def _nothing() -> None:
    """Do nothing: the default of `Lifecycle.return_to_queue`."""


class Lifecycle:
    """The only writer of attempts. ``now``: milliseconds since the epoch."""

    def __init__(
        self,
        *,
        now: Callable[[], int],
        ledger: Ledger,
        workflows: Workflows,
        bell: Bell,
        passwords: Passwords,
        linked: LinkedBuilders,
        resting: Resting,
        releasing: Releasing,
        feed: StateFeed,
        gists: GistFeed,
        logs: LogStore,
        grants: UploadGrants,
        provenance: Provenance,
    ) -> None:
        self._now = now
        self._ledger = ledger
        self._write = Writes(ledger)
        self._retry = workflows.retry_until_available
        self._bell = bell
        self._passwords = passwords
        self._linked = linked
        self._resting = resting
        self._releasing = releasing
        self._feed = feed
        self._gists = gists
        self._logs = logs
        self._grants = grants
        self._provenance = provenance

    def under(self, tenure: Tenure | None) -> Lifecycle:
        """
        Return the same, for a builder's link: whatever it does is done under the link's tenure, and raises `TenureLost`
        when that doesn't hold any more. None: no other apiserver can have the builder.
        """
        if tenure is None:
            return self
        under = copy(self)
        under._write = self._write.under(tenure)
        return under

    # -- people ask. All of these raise `LedgerUnavailable`.

    async def request_build(
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
    ) -> tuple[BuildRow, bool]:
        """→ queued, as a new build's first attempt. The build, and whether it is new; raises as `builds.create`."""

        def create(connection: Connection, now: int) -> tuple[BuildRow, AttemptRow | None]:
            made, new = builds.create(
                connection,
                project=project,
                ref=ref,
                publish=publish,
                live=live,
                may_publish=may_publish,
                bump=bump,
                parameters=parameters,
                by=by,
                now=now,
                idempotency=idempotency,
            )
            if new:
                if priority is not None:
                    made = builds.prioritise(connection, made.id, priority)
                _record(connection, "build.request", made.project, _requested(made), by, now)
            return made, attempts.get(connection, attempt_name(made.id, made.attempt)) if new else None

        build, queued = await self._write(create, self._now())
        if queued is not None:
            self._announce(queued)
        return build, queued is not None

    async def retry_build(self, build: int, by: Actor, *, may_publish: bool) -> AttemptRow:
        """→ queued, as another attempt of a build that has ended. Raises as `builds.retry`."""

        def retry(connection: Connection, now: int) -> AttemptRow:
            attempt = builds.retry(
                connection,
                build,
                by.name,
                now,
                may_publish=may_publish,
                asker=by.token,
                asker_person=by.person,
            )
            detail = {"build": str(build), "attempt": str(attempt.number)}
            _record(connection, "build.retry", attempt.project, detail, by, now)
            return attempt

        row = await self._write(retry, self._now())
        self._announce(row)
        return row

    async def take_message(self, project: str, event: HookEvent) -> Taken:
        """→ queued, as a build of what a host tells. See `boundaries.HookRequests`."""
        return await self._take("", lambda connection, now: taking.take(connection, project, event, now))

    async def take_moved(
        self, poll: PollRow, repository: str, change: moved.Change, told: HookEvent, asked: int
    ) -> Taken:
        """→ queued, as a build of what polling has seen. Raises as `storage.moved.take`."""
        seen = poll, repository, change, told, asked
        return await self._take("", lambda connection, now: moved.take(connection, *seen, now))

    async def allow_message(self, project: str, message: int, by: Actor) -> Taken:
        """→ queued, as a build of a stranger's commit. See `boundaries.HookRequests`."""
        allow = partial(taking.allow, project=project, number=message, by=by)
        return await self._take("hook.allow", lambda connection, now: allow(connection, now=now), by)

    async def repeat_message(self, project: str, message: int, by: Actor) -> Taken:
        """→ queued, as a build of what a host told before. See `boundaries.HookRequests`."""
        repeat = partial(taking.again, project=project, number=message, by=by)
        return await self._take("hook.repeat", lambda connection, now: repeat(connection, now=now), by)

    async def _take(self, action: str, take: Callable[[Connection, int], Taken], by: Actor | None = None) -> Taken:
        """
        Take a message; what its build replaces is cancelled.

        :param action: what ``by`` does, for the audit
        :param by: the person who wants it; None: the host alone
        """

        def write(connection: Connection, now: int) -> tuple[Taken, AttemptRow | None]:
            taken = take(connection, now)
            project, detail = taken.row.project, {"message": str(taken.row.id)}
            if by is not None:
                _record(connection, action, project, detail, by, now)
            queued = None
            if taken.made is not None:
                who = by or Actor(who=taken.made.requested_by, kind="hook")
                _record(connection, "build.request", project, _requested(taken.made) | detail, who, now)
                queued = attempts.get(connection, attempt_name(taken.made.id, taken.made.attempt))
            for row in taken.cancelled:
                if STATES[row.state].ended:
                    publications.drop(connection, row.name, row.reason, now)
                told = {"build": str(row.build), "attempt": str(row.number)} | detail
                _record(connection, "build.cancel", project, told, by or APISERVER, now)
            return taken, queued

        taken, queued = await self._write(write, self._now())
        if queued is not None:
            self._announce(queued)
        for row in taken.cancelled:
            self._follow_cancel(row)
        if taken.noted is not None:
            self._feed.publish(StateChange.of(taken.noted, self._now()))
        if taken.asked:
            self._bell.ring(Topic.DELIVERY)
        return taken

    async def run_schedule(self, schedule: ScheduleRow) -> None:
        """→ queued, as a build of a schedule that is due, if one is to be made."""

        def write(connection: Connection, now: int) -> AttemptRow | None:
            ran = schedules.run(connection, schedule, now)
            if ran is None or ran.made is None:
                return None
            detail = _requested(ran.made) | {"schedule": ran.row.name}
            _record(connection, "build.request", ran.row.project, detail, schedules.actor(ran.row), now)
            return attempts.get(connection, attempt_name(ran.made.id, ran.made.attempt))

        queued = await self._write(write, self._now())
        if queued is not None:
            self._announce(queued)

    async def cancel_build(self, build: int, reason: str, by: Actor) -> None:
        """
        → cancelled, if nothing runs; else note durably that it is wanted, and tell the builder. Raises as
        `builds.request_cancel`.
        """

        def cancel(connection: Connection, now: int) -> AttemptRow:
            row = builds.request_cancel(connection, build, reason, now)
            if STATES[row.state].ended:
                publications.drop(connection, row.name, row.reason, now)
            detail = {"build": str(row.build), "attempt": str(row.number)}
            _record(connection, "build.cancel", row.project, detail, by, now)
            return row

        self._follow_cancel(await self._write(cancel, self._now()))

    async def cancel_queued(self, project: str, reason: str, by: Actor) -> int:
        """→ cancelled, each build of a project that is queued. Return how many these were."""
        chosen = await self._ledger.read(queue.queued_of, project)
        count = 0
        for first in range(0, len(chosen), MOST_CANCELLED):
            some = chosen[first : first + MOST_CANCELLED]
            rows = await self._ledger.write(_cancel_queued, project, some, reason, by, self._now())
            for row in rows:
                self._follow_cancel(row)
            count += len(rows)
        return count

    def _follow_cancel(self, row: AttemptRow) -> None:
        """That an attempt is to be cancelled is committed: tell who must know."""
        match STATES[row.state].cancel:
            case Cancellation.TOO_LATE:  # since this very write
                self._announce(row)
                self._bell.ring(Topic.DELIVERY)
            case Cancellation.BY_APISERVER:
                self._bell.ring(Topic.DELIVERY)
            case Cancellation.BY_BUILDER:
                link = self._linked.link_of(row.builder)
                if link is not None:
                    link.cancel_attempt(row)
            case Cancellation.AT_ONCE:
                raise AssertionError(f"{row.name} is {row.state}: the ledger cancels it at once")
            case never:
                assert_never(never)

    async def approve_build(self, build: int, by: Actor, otp: str = "") -> AttemptRow:
        """
        waiting_approval → succeeded, and its releases go live, if they are to; → delivering, if it has stored packages.
        Raises as `approvals.approve`.

        :param otp: the one-time password with which what is staged in a registry is approved there; it is kept in
            memory until it is used, and nowhere else
        """

        def approve(connection: Connection, now: int) -> tuple[AttemptRow, list[ReleaseRow]]:
            row, settled = approvals.approve(connection, build, by, now)
            detail = {"build": str(build), "attempt": str(row.number)}
            _record(connection, "build.approve", row.project, detail, by, now)
            _record_live(connection, row, settled, now)
            self._provenance.record(connection, row, settled, now)
            return row, settled

        row = await self._releasing.approve(build, lambda: self._write(approve, self._now()))
        if STATES[row.state].delivers:
            self._passwords.give(row.name, otp, by.name)  # first: the announcement begins it
        self._announce(row)
        return row

    async def note_elsewhere(self, attempt: str) -> None:
        """
        waiting_approval → delivering: a stage of it was approved or rejected at the registry, and it is looked how it
        goes on. If more of it is staged, it waits again.
        """

        def note(connection: Connection, now: int) -> AttemptRow | None:
            row = attempts.goes_on(connection, attempt)
            if row is not None:
                detail = {"build": str(row.build), "attempt": str(row.number)}
                _record(connection, "build.elsewhere", row.project, detail, APISERVER, now)
            return row

        row = await self._retry(lambda: self._write(note, self._now()))
        if row is not None:
            self._announce(row)

    async def refuse_build(self, build: int, reason: str, by: Actor, otp: str = "") -> AttemptRow:
        """
        waiting_approval → cancelled. What is staged in a registry is taken back there. Raises as `approvals.refuse`.

        :param otp: the one-time password for that; see `approve_build`
        """

        def refuse(connection: Connection, now: int) -> AttemptRow:
            row = approvals.refuse(connection, build, by, reason, now)
            detail = {"build": str(build), "attempt": str(row.number), "reason": reason}
            _record(connection, "build.refuse", row.project, detail, by, now)
            return row

        row = await self._write(refuse, self._now())
        self._passwords.give(row.name, otp, by.name)
        self._announce(row)
        self._bell.ring(Topic.DELIVERY)
        return row

    # -- the queue moves

    async def offer(self, queued: OfferRow, lease: str, builder: str) -> AttemptRow | None:
        """queued → offered, to be sent to ``builder``. Raises `LedgerUnavailable`: then it isn't offered."""
        try:
            row = await self._write(
                permits.offer,
                queued.name,
                lease,
                builder,
                self._now(),
                queued.targets,
                queued.repository,
                queued.of,
                queued.inputs,
            )
        except LedgerUnavailable:
            # It may have been committed, and only the answer lost: then it would never be offered again.
            await self.return_to_queue(queued.name, Holder(lease, builder))
            raise
        if row is not None:
            crash_point(CrashPoint.APISERVER_OFFER_COMMITTED)
            self._announce(row)
        return row

    async def return_to_queue(
        self,
        attempt: str,
        holder: Holder,
        reason: str = "",
        *,
        still_wanted: Callable[[], bool] = _always,
        first: Callable[[], None] = _nothing,
    ) -> AttemptRow | None:
        """
        offered → queued, or → cancelled if that is wanted: the offer was declined, has expired, or was lost.

        :param reason: a sentence for people, while it waits.
        :param still_wanted: asked before each try; if it says False, nothing is done.
        :param first: called once it is done, before the queue is looked at again.
        """
        row = await self._unless_moot(still_wanted, lambda: self._write(_requeue, attempt, holder, self._now(), reason))
        if row is not None:
            first()
            self._announce(row)
        return row

    async def cancel_offer(self, row: AttemptRow, reason: str) -> None:
        """offered → cancelled: it can't be sent to any builder, and must not return to the head of the queue."""
        await self._retry(partial(self._write, attempts.note_cancel, row.name, reason))
        await self.return_to_queue(row.name, row.holder)

    # -- a builder's word

    async def accept(self, attempt: str, holder: Holder, isolation: Kind | None) -> AttemptRow | None:
        """offered → accepted. Once this has returned a row, the builder may be told to start it."""
        row = await self._retry(lambda: self._write(attempts.accept, attempt, holder, isolation))
        if row is not None:
            crash_point(CrashPoint.APISERVER_ACCEPT_COMMITTED)
            self._announce(row)
        return row

    async def start(self, attempt: str, holder: Holder, time: int) -> AttemptRow | None:
        """accepted or disconnected → running, since ``time`` by the builder's clock, if that can be."""
        row = await self._retry(lambda: self._write(attempts.started, attempt, holder, time, self._now()))
        crash_point(CrashPoint.APISERVER_STARTED_COMMITTED)
        if row is not None:
            self._announce(row)
        return row

    async def check_out(self, attempt: str, holder: Holder, found: FoundCommit, resolved: int | None) -> None:
        """
        Note which commit an attempt builds, as its builder says before its end, and tell those who watch.

        :param resolved: as in `finish`.
        """
        row = await self._retry(lambda: self._write(_check_out, attempt, holder, found, self._now(), resolved))
        if row is not None:
            self._announce(row)

    async def reconnect(self, row: AttemptRow, phase: AttemptState, isolation: Kind | None) -> AttemptRow | None:
        """
        offered or disconnected → accepted or running, as the builder says that has linked again; if the attempt is
        known to be further, it stays there. Raises `LedgerUnavailable`.
        """
        if STATES[row.state].lease is LeaseStatus.OFFERED:
            # Its acceptance was lost on the way; that the builder has the attempt says the same.
            accepted = await self._write(attempts.accept, row.name, row.holder, isolation)
            if accepted is None:
                return None
            self._announce(accepted)
        back = await self._write(attempts.reconnected, row.name, row.holder, phase)
        if back is not None:
            self._announce(back)
        return back

    async def disconnect(self, builder: str, *, still_wanted: Callable[[], bool] = _always) -> None:
        """
        A builder's link is lost: offered → queued, and what it held → disconnected. ``still_wanted`` is false once the
        builder has linked again: its sync says more.
        """
        for row in await self._retry(partial(self._ledger.read, attempts.leased, builder)):
            if STATES[row.state].lease is LeaseStatus.OFFERED:
                await self.return_to_queue(row.name, row.holder, still_wanted=still_wanted)
        gone = await self._unless_moot(still_wanted, lambda: self._write(attempts.disconnected, builder))
        for row in gone or ():
            self._announce(row)
        self._bell.ring(Topic.QUEUE)

    async def leave_builder(
        self, tenure: Tenure, time: Callable[[Connection], int], *, still_wanted: Callable[[], bool]
    ) -> None:
        """A builder's link is lost, if several apiservers share the database: the builder may link at any of them."""
        await self._unless_moot(
            still_wanted, lambda: self._write(lambda connection: tenures.leave(connection, tenure, time(connection)))
        )

    async def give_builder_up(
        self, tenure: Tenure, time: Callable[[Connection], int], *, still_wanted: Callable[[], bool]
    ) -> None:
        """What a builder had is lost, if several apiservers share the database: none waits for it any more."""
        await self._unless_moot(
            still_wanted, lambda: self._write(lambda connection: tenures.give_up(connection, tenure, time(connection)))
        )

    async def note_builder(self, builder: str, address: str, action: str) -> None:
        """A builder's link was made or lost: write it down."""
        by = builder_actor(builder, address)

        def note(connection: Connection, now: int) -> None:
            audit.record(connection, by=by, action=action, subject=builder, project=None, detail={}, now=now)

        await self._retry(lambda: self._write(note, self._now()))

    async def miss(self, row: AttemptRow, reason: str) -> None:
        """→ disconnected: its builder has linked, and doesn't say that it has it. ``reason`` is for people."""
        missed = await self._retry(lambda: self._write(attempts.missed, row.name, row.holder, reason))
        if missed is not None:
            self._announce(missed)

    async def recover(self) -> list[str]:
        """
        At start, when no builder is linked: offered → queued, and what is held → disconnected. The names of the
        builders that hold something. Raises `LedgerUnavailable`; asking again goes on where it stopped.
        """
        holders: set[str] = set()
        for row in await self._ledger.read(attempts.leased, None):
            if STATES[row.state].lease is LeaseStatus.OFFERED:
                returned = await self._write(_requeue, row.name, row.holder, self._now())
                if returned is not None:
                    self._announce(returned)
            else:
                holders.add(row.builder)
        for name in sorted(holders):
            for row in await self._write(attempts.disconnected, name):
                self._announce(row)
        return sorted(holders)

    async def start_publishing(self, attempt: str, holder: Holder) -> AttemptRow | None:
        """accepted, running or disconnected → publishing. Raises `LedgerUnavailable`."""
        row = await self._write(attempts.publishing, attempt, holder)
        if row is not None:
            self._announce(row)
        return row

    async def note_upload_trouble(self, attempt: str, holder: Holder, reason: str) -> AttemptRow | None:
        """Have a publishing attempt say why its upload takes so long. Raises `LedgerUnavailable`."""
        row = await self._write(attempts.note_trouble, attempt, holder, reason)
        if row is not None:
            self._announce(row)
        return row

    async def give_permit(self, want: WantPermit, builder: str) -> permits.Answer:
        """→ publishing, if the attempt may have the permit. Raises `LedgerUnavailable`."""
        asked = (want.attempt, want.lease, want.target, want.packages, builder)
        answer = await self._write(permits.give, *asked, self._now())
        if answer.row is not None:
            self._announce(answer.row)
        return answer

    async def refuse_permit(self, want: WantPermit, reason: str, builder: str) -> None:
        """Write down that the attempt gets no permit. Raises `LedgerUnavailable`."""
        await self._write(permits.refuse, want.attempt, want.target, reason, builder, self._now())

    async def finish(
        self, row: AttemptRow, result: Result, *, lines: int, sha256: str, resolved: int | None
    ) -> AttemptRow | None:
        """
        → what is believed of the result (`builds.word`). Its releases go live before that is announced, if they are to
        go live by themselves; what was lost is queued again, if its project wants that.

        :param lines: how many records of its log are committed.
        :param sha256: their digest; "" if some are missing, or the builder doesn't say theirs.
        :param resolved: when the ref led to the commit, in milliseconds since the epoch, as far as it is known.
        """
        known = await self._retry(lambda: self._ledger.read(seen.look, row.name, lines, sha256, self._now()))
        if known is None:
            return None
        believed = believe(result, known)

        def commit(result: Result, made: Sequence[ReleaseRow]) -> Deferred[AttemptRow | None]:
            end = msgspec.structs.replace(believed, result=result)
            return self._write(_finish, row, end, resolved, made, self._provenance, self._now())

        finished = await self._retry(lambda: self._releasing.release_with(row, believed.result, commit))
        if finished is None:
            return None
        self._announce(finished)
        if finished.state is AttemptState.LOST or finished.preview:
            name = attempt_name(finished.build, finished.number + 1)
            again = await self._retry(lambda: self._ledger.read(attempts.get, name))
            if again is not None:
                self._announce(again)
        return finished

    async def lose(self, row: AttemptRow, reason: str, *, still_wanted: Callable[[], bool] = _always) -> None:
        """→ lost: nothing will tell how it ended. It is queued again, if its project wants that."""
        rows = await self._unless_moot(still_wanted, lambda: self._write(_lose, row, reason, self._now()))
        for each in rows or ():
            self._announce(each)

    # -- the apiserver publishes

    async def begin_delivery(self, attempt: str, target: str) -> permits.Answer:
        """Ask whether what an attempt has stored for a target may be published now, and write down that it is."""
        return await self._retry(lambda: self._write(permits.open_stored, attempt, target, self._now()))

    async def note_step(self, attempt: str, target: str, row: Row, by: str) -> None:
        """
        Write down that a step of a publication begins, or how it has ended. Raises `NotFound` and `IllegalTransition`.

        :param by: the person who gave the one-time password with which it is done
        """

        def note(connection: Connection, now: int) -> None:
            if isinstance(row, StepBegins):
                publications.begin_step(connection, attempt, target, row.position, row.step, row.detail, now)
                return
            publications.end_step(
                connection,
                attempt,
                target,
                row.position,
                row.step,
                row.outcome,
                now,
                reached=row.reached,
                reason=row.reason,
                facts=row.facts,
            )
            if row.reached is PublicationState.APPROVED:
                who = by if row.outcome is Outcome.DONE else "elsewhere"
                publications.note_approved(connection, attempt, target, row.position, who, now)

        await self._retry(lambda: self._write(note, self._now()))

    async def lock_packages(self, attempt: str, wanted: Mapping[str, Sequence[str]]) -> str:
        """
        Lock packages for an attempt, all or none. Return which attempt has one of them; "" if they are locked.

        :param wanted: the packages' names, by their place
        """
        locked: str = await self._retry(lambda: self._write(publications.take_locks_at, wanted, attempt, self._now()))
        return locked

    async def unlock_packages(self, attempt: str) -> None:
        """Unlock what an attempt has locked."""
        await self._retry(lambda: self._write(publications.free_locks, attempt))

    async def drop_superseded(self, attempt: str, target: str) -> None:
        """Write down that what a newer build has published is no matter of a refused attempt any more."""
        await self._retry(lambda: self._write(publications.drop_superseded, attempt, target, self._now()))

    async def ask_person(self, row: AttemptRow, reason: str, sha256: str) -> AttemptRow:
        """
        delivering → waiting_approval: it goes on when a person has said so. Nothing is locked meanwhile.

        :param sha256: the digest of its log as it is now; "" if that isn't whole
        """

        def wait(connection: Connection, now: int) -> AttemptRow:
            publications.free_locks(connection, row.name)
            waits = attempts.waits_again(connection, row.name, reason, sha256, now)
            return waits or attempts.get(connection, row.name) or row

        waiting = await self._retry(lambda: self._write(wait, self._now()))
        self._announce(waiting)
        return waiting

    async def note_delivery(
        self, attempt: str, target: str, published: Sequence[Published], reason: str
    ) -> AttemptRow | None:
        """Write down what of a target's packages is published, and why the others aren't."""

        def note(connection: Connection, now: int) -> AttemptRow | None:
            row = attempts.get(connection, attempt)
            if row is not None:
                publications.end(connection, attempt, target, [each.name for each in published], reason, now)
                known = {(each.target, each.name) for each in row.published}
                new = [each for each in published if (each.target, each.name) not in known]
                attempts.note_published(connection, attempt, [*row.published, *new])
                _record_published(connection, row.project, attempt, new, APISERVER, now)
            return attempts.get(connection, attempt)

        return await self._retry(lambda: self._write(note, self._now()))

    async def delivered(self, row: AttemptRow, outcome: AttemptState, reason: str, sha256: str) -> AttemptRow:
        """
        delivering → succeeded, failed or cancelled. If all is published, its releases go live, if they are to.

        :param sha256: the digest of its log, to which nothing is added any more; "" if that isn't whole
        """

        def end(connection: Connection, now: int) -> tuple[AttemptRow, list[ReleaseRow]]:
            ended = attempts.delivered(connection, row.name, outcome, reason, sha256, now)
            if ended is None:
                return attempts.get(connection, row.name) or row, []
            publications.drop(connection, row.name, reason, now)
            publications.free_locks(connection, row.name)
            if ended.state is not AttemptState.SUCCEEDED:
                return ended, []
            settled, made = approvals.settled(connection, ended, now)
            self._provenance.record(connection, ended, made, now)
            _record_live(connection, row, made, now)
            return settled, made

        ended = await self._retry(lambda: self._releasing.approve(row.build, lambda: self._write(end, self._now())))
        self._announce(ended)
        return ended

    # -- what follows

    def heard(self, row: AttemptRow) -> None:
        """Another apiserver has changed an attempt, and that is committed: do here what follows from it."""
        info = STATES[row.state]
        self._follow(row)
        if info.log_over and self._logs.is_written(row.name):
            self._end_log(row)
        else:
            self._logs.heard(row.name, over=info.log_over)
        if row.cancel_reason and info.cancel is Cancellation.BY_BUILDER:
            link = self._linked.link_of(row.builder)
            if link is not None:
                link.cancel_attempt(row)

    def _announce(self, row: AttemptRow) -> None:
        """A change of state is committed: tell all listeners, and do what follows from the state's row."""
        self._follow(row)
        if STATES[row.state].log_over:
            self._end_log(row)

    def _end_log(self, row: AttemptRow) -> None:
        self._logs.finish(row.name, End(row.lines or 0, row.sha256, row.state.value, row.complete))

    def _follow(self, row: AttemptRow) -> None:
        info = STATES[row.state]
        self._feed.publish(StateChange.of(row, self._now()))
        if info.builder_done:
            self._resting.forget_attempt(row.name)
            self._gists.changed(row.build)  # its progress doesn't hold any more
            self._grants.revoke(row.name)
        if info.delivers:
            self._bell.ring(Topic.DELIVERY)
        if info.offerable:
            self._bell.ring(Topic.QUEUE)

    async def _unless_moot(self, still_wanted: Callable[[], bool], write: Callable[[], Deferred[_T]]) -> _T | None:
        """Write until the ledger takes it. Return None, without a write, once that isn't ``still_wanted``."""

        async def attempt() -> _T | None:
            return await write() if still_wanted() else None

        return await self._retry(attempt)


def _check_out(
    connection: Connection, attempt: str, holder: Holder, found: FoundCommit, now: int, resolved: int | None
) -> AttemptRow | None:
    """Note what is believed of the commit. Return the attempt if there is something new to be seen."""
    row = attempts.get(connection, attempt)
    build = None if row is None else builds.get(connection, row.build)
    if row is None or build is None:
        return None
    believed = believe_commit(found, must_be(build.ref, row.commit))
    return None if believed is None else attempts.checked_out(connection, attempt, holder, believed, now, resolved)


def _finish(
    connection: Connection,
    row: AttemptRow,
    end: Believed,
    resolved: int | None,
    made: Sequence[ReleaseRow],
    provenance: Provenance,
    now: int,
) -> AttemptRow | None:
    """The end and the releases' going live are one transaction: neither is there without the other."""
    before = attempts.get(connection, row.name)
    stored = publications.stored(connection, row.name)
    result = _checked(connection, row, end.result, stored=stored)
    waits = result.outcome == "succeeded" and approvals.are_needed(
        projects.get(connection, row.project), made, result.protected, row.environment, packages=stored
    )
    finished = attempts.finish(
        connection, row.name, row.holder, result, end.complete, now, resolved, waits=waits, delivers=stored
    )
    ended_now = before is not None and not STATES[before.state].builder_done  # a repeated end must not switch again
    if finished is not None and ended_now:
        if end.doubts:
            detail = {"attempt": row.name, "doubts": "; ".join(end.doubts)}
            _record(connection, "attempt.doubt", row.project, detail, builder_actor(row.builder), now)
        if result.head:
            projects.note_head(connection, row.project, result.head, row.builder, now)
        if result.host_keys:
            access.pin(connection, row.project, result.host_keys, row.builder, now)
        by = builder_actor(row.builder)
        _record_published(connection, finished.project, finished.name, finished.published, by, now)
        provenance.record(connection, finished, made, now)
        if STATES[finished.state].ended:
            publications.drop(connection, finished.name, finished.reason, now)
        if finished.state is AttemptState.LOST:
            reruns.rerun(connection, finished, now)
        elif finished.state is AttemptState.SUCCEEDED and result.head:
            reruns.rerun_own(connection, finished, now)
    if finished is None or not made or not ended_now or not STATES[finished.state].ended:
        return finished
    waiting = releases.waiting(connection, row.project)
    settled = [releases.settle(connection, row.project, release.id, now) for release in made]
    for release in settled:
        previews.settle(connection, release, now)
    _record_live(connection, row, settled, now)
    note_standing(connection, [*settled, *waiting], now)
    return attempts.get(connection, row.name)


def _record_live(connection: Connection, row: AttemptRow, settled: Sequence[ReleaseRow], now: int) -> None:
    """Which releases went live by themselves."""
    for release in settled:
        if release.state is ReleaseState.LIVE:
            detail = {
                "release": str(release.id),
                "target": release.target,
                "attempt": row.name,
                "commit": release.commit,
            }
            _record(connection, "release.live", row.project, detail, APISERVER, now)


def _requeue(connection: Connection, attempt: str, holder: Holder, now: int, reason: str = "") -> AttemptRow | None:
    """An offer that is void, and who had it: its row doesn't say that any more."""
    before = attempts.get(connection, attempt)
    row = attempts.requeue(connection, attempt, holder, now, reason)
    if row is not None and before is not None:
        detail = {"attempt": attempt, "builder": before.builder, "reason": reason or "it was not answered"}
        _record(connection, "offer.void", row.project, detail, APISERVER, now)
    return row


def _lose(connection: Connection, row: AttemptRow, reason: str, now: int) -> list[AttemptRow]:
    lost = reruns.lose(connection, row.name, row.holder, reason, now)
    if lost:
        detail = {"attempt": row.name, "builder": row.builder, "reason": reason}
        _record(connection, "attempt.lose", row.project, detail, APISERVER, now)
    return lost


def _cancel_queued(
    connection: Connection, project: str, chosen: Sequence[int], reason: str, by: Actor, now: int
) -> list[AttemptRow]:
    rows = builds.cancel_queued(connection, chosen, reason, now)
    for row in rows:
        publications.drop(connection, row.name, row.reason, now)
    if rows:
        numbers = sorted(row.build for row in rows)
        detail = {"builds": str(len(rows)), "first": str(numbers[0]), "last": str(numbers[-1])}
        _record(connection, "queue.cancel", project, detail, by, now)
    return rows


def _requested(build: BuildRow) -> dict[str, str]:
    """What the audit says of a build that was asked for. Parameters may hold secrets: only their names."""
    detail = {"build": str(build.id), "ref": build.ref, "publish": "yes" if build.publish else "no"}
    if build.live:
        detail["live"] = "yes"
    if build.bump:
        detail["bump"] = build.bump
    if build.priority != "normal":
        detail["priority"] = build.priority
    if build.parameters:
        detail["parameters"] = ", ".join(sorted(build.parameters))
    return detail


def _record_published(
    connection: Connection, project: str, attempt: str, published: Sequence[Published], by: Actor, now: int
) -> None:
    """What has been published, as a builder or the apiserver's process says it."""
    for package in published:
        detail = {
            "attempt": attempt,
            "target": package.target,
            "package": package.name,
            "version": package.version,
            "integrity": package.integrity,
            "registry": package.registry,
            "status": package.status,
        }
        _record(connection, "package.publish", project, detail, by, now)


def _checked(connection: Connection, row: AttemptRow, result: Result, *, stored: bool) -> Result:
    """
    Return the result with a protected ref only if the project says that it is one. Without one, no package that was
    ``stored`` may be published.
    """
    result = _with_protected(connection, row, result)
    if not stored or result.outcome != "succeeded" or result.protected != "":
        return result
    reason = f"its commit isn't on a protected ref of {row.project}, so its packages aren't published: merge it there"
    return msgspec.structs.replace(result, outcome="failed", reason=reason)


def _with_protected(connection: Connection, row: AttemptRow, result: Result) -> Result:
    project = projects.get(connection, row.project)
    build = builds.get(connection, row.build)
    if not result.protected or project is None or build is None:
        return result
    named = result.protected == build.ref and build.ref in project.protected
    if named or is_protected(project.protected, result.protected, result.head or project.head):
        return result
    return msgspec.structs.replace(result, protected="")


def _record(connection: Connection, action: str, project: str, detail: dict[str, str], by: Actor, now: int) -> None:
    """A line in the audit, in the same transaction as what it tells: both are there or neither."""
    audit.record(connection, by=by, action=action, subject=project, project=project, detail=detail, now=now)
