"""The chaos command's own parts: the plan is its seed's, faults are real, and each thing that can be wrong is seen."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from twistedipc.attempts.journal import Journal, JournalReader
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import Annotation, Batch, Gap, Lines, LogDigest, Progress, StepStarted, Summary, encoder
from twistedipc.chaos import strangers
from twistedipc.chaos.damage import Way, damage, written
from twistedipc.chaos.database import OWN, database
from twistedipc.chaos.disk import SmallDisk
from twistedipc.chaos.injections import FAULTS
from twistedipc.chaos.oracle import Damage, LogCheck, Wrong
from twistedipc.chaos.outcome import Options, Outcome
from twistedipc.chaos.plan import ALONE, BUSY_TIMEOUT, MOST_AT_ONCE, FaultKind, faults, volleys
from twistedipc.chaos.platform import Platform
from twistedipc.chaos.postgresql import programs
from twistedipc.chaos.proxy import LinkProxy, ProxyReactor
from twistedipc.chaos.strangers import Answer
from twistedipc.chaos.workload import extra_starts
from twistedipc.cli.failures import Failure
from twistedipc.disk.files import write_file
from twistedipc.web.api.schemas import NewBuild


def test_the_same_seed_injects_the_same_faults() -> None:
    """The plan is the same to the millisecond; another seed gives another."""
    kinds = list(FaultKind)
    first, again, other = (list(itertools.islice(faults(seed, kinds), 100)) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert {fault.kind for fault in first[: len(kinds)]} == set(kinds)


@given(st.integers(0, 1 << 31), st.sets(st.sampled_from(FaultKind), min_size=1))
def test_volleys_are_the_same_faults_and_what_must_come_alone_does(seed: int, kinds: set[FaultKind]) -> None:
    """No fault is left out; none joins a second builder, and that joins none; there is an end to what overlaps."""
    some = list(itertools.islice(volleys(seed, sorted(kinds)), 60))
    together = [fault for volley in some for fault in volley]
    assert together == list(itertools.islice(faults(seed, sorted(kinds)), len(together)))
    for volley in some:
        assert 1 <= len(volley) <= MOST_AT_ONCE
        assert len(volley) == 1 or not {fault.kind for fault in volley} & ALONE
        assert [fault.joins for fault in volley] == [False] + [True] * (len(volley) - 1)


def test_each_kind_of_fault_is_done_somehow() -> None:
    assert set(FAULTS) == set(FaultKind)


def test_most_faults_are_short_and_some_are_long() -> None:
    """So that a thousand can be afforded; and SQLite's lock is sometimes held for longer than the ledger waits."""
    many = list(itertools.islice(faults(1, list(FaultKind)), 1000))
    assert sum(fault.seconds + fault.pause for fault in many) < 1500
    assert sum(fault.seconds > 2 for fault in many) > 20
    locks = [fault for fault in many if fault.kind is FaultKind.DATABASE_LOCKED]
    assert any(fault.seconds > BUSY_TIMEOUT for fault in locks)
    assert sum(fault.joins for fault in many) > 200


SEED, BUILD, LINES = 3, 42, 30


def value(what: object) -> str:
    """The text that the oracle prints."""
    return hashlib.sha256(f"{SEED}:{BUILD}:{what}".encode()).hexdigest()[:16]


def records() -> list[Any]:
    """The records of an oracle's log."""
    printed = [f"o {number} {value(number)}" for number in range(1, LINES + 1)]
    said = [Annotation("notice", f"a {number} {value(f'a{number}')}") for number in range(1, LINES // 10 + 1)]
    return [StepStarted(0, "oracle", "python"), "Fetching …", *printed, *said, Progress(1), Summary(value("summary"))]


def stream(found: list[Any], cuts: list[int], sha256: str | None = None) -> list[dict[str, Any]]:
    """The messages of a log with these records, cut into batches at these numbers."""
    digest = LogDigest()
    messages = []
    edges = sorted({0, len(found), *(cut for cut in cuts if cut < len(found))})
    for begin, end in itertools.pairwise(edges):
        batch = Lines(begin + 1, 0, 0, found[begin:end])
        digest.add(batch)
        messages.append(json.loads(encoder.encode(batch)))
    end_message = {
        "type": "end",
        "lines": len(found),
        "sha256": sha256 or digest.hexdigest(),
        "state": "succeeded",
        "complete": True,
    }
    return [*messages, end_message]


def check(messages: list[dict[str, Any]]) -> LogCheck:
    """What a viewer that gets these messages counts."""
    found = LogCheck(SEED, BUILD, LINES)
    for message in messages:
        found.take(message)
    return found


@given(st.lists(st.integers(1, LINES + 1)))
def test_a_right_log_is_right_however_it_is_cut(cuts: list[int]) -> None:
    """Nothing wrong, all checked."""
    found = check(stream(records(), cuts))
    assert found.wrong == type(found.wrong)()
    assert found.checked == LINES


@given(st.integers(1, LINES), st.integers(0, 1000))
def test_each_fault_is_seen(number: int, seed: int) -> None:
    """A line that is missing, doubled, swapped, changed; and an end that doesn't agree."""
    chance = random.Random(seed)
    right = records()
    at = number + 1
    missing = stream(right, [at, at + 1])
    del missing[1]
    assert check(missing).wrong.lost >= 1
    doubled = stream(right, [at, at + 1])
    doubled.insert(1, doubled[0])
    assert check(doubled).wrong.duplicated >= 1
    unprinted = [record for index, record in enumerate(right) if index != at]
    wrong = check(stream(unprinted, [])).wrong
    assert wrong.reordered + wrong.lost >= 1
    if number < LINES:
        swapped = right.copy()
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
        assert check(stream(swapped, [])).wrong.reordered >= 1
    changed = right.copy()
    changed[at] = changed[at][:-1] + chance.choice("xyz")
    assert check(stream(changed, [])).wrong.changed == 1
    assert check(stream(right, [], sha256="0" * 64)).wrong.unverified == 1


def test_a_gap_counts_as_lost() -> None:
    """A gap is told, and counts as a loss."""
    found = LogCheck(SEED, BUILD, LINES)
    found.take({"type": "gap", "from": 1, "to": 7, "reason": "damaged"})
    assert found.wrong.lost == 7


@given(st.integers(1, LINES), st.integers(1, LINES))
def test_what_comes_after_a_gap_is_checked_on(first: int, last: int) -> None:
    """The gap is the loss, and its log isn't verified; nothing else is wrong with it."""
    first, last = sorted((first, last))
    messages = stream(records(), [first, last + 1])
    begin = messages[1]["first"]
    gap = {"type": "gap", "from": begin, "to": begin + len(messages[1]["lines"]) - 1, "reason": "damaged"}
    wrong = check([messages[0], gap, *messages[2:]]).wrong
    assert wrong == type(wrong)(lost=last + 1 - first, unverified=1)


def test_what_is_wrong_with_remarks_is_seen() -> None:
    """One that is missing, doubled, changed, or before its lines; a last progress and a summary that aren't there."""
    right, first = records(), LINES + 2
    for damaged, expected in (
        (right[:first] + right[first + 1 :], "reordered"),
        (right[: first + 2] + right[first + 3 :], "lost"),
        ([*right[: first + 1], *right[first:]], "reordered"),
        ([*right[:first], Annotation("notice", "a 1 0123"), *right[first + 1 :]], "changed"),
        ([*right[:10], right[first], *right[10:first], *right[first + 1 :]], "reordered"),
        ([record for record in right if not isinstance(record, Progress)], "lost"),
        ([record for record in right if not isinstance(record, Summary)], "lost"),
        ([*right, Summary("another")], "changed"),
    ):
        wrong = check(stream(damaged, [])).wrong
        assert getattr(wrong, expected) == wrong.total == 1


def test_a_gap_that_damage_has_made_is_right_and_nothing_else_is() -> None:
    """Once, of exactly these records, and with an end that doesn't say that the log is complete."""

    def wrong(
        damage: Damage, *gaps: Gap, complete: bool = False, state: str = "failed", before: Damage | None = None
    ) -> Wrong:
        found = LogCheck(SEED, BUILD, LINES, [damage] if before is None else [before, damage])
        whole = stream(records(), [10, 20])
        messages = [whole[0], *(json.loads(encoder.encode(gap)) for gap in gaps), whole[2], whole[3]]
        for message in messages if gaps else whole:
            found.take({**message, "complete": complete, "state": state} if message["type"] == "end" else message)
        return found.wrong

    gap = Gap(11, 20, "damaged")
    assert wrong(Damage(11, 11, 20), gap) == Wrong()
    assert wrong(Damage(5, 13, 20), gap) == Wrong()
    assert wrong(Damage(11, 11, 20), gap, complete=True) == Wrong(unverified=1)
    assert wrong(Damage(11, 11, 20), gap, state="succeeded") == Wrong(unverified=1)
    assert wrong(Damage(12, 12, 20), gap) == Wrong(lost=10, unsaid=1)
    assert wrong(Damage(11, 11, 21), gap) == Wrong(lost=10, unsaid=1)
    assert wrong(Damage(11, 11, 20), Gap(11, 15, "x"), Gap(16, 20, "x")) == Wrong(lost=10, unsaid=1)
    assert wrong(Damage(11, 11, 20), complete=True, state="succeeded") == Wrong(unsaid=1)
    # A segment is gone in which something else had been done.
    assert wrong(Damage(5, 13, 20), gap, before=Damage(15, 15, 17)) == Wrong()
    assert wrong(Damage(5, 13, 20), gap, before=Damage(8, 8, 10)) == Wrong(unsaid=1)


@pytest.mark.parametrize("way", Way)
def test_a_damaged_journal_lacks_exactly_what_it_is_said_to(tmp_path: Path, way: Way) -> None:
    """Whatever the chance. What a builder may have read is left alone, but with a segment that is gone."""
    for seed in range(20):
        folder = tmp_path / str(seed) / f"7-1-{'ab' * 16}"
        folder.mkdir(parents=True)
        journal = Journal(folder, lambda: None, disk=os)
        for first in range(1, 31, 3):
            journal.append(Lines(first, 1, 0, ["one", "two", "three"]))
        before = written(folder.parent)
        assert before == {folder: 30}
        assert damage(before, way, random.Random(seed)) is None
        for first in range(31, 61, 3):
            journal.append(Lines(first, 1, 0, ["one", "two", "three"]))
        assert way is not Way.REMOVE or damage(before, way, random.Random(seed)) is None
        result = Result(outcome="succeeded", lines=60, sha256=journal.hexdigest(), started=1, ended=2)
        write_file(folder / "result.json", result)
        found = damage(before, way, random.Random(seed))
        assert found is not None
        attempt, done = found
        assert attempt == "7-1"
        reader = JournalReader(folder)
        reader.ends_at(60)
        batches = [batch for batch, _size in iter_reader(reader)]
        (gap,) = [batch for batch in batches if isinstance(batch, Gap)]
        assert done.earliest <= gap.first <= done.latest
        assert gap.to == done.last
        assert sum(batch.end - batch.first for batch in batches) == 60
        assert way is Way.REMOVE or gap.first > 30


def iter_reader(reader: JournalReader) -> Iterator[tuple[Batch, int]]:
    """All that there is."""
    while found := reader.read():
        yield from found


def test_extra_starts_are_counted(tmp_path: Path) -> None:
    """Each attempt may have been written down once."""
    starts = tmp_path / "starts"
    assert extra_starts(starts) == 0
    starts.write_text("1-1\n2-1\n1-1\n1-2\n1-1\n")
    assert extra_starts(starts) == 2


def test_any_count_that_is_not_0_is_bad() -> None:
    """Whichever it is."""
    assert Outcome(seed=1).good
    numbers = [
        *["builds_lost", "builds_doubled", "extra_starts", "disagreements", "unended", "folders_left"],
        *["processes_left", "wrong_answers", "died", "tracebacks", "not_recovered"],
    ]
    for name in numbers:
        outcome = Outcome(seed=1)
        setattr(outcome, name, 1)
        assert not outcome.good
    for wrong in ("wrong", "stored_wrong"):
        for name in ("lost", "duplicated", "reordered", "changed", "unverified", "unsaid"):
            outcome = Outcome(seed=1)
            setattr(getattr(outcome, wrong), name, 1)
            assert not outcome.good


# -- the platform, seen from outside ---------------------------------------------------------------------------------


@pytest.fixture
def outcome() -> Outcome:
    return Outcome(seed=1)


@pytest.fixture
def platform(tmp_path: Path, outcome: Outcome) -> Platform:
    """A platform whose services were not started."""
    options = Options(folder=tmp_path / "it", seed=1, rounds=1, seconds=None, kinds=(FaultKind.KILL_BOTH,))
    return Platform(options, outcome)


def test_a_process_that_a_build_has_left_is_found(platform: Platform) -> None:
    """The process is found by the oracle's mark in its environment, and by its attempt."""
    environment = {**os.environ, "ORACLE_STARTS": str(platform.starts), "TWISTEDIPC_ATTEMPT": "7-1"}
    sleeping = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(sleeping, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        assert platform.processes() == [left.pid]
        assert platform.processes("7-1") == [left.pid]
        assert platform.processes("7-2") == []
        left.kill()
    assert platform.processes() == []


def test_tracebacks_in_logs_are_counted_and_the_first_is_shown(platform: Platform, outcome: Outcome) -> None:
    """The first is shown with the line that says what failed."""
    (platform.folder / "builder-1.log").write_text("all is well\n")
    os.utime(platform.folder / "builder-1.log", (1, 1))
    (platform.folder / "apiserver-2.log").write_text("it failed\n\tTraceback (most recent call last):\n\t  File\n")
    os.utime(platform.folder / "apiserver-2.log", (2, 2))
    (platform.folder / "builder-3.log").write_text("Unhandled error in Deferred\n")
    platform.count_tracebacks()
    assert outcome.tracebacks == 2
    assert outcome.first_traceback.startswith("apiserver-2.log: it failed\n")


def test_a_lock_keeps_others_from_writing(platform: Platform) -> None:
    """The lock is held for the given time, and no longer."""
    holding = threading.Thread(target=platform.database.lock, args=(0.3, False))
    holding.start()
    held = False
    while holding.is_alive():
        done = subprocess.run(
            [sys.executable, "-c", _TRY_TO_WRITE, str(platform.folder / "apiserver" / "ledger.sqlite")],
            capture_output=True,
            text=True,
            check=False,
        )
        held = held or "locked" in done.stderr
    holding.join()
    assert held


_TRY_TO_WRITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"


def test_a_postgresql_of_its_own_is_locked_frozen_and_killed(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL isn't installed")
    its = database(OWN, tmp_path)
    try:
        engine = create_engine(its.url, poolclass=NullPool, connect_args={"connect_timeout": 2})

        def used() -> bool:
            try:
                with engine.begin() as connection:
                    connection.exec_driver_sql("SET LOCAL lock_timeout = 10")
                    connection.exec_driver_sql("INSERT INTO builds VALUES (1)")
            except OperationalError:
                return False
            return True

        with engine.begin() as connection:
            for table in ("builds", "attempts", "log_chunks"):
                connection.exec_driver_sql(f"CREATE TABLE {table} (id integer)")
        for fault in (lambda: its.lock(0.5, False), lambda: its.freeze(2.5), lambda: its.kill(0.3)):
            assert used()
            doing = threading.Thread(target=fault)
            doing.start()
            refused = False
            while doing.is_alive():
                refused = not used() or refused
            doing.join()
            assert refused
        assert used()
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE alembic_version (id integer)")
        with pytest.raises(Failure, match="that database has a ledger already"):
            database(its.url, tmp_path)
    finally:
        its.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_small_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    """Writers get ENOSPC, and afterwards no more; what is on the disk can be kept."""
    disk = SmallDisk(tmp_path / "disk")
    if not disk.mount():
        pytest.skip("nothing can be mounted here")
    file = tmp_path / "disk" / "file"
    try:
        file.write_bytes(bytes(100_000))
        assert disk.fill()
        with pytest.raises(OSError, match="No space left"):
            file.write_bytes(bytes(1_000_000))
        assert disk.make_room()
        file.write_bytes(bytes(1_000_000))
    finally:
        disk.unmount(keep=True)
    assert not os.path.ismount(tmp_path / "disk")
    assert file.stat().st_size == 1_000_000


# -- strangers -------------------------------------------------------------------------------------------------------


def test_an_answer_is_either_done_or_refused_for_now() -> None:
    """A 503 says when to come again; a 201 which build it is; and nothing else is right."""
    right = [Answer(0), Answer(201, build=3), Answer(503, retry_after="5"), Answer(429, retry_after="1")]
    wrong = [Answer(201), Answer(503), Answer(429), Answer(500), Answer(422), Answer(200, build=3)]
    assert all(answer.right for answer in right)
    assert not any(answer.right for answer in wrong)


@contextlib.contextmanager
def a_server_that_says_nothing() -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and what each connection has brought until it was closed or reset."""
    brought: list[bytes] = []
    threads: list[threading.Thread] = []

    def read(connection: socket.socket) -> None:
        data = b""
        with connection, contextlib.suppress(OSError):
            while more := connection.recv(1 << 16):
                data += more
        brought.append(data)

    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=read, args=(listening.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listening.getsockname()[1], brought
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def test_strangers_end_whatever_the_other_side_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that reads and never answers: garbage, floods and wishes are over in seconds, and all of it was sent."""
    monkeypatch.setattr(strangers, "PATIENCE", 0.3)
    monkeypatch.setattr(strangers, "ANSWER_TIMEOUT", 0.3)
    began = time.monotonic()
    with a_server_that_says_nothing() as (port, brought):
        answers = strangers.throw_at_api(port, random.Random(1))
        assert strangers.flood(port, "token", "/stream", 0.0, 40) == 40
        wishes = strangers.storm(port, "token", "/builds", NewBuild(), "the key", 20)
    assert answers == [b""] * len(answers)
    assert wishes == [Answer(0)] * 20
    assert len(brought) == len(answers) + 40 + 20
    assert sum(b"idempotency-key: the key" in data.lower() for data in brought) == 20
    assert max(map(len, brought)) > 100_000
    assert time.monotonic() - began < 120


# -- the proxy -------------------------------------------------------------------------------------------------------


class _Reader(Protocol):
    """Collects what arrives, by the pieces in which it does."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        if sum(map(len, self.pieces)) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class ProxyTests(TestCase):
    """Between two real sockets."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.front, self.back = (str(Path(folder.name) / name) for name in ("front", "back"))

    async def connect(self) -> tuple[LinkProxy, _Reader, _Reader]:
        """The proxy, and both ends of a connection through it."""
        other = _Reader()

        port = await UNIXServerEndpoint(reactor, self.back).listen(Factory.forProtocol(lambda: other))
        self.addCleanup(port.stopListening)
        proxy = LinkProxy(cast(ProxyReactor, reactor), Path(self.front), Path(self.back), 1)
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.stop()))
        dialled = await connectProtocol(UNIXClientEndpoint(reactor, self.front), _Reader())
        await other.made

        async def gone() -> None:
            proxy.reset()
            await dialled.lost
            await other.lost

        self.addCleanup(lambda: Deferred.fromCoroutine(gone()))
        return proxy, dialled, other

    async def test_shredded_bytes_arrive_in_order_and_in_pieces(self) -> None:
        proxy, dialled, other = await self.connect()
        sent = random.Random(3).randbytes(20_000)
        other.wanted = len(sent)
        proxy.shred(True)
        dialled.transport.write(sent)  # type: ignore[union-attr]
        await other.enough
        self.assertEqual(b"".join(other.pieces), sent)
        self.assertGreater(len(other.pieces), 20)
        self.assertLess(min(map(len, other.pieces)), 10)

    async def test_what_waits_to_be_shredded_comes_when_it_is_over_and_before_the_end(self) -> None:
        proxy, dialled, other = await self.connect()
        sent = random.Random(4).randbytes(300_000)
        other.wanted = len(sent)
        proxy.shred(True)
        dialled.transport.write(sent)  # type: ignore[union-attr]
        proxy.shred(False)
        await other.enough
        self.assertEqual(b"".join(other.pieces), sent)

    async def test_held_in_one_direction(self) -> None:
        proxy, dialled, other = await self.connect()
        proxy.hold(True)
        dialled.transport.write(b"forward")  # type: ignore[union-attr]
        other.transport.write(b"back")  # type: ignore[union-attr]
        await dialled.enough
        self.assertEqual((dialled.pieces, other.pieces), ([b"back"], []))
        proxy.hold()
        await other.enough
        self.assertEqual(other.pieces, [b"forward"])
