"""The queue as builders see it: who is offered what, in which order, and what a person is told meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.properties import examples
from tests.storage_fixtures import NOW, add_build, add_project
from tests.test_server_builders import ADA, Builder, LinkCase, Other, OtherSettings, result
from twistedipc.builds import messages as m
from twistedipc.builds.priorities import QueueRules
from twistedipc.builds.states import AttemptState
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.dispatch import PAGE, PASSED_OVER
from twistedipc.storage import attempts, builders, builds, projects, queue
from twistedipc.storage.rows import RunsOn


class QueueOfMany(LinkCase):
    """Projects share builders."""

    def why(self, build: int) -> tuple[str, str]:
        place = self.ledger.now(queue.places, [build]).get(build)
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row(f"{build}-1"), place)
        return ("", "") if waiting is None else (waiting.code, waiting.text)

    def rules(self, project: str, **said: Any) -> None:
        """A person says so, as the API does."""
        self.ledger.now(projects.update, project, {"queue": QueueRules(**said)}, NOW)
        self.apiserver.dispatch.wake()

    def taken(self, builder: Builder) -> list[int]:
        """Run all that the builder is offered. (A new link is offered one at a time.) Return the builds."""
        found: list[int] = []
        while offers := builder.take(m.Offer):
            for offer in offers:
                builder.run(offer)
                found.append(offer.build)
        return found

    def test_projects_take_turns(self) -> None:
        for project in ("big", "small"):
            self.ledger.now(add_project, project)
        for _ in range(5):
            self.ledger.now(add_build, "big")
        small = self.ledger.now(add_build, "small").id
        builder = Builder(self.apiserver)
        builder.sync(slots=3)
        self.assertEqual([1, small, 2], self.taken(builder))

    def test_a_limit_is_kept_and_said(self) -> None:
        self.ledger.now(add_project)
        one, two = (self.ledger.now(add_build).id for _ in range(2))
        self.rules("shop", at_once=1)
        builder = Builder(self.apiserver)
        builder.sync(slots=4)
        offer = self.offered(builder)
        self.assertEqual(one, offer.build)
        builder.run(offer)
        self.assertEqual("limit", self.why(two)[0])
        self.assertIn("as many builds of shop run as may at once (1)", self.why(two)[1])
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
        self.assertEqual(two, self.offered(builder).build)

    def test_a_paused_queue_begins_nothing_until_it_is_resumed(self) -> None:
        self.ledger.now(add_project)
        build = self.ledger.now(add_build).id
        self.rules("shop", paused=NOW)
        builder = Builder(self.apiserver)
        builder.sync()
        self.assertEqual([], builder.take(m.Offer))
        text = "the queue of shop is paused (twistedipc project resume shop); position 1 in the queue of shop"
        self.assertEqual(("paused", text), self.why(build))
        self.rules("shop")
        self.assertEqual(build, self.offered(builder).build)

    def test_no_builder_has_what_a_project_needs(self) -> None:
        self.ledger.now(add_project)
        self.ledger.now(projects.update, "shop", {"runs_on": RunsOn(pools=["large"])}, NOW)
        build = self.ledger.now(add_build).id
        Builder(self.apiserver).sync()
        row = self.ledger.now(
            lambda c: builders.add(c, name="small", pools=[], shared=False, id="k", sealed=b"s", now=NOW)
        )
        self.apiserver.builders.changed(row)
        self.assertEqual("unsatisfiable", self.why(build)[0])
        self.assertIn("no builder has the pool large: twistedipc builder add NAME --pool large", self.why(build)[1])
        self.apiserver.builders.changed(self.ledger.now(builders.set_pools, "small", ["large"]))
        self.assertEqual("no_builder", self.why(build)[0])
        self.assertIn("builder small isn't linked, and no other builder has the pool large", self.why(build)[1])

    def test_all_that_is_queued_of_a_project_is_cancelled(self) -> None:
        for project in ("shop", "other"):
            self.ledger.now(add_project, project)
        some = [self.ledger.now(add_build).id for _ in range(250)]
        other = self.ledger.now(add_build, "other").id
        count = self.successResultOf(Deferred.fromCoroutine(self.apiserver.lifecycle.cancel_queued("shop", "no", ADA)))
        self.assertEqual(250, count)
        rows = self.ledger.now(builds.some, [*some, other])
        self.assertEqual(250, [row.state for row in rows].count(AttemptState.CANCELLED))
        self.assertEqual(250, len([change for change in self.apiserver.changes if change.reason == "no"]))

    def test_drained_by_another_apiserver(self) -> None:
        """The builder is linked here, and nobody has told this one."""
        self.ledger.now(add_project)
        row = self.ledger.now(
            lambda c: builders.add(c, name="one", pools=[], shared=True, id="k", sealed=b"s", now=NOW)
        )
        self.apiserver.builders.changed(row)
        one, two = Builder(self.apiserver, "one"), Builder(self.apiserver, "two")
        one.sync(slots=4)
        two.sync(slots=1)
        self.ledger.now(builders.set_drained, "one", True, NOW)
        self.ledger.now(add_build)
        self.apiserver.dispatch.wake()
        self.assertEqual((0, 1), (len(one.take(m.Offer)), len(two.take(m.Offer))))
        self.ledger.now(builders.set_drained, "one", False, NOW)
        self.ledger.now(add_build)
        self.apiserver.dispatch.wake()
        self.assertEqual(1, len(one.take(m.Offer)))

    def test_what_no_builder_can_take_is_passed_over_however_much_it_is_and_not_read_again(self) -> None:
        TARGETS.add(Other())
        self.addCleanup(TARGETS.remove, "other")
        self.ledger.queue("usual")
        for _ in range(3 * PAGE):
            self.ledger.queue("others", targets=(OtherSettings(),))
        last = self.ledger.now(add_build, "usual").id
        old = Builder(self.apiserver)
        reads: list[int] = []
        read = self.ledger.read

        def noted(query: Any, *args: Any, **kwargs: Any) -> Any:
            if query is attempts.next_queued:
                reads.append(len(self.ledger.now(query, *args, **kwargs)))
            return read(query, *args, **kwargs)

        self.ledger.read = noted  # type: ignore[method-assign]
        old.sync(slots=3)
        self.assertEqual([1, last], self.taken(old))
        self.assertGreater(sum(reads), 3 * PAGE)
        reads.clear()
        self.apiserver.dispatch.wake()
        self.assertEqual([0], reads)
        self.apiserver.clock.advance(PASSED_OVER)
        reads.clear()
        self.apiserver.dispatch.wake()
        self.assertGreaterEqual(sum(reads), 3 * PAGE, "what their project says may have changed")


_PROJECTS = ("a", "b", "c")
_STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(_PROJECTS)),
    st.tuples(st.just("end"), st.integers(0, 5)),
)


@given(
    limits=st.tuples(*[st.none() | st.integers(1, 2)] * 3),
    slots=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    steps=st.lists(_STEPS, max_size=25),
)
@settings(max_examples=examples(15))
def test_nothing_waits_that_could_run_and_no_limit_is_exceeded(
    limits: tuple[int | None, ...], slots: list[int], steps: list[tuple[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = InstantLedger()
        apiserver = Apiserver(Path(folder), ledger, Clock())
        for project, at_once in zip(_PROJECTS, limits, strict=True):
            ledger.now(add_project, project)
            ledger.now(projects.update, project, {"queue": QueueRules(at_once=at_once)}, NOW)
        some = [Builder(apiserver, f"n{number}") for number in range(len(slots))]
        for builder, count in zip(some, slots, strict=True):
            builder.sync(slots=count)
        runs: list[tuple[Builder, m.Offer]] = []
        waits: dict[str, list[int]] = {project: [] for project in _PROJECTS}

        def look() -> None:
            apiserver.dispatch.wake()
            for builder in some:
                for offer in builder.take(m.Offer):
                    builder.run(offer)
                    runs.append((builder, offer))
                    assert waits[offer.project].pop(0) == offer.build  # each project's in its own order
            of = {project: sum(offer.project == project for _by, offer in runs) for project in _PROJECTS}
            can = [
                project
                for project, at_once in zip(_PROJECTS, limits, strict=True)
                if waits[project] and (at_once is None or of[project] < at_once)
            ]
            for project, at_once in zip(_PROJECTS, limits, strict=True):
                assert at_once is None or of[project] <= at_once
            assert not can or len(runs) == sum(slots), "a slot is free, and a build waits that could run"

        def end(number: int) -> None:
            builder, offer = runs.pop(number % len(runs))
            builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
            look()

        for kind, what in steps:
            if kind == "ask":
                waits[what].append(ledger.now(add_build, what).id)
                look()
            elif runs:
                end(what)
        while runs:
            end(0)
        assert not any(waits.values())
