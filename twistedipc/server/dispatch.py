"""
The dispatch: from the queue in the ledger to a builder with a free slot. Called when something was queued, when a
builder came, and when a slot became free; implements `boundaries.Dispatch`.

An offer is committed with a new lease before it is sent, and expires if it isn't accepted in time. A late
acceptance names a lease that is void by then, and is answered with `Stop`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.builds.messages import Offer
from twistedipc.builds.states import LEASED, AttemptState
from twistedipc.ipc import LocalProtocolError
from twistedipc.server.boundaries import StateChange, StateFeed, Waiting
from twistedipc.server.builders import BuilderLink, Builders
from twistedipc.server.waiting import Reasons
from twistedipc.storage import attempts, audit, builds, permits, projects
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import Actor, AttemptRow, OfferRow

#: Seconds for a builder to accept an offer: it has one small file to write.
OFFER_EXPIRES = 10.0

#: The most of the queue that is looked at in one go.
MAX_LOOKED_AT = 1000

#: Seconds until the queue is looked at again when the ledger couldn't be read.
RETRY_INTERVAL = 1.0


class QueueDispatch:
    """
    Offers queued attempts, oldest first, to the builder with the most free slots; to one that has declined or not
    answered (`server.resting`) only where no other has a free one.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, now: Callable[[], int], ledger: Ledger, feed: StateFeed) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._feed = feed
        self._builders: Builders | None = None
        self._reasons: Reasons | None = None
        self._looking = False
        self._again = False
        self._retry: IDelayedCall | None = None
        self._expiring: dict[str, IDelayedCall] = {}
        self._stopped = False

    def serve(self, builders: Builders) -> None:
        """Begin to hand attempts to these builders."""
        self._builders = builders
        self._reasons = Reasons(self._clock, self._now, builders)

    def stop(self) -> None:
        """Offer nothing more."""
        self._stopped = True
        for timer in [*self._expiring.values(), *([self._retry] if self._retry else [])]:
            if timer.active():
                timer.cancel()
        self._expiring.clear()

    @property
    def linked(self) -> int:
        """See `boundaries.Dispatch`."""
        return len(self._builders.ready()) if self._builders is not None else 0

    def why_waiting(self, row: AttemptRow, before: int | None) -> Waiting | None:
        """See `boundaries.Dispatch`."""
        return self._reasons.of(row, before) if self._reasons is not None else None

    def wake(self) -> None:
        """See `boundaries.Dispatch`."""
        builders = self._builders
        if self._stopped or builders is None:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        builders.launch(self._look(builders), "looking at the queue")

    async def cancel(self, build: int, reason: str, by: Actor) -> None:
        """See `boundaries.Dispatch`."""
        row = await self._ledger.write(cancel, build, reason, by, self._now())
        builders = self._builders
        if builders is None:
            return
        if row.state is AttemptState.CANCELLED:
            builders.announce(row)
        elif row.state in LEASED:
            link = builders.link_of(row.builder)
            if link is not None:
                link.cancel(row)

    async def _look(self, builders: Builders) -> None:
        try:
            while not self._stopped:
                self._again = False
                offered = await self._offer_some(builders)
                if not offered and not self._again:
                    return
        except LedgerUnavailable:
            if not self._stopped:
                self._retry = self._clock.callLater(RETRY_INTERVAL, self.wake)
        finally:
            self._looking = False

    async def _offer_some(self, builders: Builders) -> bool:
        """Offer as much as there are free slots; whether anything was offered."""
        free = sum(link.free_slots for link in builders.ready())
        if not free:
            return False
        # More than can be offered, by as many as may have to be passed over.
        wanted = min(free + builders.resting.attempts, MAX_LOOKED_AT)
        queue = await self._ledger.read(attempts.next_queued, wanted, frozenset())
        offered = False
        for choose in (_best, _not_answering):
            for queued in queue:
                links = [link for link in builders.ready() if link.free_slots]
                if not links or self._stopped:
                    return offered
                link = choose(builders, links, queued.name)
                if link is not None and await self._offer(builders, link, queued):
                    offered = True
            if offered:
                break
        return offered

    async def _offer(self, builders: Builders, link: BuilderLink, queued: OfferRow) -> bool:
        """Offer this attempt there; whether it isn't queued any more, or might be offered again."""
        lease = secrets.token_hex(16)
        target = projects.target_of(queued.publish, queued.repository)
        try:
            row = await self._ledger.write(
                permits.offer, queued.name, lease, link.peer.info.name, self._now(), target, queued.publish
            )
        except LedgerUnavailable:
            await self._unsay(builders, queued.name, lease)
            raise
        if row is None:
            return False  # it was cancelled, or someone else was faster
        crash_point(CrashPoint.APISERVER_OFFER_COMMITTED)
        self._feed.publish(StateChange.of(row, self._now()))
        if not link.synced:
            await builders.take_back(row)
            return True
        try:
            link.offer(_message(queued, lease))
            crash_after_turn(self._clock, CrashPoint.APISERVER_OFFER_SENT)
        except LocalProtocolError as error:
            # It can't be sent, to nobody and never: it must not come back to the head of the queue.
            self._log.error("{attempt} can't be offered: {error}", attempt=row.name, error=error)
            reason = f"it can't be offered to a builder: {error}"
            await builders.insist(partial(self._ledger.write, attempts.note_cancel, row.name, reason))
            await builders.take_back(row)
            return True
        self._expiring[row.lease] = self._clock.callLater(OFFER_EXPIRES, self._expire, builders, link, row)
        return True

    async def _unsay(self, builders: Builders, attempt: str, lease: str) -> None:
        """
        An offer couldn't be committed; or it was, and only the answer was lost, as with the connection to a database.
        Nobody would ever offer it again.
        """
        back = await builders.insist(lambda: self._ledger.write(attempts.requeue, attempt, lease, self._now()))
        if back is not None:
            builders.announce(back)

    def _expire(self, builders: Builders, link: BuilderLink, row: AttemptRow) -> None:
        del self._expiring[row.lease]
        builders.launch(link.expire(row, OFFER_EXPIRES), "an offer's expiry")


def cancel(connection: Connection, build: int, reason: str, by: Actor, now: int) -> AttemptRow:
    """A cancellation and its record in the audit: both or neither. Raises as `builds.request_cancel` does."""
    row = builds.request_cancel(connection, build, reason, now)
    detail = {"build": str(row.build), "attempt": str(row.number)}
    audit.record(
        connection,
        who=by.who,
        address=by.address,
        action="build.cancel",
        subject=row.project,
        detail=detail,
        now=now,
    )
    return row


def _best(builders: Builders, links: list[BuilderLink], attempt: str) -> BuilderLink | None:
    """
    The one of these links to offer the attempt to: of those that may be asked, one whose last answer was good, with the
    most free slots.
    """
    resting = builders.resting
    asked = [link for link in links if not resting.rests(link.peer.info.name, attempt)]
    return max(asked, key=lambda link: (resting.trouble(link.peer.info.name) is None, link.free_slots), default=None)


def _not_answering(builders: Builders, links: list[BuilderLink], attempt: str) -> BuilderLink | None:
    """One of these links that didn't answer when the attempt was offered to it, and is asked all the same."""
    return next((link for link in links if builders.resting.put_aside(link.peer.info.name, attempt)), None)


def _message(queued: OfferRow, lease: str) -> Offer:
    return Offer(
        attempt=queued.name,
        lease=lease,
        build=queued.build,
        project=queued.project,
        repository=queued.repository,
        ref=queued.ref,
        commit=queued.commit,
        publish=queued.publish,
        site=queued.site,
        parameters=queued.parameters,
        environment=queued.environment,
        timeout=queued.timeout,
        idle_timeout=queued.idle_timeout,
        expires=OFFER_EXPIRES,
    )
