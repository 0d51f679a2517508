"""
The apiserver's end of the link, against the instant ledger: what a builder says becomes commits, and every message
about a void lease is answered with `Stop`. The builder here is the test, which speaks by the link's messages.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import Connection, select, update
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.apiserver_world import Apiserver
from tests.frames import read
from tests.instant import InstantLedger
from tests.site_client import file_of
from twistedipc.builds import gist
from twistedipc.builds import messages as m
from twistedipc.builds import provenance as form
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import ArtifactFile, FoundCommit, LiveFiles, Package, Permit, Publish, Result
from twistedipc.builds.attempt import Secrets as GivenSecrets
from twistedipc.builds.logs import (
    Annotation,
    Batch,
    End,
    Gap,
    Lines,
    LogDigest,
    Progress,
    StepEnded,
    StepStarted,
    batch_decoder,
    encoder,
    event_of,
    with_events,
)
from twistedipc.builds.retention import Own, Rules
from twistedipc.builds.secrets import GivenSecret
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.ipc import CallFailed, LocalProtocolError, Peer, PeerInfo, RemoteProtocolError
from twistedipc.ipc.wire.messages import Misshapen
from twistedipc.ipc.wire.settings import FRAME_LIMIT
from twistedipc.publish.archive import create
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.registry import TARGETS, from_flat
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.server import releasing
from twistedipc.server.boundaries import GistChange, GistRound
from twistedipc.server.builder_link import MISSING_DEADLINE, VOCABULARY
from twistedipc.server.dispatch import OFFER_EXPIRES
from twistedipc.server.fanout.commits import COMMIT_INTERVAL
from twistedipc.server.gists import ROUND_INTERVAL
from twistedipc.server.intake import MAX_UNREAD
from twistedipc.server.resting import DECLINED_PAUSE, LONGEST_PAUSE_ALONE
from twistedipc.server.tidying import FIRST, INTERVAL
from twistedipc.server.workflows import RETRY_INTERVAL
from twistedipc.storage import access, artifacts, attempts, logs, projects, provenance, releases
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.rows import Actor, AttemptRow, Holder, Place, ProjectRow
from twistedipc.storage.tables import audit, build_secrets
from twistedipc.taps.apiserver import FILE_THREADS

_T = TypeVar("_T")

ADA, BOB = Actor(who="ada", address="127.0.0.1"), Actor(who="bob")


class Builder:
    """A builder's end of a link, without its bytes: it hears what the apiserver says."""

    def __init__(self, apiserver: Apiserver, name: str = "one", incarnation: str = "i1") -> None:
        self.heard: list[msgspec.Struct] = []
        self.closed: list[str] = []
        self.complaints: list[str] = []
        self.apiserver = apiserver
        info = PeerInfo(name=name, role="builder", incarnation=incarnation, version=1, address="memory")
        self.refused = apiserver.builders.refuse(info)
        self.link = apiserver.builders.application(Peer(info, cast(Any, self)))

    # -- the link that `Peer` needs

    writing_is_paused = False
    reading = True

    def pauseProducing(self) -> None:
        """The apiserver reads no more."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Do nothing."""
        self.reading = True

    def send(self, message: msgspec.Struct) -> None:
        """The apiserver says something."""
        if len(msgspec.json.encode(message)) > FRAME_LIMIT:
            raise LocalProtocolError("a message over the limit")
        self.heard.append(message)

    def complain(self, code: str, message: str) -> None:
        """The apiserver says that it hasn't taken something."""
        self.complaints.append(f"{message} [{code}]")

    def close(self, code: str, reason: str) -> None:
        """The apiserver closes the link."""
        self.closed.append(code)
        self.lose()

    # -- what the builder does

    def lose(self) -> None:
        """The link is lost."""
        self.link.connection_lost("cut")

    def sync(self, *held: m.HeldAttempt, slots: int = 2, features: Sequence[str] = m.FEATURES) -> m.Orders:
        """Say what is held."""
        return self.call(m.Sync(slots=slots, attempts=list(held), features=list(features)), m.Orders)

    def call(self, request: msgspec.Struct, kind: type[_T]) -> _T:
        """Call, and get the reply."""
        results: list[object] = []
        Deferred.fromCoroutine(self.link.call_received(request)).addBoth(results.append)
        assert results, "no answer"
        if not isinstance(results[0], kind):
            cast(Any, results[0]).raiseException()
        return cast(_T, results[0])

    def say(self, message: msgspec.Struct) -> None:
        """One message. What can't be ends the link, as the framework does."""
        try:
            self.link.message_received(message)
        except RemoteProtocolError as error:
            self.close(error.code, error.reason)

    def say_line(self, line: str) -> None:
        """One message of another version, as it is on the wire."""
        for message in VOCABULARY.decode_each(line.encode() + b"\n"):
            assert isinstance(message, msgspec.Struct)
            self.say(message)

    def log_line(self, offer: m.Offer, batches: str) -> None:
        """Batches of another version."""
        self.say_line(f'{{"type":"log","attempt":"{offer.attempt}","lease":"{offer.lease}","batches":[{batches}]}}')

    def take(self, kind: type[_T]) -> list[_T]:
        """Return the messages of this kind that were heard, and forget them."""
        found: list[_T] = [message for message in self.heard if isinstance(message, kind)]
        self.heard = [message for message in self.heard if not isinstance(message, kind)]
        return found

    def run(self, offer: m.Offer) -> None:
        """Accept and start what was offered."""
        self.say(m.Accept(attempt=offer.attempt, lease=offer.lease))
        assert self.take(m.Go)
        self.say(m.Started(attempt=offer.attempt, lease=offer.lease, time=5))

    def log(self, offer: m.Offer, *batches: Batch) -> None:
        """Send records, and let them be committed."""
        self.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=list(batches)))
        self.apiserver.clock.advance(COMMIT_INTERVAL)


def result(*batches: Batch, outcome: Any = "succeeded", **more: Any) -> Result:
    """The result of an attempt with this log."""
    digest = LogDigest()
    for batch in batches:
        digest.add(batch)
    return Result(outcome=outcome, lines=digest.count, sha256=digest.hexdigest(), started=5, ended=9, **more)


#: Limits for tests that reach them.
MAX_RUNNING, MAX_WORKFLOWS = 8, 50

BATCH = Lines(1, 10, 0, ["one", "two"])


class LinkCase(SynchronousTestCase):
    """One apiserver, some builders."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ledger = InstantLedger()
        self.apiserver = Apiserver(self.folder, self.ledger, Clock())

    def restart(self) -> None:
        """The apiserver is killed and started again."""
        self.apiserver = Apiserver(self.folder, self.ledger, Clock())

    def offered(self, builder: Builder) -> m.Offer:
        """The one offer that the builder has got."""
        (offer,) = builder.take(m.Offer)
        return offer

    def running(self, ref: str = "main") -> tuple[Builder, m.Offer]:
        """A builder that runs an attempt."""
        self.ledger.queue(ref=ref)
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.run(offer)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))
        return builder, offer

    def cancel(self, attempt: str) -> None:
        """Cancel its build."""
        build = int(attempt.split("-")[0])
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.lifecycle.cancel_build(build, "not wanted", ADA)))


class BuilderLinks(LinkCase):
    """An attempt's life over the link."""

    def test_an_attempt_from_the_queue_to_its_end(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=3)], builder.take(m.Ack))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH, commit="c" * 40)))
        self.assertEqual([m.FinalAck(attempt=offer.attempt, lease=offer.lease)], builder.take(m.FinalAck))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.SUCCEEDED, True, 2), (row.state, row.complete, row.lines))
        self.assertEqual(
            ["offered", "accepted", "running", "succeeded"], [change.state for change in self.apiserver.changes]
        )

    def test_which_commit_is_built_is_seen_before_the_end(self) -> None:
        builder, offer = self.running()
        self.apiserver.time += 1000
        found = FoundCommit(commit="c" * 40, subject="Say\nhello", author="Ada", author_email="Ada@example.org")
        said = m.CheckedOut(attempt=offer.attempt, lease=offer.lease, found=found, resolved_ago=10**9)
        builder.say(said)
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(("c" * 40, "Say\ufffdhello", "Ada"), (row.commit, row.subject, row.author))
        self.assertEqual(row.offered, row.resolved)  # not before the offer, whatever is said
        self.assertEqual(["offered", "accepted", "running", "running"], [each.state for each in self.apiserver.changes])
        builder.say(said)  # on the next link: nothing is new
        self.assertEqual(4, len(self.apiserver.changes))
        # What was said once isn't unsaid: neither before the end, nor by it.
        builder.say(msgspec.structs.replace(said, found=FoundCommit(commit="d" * 40, subject="Another")))
        self.assertEqual("c" * 40, self.apiserver.row(offer.attempt).commit)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(commit="d" * 40)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.FAILED, "c" * 40), (row.state, row.commit))

    def test_a_commit_that_can_not_be_is_not_believed(self) -> None:
        builder, offer = self.running(ref="a" * 40)
        for commit, lease in (("b" * 40, offer.lease), ("main", offer.lease), ("a" * 40, "0" * 32)):
            found = FoundCommit(commit=commit, subject="Say hello")
            builder.say(m.CheckedOut(attempt=offer.attempt, lease=lease, found=found))
            self.assertEqual("", self.apiserver.row(offer.attempt).commit)
        builder.say(m.CheckedOut(attempt="99-1", lease=offer.lease, found=FoundCommit(commit="a" * 40)))
        self.assertEqual(3, len(self.apiserver.changes))

    def test_what_a_build_says_is_told_once_it_is_committed(self) -> None:
        """Also after a commit that was made, and said to have failed; and in the end, what stays true."""
        told: list[GistChange] = []

        def heard(news: GistRound) -> None:
            told.extend(msgspec.json.decode(message, type=GistChange) for message in read(news.frames))

        builder, offer = self.running()
        self.apiserver.gists.listen(heard)
        self.apiserver.clock.advance(ROUND_INTERVAL)
        self.assertEqual([None], [each.progress for each in told])
        batches = [Lines(1, 10, 0, [Progress(0.5, "half"), Annotation("error", "no")]), Lines(3, 11, 0, [Progress(1)])]
        self.ledger.available = False
        builder.log(offer, batches[0])
        self.apiserver.clock.advance(2 * ROUND_INTERVAL)
        self.assertEqual(1, len(told))
        self.ledger.available = True
        self.apiserver.clock.advance(2 * ROUND_INTERVAL)
        half = GistChange(
            build=1,
            attempt=1,
            project="hello",
            progress=gist.Progress(0.5, "half"),
            annotations=gist.Annotations(1, 0, 0),
        )
        self.assertEqual([half], told[1:])
        self.ledger.unheard = 1
        builder.log(offer, batches[1])
        self.apiserver.clock.advance(2 * ROUND_INTERVAL)
        self.assertEqual(["log_order"], builder.closed)
        self.assertEqual([gist.Progress(1.0, "")], [each.progress for each in told[2:]])
        again = Builder(self.apiserver)
        again.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=4))
        again.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(*batches)))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))
        self.apiserver.clock.advance(ROUND_INTERVAL)
        self.assertEqual([msgspec.structs.replace(half, progress=None)], told[3:])

    def test_no_more_is_offered_than_there_are_slots(self) -> None:
        names = [self.ledger.queue() for _ in range(4)]
        one, two = Builder(self.apiserver, "one"), Builder(self.apiserver, "two")
        one.sync(slots=1)
        two.sync(slots=2)
        (first,) = one.take(m.Offer)
        (second,) = two.take(m.Offer)
        two.run(second)
        (third,) = two.take(m.Offer)
        self.assertEqual(sorted(names[:3]), sorted(offer.attempt for offer in (first, second, third)))
        one.run(first)
        one.say(m.Final(attempt=first.attempt, lease=first.lease, result=result()))
        self.assertEqual([names[3]], [offer.attempt for offer in one.take(m.Offer)])

    def test_a_late_acceptance_of_an_expired_offer_is_stopped(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        old = self.offered(builder)
        self.apiserver.clock.advance(OFFER_EXPIRES)
        self.assertEqual([m.Stop(attempt=old.attempt, lease=old.lease)], builder.take(m.Stop))
        new = self.offered(builder)
        self.assertNotEqual(old.lease, new.lease)
        builder.say(m.Accept(attempt=old.attempt, lease=old.lease))
        self.assertEqual([m.Stop(attempt=old.attempt, lease=old.lease)], builder.take(m.Stop))
        self.assertEqual([], builder.take(m.Go))
        builder.run(new)

    def test_a_declined_offer_goes_to_another_builder(self) -> None:
        one, two = Builder(self.apiserver, "one"), Builder(self.apiserver, "two")
        one.sync(slots=3)
        two.sync()
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        offer = self.offered(one)
        one.say(m.Decline(attempt=offer.attempt, lease=offer.lease, reason="no room"))
        two.run(self.offered(two))
        self.assertEqual([], one.take(m.Offer))

    def test_the_builder_that_declined_and_its_reason_are_shown_while_the_attempt_waits(self) -> None:
        """The attempt's reason stayed empty: only the apiserver's log had it."""
        attempt = self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.say(m.Decline(attempt=attempt, lease=offer.lease, reason="the disk is full"))
        row = self.apiserver.row(attempt)
        self.assertEqual((AttemptState.QUEUED, 1), (row.state, row.number))
        self.assertEqual("builder one declined it: the disk is full", row.reason)
        self.assertEqual(row.reason, self.apiserver.changes[-1].reason)
        self.apiserver.clock.advance(DECLINED_PAUSE)
        builder.run(self.offered(builder))
        self.assertEqual("", self.apiserver.row(attempt).reason)

    def test_a_builder_that_has_taken_nothing_yet_is_offered_one_at_a_time(self) -> None:
        """A builder that never answers kept as many attempts from the others as it had slots."""
        for _ in range(4):
            self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync(slots=4)
        first = self.offered(builder)
        builder.run(first)
        self.assertEqual(3, len(builder.take(m.Offer)))

    def test_a_builder_that_never_answers_gets_nothing_while_another_is_free(self) -> None:
        """With three free slots the silent builder was offered everything, time and again, while the other was idle."""
        deaf, good = Builder(self.apiserver, "deaf"), Builder(self.apiserver, "good")
        deaf.sync(slots=3)
        good.sync(slots=1)
        names = [self.ledger.queue() for _ in range(6)]
        self.apiserver.dispatch.wake()
        ended: list[str] = []
        while offers := good.take(m.Offer):
            (offer,) = offers
            good.run(offer)
            good.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
            ended.append(offer.attempt)
            if len(ended) == 5:
                self.apiserver.clock.advance(OFFER_EXPIRES)
        self.assertEqual(sorted(names), sorted(ended))
        self.assertEqual(1, len(deaf.take(m.Offer)))

    def test_a_builder_that_declines_everything_rests_longer_each_time(self) -> None:
        broken, busy = Builder(self.apiserver, "broken"), Builder(self.apiserver, "busy")
        busy.sync(slots=1)
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        busy.run(self.offered(busy))
        broken.sync(slots=3)
        for _ in range(30):
            self.ledger.queue()
        self.apiserver.dispatch.wake()
        asked: list[float] = []
        for _ in range(200):
            for offer in broken.take(m.Offer):
                asked.append(self.apiserver.clock.seconds())
                broken.say(m.Decline(attempt=offer.attempt, lease=offer.lease, reason="broken"))
            self.apiserver.clock.advance(1.0)
        self.assertEqual([2, 4, 8, 16, 32, 64], [after - before for before, after in itertools.pairwise(asked)])

    def test_a_builder_that_was_started_again_is_asked_at_once(self) -> None:
        """The operator who mends a builder doesn't wait for the end of a pause."""
        other = Builder(self.apiserver, "other")
        other.sync(slots=1)
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        other.run(self.offered(other))
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.say(m.Decline(attempt=offer.attempt, lease=offer.lease, reason="no git"))
        builder.lose()
        again = Builder(self.apiserver)
        again.sync()
        self.assertEqual([], again.take(m.Offer))
        again.lose()
        mended = Builder(self.apiserver, incarnation="i2")
        mended.sync()
        mended.run(self.offered(mended))

    def test_what_a_builder_cannot_take_does_not_keep_it_from_the_rest(self) -> None:
        poison = self.ledger.queue()
        others = [self.ledger.queue() for _ in range(3)]
        builder = Builder(self.apiserver)
        builder.sync(slots=1)
        taken: list[str] = []
        for _ in range(60):
            for offer in builder.take(m.Offer):
                if offer.attempt == poison:
                    builder.say(m.Decline(attempt=poison, lease=offer.lease, reason="can't be"))
                else:
                    builder.run(offer)
                    builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
                    taken.append(offer.attempt)
            self.apiserver.clock.advance(1.0)
        self.assertEqual(others, taken)

    def test_an_attempt_that_gets_no_answer_is_put_behind_the_others(self) -> None:
        """There is but one builder, so it isn't left to rest; what it didn't answer isn't asked first again, though."""
        names = [self.ledger.queue() for _ in range(2)]
        builder = Builder(self.apiserver)
        builder.sync(slots=1)
        self.assertEqual(names[0], self.offered(builder).attempt)
        self.apiserver.clock.advance(OFFER_EXPIRES)
        self.assertEqual(names[1], self.offered(builder).attempt)
        self.apiserver.clock.advance(OFFER_EXPIRES)
        self.assertEqual(1, len(builder.take(m.Offer)))
        self.assertEqual("builder one didn't answer the offer within 10 s", self.apiserver.row(names[1]).reason)

    def test_a_builder_that_dies_of_each_offer_is_no_new_one_each_time(self) -> None:
        good = Builder(self.apiserver, "good")
        good.sync(slots=1)
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        good.run(self.offered(good))
        attempt = self.ledger.queue()
        for number in range(5):
            dying = Builder(self.apiserver, "dying", incarnation=f"i{number}")
            dying.sync(slots=3)
            self.assertEqual(1 if number == 0 else 0, len(dying.take(m.Offer)))
            dying.lose()
            self.assertEqual(AttemptState.QUEUED, self.apiserver.state(attempt))

    def test_a_hole_is_asked_for(self) -> None:
        builder, offer = self.running()
        builder.log(offer, Lines(3, 10, 0, ["three"]))
        self.assertEqual([m.Resend(attempt=offer.attempt, next=1)], builder.take(m.Resend))
        builder.log(offer, BATCH, Lines(3, 10, 0, ["three"]))
        self.assertEqual(4, builder.take(m.Ack)[-1].next)

    def test_a_hole_is_asked_for_once(self) -> None:
        builder, offer = self.running()
        for first in (5, 7, 9):
            builder.log(offer, Lines(first, 10, 0, ["x", "x"]))
        self.assertEqual([1], [resend.next for resend in builder.take(m.Resend)])
        builder.log(offer, BATCH)
        builder.log(offer, Lines(9, 10, 0, ["x"]))
        self.assertEqual([3], [resend.next for resend in builder.take(m.Resend)], "another hole")
        builder.lose()
        again = Builder(self.apiserver)
        again.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=9))
        again.log(offer, Lines(9, 10, 0, ["x"]))
        self.assertEqual([3], [resend.next for resend in again.take(m.Resend)], "once on each link")

    def test_an_end_before_its_records_is_refused(self) -> None:
        builder, offer = self.running()
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
        self.assertEqual([m.Resend(attempt=offer.attempt, next=1)], builder.take(m.Resend))
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_an_end_waits_for_the_commit_of_its_records(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[Lines(3, 11, 0, ["three"])]))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH, Lines(3, 11, 0, ["three"]))))
        self.assertEqual([], builder.take(m.FinalAck))
        self.apiserver.clock.advance(COMMIT_INTERVAL)
        self.assertEqual(1, len(builder.take(m.FinalAck)))

    def test_a_log_that_differs_is_said_to_be_incomplete(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        other = result(Lines(1, 10, 0, ["one", "zwei"]))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=other))
        self.assertEqual(1, len(builder.take(m.FinalAck)))
        self.assertFalse(self.apiserver.row(offer.attempt).complete)

    def test_a_log_with_a_gap_is_not_complete_and_its_attempt_has_not_succeeded(self) -> None:
        for restarts in (False, True):
            builder, offer = self.running()
            whole = [BATCH, Lines(3, 10, 0, ["three"]), Lines(4, 10, 0, ["four"])]
            builder.log(offer, BATCH, Gap(3, 3, "the journal is damaged"))
            self.assertEqual([m.Ack(attempt=offer.attempt, next=4)], builder.take(m.Ack))
            if restarts:
                self.restart()
                builder = Builder(self.apiserver)
                orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="ended", next=1))
                self.assertEqual([4], [order.next for order in orders.orders])
            builder.log(offer, *whole)  # what was lost has been found again: too late, it would be shown twice
            for sha256 in ("", result(*whole).sha256):
                end = msgspec.structs.replace(result(*whole), sha256=sha256)
                builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=end))
                self.assertEqual(1, len(builder.take(m.FinalAck)))
                row = self.apiserver.row(offer.attempt)
                self.assertEqual((AttemptState.FAILED, 4, False), (row.state, row.lines, row.complete))
                self.assertIn("its log isn't whole, so it counts as failed: lines of it are missing", row.reason)

    def test_an_end_never_takes_back_what_was_seen(self) -> None:
        """A builder's disk has lost what it had sent before; then its runner died."""
        builder, offer = self.running()
        builder.log(offer, BATCH)
        lost = result(Lines(1, 10, 0, ["one"]), outcome="lost")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=lost))
        self.assertEqual(1, len(builder.take(m.FinalAck)))
        row = self.apiserver.row(offer.attempt)
        seen = (AttemptState.LOST, 2, result(BATCH).sha256, False)
        self.assertEqual(seen, (row.state, row.lines, row.sha256, row.complete))

    def two_running(self) -> tuple[Builder, m.Offer, m.Offer]:
        """A builder that runs two attempts."""
        builder, first = self.running()
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        second = self.offered(builder)
        builder.run(second)
        return builder, first, second

    def log_of(self, attempt: str) -> list[Batch]:
        """What the ledger has of a log."""
        self.apiserver.clock.advance(COMMIT_INTERVAL)
        chunks = self.ledger.now(logs.read, attempt, 1, 1 << 20)
        return [batch_decoder.decode(line) for chunk in chunks for line in chunk.data.splitlines()]

    def assert_works(self, builder: Builder, offer: m.Offer) -> None:
        """Check that this attempt goes on, to its end."""
        self.assertEqual([], builder.closed)
        builder.log(offer, BATCH)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.SUCCEEDED, True), (row.state, row.complete))

    def test_a_batch_of_a_newer_builder_is_a_gap(self) -> None:
        """Such a batch ended the link, for all other attempts too, time and again."""
        builder, offer, other = self.two_running()
        one, two = Lines(1, 10, 0, ["one"]), Lines(5, 10, 0, ["five"])
        table = '{"type":"table","first":2,"columns":{"a":[1,2,3]}}'
        builder.log_line(offer, f"{encoder.encode(one).decode()},{table},{encoder.encode(two).decode()}")
        reason = "the builder has sent what can't be read: a batch of the kind 'table'"
        self.assertEqual([one, Gap(2, 4, reason), two], self.log_of(offer.attempt))
        self.assertEqual([m.Ack(attempt=offer.attempt, next=6)], builder.take(m.Ack))
        # And when nothing comes after it but the end.
        builder.log_line(offer, table.replace("2", "6", 1))
        self.assertEqual([f"{offer.attempt}: a batch of the kind 'table' [bad_log]"], builder.complaints)
        ended = msgspec.structs.replace(result(), lines=8, sha256="ab" * 32)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=ended))
        self.apiserver.clock.advance(COMMIT_INTERVAL)
        self.assertEqual(Gap(6, 8, reason), self.log_of(offer.attempt)[-1])
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.FAILED, 8, False), (row.state, row.lines, row.complete))
        self.assert_works(builder, other)

    def test_nonsense_in_a_log_is_a_gap(self) -> None:
        builder, offer, other = self.two_running()
        for nonsense in (
            '{"type":"lines","first":1,"time":10,"step":0,"lines":[]}',
            '{"type":"lines","first":1,"time":10,"step":0,"lines":[7]}',
            '{"type":"lines","first":1,"time":10,"step":0,"lines":["\\ud800"]}',
            '{"type":"lines","first":-1,"time":10,"step":0,"lines":["x"]}',
            '{"type":"gap","from":1,"to":1000000001,"reason":"x"}',
            '{"type":"lines","first":1,"time":10,"step":0,"lines":[{"type":' + "[" * 2000 + "]" * 2000 + "}]}",
            "null",
        ):
            with self.subTest(nonsense[:70]):
                builder.log_line(offer, nonsense)
                self.assertEqual([], builder.closed)
        self.assertEqual([], self.log_of(offer.attempt))
        after = Lines(3, 10, 0, ["three"])
        builder.log(offer, after)
        gap, rest = self.log_of(offer.attempt)
        self.assertEqual((1, 2, after), (gap.first, gap.end - 1, rest))
        builder.log(offer, Lines(5, 10, 0, ["five"]))  # what is just missing is asked for, as ever
        self.assertEqual([m.Resend(attempt=offer.attempt, next=4)], builder.take(m.Resend))
        self.assert_works(builder, other)

    def test_a_log_of_nothing_but_nonsense_is_the_end_of_its_attempt(self) -> None:
        builder, offer, other = self.two_running()
        for _ in range(MAX_UNREAD + 1):
            self.assertEqual([], builder.take(m.Stop))
            builder.log_line(offer, "[}")
        self.assertEqual([m.Stop(attempt=offer.attempt, lease=offer.lease)], builder.take(m.Stop))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(AttemptState.LOST, row.state)
        self.assertIn("the builder's log can't be read", row.reason)
        self.assert_works(builder, other)

    def test_records_after_the_end_are_stopped(self) -> None:
        """The attempt was given up here, and the builder doesn't know yet."""
        builder, offer, other = self.two_running()
        self.apiserver.logs.finish(offer.attempt, End(0, "", "lost", False))
        builder.log(offer, BATCH)
        self.assertEqual([m.Stop(attempt=offer.attempt, lease=offer.lease)], builder.take(m.Stop))
        self.assert_works(builder, other)

    def test_what_no_build_can_say_is_no_message(self) -> None:
        """Of a record that came from a build, a builder's word is no better than the build's."""
        good = '{"type":"progress","value":0.5,"label":"half"}'
        batch = '{"type":"lines","first":1,"time":1,"step":0,"lines":[%s]}'
        frame = '{"type":"log","attempt":"1-1","lease":"' + "ab" * 16 + '","batches":[' + batch + "]}\n"
        (message,) = VOCABULARY.decode_each((frame % good).encode())
        assert isinstance(message, m.Log)
        self.assertEqual([Lines(1, 1, 0, [Progress(0.5, "half")])], list(map(with_events, message.batches)))
        for nothing in ("7", "null", "[]"):
            (message,) = VOCABULARY.decode_each((frame % nothing).encode())
            self.assertIsInstance(message, m.UnreadLog)
        for bad in (
            '{"type":"progress","value":2}',
            '{"type":"progress","value":1.0}',
            '{"type":"progress","value":"0.5"}',
            '{"type":"progress","value":0.5,"label":"%s"}' % ("x" * 201),
            '{"type":"annotation","level":"fatal","message":"x"}',
            '{"type":"annotation","level":"error","message":"x","line":-1}',
            '{"type":"group","name":7}',
            '{"type":"summary","markdown":null}',
            '{"type":"mask","value":"hunter2"}',
        ):
            # It may be a newer builder's: it is kept as it is, and says nothing.
            (message,) = VOCABULARY.decode_each((frame % bad).encode())
            assert isinstance(message, m.Log)
            (lines,) = map(with_events, message.batches)
            assert isinstance(lines, Lines)
            self.assertEqual([msgspec.json.decode(bad)], lines.lines)
            self.assertIsNone(event_of(lines.lines[0]))

    def test_records_of_a_newer_builder(self) -> None:
        """
        Such records ended the link, time and again. Now they are kept: all numbers, and the digest, stay right, and
        what is known of them counts.
        """
        builder, offer = self.running()
        records: list[Any] = [
            {"type": "step_started", "index": 0, "name": "greet", "command": "echo", "colour": "green"},
            "hello",
            {"type": "measure", "of": {"bytes": [1, 2.5, None]}, "\u00fc": "\u2603"},
            {"type": "annotation", "level": "fatal", "message": "x"},
            {"type": "annotation", "level": "error", "message": "y", "hint": "z"},
            "goodbye",
        ]
        texts = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in records]
        sha256 = hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()
        builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[Lines(1, 10, 0, records)]))
        self.apiserver.clock.advance(COMMIT_INTERVAL)
        self.assertEqual([], builder.closed)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=7)], builder.take(m.Ack))
        ended = msgspec.structs.replace(result(), lines=6, sha256=sha256)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=ended))
        self.assertEqual(1, len(builder.take(m.FinalAck)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((6, sha256, True), (row.lines, row.sha256, row.complete))

    def test_a_foreign_attempt_and_an_old_lease_are_stopped(self) -> None:
        builder, offer = self.running()
        for attempt, lease in (("99-1", offer.lease), (offer.attempt, "ff" * 16)):
            stop = [m.Stop(attempt=attempt, lease=lease)]
            builder.say(m.Log(attempt=attempt, lease=lease, batches=[BATCH]))
            self.assertEqual(stop, builder.take(m.Stop))
            builder.say(m.Accept(attempt=attempt, lease=lease))
            self.assertEqual(stop, builder.take(m.Stop))
            builder.say(m.Final(attempt=attempt, lease=lease, result=result()))
            self.assertEqual(stop, builder.take(m.Stop))
            with self.assertRaises(CallFailed):
                builder.call(m.WantUpload(attempt=attempt, lease=lease, size=1, sha256="a" * 64), m.UploadGrant)
            self.assertEqual(stop, builder.take(m.Stop))
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_another_builder_with_the_lease_cannot_speak_for_an_attempt(self) -> None:
        """Who had seen a lease (it names a folder on the builder's disk) could end the attempt, and take its place."""
        builder, offer = self.running()
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        asked = self.offered(builder)
        spy = Builder(self.apiserver, "spy")
        held = [
            m.HeldAttempt(attempt=each.attempt, lease=each.lease, phase=phase, next=1)
            for each in (offer, asked)
            for phase in ("accepted", "running", "ended")
        ]
        orders = spy.sync(*held, slots=0)
        self.assertEqual({"stop"}, {order.order for order in orders.orders})
        for each in (offer, asked):
            spy.say(m.Accept(attempt=each.attempt, lease=each.lease))
            spy.say(m.Decline(attempt=each.attempt, lease=each.lease, reason="no"))
            spy.say(m.Started(attempt=each.attempt, lease=each.lease, time=1))
            spy.say(m.Log(attempt=each.attempt, lease=each.lease, batches=[BATCH]))
            spy.say(m.Final(attempt=each.attempt, lease=each.lease, result=result()))
            package = Package(file="p.tgz", name="p", version="1.0.0", integrity="sha512-x")
            for call in (
                m.WantPermit(attempt=each.attempt, lease=each.lease, package=package),
                m.WantSecrets(attempt=each.attempt, lease=each.lease, repository="https://x/y", uses=["steps"]),
                m.WantUpload(attempt=each.attempt, lease=each.lease, size=1, sha256="a" * 64),
            ):
                with self.assertRaises(CallFailed) as refused:
                    spy.call(call, msgspec.Struct)
                self.assertEqual("void", refused.exception.code)
        self.assertEqual([], spy.take(m.Go) + spy.take(m.FinalAck) + spy.take(m.Ack))
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))
        self.assertEqual(AttemptState.OFFERED, self.apiserver.state(asked.attempt))
        self.assertEqual([], self.log_of(offer.attempt))
        builder.run(asked)
        self.assert_works(builder, offer)

    def test_two_different_ends_have_one_outcome(self) -> None:
        builder, offer = self.running()
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(outcome="failed")))
        self.assertEqual(2, len(builder.take(m.FinalAck)))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))

    def test_a_lost_link_disconnects_and_a_sync_connects_again(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        builder.lose()
        self.assertEqual(AttemptState.DISCONNECTED, self.apiserver.state(offer.attempt))
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=9))
        self.assertEqual([("continue", 3)], [(order.order, order.next) for order in orders.orders])
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_the_apiserver_is_killed_and_comes_back(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        self.restart()
        self.assertEqual(AttemptState.DISCONNECTED, self.apiserver.state(offer.attempt))
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="ended", next=4))
        self.assertEqual([("continue", 3)], [(order.order, order.next) for order in orders.orders])
        rest = Lines(3, 11, 0, ["three"])
        builder.log(offer, BATCH, rest)
        # The digest of what came before the kill is taken from the store.
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH, rest)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.SUCCEEDED, True), (row.state, row.complete))

    def test_an_acceptance_that_was_lost_is_made_good_by_the_sync(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        held = m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="accepted", next=1)
        again = Builder(self.apiserver)  # the same incarnation takes its place over
        self.assertEqual(["superseded"], builder.closed)
        orders = again.sync(held)
        self.assertEqual(["go"], [order.order for order in orders.orders])
        self.assertEqual(AttemptState.ACCEPTED, self.apiserver.state(offer.attempt))

    def test_after_the_offer_was_taken_back_what_is_held_is_stopped(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        self.restart()  # which takes all open offers back
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="accepted", next=1))
        self.assertEqual(["stop"], [order.order for order in orders.orders])
        self.assertEqual([offer.attempt], [new.attempt for new in builder.take(m.Offer)])

    def test_what_a_builder_no_longer_has_is_lost(self) -> None:
        """Not at once: it may not be the builder that says so."""
        builder, offer = self.running()
        builder.lose()
        Builder(self.apiserver, incarnation="i2").sync()
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(AttemptState.DISCONNECTED, row.state)
        self.assertIn("builder one has linked without it: it is lost after 60 s", row.reason)
        waiting = self.apiserver.dispatch.why_waiting(row, None)
        assert waiting is not None
        self.assertEqual(("syncing", row.reason), (waiting.code, waiting.text))
        self.apiserver.clock.advance(MISSING_DEADLINE)
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.LOST, "builder one no longer has it"), (row.state, row.reason))

    def test_what_takes_a_builders_name_for_a_moment_ends_none_of_its_attempts(self) -> None:
        """Whoever had the link's key linked while a builder was restarted, said nothing, and its builds were lost."""
        builder, offer = self.running()
        builder.log(offer, BATCH)
        builder.lose()
        for _ in range(3):
            thief = Builder(self.apiserver, incarnation="another")
            thief.sync()
            self.apiserver.clock.advance(MISSING_DEADLINE - 1)
            thief.lose()
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=3))
        self.assertEqual([("continue", 3)], [(order.order, order.next) for order in orders.orders])
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.RUNNING, ""), (row.state, row.reason))
        self.apiserver.clock.advance(2 * MISSING_DEADLINE)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_a_builder_that_stays_away_is_given_up(self) -> None:
        builder, offer = self.running()
        builder.lose()
        self.apiserver.clock.pump([1] * 599)
        self.assertEqual(AttemptState.DISCONNECTED, self.apiserver.state(offer.attempt))
        self.apiserver.clock.pump([1] * 2)
        self.assertEqual(AttemptState.LOST, self.apiserver.state(offer.attempt))
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1))
        self.assertEqual(["stop"], [order.order for order in orders.orders])

    def test_what_is_lost_is_run_again_if_its_project_wants_that(self) -> None:
        """A lost attempt ended for good, an hour later, and a person had to find that out."""
        builder, offer = self.running()
        self.ledger.now(projects.update, "hello", {"on_lost": "rerun"}, 2)
        builder.lose()
        self.away()
        self.assertEqual(AttemptState.LOST, self.apiserver.state(offer.attempt))
        again = self.apiserver.row("1-2")
        self.assertEqual(AttemptState.QUEUED, again.state)
        self.assertEqual([("lost", 1), ("queued", 2)], [(c.state, c.attempt) for c in self.apiserver.changes[-2:]])
        # A builder that has it no more, and one whose runner died, are the same to the project.
        two = Builder(self.apiserver, "two")
        two.sync()
        second = self.offered(two)
        self.assertEqual("1-2", second.attempt)
        two.run(second)
        two.say(m.Final(attempt="1-2", lease=second.lease, result=result(outcome="lost", reason="its runner died")))
        third = self.offered(two)
        self.assertEqual("1-3", third.attempt)
        two.run(third)
        two.lose()
        # But not for ever: it may be the build that ends builders.
        Builder(self.apiserver, "two").sync()
        self.apiserver.clock.advance(MISSING_DEADLINE)
        self.assertEqual(AttemptState.LOST, self.apiserver.state("1-3"))
        self.assertIsNone(self.ledger.now(attempts.get, "1-4"))

    def test_what_is_lost_and_was_cancelled_is_not_run_again(self) -> None:
        builder, offer = self.running()
        self.ledger.now(projects.update, "hello", {"on_lost": "rerun"}, 2)
        self.cancel(offer.attempt)
        builder.lose()
        self.away()
        self.assertEqual(AttemptState.LOST, self.apiserver.state(offer.attempt))
        self.assertIsNone(self.ledger.now(attempts.get, "1-2"))

    def away(self) -> None:
        """Keep the builder away for as long as it may be."""
        for _ in range(10):
            self.apiserver.clock.advance(60)

    def test_an_apiserver_that_was_stopped_itself_waits_for_its_builders(self) -> None:
        builder, offer = self.running()
        builder.lose()
        self.apiserver.clock.advance(100_000)  # at once, as after SIGCONT
        self.assertEqual(AttemptState.DISCONNECTED, self.apiserver.state(offer.attempt))
        orders = Builder(self.apiserver).sync(
            m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1)
        )
        self.assertEqual(["continue"], [order.order for order in orders.orders])
        self.apiserver.clock.pump([10] * 100)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_a_late_refusal_frees_no_slot_of_a_later_offer(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync(slots=1)
        old = self.offered(builder)
        self.apiserver.clock.advance(OFFER_EXPIRES)
        new = self.offered(builder)
        self.assertEqual(old.attempt, new.attempt)
        builder.say(m.Decline(attempt=old.attempt, lease=old.lease, reason="too late"))
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        self.apiserver.clock.pump([0.5] * 10)
        self.assertEqual([], builder.take(m.Offer))

    def test_a_builder_that_links_and_never_syncs_is_closed(self) -> None:
        builder, offer = self.running()
        builder.lose()
        for _ in range(2):
            mute = Builder(self.apiserver)
            self.apiserver.clock.advance(61)
            self.assertEqual(["no_sync"], mute.closed)
        self.assertEqual(AttemptState.DISCONNECTED, self.apiserver.state(offer.attempt))

    def test_another_incarnation_of_a_linked_builder_is_refused(self) -> None:
        Builder(self.apiserver, "one", "i1")
        self.assertIsNone(Builder(self.apiserver, "one", "i1").refused)
        self.assertIn("linked already", Builder(self.apiserver, "one", "i2").refused or "")

    def test_it_is_known_since_when_no_builder_is_linked(self) -> None:
        dispatch = self.apiserver.dispatch
        begun = dispatch.no_builder_since
        assert begun is not None
        one, two = Builder(self.apiserver, "one"), Builder(self.apiserver, "two")
        for builder in (one, two):
            builder.sync()
        assert dispatch.no_builder_since is None
        one.lose()
        assert dispatch.no_builder_since is None
        two.lose()
        assert begun < (dispatch.no_builder_since or 0)

    def test_cancelling_in_each_state(self) -> None:
        cancelled = self.ledger.queue()
        self.cancel(cancelled)
        self.assertEqual(AttemptState.CANCELLED, self.apiserver.state(cancelled))
        builder, offer = self.running()
        self.cancel(offer.attempt)
        (message,) = builder.take(m.CancelAttempt)
        self.assertEqual("not wanted", message.reason)
        # It is cancelled when its processes are gone, which only the builder can say.
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))
        builder.lose()
        again = Builder(self.apiserver)
        orders = again.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1))
        self.assertEqual(["not wanted"], [order.cancel for order in orders.orders])

    def test_a_cancel_that_races_with_the_end_has_one_outcome(self) -> None:
        builder, offer = self.running()
        self.cancel(offer.attempt)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))

    def test_the_ledger_fails_for_a_while_and_nothing_is_lost(self) -> None:
        builder, offer = self.running()
        self.ledger.available = False
        builder.log(offer, BATCH)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
        self.assertEqual([], builder.take(m.Ack) + builder.take(m.FinalAck))
        self.ledger.available = True
        for _ in range(5):
            self.apiserver.clock.advance(1)
        self.assertEqual(1, len(builder.take(m.FinalAck)))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))


class WhyItWaits(LinkCase):
    """The reasons shown with a build that doesn't go on. It was `queued`, with an empty reason in any case."""

    def why(self, attempt: str, before: int | None = None) -> tuple[str, str]:
        """Return the reason that is shown."""
        waiting = self.apiserver.dispatch.why_waiting(
            self.apiserver.row(attempt), None if before is None else Place(before=before)
        )
        return ("", "") if waiting is None else (waiting.code, waiting.text)

    def test_no_builder(self) -> None:
        attempt = self.ledger.queue()
        self.assertEqual(
            ("no_builder", "no builder is linked: start one (twistd buildipc); position 1 in the queue of hello"),
            self.why(attempt, 0),
        )
        self.ledger.queue()
        builder = Builder(self.apiserver)
        self.assertEqual("no_builder", self.why(attempt, 0)[0])
        builder.sync()
        builder.say(m.Status(slots=2, draining=True))
        second = self.ledger.queue()
        self.assertEqual(
            (
                "draining",
                "builder one takes nothing new, and no other builder is linked; position 2 in the queue of hello",
            ),
            self.why(second, 1),
        )

    def test_all_slots_are_taken(self) -> None:
        one, two = Builder(self.apiserver, "one"), Builder(self.apiserver, "two")
        one.sync(slots=1)
        two.sync(slots=1)
        for _ in range(2):
            self.ledger.queue()
        self.apiserver.dispatch.wake()
        one.run(self.offered(one))
        two.run(self.offered(two))
        last = self.ledger.queue()
        self.apiserver.dispatch.wake()
        text = "all 2 slots of 2 builders are taken; position 3 in the queue of hello"
        self.assertEqual(("slots", text), self.why(last, 2))

    def test_which_builder_has_declined_and_when_it_is_asked_again(self) -> None:
        attempt = self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        for seconds in (2, 4, 8, 10, 10):
            offer = self.offered(builder)
            self.assertEqual(("offered", "builder one is being asked to take it"), self.why(attempt))
            builder.say(m.Decline(attempt=attempt, lease=offer.lease, reason="no room"))
            again = f"it is asked again in {seconds} s; position 1 in the queue of hello"
            text = f"builder one declined it: no room; {again}"
            self.assertEqual(("resting", text), self.why(attempt, 0))
            self.apiserver.clock.advance(2 * LONGEST_PAUSE_ALONE)
        builder.run(self.offered(builder))
        self.assertEqual(("", ""), self.why(attempt))

    def test_an_upload_that_does_not_get_through(self) -> None:
        builder, offer = self.running()
        want = m.WantUpload(attempt=offer.attempt, lease=offer.lease, size=5, sha256="a" * 64)
        builder.call(want, m.UploadGrant)
        self.assertEqual(("", ""), self.why(offer.attempt))
        trouble = "http://api.example can't be reached: the connection was refused"
        for _ in range(2):
            builder.call(msgspec.structs.replace(want, trouble=trouble), m.UploadGrant)
        self.assertEqual(("upload", trouble), self.why(offer.attempt))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual((AttemptState.PUBLISHING, trouble), (row.state, row.reason))
        self.assertEqual(1, [change.reason for change in self.apiserver.changes].count(trouble))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
        self.assertEqual("", self.apiserver.row(offer.attempt).reason)

    def test_how_long_a_builder_has_been_away(self) -> None:
        builder, offer = self.running()
        builder.lose()
        since = self.apiserver.now()
        for _ in range(3):
            self.apiserver.clock.advance(60)
        self.apiserver.time = since + 180_000
        code, text = self.why(offer.attempt)
        self.assertEqual("away", code)
        self.assertEqual(
            "builder one has been away for 3 min; the attempt is lost at 00:10 UTC (in 7 min) unless the builder "
            "comes back",
            text,
        )
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row(offer.attempt), None)
        assert waiting is not None
        assert waiting.until is not None
        self.assertLess(abs(since + 600_000 - waiting.until), 100)


class OtherSettings(Settings, frozen=True, kw_only=True, tag="other"):
    """Of `Other`."""


class Other(Target[OtherSettings]):
    """A target that older builders don't know."""

    name = "other"
    what = "other thing"
    settings = OtherSettings


class WhichTargets(LinkCase):
    """A builder is offered what it can publish to, and nothing else."""

    def setUp(self) -> None:
        super().setUp()
        TARGETS.add(Other())
        self.addCleanup(TARGETS.remove, "other")

    def test_a_builder_that_does_not_know_a_target_is_passed_over(self) -> None:
        """It has no part in the build, and what is queued behind isn't held up."""
        old, new = Builder(self.apiserver, "old"), Builder(self.apiserver, "new")
        old.sync(slots=1)
        waits = [self.ledger.queue("others", targets=(OtherSettings(),)) for _ in range(5)]
        usual = self.ledger.queue("usual", publish=Publish(static=True, npm=True))
        self.apiserver.dispatch.wake()
        self.assertEqual(usual, self.offered(old).attempt)
        why = self.apiserver.dispatch.why_waiting(self.apiserver.row(waits[0]), Place())
        assert why is not None
        self.assertEqual("no_builder", why.code)
        self.assertEqual(
            "builder old can't publish to other, which the project needs: update it; position 1 in the queue of others",
            why.text,
        )
        new.sync(slots=1, features=[*m.FEATURES, "target:other", "target:one-more"])
        self.assertEqual(waits[0], self.offered(new).attempt)
        self.assertEqual([], old.take(m.Offer))
        why = self.apiserver.dispatch.why_waiting(self.apiserver.row(waits[1]), Place())
        assert why is not None
        self.assertEqual("slots", why.code)

    def test_a_target_that_is_not_known_here_any_more(self) -> None:
        """The project can be read; a build of it that waits in the queue ends, and says why."""
        attempt = self.ledger.queue("others", targets=(OtherSettings(),))
        TARGETS.remove("other")
        try:
            project = self.ledger.now(projects.get, "others")
            assert project is not None
            self.assertEqual([{"type": "other"}], TARGETS.write(project.targets))
            builder = Builder(self.apiserver)
            builder.sync()
            self.assertEqual([], builder.take(m.Offer))
            row = self.apiserver.row(attempt)
            self.assertEqual(AttemptState.CANCELLED, row.state)
            self.assertIn("publishes to other, and this apiserver has no such target", row.reason)
        finally:
            TARGETS.add(Other())
        project = self.ledger.now(projects.get, "others")
        assert project is not None
        self.assertEqual((OtherSettings(),), project.targets, "nothing of it is lost")


class Races(LinkCase):
    """What happens at the same time, and what the ledger does late."""

    def test_an_offer_that_expires_while_its_acceptance_is_committed_stays_accepted(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        self.ledger.held = []
        builder.say(m.Accept(attempt=offer.attempt, lease=offer.lease))
        self.apiserver.clock.advance(OFFER_EXPIRES)
        self.ledger.let_go()
        self.assertEqual([m.Go(attempt=offer.attempt, lease=offer.lease)], builder.take(m.Go))
        self.assertEqual(([], []), (builder.take(m.Stop), builder.take(m.Offer)))
        self.assertEqual(AttemptState.ACCEPTED, self.apiserver.state(offer.attempt))

    def test_an_expired_offer_is_made_again_although_it_filled_the_only_slot(self) -> None:
        self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync(slots=1)
        old = self.offered(builder)
        self.apiserver.clock.advance(OFFER_EXPIRES)
        self.assertEqual(
            [m.Stop(attempt=old.attempt, lease=old.lease)],
            [message for message in builder.heard if not isinstance(message, m.Offer)],
        )
        self.assertIsInstance(builder.heard[0], m.Stop)  # first, or the builder would hold the attempt twice
        builder.run(self.offered(builder))

    def test_an_acceptance_that_is_committed_after_its_link_was_lost_leaves_the_log_to_the_next_link(self) -> None:
        self.ledger.queue()
        one = Builder(self.apiserver)
        one.sync()
        offer = self.offered(one)
        self.ledger.held = []
        one.say(m.Accept(attempt=offer.attempt, lease=offer.lease))
        two = Builder(self.apiserver)  # takes its place
        self.ledger.let_go()
        two.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="accepted", next=1))
        two.log(offer, BATCH)
        self.assertEqual([m.Ack(attempt=offer.attempt, next=3)], two.take(m.Ack))
        self.assertEqual([], one.take(m.Go))

    def test_a_log_that_has_ended_is_let_go(self) -> None:
        builder, offer = self.running()
        builder.log(offer, BATCH)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
        self.assertEqual(0, len(self.apiserver.writers))

    def test_a_cancellation_during_a_sync_is_in_the_orders(self) -> None:
        builder, offer = self.running()
        builder.lose()
        again = Builder(self.apiserver)
        self.ledger.held = []
        replies: list[object] = []
        held = m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1)
        sync = m.Sync(slots=2, attempts=[held])
        Deferred.fromCoroutine(again.link.call_received(sync)).addBoth(replies.append)
        Deferred.fromCoroutine(
            self.apiserver.lifecycle.cancel_build(int(offer.attempt.split("-")[0]), "not wanted", ADA)
        )
        # Both are committed now; the cancellation first, which finds a link that has not synced.
        self.ledger.held.reverse()
        self.ledger.let_go()
        (orders,) = replies
        assert isinstance(orders, m.Orders)
        self.assertEqual(["not wanted"], [order.cancel for order in orders.orders])

    def test_what_is_lost_in_a_sync_that_is_cut_off_is_told_all_the_same(self) -> None:
        builder, _offer = self.running()
        builder.lose()
        again = Builder(self.apiserver)
        self.ledger.held = []
        syncing = Deferred.fromCoroutine(again.link.call_received(m.Sync(slots=2, attempts=[])))
        syncing.addErrback(lambda failure: None)
        syncing.cancel()  # as the framework does when the link ends
        again.lose()
        self.ledger.let_go()
        self.assertIn("linked without it", self.apiserver.changes[-1].reason)

    def test_an_offer_that_goes_back_is_told(self) -> None:
        attempt = self.ledger.queue()
        builder = Builder(self.apiserver)
        builder.sync()
        self.offered(builder)
        builder.lose()
        self.assertEqual("queued", self.apiserver.changes[-1].state)
        self.assertEqual(AttemptState.QUEUED, self.apiserver.state(attempt))

    def test_a_builder_that_comes_back_while_the_ledger_is_away_keeps_what_it_has(self) -> None:
        builder, offer = self.running()
        self.ledger.available = False
        builder.lose()  # noting that is tried again after a while
        again = Builder(self.apiserver)
        self.ledger.available = True
        again.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1))
        self.apiserver.clock.advance(RETRY_INTERVAL)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))

    def test_an_offer_whose_commit_is_said_to_have_failed_is_made_again(self) -> None:
        attempt = self.ledger.queue()
        builder = Builder(self.apiserver)
        self.ledger.unheard = 1
        builder.sync()
        self.assertEqual([], builder.take(m.Offer))
        self.apiserver.clock.advance(RETRY_INTERVAL)
        self.assertEqual([attempt], [offer.attempt for offer in builder.take(m.Offer)])

    def test_an_offer_that_is_too_big_for_the_link_is_cancelled_and_the_next_is_made(self) -> None:
        big = self.ledger.queue()
        self.ledger.now(
            projects.update, "hello", {"environment": {f"V{number}": "x" * 30_000 for number in range(40)}}, 2
        )
        other = self.ledger.queue("other")
        builder = Builder(self.apiserver)
        builder.sync(slots=1)
        row = self.apiserver.row(big)
        self.assertEqual(AttemptState.CANCELLED, row.state)
        self.assertIn("over the limit", row.reason)
        self.assertEqual([other], [offer.attempt for offer in builder.take(m.Offer)])

    def test_a_flood_of_what_the_ledger_must_know_waits_at_the_builder(self) -> None:
        self.apiserver = Apiserver(self.folder, self.ledger, Clock(), max_running=MAX_RUNNING)
        builder, offer = self.running()
        lease, own = "ff" * 16, {"attempt": offer.attempt, "lease": offer.lease}
        floods: list[Callable[[int], msgspec.Struct]] = [
            lambda n: m.Decline(attempt=f"{n + 1}-7", lease=lease, reason="x"),
            lambda n: m.Accept(attempt=f"{n + 1}-7", lease=lease),
            lambda n: m.Started(attempt=f"{n + 1}-7", lease=lease, time=2**70),
            lambda n: m.Final(attempt=f"{n + 1}-7", lease=lease, result=result(BATCH)),
            lambda n: m.Decline(**own, reason="x" * 10_000),
            lambda n: m.Started(**own, time=-n),
        ]
        for flood in floods:
            with self.subTest(flood=flood(1)):
                self.ledger.available = False
                timers = len(self.apiserver.clock.getDelayedCalls())
                said = 0
                while builder.reading and said < 2000:
                    builder.say(flood(said))
                    said += 1
                self.assertEqual(MAX_RUNNING, said)
                self.assertLessEqual(len(self.apiserver.workflows), MAX_RUNNING)
                self.ledger.available = True
                self.apiserver.clock.advance(1.0)
                self.assertTrue(builder.reading)
                self.assertLessEqual(len(self.apiserver.workflows), 1)
                self.assertLessEqual(len(self.apiserver.clock.getDelayedCalls()), timers + 2)
        self.assertEqual([], builder.closed)

    def test_a_builder_that_links_again_and_again_leaves_no_more_behind(self) -> None:
        self.apiserver = Apiserver(
            self.folder, self.ledger, Clock(), max_running=MAX_RUNNING, max_workflows=MAX_WORKFLOWS
        )
        self.ledger.available = False
        links = 0
        builder = Builder(self.apiserver)
        while builder.refused is None and links < 100:
            links += 1
            for _ in range(MAX_RUNNING):
                builder.say(m.Accept(attempt="7-7", lease="ff" * 16))
            builder.lose()
            info = PeerInfo(name="one", role="builder", incarnation="i1", version=1, address="memory")
            builder.refused = self.apiserver.builders.refuse(info)
            if builder.refused is None:
                builder = Builder(self.apiserver)
        self.assertIn("wait for the ledger", str(builder.refused))
        self.assertLessEqual(len(self.apiserver.workflows), MAX_WORKFLOWS + MAX_RUNNING)
        self.ledger.available = True
        self.apiserver.clock.advance(1.0)
        self.assertIsNone(Builder(self.apiserver).refused)

    def test_names_that_cannot_be_are_not_looked_up(self) -> None:
        for attempt, lease in (("../x", "ab" * 16), ("0-1", "ab" * 16), ("1-1\n", "ab" * 16), ("1-1", "AB" * 16)):
            named: dict[str, Any] = {"attempt": attempt, "lease": lease}
            for message in (
                m.Accept(**named),
                m.Decline(**named, reason=""),
                m.Started(**named, time=1),
                m.Log(**named, batches=[BATCH]),
                m.Final(**named, result=result(BATCH)),
            ):
                (refused,) = VOCABULARY.decode_each(msgspec.json.encode(message) + b"\n")
                self.assertIsInstance(refused, Misshapen)
            for request in (
                m.Sync(slots=1, attempts=[m.HeldAttempt(**named, phase="running", next=1)]),
                m.WantPermit(**named, package=Package(file="f", name="n", version="1.0.0", integrity="i")),
                m.WantUpload(**named, size=1, sha256="a" * 64),
            ):
                with self.assertRaises(RemoteProtocolError) as caught:
                    VOCABULARY.decode_request(msgspec.Raw(msgspec.json.encode(request)))
                self.assertEqual("bad-request", caught.exception.code)

    def test_one_sync_at_a_time(self) -> None:
        builder, offer = self.running()
        builder.lose()
        builder = Builder(self.apiserver)
        self.ledger.held = []
        held = m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1)
        answers: list[object] = []
        for _ in range(3):
            sync = m.Sync(slots=1, attempts=[held])
            Deferred.fromCoroutine(builder.link.call_received(sync)).addBoth(answers.append)
        self.assertEqual(["synced"] * 2, [cast(Any, answer).value.code for answer in answers])
        self.ledger.let_go()
        self.assertIsInstance(answers[2], m.Orders)

    def test_a_builder_that_does_not_mind_its_credit_is_put_off(self) -> None:
        builder, offer = self.running()
        self.ledger.available = False
        for number in range(1, 20):
            batch = Lines(number, 10, 0, ["x" * 900_000])
            builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[batch]))
            if builder.closed:
                break
        self.assertEqual((["credit"], 11), (builder.closed, number))

    def test_a_message_of_a_void_lease_frees_its_slot(self) -> None:
        builder, offer = self.running()
        with self.ledger.engine.begin() as connection:
            attempts.lose(connection, offer.attempt, Holder(offer.lease, "one"), "someone else said so", 9)
        waiting = self.ledger.queue()
        builder.say(m.Status(slots=1, draining=False))
        with self.assertRaises(CallFailed):
            builder.call(m.WantUpload(attempt=offer.attempt, lease=offer.lease, size=1, sha256="a" * 64), m.UploadGrant)
        self.assertEqual([m.Stop(attempt=offer.attempt, lease=offer.lease)], builder.take(m.Stop))
        self.assertEqual([waiting], [new.attempt for new in builder.take(m.Offer)])

    def test_the_service_stops_although_an_end_waits_for_what_cannot_be_committed(self) -> None:
        builder, offer = self.running()
        builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[BATCH]))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(BATCH)))
        self.ledger.available = False
        builder.lose()
        stopped = Deferred.fromCoroutine(self.apiserver.builders.stop())
        self.apiserver.clock.advance(RETRY_INTERVAL)
        self.successResultOf(stopped)


def audit_lines(connection: Connection) -> int:
    """How many lines the audit has of permits."""
    return len(connection.execute(select(audit).where(audit.c.action.startswith("permit."))).all())


class Publishing(LinkCase):
    """Permits, uploads and releases."""

    def publishing(self, publish: Publish) -> tuple[Builder, m.Offer]:
        """A builder that runs an attempt of a project that publishes, packages by its builder."""
        self.ledger.queue(
            targets=tuple(
                msgspec.structs.replace(each, publish_at="builder") if isinstance(each, NpmSettings) else each
                for each in from_flat(publish)
            )
        )
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.run(offer)
        return builder, offer

    def want(self, offer: m.Offer, version: str = "1.0.0") -> m.WantPermit:
        """Ask for a permit, as a builder does for the runner."""
        package = Package(file="p.tgz", name="p", version=version, integrity="sha512-x")
        return m.WantPermit(attempt=offer.attempt, lease=offer.lease, package=package)

    def packed(self, builder: Builder, offer: m.Offer) -> None:
        """Bring the attempt to where its steps are over."""
        builder.log(offer, Lines(1, 9, 0, [StepStarted(0, "pack", ""), StepEnded(0, "succeeded", 1, 0)]))

    def test_a_permit_needs_the_projects_token(self) -> None:
        builder, offer = self.publishing(Publish(npm=True))
        self.packed(builder, offer)
        refused = builder.call(self.want(offer), Permit)
        self.assertFalse(refused.granted)
        self.assertIn("npm_token", refused.reason)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))
        sealed = self.apiserver.secret_box.seal("s3cret-token")
        self.ledger.now(projects.set_secret, "hello", "npm_token", sealed, 7)
        self.assertEqual(Permit(granted=True, token="s3cret-token"), builder.call(self.want(offer), Permit))
        self.assertEqual(AttemptState.PUBLISHING, self.apiserver.state(offer.attempt))
        self.assertIn("1.0.0, and can have no other", builder.call(self.want(offer, "1.0.1"), Permit).reason)
        self.cancel(offer.attempt)
        self.assertFalse(builder.call(self.want(offer), Permit).granted)

    def test_a_build_that_asks_in_the_runners_name_is_not_heard(self) -> None:
        """In the midst of its steps, or asked for without publishing, a build was handed the registry's token."""
        sealed = self.apiserver.secret_box.seal("s3cret-token")
        builder, offer = self.publishing(Publish(npm=True))
        self.ledger.now(projects.set_secret, "hello", "npm_token", sealed, 7)
        with self.assertRaises(CallFailed) as early:
            builder.call(self.want(offer), Permit)
        self.assertEqual("not_yet", early.exception.code)
        self.assertEqual(AttemptState.RUNNING, self.apiserver.state(offer.attempt))
        builder.log(offer, Lines(1, 9, 0, [StepStarted(0, "build", "make")]))
        with self.assertRaises(CallFailed):
            builder.call(self.want(offer), Permit)
        self.ledger.now(projects.update, "hello", {"targets": from_flat(Publish(static=True))}, 9)
        for _ in range(2):
            refused = builder.call(self.want(offer), Permit)
            self.assertEqual((False, ""), (refused.granted, refused.token))
            self.assertIn("publishes no npm package", refused.reason)
        (line,) = self.ledger.now(_details, "permit.refuse")
        self.assertIn("publishes no npm package", line)

    def test_asking_again_gives_the_same_permit_after_every_restart(self) -> None:
        builder, offer = self.publishing(Publish(npm=True))
        self.ledger.now(projects.set_secret, "hello", "npm_token", self.apiserver.secret_box.seal("t"), 7)
        self.packed(builder, offer)
        permit = builder.call(self.want(offer), Permit)
        self.assertTrue(permit.granted)
        writes = self.ledger.now(audit_lines)
        self.restart()
        again = Builder(self.apiserver, incarnation="i2")
        again.sync(m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=3))
        self.assertEqual(permit, again.call(self.want(offer), Permit))
        self.assertEqual(writes, self.ledger.now(audit_lines))

    def test_a_permit_is_decided_by_all_of_the_log_that_has_come(self) -> None:
        """The steps' end is under way to the ledger when the question comes: it is waited for."""
        builder, offer = self.publishing(Publish(npm=True))
        self.ledger.now(projects.set_secret, "hello", "npm_token", self.apiserver.secret_box.seal("t"), 7)
        batch = Lines(1, 9, 0, [StepStarted(0, "pack", ""), StepEnded(0, "succeeded", 1, 0)])
        builder.say(m.Log(attempt=offer.attempt, lease=offer.lease, batches=[batch]))
        answers: list[object] = []
        Deferred.fromCoroutine(builder.link.call_received(self.want(offer))).addBoth(answers.append)
        self.apiserver.clock.advance(COMMIT_INTERVAL)
        self.assertEqual([Permit(granted=True, token="t")], answers)

    def test_a_permit_for_a_void_lease_is_a_stop(self) -> None:
        builder, offer = self.publishing(Publish(npm=True))
        self.packed(builder, offer)
        with self.ledger.engine.begin() as connection:
            attempts.lose(connection, offer.attempt, Holder(offer.lease, "one"), "someone else said so", 9)
        for lease in (offer.lease, "f" * 16):
            want = msgspec.structs.replace(self.want(offer), lease=lease)
            with self.assertRaises(CallFailed):
                builder.call(want, Permit)
            self.assertEqual([m.Stop(attempt=offer.attempt, lease=lease)], builder.take(m.Stop))

    def test_a_release_goes_live_with_the_attempts_end(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "hello, world")
        self.assertIsNone(self.apiserver.release_store.live("hello"))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))
        self.assertEqual("hello, world", self.page())
        row = self.ledger.now(releases.live, "hello", "static")
        assert row is not None
        # A link that a crash left behind is mended at the next start.
        (self.folder / "releases" / "hello" / "current").unlink()
        self.restart()
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.reconcile()))
        self.assertIsNotNone(self.apiserver.release_store.live("hello"))

    def released(self, project: str) -> None:
        """Build the project, and release it."""
        self.ledger.queue(project, targets=from_flat(Publish(static=True)))
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.run(offer)
        archive = self.upload(builder, offer, project)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        builder.lose()

    def slow_disk(self) -> list[tuple[str, Callable[[], None]]]:
        """Hold the calls of the disk from now on in this list, each with its name."""
        asked: list[tuple[str, Callable[[], None]]] = []

        def in_thread(function: Callable[..., Any], *args: object) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()

            def do() -> None:
                try:
                    done.callback(function(*args))
                except Exception:
                    done.errback()

            asked.append((function.__name__, do))
            return done

        self.patch(self.apiserver.releasing, "_in_thread", in_thread)
        return asked

    def test_a_listener_that_is_told_of_the_end_finds_the_release(self) -> None:
        """Between the commit of the end and the switch some time may pass, in which the ledger alone knows it."""
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "hello, world")
        asked = self.slow_disk()
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        self.successResultOf(self.apiserver.releasing.switched([offer.build]))
        asked.pop()[1]()
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))
        self.assertIsNone(self.apiserver.release_store.live("hello"))
        switched = self.apiserver.releasing.switched([offer.build, 999])
        self.assertNoResult(switched)
        self.successResultOf(self.apiserver.releasing.switched([999]))
        name, do = asked.pop()
        self.assertEqual("reconcile", name)
        do()
        self.successResultOf(switched)
        self.assertIsNotNone(self.apiserver.release_store.live("hello"))
        self.assertEqual(["retire"], [name for name, _ in asked], "that isn't waited for")
        asked.pop()[1]()
        self.successResultOf(self.apiserver.releasing.switched([offer.build]))

    def two_at_once(self) -> tuple[Builder, m.Offer, m.Offer]:
        """A builder that runs two builds of the project's own ref: the slow one was asked for first."""
        builder, slow = self.publishing(Publish(static=True))
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        fast = self.offered(builder)
        builder.run(fast)
        return builder, slow, fast

    def page(self) -> str:
        """Return the page that is served."""
        page = file_of(self.apiserver.release_store, "index.html", "hello")
        assert page is not None
        return page.read_text()

    def ends(self, builder: Builder, offer: m.Offer, text: str, ago: int | None) -> AttemptRow:
        """The build ends, with this page; its ref led to its commit so long ago."""
        archive = self.upload(builder, offer, text)
        end = result(artifact=archive, commit="c" * 40)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=end, resolved_ago=ago))
        return self.apiserver.row(offer.attempt)

    def test_a_release_has_a_statement_that_the_apiservers_key_has_signed(self) -> None:
        builder, first, second = self.two_at_once()
        ended = self.ends(builder, first, "good", 20)
        self.ledger.now(projects.update, "hello", {"repository": "https://git.example/other.git"}, 9)
        (kept,) = self.ledger.now(provenance.of_build, ended.build)
        payload = form.payload_of(kept.envelope)
        signature = form.decoded(kept.envelope.signatures[0].sig)
        self.assertTrue(self.apiserver.signing_key.public.has_signed(form.signed_bytes(payload), signature))
        said = form.read_statement(payload)
        (made,) = self.ledger.now(releases.of_build, ended.build)
        self.assertEqual([form.Subject(name="hello/static/1", digest={"sha256": made.sha256})], said.subject)
        source = said.predicate.buildDefinition.resolvedDependencies[0]
        self.assertEqual("production", said.predicate.buildDefinition.internalParameters["environment"])
        self.assertEqual({"gitCommit": "c" * 40}, source.digest)
        self.assertEqual(f"git+{first.repository}@{first.ref}", source.uri)
        run = said.predicate.runDetails
        self.assertEqual("http://api.example/builders/one", run.builder.id)
        self.assertEqual({"sha256": ended.sha256}, run.byproducts[0].digest)
        self.assertTrue(run.byproducts[0].annotations["complete"])
        # An attempt that fails has none.
        builder.say(m.Final(attempt=second.attempt, lease=second.lease, result=result(outcome="failed")))
        self.assertEqual([], self.ledger.now(provenance.of_build, self.apiserver.row(second.attempt).build))

    def test_a_slow_build_of_an_old_commit_does_not_replace_a_newer_one(self) -> None:
        """The slow build ended after the newer one, and the old commit was live from then on."""
        builder, slow, fast = self.two_at_once()
        self.apiserver.time += 60_000
        self.assertEqual("", self.ends(builder, fast, "new", 10_000).reason)
        self.apiserver.time += 60_000
        ended = self.ends(builder, slow, "old", 115_000)
        self.assertEqual((AttemptState.SUCCEEDED, "new"), (ended.state, self.page()))
        self.assertIn("release 2 didn't go live: release 1 of build 2 is newer", ended.reason)
        states = {row.id: row.state for row in self.ledger.now(releases.list_page, "hello")}
        self.assertEqual({1: ReleaseState.LIVE, 2: ReleaseState.SUPERSEDED}, states)
        # The release is there all the same, to be made live by hand.
        activated = self.apiserver.releasing.activate("hello", 2, by=ADA)
        self.successResultOf(Deferred.fromCoroutine(activated))
        self.assertEqual("old", self.page())
        self.assertEqual("", self.apiserver.row(slow.attempt).reason, "it went on saying that it isn't live")

    def test_the_time_is_the_apiservers_however_long_the_end_waits(self) -> None:
        """While the ledger is away, an end grows no younger."""
        builder, slow, fast = self.two_at_once()
        self.apiserver.time += 60_000
        archive = self.upload(builder, slow, "old")
        self.ledger.available = False
        end = result(artifact=archive, commit="c" * 40)
        builder.say(m.Final(attempt=slow.attempt, lease=slow.lease, result=end, resolved_ago=50_000))
        self.apiserver.time += 60_000
        self.ledger.available = True
        self.ends(builder, fast, "new", 65_000)
        self.apiserver.clock.advance(RETRY_INTERVAL)
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(slow.attempt))
        self.assertEqual("new", self.page())

    def test_what_waits_for_an_approval_holds_nothing_at_its_builder(self) -> None:
        """It is forgotten there, and goes live from what is stored, whenever that is approved."""
        builder, slow, _fast = self.two_at_once()
        self.ledger.now(projects.update, "hello", {"approval": 1}, 1)
        waiting = self.ends(builder, slow, "approved", 10)
        self.assertEqual(AttemptState.WAITING_APPROVAL, waiting.state)
        self.assertIn(m.FinalAck(attempt=slow.attempt, lease=slow.lease), builder.heard)
        self.assertIsNone(self.apiserver.release_store.live("hello"))
        builder.lose()
        self.restart()
        builder = Builder(self.apiserver)
        orders = builder.sync(m.HeldAttempt(attempt=slow.attempt, lease=slow.lease, phase="ended", next=1))
        self.assertEqual("forget", orders.orders[0].order)
        self.assertEqual(AttemptState.WAITING_APPROVAL, self.apiserver.state(slow.attempt))
        approving = self.apiserver.lifecycle.approve_build(slow.build, BOB)
        approved = self.successResultOf(Deferred.fromCoroutine(approving))
        self.assertEqual((AttemptState.SUCCEEDED, "approved"), (approved.state, self.page()))

    def test_an_older_builder_tells_no_time(self) -> None:
        """Then it counts when its builds were offered."""
        builder, slow, fast = self.two_at_once()
        self.ends(builder, fast, "new", None)
        self.assertIn("didn't go live", self.ends(builder, slow, "old", None).reason)
        self.assertEqual("new", self.page())

    def test_the_same_end_said_again_changes_nothing(self) -> None:
        builder, slow, fast = self.two_at_once()
        self.ends(builder, fast, "new", 10)
        ended = self.ends(builder, slow, "old", 100)
        builder.lose()
        self.restart()
        builder = Builder(self.apiserver)
        builder.sync(m.HeldAttempt(attempt=slow.attempt, lease=slow.lease, phase="ended", next=1))
        builder.say(m.Final(attempt=slow.attempt, lease=slow.lease, result=result(commit="c" * 40), resolved_ago=1))
        self.assertEqual((ended, "new"), (self.apiserver.row(slow.attempt), self.page()))

    def test_a_rollback_holds_what_comes_until_it_is_resumed(self) -> None:
        """The hold and its line in the audit are one transaction."""
        builder, first, second = self.two_at_once()
        self.ends(builder, first, "good", 20)
        self.ends(builder, second, "bad", 10)
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.activate("hello", 1, by=ADA)))
        self.ledger.queue()
        self.apiserver.dispatch.wake()
        offer = self.offered(builder)
        builder.run(offer)
        ended = self.ends(builder, offer, "mended", 0)
        self.assertIn("it waits: ada rolled hello back to release 1", ended.reason)
        self.assertEqual("good", self.page())
        self.restart()
        lifted, live = self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.resume("hello", by=BOB)))
        self.assertEqual((True, [3]), (lifted, [each.id for each in live]))
        self.assertEqual("mended", self.page())
        self.assertEqual("", self.apiserver.row(offer.attempt).reason, "it waits no longer")
        again = self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.resume("hello", by=BOB)))
        self.assertEqual((False, []), again)
        with self.ledger.engine.connect() as connection:
            told = select(audit.c.who, audit.c.action, audit.c.detail).where(audit.c.kind == "token")
            lines = connection.execute(told).all()
            others = {(row.kind, row.action) for row in connection.execute(select(audit)).all()}
        self.assertLessEqual({("builder", "builder.link"), ("apiserver", "release.live")}, others)
        self.assertEqual(
            [("ada", "release.activate", '{"release":"1"}'), ("bob", "release.resume", '{"release":"3"}')],
            [tuple(line) for line in lines],
        )

    def test_what_has_waited_says_what_became_of_it(self) -> None:
        """A build's reason went on saying that its release waits, also when a newer one had gone live in its place."""
        builder, first, second = self.two_at_once()
        self.ends(builder, first, "good", 20)
        self.ends(builder, second, "bad", 10)
        releasing = self.apiserver.releasing
        self.successResultOf(Deferred.fromCoroutine(releasing.activate("hello", 1, by=ADA)))
        offers = []
        for text in ("passed over", "live"):
            self.ledger.queue()
            self.apiserver.dispatch.wake()
            offers.append(self.offered(builder))
            builder.run(offers[-1])
            self.ends(builder, offers[-1], text, 0)
        self.successResultOf(Deferred.fromCoroutine(releasing.activate("hello", 4, by=ADA)))
        older, newer = (self.apiserver.row(offer.attempt).reason for offer in offers)
        self.assertIn("release 4 of build 4 is newer", older)
        self.assertEqual("", newer)

    def test_what_waits_without_its_files_is_passed_over(self) -> None:
        builder, first, second = self.two_at_once()
        self.ends(builder, first, "good", 20)
        self.ends(builder, second, "bad", 10)
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.activate("hello", 1, by=ADA)))
        for text in ("mended", "gone"):
            self.ledger.queue()
            self.apiserver.dispatch.wake()
            offer = self.offered(builder)
            builder.run(offer)
            self.ends(builder, offer, text, 0)
        self.apiserver.release_store.retire("hello", {1, 2, 3})
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.resume("hello", by=BOB)))
        self.assertEqual("mended", self.page())
        self.assertNotIn("it waits", self.apiserver.row(offer.attempt).reason)
        self.flushLoggedErrors()

    def test_a_builder_that_goes_is_in_the_audit(self) -> None:
        builder, _offer = self.running()
        builder.lose()
        with self.ledger.engine.connect() as connection:
            told = select(audit.c.action, audit.c.who).where(audit.c.kind == "builder").order_by(audit.c.id)
            lines = connection.execute(told).all()
        self.assertEqual([("builder.link", "one"), ("builder.leave", "one")], [tuple(line) for line in lines])

    def test_a_cancellation_and_its_line_in_the_audit_are_both_there_or_neither(self) -> None:
        """The line was a second transaction: a crash between them lost it."""
        _builder, offer = self.running()
        self.ledger.available = False
        self.failureResultOf(
            Deferred.fromCoroutine(self.apiserver.lifecycle.cancel_build(1, "no", ADA)), LedgerUnavailable
        )
        self.ledger.available = True
        self.assertEqual("", self.apiserver.row(offer.attempt).cancel_reason)
        writes = self.ledger.writes
        self.cancel(offer.attempt)
        self.assertEqual(writes + 1, self.ledger.writes)
        with self.ledger.engine.connect() as connection:
            told = select(audit.c.who, audit.c.action, audit.c.subject, audit.c.detail)
            lines = connection.execute(told.where(audit.c.action == "build.cancel")).all()
        self.assertEqual([("ada", "build.cancel", "hello", '{"build":"1","attempt":"1"}')], [tuple(x) for x in lines])

    def test_a_release_that_is_rolled_back_to_is_not_removed_meanwhile(self) -> None:
        self.patch(releasing, "KEPT_RELEASES", 1)
        for text in ("old", "new"):
            builder, offer = self.publishing(Publish(static=True))
            archive = self.upload(builder, offer, text)
            if text == "new":
                break
            builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
            builder.lose()
        old = self.apiserver.release_store.live_id("hello")
        assert old is not None
        asked = self.slow_disk()
        activated = Deferred.fromCoroutine(self.apiserver.releasing.activate("hello", old, by=ADA))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        order: list[str] = []
        later = ("unused", "remove_unused", "compress", "take_compressed")
        while asked:
            self.assertLessEqual(len([name for name, _ in asked if name not in later]), 1, "one at a time")
            name, do = asked.pop()
            order += [name] if name not in later else []
            do()
        self.assertEqual(old, self.successResultOf(activated)[0].id)
        self.assertEqual(["has", "reconcile", "_unpack", "reconcile", "retire"], order)
        row = self.ledger.now(releases.live, "hello", "static")
        assert row is not None
        self.assertEqual(row.id, self.apiserver.release_store.live_id("hello"))

    def test_a_project_of_the_same_name_has_nothing_before_the_deleted_ones_releases_are_gone(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "secret plans")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        builder.lose()
        asked = self.slow_disk()
        deleted = Deferred.fromCoroutine(
            self.apiserver.releasing.delete_project("hello", lambda connection: projects.delete(connection, "hello", 9))
        )
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "another's")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        self.assertEqual(["remove_project"], [name for name, _ in asked])
        while asked:
            asked.pop()[1]()
        self.assertTrue(self.successResultOf(deleted))
        self.assertEqual("another's", self.page())
        self.assertEqual([self.apiserver.release_store.live_id("hello")], self.apiserver.release_store.kept("hello"))

    def test_only_what_is_new_is_uploaded(self) -> None:
        """The builder is told what the live release has, and that stays until the new one is made."""
        builder, offer = self.publishing(Publish(static=True))
        self.assertTrue(offer.contents)
        want = m.WantContents(attempt=offer.attempt, lease=offer.lease)
        self.assertEqual(b"", builder.call(want, m.StoredContents).contents, "nothing is live yet")
        archive = self.upload(builder, offer, "hello")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        builder.lose()
        builder, offer = self.publishing(Publish(static=True))
        want = m.WantContents(attempt=offer.attempt, lease=offer.lease)
        known = builder.call(want, m.StoredContents).contents
        self.assertEqual(hashlib.sha256(b"hello").digest()[:8], known)
        live = LiveFiles(files=[("index.html", 5)], complete=True)
        self.assertEqual(live, builder.call(want, m.StoredContents).live)
        archive = self.upload(builder, offer, "hello", stored=frozenset([known]))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        self.assertEqual(AttemptState.SUCCEEDED, self.apiserver.state(offer.attempt))
        self.assertEqual("hello", self.page())
        self.assertEqual([2, 1], self.apiserver.release_store.kept("hello"))
        void = m.WantContents(attempt=offer.attempt, lease="f" * 32)
        with self.assertRaises(CallFailed):
            builder.call(void, m.StoredContents)

    def test_what_was_left_out_and_is_not_stored_fails_the_build(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "hello", stored=frozenset([hashlib.sha256(b"hello").digest()[:8]]))
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(AttemptState.FAILED, row.state)
        self.assertIn("index.html was left out of it, and isn't stored any more: build it again", row.reason)

    def test_what_is_live_is_compressed_afterwards(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "hello, world " * 100)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        live = self.apiserver.release_store.live("hello")
        assert live is not None
        self.assertIn("gzip", live.files["index.html"].variants)
        self.assertTrue(live.compressed)

    def test_what_goes_live_while_another_is_compressed_is_compressed_then(self) -> None:
        asked: list[tuple[str, Callable[[], None]]] = []
        for text in ("one, two " * 100, "three, four " * 100):
            builder, offer = self.publishing(Publish(static=True))
            archive = self.upload(builder, offer, text)
            asked = asked or self.slow_disk()
            builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
            builder.lose()
            while others := [each for each in asked if each[0] != "compress"]:
                asked.remove(others[0])
                others[0][1]()
            self.assertEqual(["compress"], [name for name, _ in asked], "one at a time")
        while asked:
            asked.pop()[1]()
        live = self.apiserver.release_store.live("hello")
        assert live is not None
        self.assertEqual((2, True), (live.id, live.compressed))

    def test_threads_are_left_for_what_is_urgent_while_many_projects_are_compressed(self) -> None:
        """Those that compress sleep in their threads while something is urgent, which needs a thread."""
        names = [f"p{number}" for number in range(releasing.COMPRESSED_TOGETHER + 1)]
        for name in names:
            self.released(name)
        asked = self.slow_disk()
        for name in names:
            self.apiserver.workflows.launch(self.apiserver.releasing.tidy(name), "tidying")

        def do_others() -> int:
            """Do all but compress. How many threads compress."""
            while others := [each for each in asked if each[0] != "compress"]:
                asked.remove(others[0])
                others[0][1]()
            return len(asked)

        self.assertLess(releasing.COMPRESSED_TOGETHER, FILE_THREADS)
        self.assertEqual(releasing.COMPRESSED_TOGETHER, do_others())
        turns = 0
        while compressing := do_others():
            self.assertLessEqual(compressing, releasing.COMPRESSED_TOGETHER)
            asked.pop(0)[1]()
            turns += 1
        self.assertEqual(len(names), turns)

    def test_what_a_crash_has_left_in_a_pool_is_removed_later(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "hello, world")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        left = self.folder / "releases" / "hello" / "pool" / "ab" / ("ab" * 32)
        left.parent.mkdir()
        left.write_text("of a release that was never whole")
        self.apiserver.clock.advance(FIRST)
        self.assertFalse(left.exists())
        self.assertEqual("hello, world", self.page())
        left.write_text("again")
        self.apiserver.clock.advance(INTERVAL)
        self.assertFalse(left.exists())

    def test_a_start_asks_no_more_where_there_are_more_projects(self) -> None:
        """Everybody waits for it."""
        asked = []
        for some in ("a", "b"):
            for number in range(20):
                self.ledger.project(f"{some}{number}")
            self.released(f"{some}-released")
            self.restart()
            before = self.ledger.read_count
            self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.reconcile()))
            asked.append(self.ledger.read_count - before)
        self.assertEqual(asked[0], asked[1])

    def test_what_a_deleted_project_has_left_is_removed_at_the_next_start(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "secret plans")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        self.ledger.now(projects.delete, "hello", 9)  # and before its folder is deleted, the apiserver is killed
        self.assertIsNotNone(self.apiserver.release_store.live("hello"))
        (self.folder / "releases" / ".not-a-project").mkdir()
        self.restart()
        self.successResultOf(Deferred.fromCoroutine(self.apiserver.releasing.reconcile()))
        self.assertIsNone(self.apiserver.release_store.live("hello"))
        self.assertEqual([".not-a-project"], [path.name for path in (self.folder / "releases").iterdir()])

    def test_an_empty_release_fails(self) -> None:
        """And what is live stays live."""
        builder, offer = self.publishing(Publish(static=True))
        archive = self.upload(builder, offer, "")
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(AttemptState.FAILED, row.state)
        self.assertIn("it can't be released: there is nothing in it", row.reason)
        self.assertIsNone(self.apiserver.release_store.live("hello"))

    def test_a_release_whose_archive_has_not_arrived_fails(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        archive = ArtifactFile(size=5, sha256="a" * 64, files=1, unpacked=5)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result(artifact=archive)))
        row = self.apiserver.row(offer.attempt)
        self.assertEqual(AttemptState.FAILED, row.state)
        self.assertIn("has not arrived", row.reason)

    def test_an_upload_that_will_never_go_on_is_discarded_at_the_next_start(self) -> None:
        _builder, offer = self.publishing(Publish(static=True))
        self.apiserver.artifacts.append(offer.attempt, 0, b"half of it")
        self.restart()
        self.assertEqual([offer.attempt], self.apiserver.artifacts.under_way())
        self.ledger.now(attempts.lose, offer.attempt, Holder(offer.lease, "one"), "gone", 9)
        self.restart()
        self.assertEqual([], self.apiserver.artifacts.under_way())

    def test_an_upload_is_granted_within_bounds(self) -> None:
        builder, offer = self.publishing(Publish(static=True))
        for size, sha256 in ((0, "a" * 64), (-1, "a" * 64), (1 << 60, "a" * 64), (5, "../../x")):
            with self.assertRaises(CallFailed) as caught:
                builder.call(
                    m.WantUpload(attempt=offer.attempt, lease=offer.lease, size=size, sha256=sha256), m.UploadGrant
                )
            self.assertEqual("refused", caught.exception.code)

    def upload(
        self, builder: Builder, offer: m.Offer, text: str, stored: frozenset[bytes] = frozenset()
    ) -> ArtifactFile:
        """Put an archive with one page into the artifact store, as an upload does."""
        output = self.folder / "output"
        output.mkdir(exist_ok=True)
        (output / "index.html").write_text(text)
        path = self.folder / "archive.tar.gz"
        manifest = create(output, path, stored=stored)
        data = path.read_bytes()
        archive = ArtifactFile(
            size=len(data), sha256=hashlib.sha256(data).hexdigest(), files=len(manifest.files), unpacked=len(text)
        )
        want = m.WantUpload(attempt=offer.attempt, lease=offer.lease, size=archive.size, sha256=archive.sha256)
        grant = builder.call(want, m.UploadGrant)
        self.assertIsNotNone(self.apiserver.grants.grant_for(offer.attempt, grant.token))
        self.assertIsNone(self.apiserver.grants.grant_for(offer.attempt, grant.token + "x"))
        self.apiserver.artifacts.append(offer.attempt, 0, data)
        self.apiserver.artifacts.complete(offer.attempt, archive.size, archive.sha256)
        self.ledger.now(artifacts.mark_complete, offer.attempt, archive.sha256)
        self.assertTrue(builder.call(want, m.UploadGrant).complete)
        return archive


def _details(connection: Connection, action: str) -> list[str]:
    """What the audit says of all that was done by this action."""
    return list(connection.execute(select(audit.c.detail).where(audit.c.action == action)).scalars())


class Secrets(LinkCase):
    """The secrets of builds."""

    def secret(self, name: str = "KEY", *, steps: Any = "all", builds: Any = "all") -> None:
        """Set a secret of the project, whose value is made of its name."""
        value = f"value of {name}"
        self.ledger.project()
        self.ledger.now(
            projects.set_build_secret,
            "hello",
            name,
            self.apiserver.secret_box.seal(value),
            characters=len(value),
            steps=steps,
            builds=builds,
            now=7,
        )

    def want(self, offer: m.Offer, **more: Any) -> m.WantSecrets:
        """What a builder asks for the runner of this attempt."""
        asked = m.WantSecrets(attempt=offer.attempt, lease=offer.lease, repository=offer.repository, uses=offer.asks)
        return msgspec.structs.replace(asked, **more)

    def test_an_attempt_is_given_what_is_for_its_kind_of_build(self) -> None:
        self.secret("A", steps="install")
        self.secret("B", builds="production")
        self.secret("C", builds="previews")
        builder, offer = self.running()
        self.assertEqual(("production", ["steps"]), (offer.context, offer.asks))
        given = builder.call(self.want(offer), GivenSecrets)
        self.assertEqual(
            GivenSecrets(
                granted=True,
                steps=[
                    GivenSecret(name="A", value="value of A", steps="install"),
                    GivenSecret(name="B", value="value of B"),
                ],
            ),
            given,
        )
        self.assertEqual(given, builder.call(self.want(offer), GivenSecrets))
        self.assertNotIn("value of", msgspec.json.encode(offer).decode())
        details = self.ledger.now(_details, "secrets.give")
        self.assertEqual(2, len(details))
        self.assertIn('"secrets":"A, B"', details[0])
        self.assertNotIn("value of", str(details))

    def test_a_preview_is_given_no_secret_of_production(self) -> None:
        self.secret("B", builds="production")
        self.ledger.queue(ref="feature")
        builder = Builder(self.apiserver)
        builder.sync()
        offer = self.offered(builder)
        builder.run(offer)
        self.assertEqual(("preview", []), (offer.context, offer.asks))
        self.assertEqual(GivenSecrets(granted=True), builder.call(self.want(offer), GivenSecrets))

    def test_what_asks_after_a_step_has_begun_may_be_the_build(self) -> None:
        self.secret()
        builder, offer = self.running()
        builder.log(offer, Lines(1, 9, 0, [StepStarted(0, "checkout", "")]))
        refused = builder.call(self.want(offer), GivenSecrets)
        self.assertFalse(refused.granted)
        self.assertEqual([], refused.steps)
        self.assertIn("the step checkout has begun", refused.reason)

    def test_other_sources_are_given_none(self) -> None:
        self.secret()
        builder, offer = self.running()
        given = builder.call(self.want(offer, repository="https://git.example/other"), GivenSecrets)
        self.assertEqual([], given.steps)
        self.ledger.now(projects.update, "hello", {"repository": "https://git.example/other"}, 9)
        self.secret("NEW")
        self.assertEqual([], builder.call(self.want(offer), GivenSecrets).steps)

    def test_a_void_lease_is_given_none(self) -> None:
        self.secret()
        builder, offer = self.running()
        with self.assertRaises(CallFailed):
            builder.call(self.want(offer, lease="f" * 16), GivenSecrets)
        self.assertEqual([m.Stop(attempt=offer.attempt, lease="f" * 16)], builder.take(m.Stop))

    def test_another_key_is_said(self) -> None:
        self.secret()
        builder, offer = self.running()
        self.ledger.now(lambda connection: connection.execute(update(build_secrets).values(sealed=b"elsewhere")))
        refused = builder.call(self.want(offer), GivenSecrets)
        self.assertEqual((False, []), (refused.granted, refused.steps))
        self.assertIn("its key is another", refused.reason)

    def test_a_builder_that_can_t_be_given_secrets_is_offered_none_that_needs_them(self) -> None:
        self.secret()
        attempt = self.ledger.queue()
        old = Builder(self.apiserver, "old")
        old.sync(features=())
        self.assertEqual([], old.take(m.Offer))
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row(attempt), Place())
        assert waiting is not None
        self.assertEqual("no_builder", waiting.code)
        self.assertIn("builder old can't be given secrets, which the project needs: update it", waiting.text)
        new = Builder(self.apiserver, "new")
        new.sync()
        self.assertEqual(attempt, self.offered(new).attempt)

    def test_a_builder_that_reads_no_settings_is_offered_no_project_that_has_some(self) -> None:
        """It would build the top of the repository, say, and be green."""
        attempt = self.ledger.queue()
        self.ledger.now(projects.update, "hello", {"settings": BuildSettings(root="apps/web")}, 1)
        old = Builder(self.apiserver, "old")
        old.sync(features=["secrets"])
        self.assertEqual([], old.take(m.Offer))
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row(attempt), Place())
        assert waiting is not None
        self.assertIn("builder old can't read settings of builds, which the project needs", waiting.text)
        new = Builder(self.apiserver, "new")
        new.sync()
        self.assertEqual("apps/web", self.offered(new).settings.root)

    def test_an_offer_says_for_how_long_caches_are_kept(self) -> None:
        """By the project's rule, or the apiserver's. An older builder, which reads none, is offered it too."""
        self.apiserver = Apiserver(self.folder, self.ledger, Clock(), retention=Rules(caches=30))
        own: dict[str, Own] = {"a": Own(), "b": Own(caches=7), "c": Own(caches="forever")}
        for project, rules in own.items():
            self.ledger.queue(project)
            self.ledger.now(projects.update, project, {"retention": rules}, 1)
        builder = Builder(self.apiserver)
        builder.sync(slots=3, features=[each for each in m.FEATURES if each != m.CACHES_KEPT])
        first = self.offered(builder)
        builder.run(first)
        said = {offer.project: offer.caches_kept for offer in [first, *builder.take(m.Offer)]}
        self.assertEqual({"a": 30, "b": 7, "c": None}, said)

    def test_what_needs_no_secret_goes_on_at_an_older_builder(self) -> None:
        """However many before it wait for another builder."""
        self.secret(builds="production")
        for _ in range(5):
            self.ledger.queue()
        preview = self.ledger.queue(ref="feature")
        old = Builder(self.apiserver, "old")
        old.sync(features=())
        self.assertEqual(preview, self.offered(old).attempt)


class Checkouts(LinkCase):
    """What the checkout of a private repository is given, and what it tells."""

    def private(self, repository: str = "https://ada@git.example/hello") -> None:
        """The project, with a token and this repository."""
        self.ledger.project()
        self.ledger.now(projects.update, "hello", {"repository": repository, "default_ref": "HEAD"}, 7)
        project = self.about()
        sealed = self.apiserver.secret_box.seal("glpat-1")
        if repository.startswith("ssh:"):
            self.ledger.now(access.set_key, project.id, repository, sealed, "ssh-ed25519 AAAA x", 7)
        else:
            self.ledger.now(access.set_token, project.id, repository, sealed, 7)

    def about(self) -> ProjectRow:
        """The project."""
        row = self.ledger.now(projects.get, "hello")
        assert row is not None
        return row

    def want(self, offer: m.Offer) -> m.WantSecrets:
        """What a builder asks for the runner of this attempt."""
        return m.WantSecrets(attempt=offer.attempt, lease=offer.lease, repository=offer.repository, uses=offer.asks)

    def ends(self, builder: Builder, offer: m.Offer, **more: Any) -> AttemptRow:
        """The attempt ends, and its checkout has found this."""
        end = msgspec.structs.replace(result(), **more)
        builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=end))
        return self.apiserver.row(offer.attempt)

    def test_an_attempt_is_given_the_token_for_its_host(self) -> None:
        self.private()
        builder, offer = self.running()
        self.assertEqual((["checkout"], True), (offer.asks, offer.head))
        self.assertNotIn("glpat", msgspec.json.encode(offer).decode())
        given = builder.call(self.want(offer), GivenSecrets)
        self.assertEqual(Access(host="https://git.example", username="ada", token="glpat-1"), given.checkout)
        self.assertIn("https://git.example", self.ledger.now(_details, "secrets.give")[0])

    def test_after_a_change_of_the_host_it_is_given_nothing(self) -> None:
        self.private()
        builder, offer = self.running()
        self.ledger.now(projects.update, "hello", {"repository": "https://evil.example/hello"}, 9)
        given = builder.call(self.want(offer), GivenSecrets)
        self.assertEqual((False, None), (given.granted, given.checkout))
        self.assertIn("no credentials for https://git.example any more", given.reason)

    def test_the_host_key_of_the_first_contact_is_pinned(self) -> None:
        self.private("ssh://git@git.example/hello")
        builder, offer = self.running()
        given = builder.call(self.want(offer), GivenSecrets)
        self.assertEqual(Access(host="ssh://git.example", username="git", key="glpat-1"), given.checkout)
        line = "git.example ssh-ed25519 AAAA"
        self.ends(builder, offer, outcome="failed", host_keys=[line])
        pinned = self.about().access
        assert pinned is not None
        self.assertEqual([line], pinned.known_hosts)

    def test_a_preview_that_finds_out_that_it_is_of_head_is_built_again_for_production(self) -> None:
        """Else the first build of a project's own branch, by its name, would never go live."""
        self.private()
        builder, offer = self.running()
        self.assertEqual("preview", offer.context)
        self.ends(builder, offer, head="main")
        again = [said for said in builder.heard if isinstance(said, m.Offer)][-1]
        number = offer.attempt.partition("-")[0]
        self.assertEqual((f"{number}-2", "production"), (again.attempt, again.context))
        self.assertIn("attempt 1 has found out that HEAD is main", self.apiserver.row(again.attempt).requested_by)

    def test_a_preview_of_another_branch_stays_one(self) -> None:
        self.private()
        builder, offer = self.running(ref="fix")
        self.ends(builder, offer, head="main")
        self.assertEqual([], [said for said in builder.heard if isinstance(said, m.Offer)])
        self.assertEqual([], self.ledger.now(attempts.next_queued, 9))

    def test_what_head_stands_for_goes_live(self) -> None:
        self.private()
        builder, offer = self.running()
        self.assertEqual("preview", offer.context)  # of main, and nobody knows yet what HEAD is
        self.ends(builder, offer, outcome="failed", head="main")
        self.assertEqual("main", self.about().head)
        for ref in ("HEAD", "main", "refs/heads/main", "fix"):
            self.ledger.queue(ref=ref)
        offers = self.ledger.now(attempts.next_queued, 9)
        self.assertEqual(["production"] * 3 + ["preview"], [offer.context for offer in offers])
        self.ledger.now(projects.update, "hello", {"repository": "https://git.example/other"}, 9)
        self.assertEqual("", self.about().head)
