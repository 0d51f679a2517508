"""
The builders as they come and go: the framework's application factory, which links are refused, and what becomes of the
attempts of a builder that is away. Each link itself is ``builder_link``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.states import BUILDER_DONE
from twistedipc.ipc import NamedKey, Peer, PeerInfo
from twistedipc.server.away import Away
from twistedipc.server.boundaries import LinkedBuilder
from twistedipc.server.builder_link import BuilderLink, Collaborators
from twistedipc.storage import attempts, tenures
from twistedipc.storage.artifacts import attempt_of
from twistedipc.storage.errors import TenureLost
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import BuilderRow
from twistedipc.storage.tenures import Tenure

__all__ = ["Builders", "Collaborators"]

#: The most seconds until a link's key is looked at again: the clock that says when it ends may be set meanwhile.
LOOK_AT_KEY = 3600.0

#: Seconds between two looks whether this apiserver is cut off from the database that it shares.
WATCH_CUT_OFF = 1.0

#: Why builders are let go, and refused, by an apiserver that doesn't reach the database that it shares.
CUT_OFF = "this apiserver can't reach the database that it shares with others: link with one of these"


class Builders:
    """All builders. ``lost_after``: seconds that a builder may be away before its attempts are lost."""

    _log = Logger()

    def __init__(self, collaborators: Collaborators, lost_after: float) -> None:
        self._with = collaborators
        self._lost_after = lost_after
        self.away = Away(
            collaborators.clock, collaborators.now, lost_after, self._give_up, lambda: not collaborators.cut_off()
        )
        self._ends: dict[BuilderLink, IDelayedCall] = {}  # until the key of a link expires
        # Of builders that are away, under what this apiserver answers for them, if several share the database.
        self._waited: dict[str, Tenure] = {}
        self._watching: IDelayedCall | None = None  # until the next look whether it is cut off

    def refuse(self, peer: PeerInfo) -> str | None:
        """Why this peer may not link now; None if it may. The same incarnation takes its own place over."""
        why = self._with.keys.refuse(peer)
        if why is not None:
            return why
        if self._with.cut_off():
            return CUT_OFF
        linked = self._with.linked.link_of(peer.name)
        if linked is not None and linked.peer.info.incarnation != peer.incarnation:
            return f"a builder named {peer.name} is linked already"
        if self._with.workflows.full:
            # What the links of before have begun goes on without them, and waits for the ledger.
            return f"{len(self._with.workflows)} things wait for the ledger: later"
        return None

    def application(self, peer: Peer) -> BuilderLink:
        """Make the application of a builder's new link. The framework's application factory."""
        info = peer.info
        link = BuilderLink(self._with, peer, self._lost)
        previous = self._with.linked.add(link)
        if previous is not None:
            previous.superseded = True
            previous.peer.close("superseded", "the same builder has linked again")
        self.away.back(info.name)
        self._waited.pop(info.name, None)
        self._with.resting.came(info.name, info.incarnation)
        self._with.keys.linked(info)
        self._watch_key(link)
        self._log.info("builder {name} linked from {address}", name=info.name, address=info.address)
        self._note(info, "builder.link")
        return link

    async def recover(self) -> None:
        """
        At start: builders' keys are read. No offer is open any more, and every other lease waits for its builder to
        come back. Uploads of attempts that have ended will never go on.
        """
        await self._with.keys.load()
        for attempt in self._with.artifact_store.under_way():
            uploading = await self._with.ledger.read(attempts.get, attempt_of(attempt))
            if uploading is None or uploading.state in BUILDER_DONE:
                self._with.artifact_store.discard(attempt)
        if self._with.here() is not None:
            await self.adopt(all_leases=True)
            return
        for name in await self._with.lifecycle.recover():
            self.away.expect(name)

    # -- several apiservers on one database

    async def adopt(self, *, strays: Collection[Tenure] = (), all_leases: bool = False) -> None:
        """
        Answer for the builders of apiservers that don't live any more, and for those of this one's earlier incarnation:
        no offer is open any more, and every other lease waits for its builder. Raises `LedgerUnavailable`. The
        parameters are those of `tenures.adopt`.
        """
        here = self._with.here()
        assert here is not None, "there are several"

        def adopt(connection: Connection) -> list[Tenure]:
            now = self._with.database_time(connection)
            return tenures.adopt(connection, here, now, strays=strays, all_leases=all_leases)

        adopted = await self._with.ledger.write(adopt)
        crash_point(CrashPoint.APISERVER_BUILDERS_ADOPTED)
        # One that has linked meanwhile isn't away: its sync takes the row.
        away = [tenure for tenure in adopted if not self.is_linked(tenure.builder)]
        for tenure in away:
            self._waited[tenure.builder] = tenure
            self.away.expect(tenure.builder)
        for tenure in away:
            self._with.workflows.launch(
                self._while_ours(tenure, self._disconnect(tenure)), f"adopting builder {tenure.builder}"
            )

    async def refresh(self) -> None:
        """Others may have changed who may link: read it again. Raises `LedgerUnavailable`."""
        await self._with.keys.refresh()
        for link in self._with.linked.all():
            why = self._with.keys.refuse(link.peer.info)
            if why is not None:
                link.peer.close("unauthorized", why)

    def watch_cut_off(self) -> None:
        """
        From now on let all builders go when others may have given this apiserver up, which can store nothing: while it
        has their links, none of the others gets them, and gives up what they run in the end.
        """
        self._watching = self._with.clock.callLater(WATCH_CUT_OFF, self.watch_cut_off)
        if self._with.cut_off():
            for link in self._with.linked.all():
                self._log.warn("builder {name} is let go: {why}", name=link.peer.info.name, why=CUT_OFF)
                link.peer.close("cut_off", CUT_OFF)

    def are_elsewhere(self, names: Sequence[str]) -> None:
        """These builders are linked at other apiservers."""
        self._with.linked.elsewhere = names

    def is_linked(self, name: str) -> bool:
        """Return whether this builder is linked here; it may not have synced yet."""
        return self._with.linked.link_of(name) is not None

    def held(self) -> list[Tenure]:
        """Return under what this apiserver writes about builders."""
        linked = [link.tenure for link in self._with.linked.all() if link.tenure is not None and link.tenure.epoch]
        return [*linked, *self._waited.values()]

    def moved(self, tenure: Tenure) -> None:
        """Another apiserver has the builder by now."""
        link = self._with.linked.link_of(tenure.builder)
        if link is not None and link.tenure == tenure:
            link.moved()
        if self._waited.get(tenure.builder) == tenure:
            del self._waited[tenure.builder]
            self.away.back(tenure.builder)

    async def _while_ours(self, tenure: Tenure, work: Awaitable[None]) -> None:
        try:
            await work
        except TenureLost:
            self.moved(tenure)

    async def _disconnect(self, tenure: Tenure) -> None:
        lifecycle = self._with.lifecycle.under(tenure)
        await lifecycle.leave_builder(tenure, self._with.database_time, still_wanted=self._is_away(tenure.builder))
        await lifecycle.disconnect(tenure.builder, still_wanted=self._is_away(tenure.builder))

    async def stop(self) -> None:
        """Wait for the workflows that are under way. The links are closed by then."""
        workflows = self._with.workflows
        workflows.end_retries()
        if self._watching is not None:
            self._watching.cancel()
        self.away.stop()
        self._with.resting.stop()
        await self._with.writers.commits.stop()
        await workflows.stop()

    def _watch_key(self, link: BuilderLink) -> None:
        """Have the link closed when the key expires that it was made with."""
        ends = self._with.keys.ends(link.peer.info)
        if ends is not None:
            left = max(0, ends - self._with.now()) / 1000
            self._ends[link] = self._with.clock.callLater(min(left, LOOK_AT_KEY), self._look_at_key, link)

    def _look_at_key(self, link: BuilderLink) -> None:
        del self._ends[link]
        why = self._with.keys.refuse(link.peer.info)
        if why is None:
            self._watch_key(link)
        else:
            self._log.warn("builder {name} is let go: {why}", name=link.peer.info.name, why=why)
            link.peer.close("unauthorized", why)

    def _lost(self, link: BuilderLink) -> None:
        name = link.peer.info.name
        if (timer := self._ends.pop(link, None)) is not None:
            timer.cancel()
        self._with.writers.end_all(link)
        self._with.linked.remove(link)
        self._note(link.peer.info, "builder.leave")
        if not link.superseded and not self._with.workflows.stopping:
            self.away.expect(name)
            if link.tenure is None:
                work = self._with.lifecycle.disconnect(name, still_wanted=self._is_away(name))
            else:
                self._waited[name] = link.tenure
                work = self._while_ours(link.tenure, self._disconnect(link.tenure))
            self._with.workflows.launch(work, "noting a lost link")

    def _note(self, info: PeerInfo, action: str) -> None:
        if not self._with.workflows.stopping:
            noting = self._with.lifecycle.note_builder(info.name, info.address, action)
            self._with.workflows.launch(noting, f"noting {action} of {info.name}")

    def _is_away(self, name: str) -> Callable[[], bool]:
        # Asked before each try: while the ledger was away the builder may have come back.
        return lambda: not self.is_linked(name)

    def linked(self) -> list[LinkedBuilder]:
        """See `boundaries.KnownBuilders`."""
        return [
            LinkedBuilder(
                name=link.peer.info.name,
                since=link.since,
                address=link.peer.info.address,
                key=link.peer.info.key,
                slots=link.slots,
                draining=link.draining,
                program=link.program,
            )
            for link in self._with.linked.all()
        ]

    def added(self, row: BuilderRow, key: NamedKey) -> None:
        """See `boundaries.KnownBuilders`."""
        self._with.keys.added(row, key)

    def changed(self, row: BuilderRow) -> None:
        """See `boundaries.KnownBuilders`."""
        self._with.keys.changed(row)
        self._with.bell.ring(Topic.BUILDER)

    def revoked(self, row: BuilderRow) -> None:
        """See `boundaries.KnownBuilders`."""
        self._with.keys.changed(row)
        link = self._with.linked.link_of(row.name)
        if link is not None:
            link.peer.close("unauthorized", "this builder was revoked")
        self._with.workflows.launch(
            self._lose_all(row.name, f"builder {row.name} was revoked"), f"ending what builder {row.name} has"
        )

    def _give_up(self, name: str) -> None:
        reason = f"builder {name} has been away for {self._lost_after:.0f} s"
        tenure = self._waited.get(name)
        if tenure is None and self._with.here() is not None:
            return  # another apiserver may have the builder: without a tenure nothing would keep this from its attempts
        work = self._lose_all(name, reason, self._is_away(name), tenure)
        if tenure is not None:
            work = self._while_ours(tenure, self._until_nobody_waits(tenure, work))
        self._with.workflows.launch(work, f"giving builder {name} up")

    async def _until_nobody_waits(self, tenure: Tenure, losing: Awaitable[None]) -> None:
        """Answer for the builder while what it had is being lost, and no longer."""
        try:
            await losing
            lifecycle, is_away = self._with.lifecycle.under(tenure), self._is_away(tenure.builder)
            await lifecycle.give_builder_up(tenure, self._with.database_time, still_wanted=is_away)
        finally:
            if self._waited.get(tenure.builder) == tenure:
                del self._waited[tenure.builder]

    async def _lose_all(
        self,
        name: str,
        reason: str,
        still_wanted: Callable[[], bool] = lambda: True,
        tenure: Tenure | None = None,
    ) -> None:
        workflows, ledger = self._with.workflows, self._with.ledger
        lifecycle = self._with.lifecycle.under(tenure)
        for row in await workflows.retry_until_available(lambda: ledger.read(attempts.leased, name)):
            await lifecycle.lose(row, reason, still_wanted=still_wanted)
