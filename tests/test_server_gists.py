"""The gists of builds, as listeners get them: the newest, once a second at most, and all of them at first."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.frames import read
from tests.instant import InstantLedger
from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Lines, Progress, encoder
from twistedipc.server import gists as server_gists
from twistedipc.server.boundaries import GistRound
from twistedipc.server.gists import ROUND_INTERVAL, Gists
from twistedipc.storage import attempts, builds, logs, projects
from twistedipc.storage.rows import Holder

LEASE = "ab" * 16
HOLDER = Holder(LEASE, "builder")


class TalkativeLedger(InstantLedger):
    """A ledger whose builds run and have gists. Its reads can be held: they read at once, and fire later."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.told: list[Deferred[None]] | None = None  # a list: answers wait in it

    def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """As `Ledger.read`."""
        self.reads += 1
        result = super().read(query, *args, **kwargs)
        if self.told is None:
            return result
        told: Deferred[None] = Deferred()
        self.told.append(told)
        return told.addCallback(lambda _: result)

    def build(self, project: str = "hello") -> int:
        """A build that runs."""
        attempt = self.queue(project)
        self.run(attempt)
        return int(attempt.split("-")[0])

    def run(self, attempt: str) -> None:
        """Let a builder take the attempt."""
        self.now(attempts.offer, attempt, LEASE, "builder", 2)
        self.now(attempts.accept, attempt, HOLDER)
        self.now(attempts.started, attempt, HOLDER, 4, 4)

    def say(self, build: int, value: float | None, errors: int = 0) -> None:
        """The build says how far it is, and remarks on so many errors more."""
        attempt = f"{build}-1"
        gist = Gist(progress=None if value is None else Progress(value, "pages"), errors=errors)
        first = self.now(logs.next_record, attempt)
        data = encoder.encode(Lines(first, 1, 0, ["as it is said"])) + b"\n"
        self.now(logs.append, [logs.ChunkItem(attempt=attempt, first=first, count=1, data=data, gist=gist)])


def messages(news: GistRound) -> list[Any]:
    """The messages, as a client reads them."""
    assert news.frames == b"".join(each.frame for each in news)
    return [json.loads(message) for message in read(news.frames)]


def told(build: int, value: float | None, errors: int = 0, **more: Any) -> dict[str, Any]:
    """The message about a build with this gist."""
    progress = None if value is None else {"value": value, "label": "pages"}
    annotations = {"errors": errors, "warnings": 0, "notices": 0}
    message = {"type": "said", "build": build, "attempt": 1, "project": "hello"}
    return {**message, "progress": progress, "annotations": annotations, **more}


class Listener:
    """A listener."""

    def __init__(self, gists: Gists) -> None:
        self.rounds: list[list[Any]] = []
        self.deafen = gists.listen(lambda news: self.rounds.append(messages(news)))

    def take(self) -> list[list[Any]]:
        """Return the messages that were heard since."""
        rounds, self.rounds = self.rounds, []
        return rounds


class Telling(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = TalkativeLedger()
        self.gists = Gists(self.clock, self.ledger.as_ledger())

    def say(self, build: int, value: float | None, errors: int = 0) -> None:
        """What is said is committed, and that is noted."""
        self.ledger.say(build, value, errors)
        self.gists.changed(build)

    def settled(self) -> Listener:
        """A listener that got all gists a while ago."""
        listener = Listener(self.gists)
        self.clock.advance(ROUND_INTERVAL)
        self.clock.advance(ROUND_INTERVAL)
        listener.take()
        return listener

    def test_a_change_is_told_at_once_and_the_next_a_second_later(self) -> None:
        build = self.ledger.build()
        listener = self.settled()
        self.say(build, 0.25, errors=1)
        self.clock.advance(0)
        self.assertEqual([[told(build, 0.25, 1)]], listener.take())
        reads = self.ledger.reads
        for number in range(9):
            self.say(build, 0.3 + number / 100, errors=1)
            self.clock.advance(ROUND_INTERVAL / 10)
        self.assertEqual(([], reads), (listener.take(), self.ledger.reads))
        self.clock.advance(ROUND_INTERVAL / 10)
        self.assertEqual([[told(build, 0.38, 10)]], listener.take())
        self.clock.advance(10 * ROUND_INTERVAL)
        self.assertEqual(([], reads + 1), (listener.take(), self.ledger.reads), "nothing has changed")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_all_that_has_changed_is_one_question_for_all(self) -> None:
        numbers = [self.ledger.build() for _ in range(5)]
        listeners = [self.settled() for _ in range(3)]
        reads = self.ledger.reads
        for build in numbers[1:]:
            self.say(build, 0.5)
        self.clock.advance(ROUND_INTERVAL)
        for listener in listeners:
            ((*heard,),) = listener.take()
            self.assertEqual([told(build, 0.5) for build in reversed(numbers[1:])], heard)
        self.assertEqual(reads + 1, self.ledger.reads)

    def test_a_new_listener_gets_all_builds_that_go_on(self) -> None:
        silent, talks, queued = self.ledger.build(), self.ledger.build(), self.ledger.queue()
        ended = self.ledger.build()
        self.ledger.say(talks, 0.5, errors=2)
        self.ledger.say(ended, 0.75)
        self.ledger.now(attempts.lose, f"{ended}-1", HOLDER, "gone", 9)
        first = Listener(self.gists)
        self.assertEqual([], first.take(), "not before it was asked")
        self.clock.advance(0)
        self.assertEqual([[told(talks, 0.5, 2), told(silent, None)]], first.take())
        # The next listeners get all gists too, in one round; the others get what has changed.
        second, third = Listener(self.gists), Listener(self.gists)
        self.say(silent, 0.25)
        reads = self.ledger.reads
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([[told(silent, 0.25)]], first.take())
        everything = [[told(talks, 0.5, 2), told(silent, 0.25)]]
        self.assertEqual((everything, everything), (second.take(), third.take()))
        self.assertEqual(reads + 1, self.ledger.reads)
        self.assertTrue(queued)

    def test_what_has_ended_is_told_once_more(self) -> None:
        build = self.ledger.build()
        listener = self.settled()
        self.say(build, 0.5, errors=1)
        self.clock.advance(0)
        self.ledger.now(attempts.lose, f"{build}-1", HOLDER, "gone", 9)
        self.gists.changed(build)
        newcomer = Listener(self.gists)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([[told(build, 0.5, 1)], [told(build, None, 1)]], listener.take())
        self.assertEqual([[told(build, None, 1)]], newcomer.take())
        # Tried again, it is its new attempt that counts.
        self.ledger.now(builds.retry, build, "ann", 10)
        self.gists.changed(build)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([[told(build, None, 0, attempt=2)]], listener.take())

    def test_of_a_project_that_was_deleted_nothing_is_told(self) -> None:
        build = self.ledger.build()
        listener = self.settled()
        self.say(build, 0.5)
        self.ledger.now(attempts.lose, f"{build}-1", HOLDER, "gone", 9)
        self.ledger.now(projects.delete, "hello", 10)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([], listener.take())

    def test_nothing_is_noted_or_asked_without_listeners(self) -> None:
        build = self.ledger.build()
        self.say(build, 0.25)
        self.assertEqual([], self.clock.getDelayedCalls())
        listener = self.settled()
        self.say(build, 0.5)
        listener.deafen()
        self.assertEqual([], self.clock.getDelayedCalls())
        reads = self.ledger.reads
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(([], reads), (listener.take(), self.ledger.reads))
        listener.deafen()  # again

    def test_one_round_is_under_way_at_a_time(self) -> None:
        build = self.ledger.build()
        listener = self.settled()
        self.ledger.told = []
        self.say(build, 0.25)
        self.clock.advance(ROUND_INTERVAL)
        self.say(build, 0.5)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(1, len(self.ledger.told), "else an older answer might come last")
        self.ledger.told.pop().callback(None)
        self.clock.advance(0)
        self.ledger.told.pop().callback(None)
        self.assertEqual([[told(build, 0.25)], [told(build, 0.5)]], listener.take())

    def test_a_listener_that_comes_back_during_a_round_misses_nothing(self) -> None:
        build = self.ledger.build()
        old = self.settled()
        self.say(build, 0.5, errors=1)
        self.ledger.now(attempts.lose, f"{build}-1", HOLDER, "gone", 9)
        self.ledger.told = []
        self.clock.advance(0)
        new = Listener(self.gists)
        old.deafen()
        for answer in self.ledger.told:
            answer.callback(None)
        self.assertEqual(([], [[told(build, None, 1)]]), (old.take(), new.take()))

    def test_a_ledger_that_fails_is_asked_again(self) -> None:
        build, other = self.ledger.build(), self.ledger.build()
        listener = self.settled()
        self.say(build, 0.5)
        self.ledger.available = False
        newcomer = Listener(self.gists)
        self.clock.advance(ROUND_INTERVAL)
        self.gists.changed(other)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(([], []), (listener.take(), newcomer.take()))
        self.ledger.available = True
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([[told(other, None), told(build, 0.5)]], listener.take())
        self.assertEqual([[told(other, None), told(build, 0.5)]], newcomer.take())

    def test_a_round_tells_of_so_many_and_the_rest_wait_their_turn(self) -> None:
        self.patch(server_gists, "MAX_CHANGED", 2)
        self.patch(server_gists, "MAX_GOING_ON", 3)
        numbers = [self.ledger.build() for _ in range(5)]
        listener = self.settled()
        for build in [*numbers, numbers[0]]:
            self.say(build, 0.5)
        heard = []
        for _ in range(3):
            self.clock.advance(ROUND_INTERVAL)
            heard.append([message["build"] for message in listener.take()[0]])
        self.assertEqual([[2, 1], [4, 3], [5]], heard)
        newcomer = Listener(self.gists)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual([[5, 4, 3]], [[message["build"] for message in each] for each in newcomer.take()])

    def test_one_listeners_trouble_is_not_anothers(self) -> None:
        build = self.ledger.build()

        def fail(news: GistRound) -> None:
            raise RuntimeError("no")

        self.gists.listen(fail)
        listener = Listener(self.gists)
        self.clock.advance(0)
        self.assertEqual([[told(build, None)]], listener.take())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_the_stop_waits_for_what_is_under_way(self) -> None:
        build = self.ledger.build()
        listener = self.settled()
        self.ledger.told = []
        self.say(build, 0.25)
        self.clock.advance(0)
        stopped = Deferred.fromCoroutine(self.gists.stop())
        self.assertNoResult(stopped)
        self.say(build, 0.5)
        self.ledger.told.pop().callback(None)
        self.successResultOf(stopped)
        self.assertEqual([[told(build, 0.25)]], listener.take())
        self.assertEqual([], self.clock.getDelayedCalls())
