"""
The dispatch: from the queue in the ledger to a builder with a free slot. Woken by the ``bell``; implements
`boundaries.Dispatch`.

An offer is committed with a new lease before it is sent, and expires if it isn't accepted in time. A late
acceptance names a lease that is void by then, and is answered with `Stop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn
from twistedipc.builds.access import CHECKOUT
from twistedipc.builds.messages import CACHES_KEPT, FEATURES, Offer
from twistedipc.builds.needs import lacked
from twistedipc.builds.retention import Rules, effective
from twistedipc.ipc import LocalProtocolError
from twistedipc.publish.targets.registry import TARGETS, to_flat
from twistedipc.server.bell import Bell
from twistedipc.server.boundaries import RandomBytes, Waiting
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.linked import Link, LinkedBuilders
from twistedipc.server.resting import Resting
from twistedipc.server.waiting import Reasons
from twistedipc.server.workflows import RETRY_INTERVAL, Workflows
from twistedipc.storage import attempts, queue
from twistedipc.storage.errors import TenureLost
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.queue import Features
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import AttemptRow, OfferRow, Passed, Place

#: Seconds for a builder to accept an offer: it has one small file to write.
OFFER_EXPIRES = 10.0

#: The most of the queue that is read at once, and the least where builds may have to be passed over: those that no
#: builder with a free slot can take. Then more of it is read, as long as there is more.
MAX_LOOKED_AT = 1000
PAGE = 50

#: Seconds for which builds are passed over unread that no builder with a free slot could take: what their projects say
#: may have changed.
PASSED_OVER = 10.0


@dataclass(frozen=True, kw_only=True)
class Offers:
    """What offers say beside what the queue's rows have. ``rules``: of retention, of projects that have none."""

    release_url: Callable[[str], str]
    elsewhere: Callable[[str], bool]
    rules: Rules

    def message(self, queued: OfferRow, lease: str) -> Offer:
        """Return the offer of an attempt."""
        return Offer(
            attempt=queued.name,
            lease=lease,
            build=queued.build,
            project=queued.project,
            repository=queued.repository,
            ref=queued.ref,
            commit=queued.commit,
            publish=to_flat(queued.targets),
            targets=TARGETS.write(queued.targets),
            site=queued.site,
            settings=queued.settings,
            parameters=queued.parameters,
            environment=queued.environment,
            context=queued.context,
            environment_name=queued.of.environment,
            refs=queued.of.refs,
            url=self.release_url(queued.project),
            registries=queued.registries,
            protected=queued.protected,
            used=queued.used,
            versioning=queued.versioning,
            asks=[*(["steps"] if queued.secrets else []), *([CHECKOUT] if queued.access else [])],
            contents=TARGETS.take_parts(queued.targets),
            elsewhere=self.elsewhere(queued.repository),
            head=queued.head,
            caches=queued.caches,
            caches_kept=effective(queued.retention, self.rules).caches,
            stranger=queued.stranger,
            timeout=queued.timeout,
            idle_timeout=queued.idle_timeout,
            expires=OFFER_EXPIRES,
        )


class QueueDispatch:
    """
    Offers queued attempts, in the order of `builds.priorities`, to the builder with the most free slots; to one that
    has declined or not answered (`server.resting`) only where no other has a free one.

    :param drained: told which builders a person has drained, maybe at another apiserver
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        random: RandomBytes,
        ledger: Ledger,
        lifecycle: Lifecycle,
        workflows: Workflows,
        linked: LinkedBuilders,
        resting: Resting,
        reasons: Reasons,
        offers: Offers,
        drained: Callable[[frozenset[str]], None],
    ) -> None:
        self._clock = clock
        self._random = random
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._workflows = workflows
        self._linked = linked
        self._resting = resting
        self._reasons = reasons
        self._offers = offers
        self._reading = _Reading(clock, ledger, drained)
        self._looking = False
        self._again = False
        self._retry: IDelayedCall | None = None
        self._expiring: dict[str, IDelayedCall] = {}
        self._stopped = False

    def start(self, bell: Bell) -> None:
        """Begin to hand attempts to builders, whenever the bell is rung."""
        for topic in (Topic.QUEUE, Topic.BUILDER):
            bell.listen(topic, lambda hint: self.wake())

    def stop(self) -> None:
        """Offer nothing more."""
        self._stopped = True
        for timer in [*self._expiring.values(), *([self._retry] if self._retry else [])]:
            if timer.active():
                timer.cancel()
        self._expiring.clear()

    @property
    def no_builder_since(self) -> int | None:
        """See `boundaries.Dispatch`."""
        return self._linked.none_since

    @property
    def linked(self) -> int:
        """See `boundaries.Dispatch`."""
        return len(self._linked.ready())

    @property
    def isolations(self) -> list[str]:
        """By what the linked builders isolate builds, each once; "": nothing does, or it isn't known."""
        return sorted({link.isolation or "" for link in self._linked.ready()})

    def why_waiting(self, row: AttemptRow, place: Place | None) -> Waiting | None:
        """See `boundaries.Dispatch`."""
        return self._reasons.of(row, place)

    def wake(self) -> None:
        """Look at the queue, now or once more after the look that is under way. See `boundaries.Dispatch`."""
        if self._stopped:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._workflows.launch(self._look(), "looking at the queue")

    async def _look(self) -> None:
        try:
            while not self._stopped:
                self._again = False
                offered = await self._offer_some()
                if not offered and not self._again:
                    return
        except LedgerUnavailable:
            if not self._stopped:
                self._retry = self._clock.callLater(RETRY_INTERVAL, self.wake)
        finally:
            self._looking = False

    async def _offer_some(self) -> bool:
        """Offer attempts while slots are free. Return whether anything was offered."""
        if any(link.free_slots or link.draining for link in self._linked.ready()):
            await self._reading.look_who_is_drained()
        free = sum(link.free_slots for link in self._linked.ready())
        can = frozenset(link.features for link in self._linked.ready() if link.free_slots)
        if not can:
            return False
        needed = (frozenset(FEATURES) - {CACHES_KEPT}) | TARGETS.features
        wanted = free + self._resting.attempts
        if not all(features >= needed for features in can):
            wanted = max(wanted, PAGE)
        wanted = min(wanted, MAX_LOOKED_AT)
        passed = dict(self._reading.passed_over(can))
        while not self._stopped:
            page = await self._reading.page(wanted, can, passed)
            self._reasons.note_needs(page)
            if await self._offer_each(page):
                return True
            if len(page) < wanted:
                break
            self._reading.note(can, page)
            passed |= {queued.place.project: queued.place for queued in page}
        return False

    async def _offer_each(self, page: Sequence[OfferRow]) -> bool:
        """Offer these attempts, as far as builders can take them. Return whether anything was offered."""
        offered = False
        for choose in (self._best, self._not_answering):
            for queued in page:
                links = [link for link in self._linked.ready() if link.free_slots]
                if not links or self._stopped:
                    return offered
                link = choose([link for link in links if not lacked(link.features, queued.needs)], queued.name)
                if link is not None and await self._offer(link, queued):
                    offered = True
            if offered:
                break
        return offered

    async def _offer(self, link: Link, queued: OfferRow) -> bool:
        """Offer this attempt there; whether it isn't queued any more, or might be offered again."""
        lease = self._random(16).hex()
        try:
            row = await self._lifecycle.under(link.tenure).offer(queued, lease, link.peer.info.name)
        except TenureLost:
            link.moved()
            return False
        if row is None:
            return False  # it was cancelled, or another was faster
        if not link.synced:
            await self._lifecycle.return_to_queue(row.name, row.holder)
            return True
        if why := TARGETS.why_not(queued.targets):
            await self._lifecycle.cancel_offer(row, why)
            return True
        try:
            link.offer(self._offers.message(queued, lease))
            crash_after_turn(self._clock, CrashPoint.APISERVER_OFFER_SENT)
        except LocalProtocolError as error:
            self._log.error("{attempt} can't be offered: {error}", attempt=row.name, error=error)
            await self._lifecycle.cancel_offer(row, f"it can't be offered to a builder: {error}")
            return True
        self._expiring[row.lease] = self._clock.callLater(OFFER_EXPIRES, self._expire, link, row)
        return True

    def _expire(self, link: Link, row: AttemptRow) -> None:
        del self._expiring[row.lease]
        self._workflows.launch(_expired(link, row), "an offer's expiry")

    def _best(self, links: list[Link], attempt: str) -> Link | None:
        """
        Return the link to offer the attempt to: of those that may be asked, one whose last answer was good, with the
        most free slots.
        """
        resting = self._resting
        asked = [link for link in links if not resting.rests(link.peer.info.name, attempt)]
        return max(
            asked, key=lambda link: (resting.trouble(link.peer.info.name) is None, link.free_slots), default=None
        )

    def _not_answering(self, links: list[Link], attempt: str) -> Link | None:
        """Return one of these links that didn't answer an offer of this attempt, and may be asked all the same."""
        return next((link for link in links if self._resting.put_aside(link.peer.info.name, attempt)), None)


class _Reading:
    """
    Reads the queue, page after page. It remembers up to which place of each project's queue no build can be taken by
    builders that can do so and so much: else each look would read all of that again.
    """

    def __init__(self, clock: IReactorTime, ledger: Ledger, drained: Callable[[frozenset[str]], None]) -> None:
        self._clock = clock
        self._ledger = ledger
        self._drained = drained
        self._until = 0.0
        self._places: dict[frozenset[Features], dict[int, Passed]] = {}

    async def look_who_is_drained(self) -> None:
        """Find out which builders are to be offered nothing more."""
        self._drained(await self._ledger.read(queue.drained))

    async def page(self, wanted: int, can: frozenset[Features], passed: Mapping[int, Passed]) -> list[OfferRow]:
        """Return up to so many of the next attempts, for builders that can do this, behind these places."""
        return await self._ledger.read(attempts.next_queued, wanted, can, frozenset(passed.values()))

    def passed_over(self, can: frozenset[Features]) -> Mapping[int, Passed]:
        """Return up to which places nothing needs to be read, by project."""
        if self._clock.seconds() >= self._until:
            self._places.clear()
            self._until = self._clock.seconds() + PASSED_OVER
        return self._places.get(can, {})

    def note(self, can: frozenset[Features], page: Sequence[OfferRow]) -> None:
        """Take note of what was read, and not offered. Builds that rest count as such that can be taken."""
        places, stays = self._places.setdefault(can, {}), set[int]()
        for queued in page:
            if any(not lacked(features, queued.needs) for features in can):
                stays.add(queued.place.project)
            elif queued.place.project not in stays:
                places[queued.place.project] = queued.place


async def _expired(link: Link, row: AttemptRow) -> None:
    await link.expire_offer(row, OFFER_EXPIRES)
