"""Two apiservers on one ledger: who has which builder, who does what for all, and what each hears of the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.several import One, Several
from tests.test_server_builders import ADA, BATCH, Builder, result
from twistedipc.builds import messages as m
from twistedipc.builds.logs import Lines
from twistedipc.builds.states import AttemptState
from twistedipc.ipc import CallFailed, PeerInfo
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.server.neighbours import INTERVAL, LEAST_INTERVAL
from twistedipc.storage import apiservers, attempts, builders, changes, logs, projects, tenures
from twistedipc.storage.apiservers import DEAD_AFTER, Incarnation
from twistedipc.storage.errors import LedgerLost, LedgerUnavailable
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import Place
from twistedipc.web.access.audience import Audience

#: Seconds after which a silent apiserver's builders are another's.
GONE = DEAD_AFTER // 1000 + 3


class SeveralCase(SynchronousTestCase):
    """Two apiservers, and some builders."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.world = Several(Path(folder.name))
        self.one, self.two = self.world.start("one"), self.world.start("two")
        self.world.advance(1)

    def link(self, one: One, *held: m.HeldAttempt, incarnation: str = "i1", name: str = "b", slots: int = 2) -> Builder:
        """A builder that has linked at an apiserver, and synced."""
        builder = Builder(one.server, name, incarnation)
        builder.sync(*held, slots=slots)
        return builder

    def running(self, one: One) -> tuple[Builder, m.Offer]:
        """A builder that runs an attempt."""
        self.world.ledger.queue()
        builder = self.link(one)
        (offer,) = builder.take(m.Offer)
        builder.run(offer)
        return builder, offer

    def held(self, offer: m.Offer, next: int = 1) -> m.HeldAttempt:
        """What a builder says that runs an attempt."""
        return m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=next)

    def state(self, offer: m.Offer) -> AttemptState:
        """The attempt's state in the ledger."""
        return self.one.server.state(offer.attempt)

    def done(self, work: Any) -> Any:
        """What a coroutine gives at once."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def owner(self, name: str = "b") -> tenures.TenureRow:
        """Who has a builder."""
        row = self.world.ledger.now(tenures.get, name)
        assert row is not None
        return row


class WhoHasABuilder(SeveralCase):
    """A row and its epoch."""

    def test_a_start_beside_another_changes_nothing_of_what_that_one_has(self) -> None:
        """It made the running builds `disconnected`, and later `lost`."""
        builder, offer = self.running(self.one)
        self.world.start("three")
        self.world.advance(70)
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        builder.log(offer, BATCH)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=3)], builder.take(m.Ack))

    def test_another_process_of_the_name_is_refused_while_the_first_is_linked(self) -> None:
        builder, offer = self.running(self.one)
        second = Builder(self.two.server, "b", "i2")
        with self.assertRaisesRegex(CallFailed, "a builder named b is linked already, at apiserver one"):
            second.sync()
        self.assertEqual(["name-taken"], second.closed)
        self.world.advance(2)
        builder.log(offer, BATCH)
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        self.assertEqual([], builder.closed)

    def test_the_same_process_moves_and_its_old_link_changes_nothing_more(self) -> None:
        """Whatever the old link has still to say: lines, an end, or that it is lost."""
        old, offer = self.running(self.one)
        old.log(offer, BATCH)
        old.take(m.Ack)
        new = self.link(self.two, self.held(offer, 3))
        self.assertEqual([], new.take(m.Offer))
        late = Lines(3, 11, 0, ["late"])
        old.log(offer, late)
        self.assertEqual(["log_order"], old.closed)
        self.assertEqual([], old.take(m.Ack))
        self.assertEqual(3, self.world.ledger.now(logs.next_record, offer.attempt))
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        new.log(offer, late)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=4)], new.take(m.Ack))
        new.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH, late)))
        self.assertEqual(AttemptState.SUCCEEDED, self.state(offer))
        self.assertTrue(self.one.server.row(offer.attempt).complete)

    def test_each_message_of_an_old_link_comes_too_late(self) -> None:
        attempt = self.world.ledger.queue()
        old = self.link(self.one)
        (offer,) = old.take(m.Offer)
        of: Any = {"attempt": offer.attempt, "lease": offer.lease}
        new = self.link(self.two, m.HeldAttempt(phase="accepted", next=1, **of))
        before = self.one.server.row(attempt)
        self.assertEqual(AttemptState.ACCEPTED, before.state)
        for message in (
            m.Accept(**of),
            m.Decline(reason="no", **of),
            m.Started(time=5, **of),
            m.Final(result=result(), **of),
        ):
            link = Builder(self.one.server, "b")  # before its sync, as a link whose builder has moved
            link.say(message)
            link.lose()
            self.assertEqual(before, self.one.server.row(attempt), message)
            self.assertEqual([], link.take(m.Go))
        self.assertEqual([], new.closed)
        self.assertEqual("two", self.owner().apiserver)

    def test_an_old_link_is_closed_within_a_round(self) -> None:
        old, offer = self.running(self.one)
        self.link(self.two, self.held(offer))
        self.world.advance(2)
        self.assertEqual(["superseded"], old.closed)
        self.world.advance(70)
        self.assertEqual(AttemptState.RUNNING, self.state(offer))

    def test_a_lost_link_is_found_again_at_another(self) -> None:
        old, offer = self.running(self.one)
        old.lose()
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        self.assertFalse(self.owner().linked)
        again = self.link(self.two, self.held(offer), incarnation="i2")  # it was started again
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        self.world.advance(70)  # the first waits for it no more
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        self.assertEqual([], again.closed)

    def test_a_builder_that_stays_away_is_lost_once(self) -> None:
        old, offer = self.running(self.one)
        old.lose()
        self.world.advance(59)
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        self.world.advance(4)
        self.assertEqual(AttemptState.LOST, self.state(offer))

    def test_one_that_was_given_up_is_left_alone_until_it_links(self) -> None:
        """Its row was adopted again every `lost_after`, and the builder was waited for again."""
        old, offer = self.running(self.one)
        old.lose()
        self.world.advance(65)
        self.assertEqual(AttemptState.LOST, self.state(offer))
        before = self.owner()
        self.world.advance(200)
        self.world.kill(self.one)
        self.world.start("one")
        self.world.advance(GONE)
        self.assertEqual((before, ""), (self.owner(), before.apiserver))
        for one in self.world.living.values():
            self.assertIsNone(one.server.builders.away.since("b"))
        self.world.ledger.queue()
        again = self.link(self.two, incarnation="i2")
        self.assertEqual(1, len(again.take(m.Offer)))
        self.assertEqual(("two", before.epoch + 1), (self.owner().apiserver, self.owner().epoch))

    def test_giving_up_may_take_longer_than_rounds(self) -> None:
        """What the builder had was lost later by `lost_after`: the row was adopted meanwhile."""
        old, offer = self.running(self.one)
        old.lose()
        read = self.one.ledger.read
        found: list[Deferred[Any]] = []

        def slow(query: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
            if query is not attempts.leased:
                return read(query, *args, **kwargs)
            waiting: Deferred[Any] = Deferred()
            found.append(waiting)
            return waiting

        before = self.owner().epoch
        self.patch(self.one.ledger, "read", slow)
        self.world.advance(75)
        self.assertEqual((1, AttemptState.DISCONNECTED), (len(found), self.state(offer)))
        self.assertEqual(before, self.owner().epoch)
        found[0].callback(self.world.ledger.now(attempts.leased, "b"))
        self.assertEqual(AttemptState.LOST, self.state(offer))
        self.assertEqual(("", before), (self.owner().apiserver, self.owner().epoch))

    def test_what_a_killed_apiserver_had_goes_on_elsewhere(self) -> None:
        """Its builder may link before or after the killed one is given up."""
        for early in (False, True):
            builder, offer = self.running(self.one)
            builder.log(offer, BATCH)
            self.world.kill(self.one)
            if not early:
                self.world.advance(GONE)
                self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
                self.assertEqual(("two", False), (self.owner().apiserver, self.owner().linked))
            moved = self.link(self.two, self.held(offer, 3))
            self.world.advance(GONE)
            self.assertEqual(AttemptState.RUNNING, self.state(offer))
            moved.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
            self.assertEqual(AttemptState.SUCCEEDED, self.state(offer))
            self.assertTrue(self.two.server.row(offer.attempt).complete)
            moved.lose()
            self.one = self.world.start("one")
            self.world.advance(GONE)

    def test_an_offer_of_a_killed_apiserver_returns_to_the_queue(self) -> None:
        attempt = self.world.ledger.queue()
        self.link(self.one)
        self.assertEqual(AttemptState.OFFERED, self.one.server.state(attempt))
        self.world.kill(self.one)
        other = self.link(self.two, name="other")
        self.assertEqual([], other.take(m.Offer))
        self.world.advance(GONE)
        (offer,) = other.take(m.Offer)
        self.assertEqual(attempt, offer.attempt)

    def test_one_that_is_started_again_goes_on_with_its_own(self) -> None:
        builder, offer = self.running(self.one)
        self.world.kill(self.one)
        again = self.world.start("one")
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        back = self.link(again, self.held(offer))
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        self.assertEqual([], back.closed)
        builder.log(offer, BATCH)  # its old process was only stopped, and wakes
        self.assertEqual([], builder.take(m.Ack))
        self.assertEqual(1, self.world.ledger.now(logs.next_record, offer.attempt))

    def test_a_paused_apiserver_finds_out_at_its_next_write(self) -> None:
        builder, offer = self.running(self.one)
        self.world.advance(GONE, paused=(self.one,))
        new = self.link(self.two, self.held(offer))
        builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[BATCH]))
        self.one.clock.advance(1)
        self.assertEqual([], builder.take(m.Ack))
        self.failureResultOf(self.one.ledger.write(lambda connection: None), LedgerLost)
        self.world.renew(self.one)
        self.assertIn("was silent for 10 s", self.one.lost)
        new.log(offer, BATCH)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=3)], new.take(m.Ack))

    def test_an_adoption_whose_answer_was_lost_is_found(self) -> None:
        builder, offer = self.running(self.one)
        self.world.advance(8, paused=(self.one,))
        self.two.ledger.unheard = 2  # the burial's and the adoption's, or what comes in their place
        self.world.kill(self.one)
        self.world.advance(70)
        self.assertEqual(AttemptState.LOST, self.state(offer))
        self.assertEqual([], builder.closed)

    def test_an_adoption_while_the_builder_links_waits_for_nobody(self) -> None:
        """It waited for a builder that was there, and lost what ran elsewhere by then."""
        builder, offer = self.running(self.one)
        builder.log(offer, BATCH)
        self.world.kill(self.one)
        self.world.ledger.now(apiservers.leave, self.one.me, self.world.now)
        self.two.ledger.held = []
        self.two.clock.advance(INTERVAL)  # it sees the orphan, and adopts it
        link = Builder(self.two.server, "b", "i1")
        self.two.ledger.let_go()
        link.sync(self.held(offer, 3), slots=2)
        self.assertIsNone(self.two.server.builders.away.since("b"))
        self.goes_on_at_a_third(link, offer)

    def test_a_builder_that_is_about_to_sync_is_not_adopted(self) -> None:
        """Its row was this apiserver's, and seemed to be one that it didn't know."""
        old, offer = self.running(self.one)
        old.log(offer, BATCH)
        old.lose()
        before = self.owner().epoch
        slow = Builder(self.one.server, "b", "i1")
        self.world.advance(4)
        self.assertEqual(before, self.owner().epoch)
        slow.sync(self.held(offer, 3), slots=2)
        self.assertEqual(before + 1, self.owner().epoch)
        self.goes_on_at_a_third(slow, offer)

    def test_a_builder_that_links_and_never_syncs_is_lost_in_the_end(self) -> None:
        old, offer = self.running(self.one)
        old.lose()
        silent = Builder(self.one.server, "b", "i1")
        self.world.advance(5)
        silent.lose()
        self.world.advance(59)
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        self.world.advance(6)
        self.assertEqual(AttemptState.LOST, self.state(offer))

    def goes_on_at_a_third(self, link: Builder, offer: m.Offer) -> None:
        """The builder moves to another apiserver, and nothing of it is lost, however long it runs there."""
        moved = self.link(self.world.start("third"), self.held(offer, 3))
        self.world.advance(2)
        self.assertEqual(["superseded"], link.closed)
        self.world.advance(70)
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        moved.log(offer, Lines(3, 20, 0, ["three"]))
        self.assertEqual([m.Ack(attempt=offer.attempt, next=4)], moved.take(m.Ack))

    def test_leases_from_before_there_were_rows_are_waited_for(self) -> None:
        """The database comes from a version that had one apiserver."""
        _, offer = self.running(self.one)
        for one in (self.one, self.two):
            self.world.kill(one)
        with self.world.ledger.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM builder_links")
        self.world.start("three")
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        self.world.advance(65)
        self.assertEqual(AttemptState.LOST, self.state(offer))

    def test_what_a_killed_apiserver_had_made_live_is_made_live_by_another(self) -> None:
        """It was killed between the commit and the switch; both serve from one folder."""
        reconciled: list[str] = []
        releasing = self.two.server.releasing

        async def reconcile() -> None:
            reconciled.append("two")

        self.patch(releasing, "reconcile", reconcile)
        self.world.advance(3)
        self.world.kill(self.one)
        self.world.advance(GONE)
        self.assertEqual(["two"], reconciled)


class CutOff(SeveralCase):
    """An apiserver that doesn't reach the database, and its builders."""

    def test_its_builder_goes_on_at_another(self) -> None:
        """It kept the builder's link for ever, so the builder came to no other, and the build was lost there."""
        builder, offer = self.running(self.one)
        builder.log(offer, BATCH)
        self.world.advance(2)
        self.one.cut(True)
        self.world.advance(7)
        self.assertEqual([], builder.closed)
        self.world.advance(5)
        self.assertEqual(["cut_off"], builder.closed)
        self.assertIn("can't reach the database", str(Builder(self.one.server, "b").refused))
        self.world.advance(3)
        moved = self.link(self.two, self.held(offer, 3))
        self.one.cut(False)
        self.world.advance(70)
        self.assertIn("was silent for 10 s", self.one.lost)
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        moved.log(offer, Lines(3, 11, 0, ["three"]))
        self.assertEqual([m.Ack(attempt=offer.attempt, next=4)], moved.take(m.Ack))

    def test_nothing_is_lost_while_the_database_is_away_for_all(self) -> None:
        """No builder can come back meanwhile, so that time doesn't count."""
        builder, offer = self.running(self.one)
        self.world.advance(2)
        for cut in (True, False):
            for one in (self.one, self.two):
                one.cut(cut)
            self.world.advance(300 if cut else 20)
        self.assertEqual((["cut_off"], "", ""), (builder.closed, self.one.lost, self.two.lost))
        self.assertEqual(AttemptState.DISCONNECTED, self.state(offer))
        again = self.link(self.one, self.held(offer))
        self.assertEqual(AttemptState.RUNNING, self.state(offer))
        again.lose()
        self.world.advance(65)
        self.assertEqual(AttemptState.LOST, self.state(offer))

    def test_one_that_is_alone_keeps_its_builder(self) -> None:
        self.world.kill(self.two)
        self.world.ledger.now(apiservers.leave, self.two.me, self.world.now)
        builder, offer = self.running(self.one)
        self.world.advance(3)
        self.one.cut(True)
        self.world.advance(300)
        self.one.cut(False)
        self.assertEqual(([], None), (builder.closed, Builder(self.one.server, "c").refused))
        builder.log(offer, BATCH)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=3)], builder.take(m.Ack))


class WhatIsHeard(SeveralCase):
    """Each apiserver tells what the other has changed."""

    def test_changed_states_are_told_everywhere(self) -> None:
        _, offer = self.running(self.one)
        self.world.advance(2)
        self.assertEqual((offer.attempt, "running"), self._last(self.two))
        self.assertEqual(1, [change.state for change in self.one.server.changes].count("running"))

    def _last(self, one: One) -> tuple[str, str]:
        change = one.server.changes[-1]
        return f"{change.build}-{change.attempt}", change.state

    def test_what_is_queued_at_one_is_offered_by_the_other(self) -> None:
        builder = self.link(self.one)
        self.world.ledger.project()
        self.done(
            self.two.server.lifecycle.request_build(
                project="hello",
                ref="main",
                publish=False,
                live=False,
                may_publish=True,
                bump="",
                parameters={},
                by=ADA,
                idempotency=None,
            )
        )
        self.world.advance(2)
        (offer,) = builder.take(m.Offer)
        self.assertEqual("offered", self._last(self.two)[1])
        builder.run(offer)

    def test_a_cancel_reaches_the_builder_from_anywhere(self) -> None:
        builder, offer = self.running(self.one)
        self.done(self.two.server.lifecycle.cancel_build(1, "not wanted", ADA))
        self.world.advance(2)
        wanted = m.CancelAttempt(attempt=offer.attempt, lease=offer.lease, reason="not wanted")
        self.assertEqual([wanted], builder.take(m.CancelAttempt)[:1])

    def test_who_may_link_is_known_everywhere(self) -> None:
        """A builder that was revoked at one is let go at the other."""
        builder = self.link(self.one)
        key: Any = {"name": "b", "pools": (), "id": "k1", "now": 5}
        sealed = self.one.server.secret_box.seal("ab" * 32)
        self.successResultOf(self.two.ledger.write(builders.add, shared=True, sealed=sealed, **key))
        self.world.advance(2)
        self.assertEqual([], builder.closed)
        self.assertIsNotNone(self.one.server.server.keys.keys.get("k1"))
        self.successResultOf(self.two.ledger.write(builders.set_drained, "b", True, 6))
        self.world.advance(2)
        self.assertTrue(builder.link.draining)
        self.successResultOf(self.two.ledger.write(builders.revoke, "b", 7))
        self.world.advance(2)
        self.assertEqual(["unauthorized"], builder.closed)

    def test_a_key_that_is_revoked_while_keys_are_read_is_not_good_again(self) -> None:
        """It was read before it was revoked, and added after that, for good."""
        self._add_key()
        keys = self.one.server.server.keys
        self._when_keys_are_read(lambda: self.two.ledger.write(builders.revoke, "b", 7))
        self.done(keys.refresh())
        self.world.advance(3)
        self.assertIsNone(keys.keys.get("k1"))

    def test_a_key_that_is_revoked_here_while_keys_are_read_is_not_good_again(self) -> None:
        self._add_key()
        server = self.one.server.server

        def revoke() -> None:
            server.builders.revoked(self.successResultOf(self.one.ledger.write(builders.revoke, "b", 7)))

        self._when_keys_are_read(revoke)
        self.done(server.keys.refresh())
        self.assertIsNone(server.keys.keys.get("k1"))
        peer = PeerInfo("b", "builder", "i1", 1, "here", key="k1")
        self.assertEqual("the key k1 of builder b was revoked", server.keys.refuse(peer))

    def test_a_drain_that_is_set_while_keys_are_read_stays(self) -> None:
        self._add_key(shared=True)
        builder = self.link(self.one)
        server = self.one.server.server

        def drain() -> None:
            row = self.successResultOf(self.one.ledger.write(builders.set_drained, "b", True, 9))
            server.keys.changed(row)  # no round of the queue, which reads drains too

        self._when_keys_are_read(drain)
        self.done(server.keys.refresh())
        self.assertTrue(builder.link.draining)

    def _add_key(self, *, shared: bool = False) -> None:
        """Builder b has a key, which both apiservers know."""
        key: Any = {"name": "b", "pools": (), "id": "k1", "now": 5}
        sealed = self.one.server.secret_box.seal("ab" * 32)
        self.successResultOf(self.two.ledger.write(builders.add, shared=shared, sealed=sealed, **key))
        self.world.advance(2)
        self.assertIsNotNone(self.one.server.server.keys.keys.get("k1"))

    def _when_keys_are_read(self, happens: Callable[[], object]) -> None:
        """Have something happen once, while what was read of the keys is on its way."""
        read = self.one.ledger.read
        answers: list[object] = []

        def slow(query: Any, *args: Any, **kwargs: Any) -> Any:
            answer = read(query, *args, **kwargs)
            if not answers:
                answers.append(answer)
                happens()
            return answer

        self.patch(self.one.ledger, "read", slow)

    def test_what_fails_to_be_read_again_keeps_nothing_else_from_being_heard(self) -> None:
        async def fail() -> None:
            raise OSError("the folder is away")

        self.two.server.server.hearing.on_change(fail)
        _, offer = self.running(self.one)
        self.world.advance(2)
        self.assertEqual((offer.attempt, "running"), self._last(self.two))
        self.assertTrue(self.flushLoggedErrors(OSError))

    def test_for_whom_releases_are_is_read_again_until_that_was_possible(self) -> None:
        """The ledger couldn't be asked in that moment, and the change was taken for heard."""
        self.world.ledger.project("shop")
        audience = Audience(self.two.ledger.as_ledger(), lambda: 5)
        self.two.server.server.hearing.on_change(audience.read_again)
        self.world.advance(2)
        found = self.done(audience.look_up("shop"))
        self.assertFalse(found.for_team)
        read = self.two.ledger.read
        failed: list[object] = []

        def failing(query: Any, *args: Any, **kwargs: Any) -> Any:
            if query.__name__ == "_seek_all" and not failed:
                failed.append(query)
                return fail(LedgerUnavailable("not now"))
            return read(query, *args, **kwargs)

        self.patch(self.two.ledger, "read", failing)
        targets = (StaticSettings(access="team"),)
        self.successResultOf(self.one.ledger.write(projects.update, "shop", {"targets": targets}, 9))
        self.world.advance(3)
        self.assertTrue(failed)
        found = audience.known("shop")
        assert found is not None
        self.assertTrue(found.for_team)

    def test_nothing_is_noted_while_there_is_no_other(self) -> None:
        self.world.ledger.now(apiservers.leave, self.two.me, self.world.now)
        self.world.kill(self.two)
        before = self._count()
        self.running(self.one)
        self.assertEqual(before, self._count())

    def test_an_idle_pair_changes_nothing(self) -> None:
        """Each look for packages that aren't needed any more was a write, of which the other heard, once a second."""
        self.world.advance(3)
        before = self._count()
        for one in (self.one, self.two):
            one.server.server.bell.resync()
        self.world.advance(3)
        self.assertEqual(before, self._count())

    def test_however_often_it_is_woken_rounds_have_a_least_interval(self) -> None:
        self.world.advance(3)
        heard: list[float] = []

        async def hear(here: Incarnation) -> None:
            heard.append(self.one.clock.seconds())

        self.patch(self.one.server.server.hearing, "hear", hear)
        for _ in range(100):
            self.one.clock.advance(LEAST_INTERVAL / 10)
            self.one.server.server.bell.ring(Topic.STATE)
        self.assertIn(len(heard), (9, 10))

    def test_what_was_forgotten_before_it_was_read_is_looked_for(self) -> None:
        """An apiserver said all the time that it lives, and couldn't read for minutes."""
        self.world.ledger.project("shop")
        self.world.advance(3)
        before = self.world.ledger.now(changes.newest)
        for one in (self.one, self.two):  # the newest change is its own, so it would hear of no other
            self.successResultOf(one.ledger.write(projects.clear_caches, "shop"))
        last = self.world.ledger.now(changes.newest)
        self.world.ledger.now(changes.forget, self.world.now + changes.KEPT + 1)
        heard = self.world.ledger.now(changes.after, before, "two")
        self.assertEqual((True, last), (heard.any, heard.last))
        self.assertFalse(self.world.ledger.now(changes.after, last, "two").any)

    def test_log_records_alone_are_not_noted(self) -> None:
        builder, offer = self.running(self.one)
        self.world.advance(3)
        before = self._count()
        builder.log(offer, BATCH)
        self.assertEqual(before, self._count())

    def _count(self) -> int:
        with self.world.ledger.engine.begin() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM changes").scalar_one())


class LogsElsewhere(SeveralCase):
    """A log is followed where its builder isn't."""

    def setUp(self) -> None:
        super().setUp()
        self.builder, self.offer = self.running(self.one)
        self.builder.log(self.offer, BATCH)
        self.cursor = self.two.server.logs.cursor(self.offer.attempt, 0, lambda: None)
        self.addCleanup(self.cursor.close)

    def read(self) -> list[bytes]:
        """Everything that there is for the viewer now."""
        found: list[bytes] = []
        while True:
            run = self.cursor.take(1 << 16)
            if run is None:
                self.done(self.cursor.fetch())
                continue
            found += [entry.message for entry in run]
            if not run.more:
                return found

    def texts(self) -> list[str]:
        """The lines among that."""
        return [line for message in self.read() for line in msgspec.json.decode(message).get("lines", [])]

    def test_lines_come_as_they_are_committed_and_then_the_end(self) -> None:
        self.assertEqual(["one", "two"], self.texts())
        more = Lines(3, 11, 0, ["three"]), Lines(4, 12, 0, ["four"])
        for batch in more:
            self.builder.log(self.offer, batch)
        self.assertEqual([], self.read())
        self.two.clock.advance(INTERVAL)
        self.two.clock.advance(INTERVAL)
        self.assertEqual(["three", "four"], self.texts())
        last = Lines(5, 13, 0, ["five"])
        self.builder.log(self.offer, last)
        final = result(BATCH, *more, last)
        self.builder.say(m.Final(attempt=self.offer.attempt, lease=self.offer.lease, result=final))
        self.two.clock.advance(INTERVAL)
        self.two.clock.advance(INTERVAL)
        told = self.read()
        self.assertIn(b'"five"', told[0])
        self.assertIn(final.sha256.encode(), told[-1])
        self.assertIn(b'"complete":true', told[-1])

    def test_it_is_read_once_for_all_its_viewers(self) -> None:
        others = [self.two.server.logs.cursor(self.offer.attempt, 2, lambda: None) for _ in range(50)]
        for cursor in (self.cursor, *others):
            while cursor.take(1 << 16) is None:
                self.done(cursor.fetch())
        self.builder.log(self.offer, Lines(3, 11, 0, ["three"]))
        before = self.two.ledger.read_count
        self.two.clock.advance(INTERVAL)
        self.assertLess(self.two.ledger.read_count - before, 10)
        runs = [cursor.take(1 << 16) for cursor in others]
        self.assertEqual({id(runs[0])}, {id(run) for run in runs})
        for cursor in others:
            cursor.close()

    def test_a_viewer_stays_when_the_builder_comes_here(self) -> None:
        self.assertEqual(["one", "two"], self.texts())
        moved = self.link(self.two, self.held(self.offer, 3))
        moved.log(self.offer, Lines(3, 11, 0, ["three"]))
        self.assertEqual(["three"], self.texts())
        back = self.link(self.one, self.held(self.offer, 4))
        back.log(self.offer, Lines(4, 12, 0, ["four"]))
        self.two.clock.advance(INTERVAL)
        self.two.clock.advance(INTERVAL)
        self.assertEqual(["four"], self.texts())


class WhyABuildWaits(SeveralCase):
    """It is said with what other apiservers have."""

    def why(self, attempt: str) -> str:
        """What an apiserver says that has no builder."""
        said = self.two.server.dispatch.why_waiting(self.two.server.row(attempt), Place())
        assert said is not None
        return said.text

    def test_a_builder_elsewhere_may_take_it(self) -> None:
        attempt = self.world.ledger.queue()
        self.assertIn("no builder is linked", self.why(attempt))
        self.link(self.one, slots=0)
        self.world.advance(2)
        self.assertEqual(
            "builder b, linked at another apiserver, may take it; position 1 in the queue of hello", self.why(attempt)
        )

    def test_a_builder_that_another_apiserver_waits_for_is_away(self) -> None:
        builder, offer = self.running(self.one)
        builder.lose()
        self.world.advance(2)
        self.assertEqual("builder b is away", self.why(offer.attempt))


class Duties(SeveralCase):
    """Work that one does for all."""

    def does(self, one: One) -> set[str]:
        """What an apiserver does for all."""
        duties = one.server.server.duties
        return {name for name in duties.names if duties.does(name)}

    def test_one_does_it_and_then_another(self) -> None:
        everything = set(self.one.server.server.duties.names) - {"polling"}
        self.assertEqual((everything, set()), (self.does(self.one), self.does(self.two)))
        self.world.kill(self.one)
        self.world.advance(GONE)
        self.assertEqual(everything, self.does(self.two))
        self.world.start("one")
        self.world.advance(GONE)
        self.assertEqual(set(), self.does(self.world.living["one"]))

    def test_repositories_are_looked_at_where_a_builder_is(self) -> None:
        self.assertNotIn("polling", self.does(self.one) | self.does(self.two))
        builder = self.link(self.two)
        self.world.advance(2)
        self.assertIn("polling", self.does(self.two))
        builder.lose()
        self.link(self.one, name="c")
        self.world.advance(3)
        self.assertEqual((True, False), ("polling" in self.does(self.one), "polling" in self.does(self.two)))

    def test_what_could_not_be_let_go_of_is_let_go_of_later(self) -> None:
        """The write failed, and then nobody looked at repositories as long as that apiserver lived."""
        builder = self.link(self.one)
        self.world.advance(3)
        self.assertIn("polling", self.does(self.one))
        self.link(self.two, name="c")
        write = self.one.ledger.write

        def failing(query: Any, *args: Any, **kwargs: Any) -> Any:
            if query is apiservers.leave_duty:
                return fail(LedgerUnavailable("not now"))
            return write(query, *args, **kwargs)

        self.one.ledger.write = failing  # type: ignore[method-assign]
        builder.lose()
        self.world.advance(2)
        self.assertNotIn("polling", self.does(self.one) | self.does(self.two))
        self.one.ledger.write = write  # type: ignore[method-assign]
        self.world.advance(3)
        self.assertIn("polling", self.does(self.two))
