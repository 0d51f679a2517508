"""Logs: chunks without holes or overlaps, found by record number, and the steps that their events tell of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.properties import examples
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from twistedipc.builds.attempt import StepResult
from twistedipc.builds.logs import Gap, Lines, LogDigest, StepEnded, StepStarted
from twistedipc.storage import attempts, logs
from twistedipc.storage.errors import LogOrder, NotFound
from twistedipc.storage.logs import ChunkItem


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1")
        yield connection


def item(first: int, count: int, attempt: str = "1-1", size: int = 0) -> ChunkItem:
    """A chunk of ``count`` lines, each of which says its number."""
    batch = Lines(first=first, time=NOW, step=0, lines=[f"line {first + n}" + "x" * size for n in range(count)])
    return ChunkItem(attempt=attempt, first=first, count=count, data=msgspec.json.encode(batch) + b"\n")


def test_appending_and_reading(ledger: Connection) -> None:
    assert logs.bounds(ledger, "1-1") == (1, 0)
    assert logs.read(ledger, "1-1", 1, 1000) == []
    items = [item(1, 3), item(4, 1), item(5, 10)]
    logs.append(ledger, items[:1])
    logs.append(ledger, items[1:])
    logs.append(ledger, [])
    assert logs.next_record(ledger, "1-1") == 15
    assert logs.bounds(ledger, "1-1") == (15, sum(len(one.data) for one in items))
    chunks = logs.read(ledger, "1-1", 1, 1 << 20)
    assert [(chunk.first, chunk.count, chunk.data) for chunk in chunks] == [
        (one.first, one.count, one.data) for one in items
    ]
    assert [chunk.first for chunk in logs.read(ledger, "1-1", 3, 1 << 20)] == [1, 4, 5]
    assert [chunk.first for chunk in logs.read(ledger, "1-1", 4, 1 << 20)] == [4, 5]
    assert [chunk.first for chunk in logs.read(ledger, "1-1", 14, 1)] == [5]
    for beyond in (15, 1 << 40, 1 << 80):
        assert logs.read(ledger, "1-1", beyond, 1 << 20) == []
    for before in (0, -1, -(1 << 80)):
        assert [chunk.first for chunk in logs.read(ledger, "1-1", before, 1)] == [1]


def test_logs_do_not_mix(ledger: Connection) -> None:
    other = f"{add_build(ledger).id}-1"
    run(ledger, other, "b" * 16)
    logs.append(ledger, [item(1, 2), item(1, 5, other), item(3, 1)])
    assert logs.next_record(ledger, "1-1") == 4
    assert logs.next_record(ledger, other) == 6
    assert [chunk.count for chunk in logs.read(ledger, "1-1", 1, 1000)] == [2, 1]


@pytest.mark.parametrize("first", [1, 2, 3, 5, 6, 0, -1])
def test_holes_and_overlaps_are_refused(ledger: Connection, first: int) -> None:
    logs.append(ledger, [item(1, 3)])
    with pytest.raises(LogOrder, match=f"goes on with record 4, not {first}") as refused:
        logs.append(ledger, [item(first, 1)])
    assert (refused.value.attempt, refused.value.next_record, refused.value.ended) == ("1-1", 4, False)
    assert logs.next_record(ledger, "1-1") == 4


def test_all_items_or_none(ledger: Connection) -> None:
    with pytest.raises(LogOrder), ledger.begin_nested():  # as the ledger's writer does it
        logs.append(ledger, [item(1, 3), item(5, 1)])
    assert logs.bounds(ledger, "1-1") == (1, 0)
    assert logs.read(ledger, "1-1", 1, 1000) == []


def test_after_the_end_nothing_comes(ledger: Connection) -> None:
    logs.append(ledger, [item(1, 3)])
    attempts.lose(ledger, "1-1", HOLDER, "gone", NOW)
    with pytest.raises(LogOrder, match="has ended with record 3") as refused:
        logs.append(ledger, [item(4, 1)])
    assert refused.value.ended


def test_what_is_not_there(ledger: Connection) -> None:
    with pytest.raises(LogOrder) as refused:
        logs.append(ledger, [item(1, 1, "9-1")])
    assert refused.value.next_record == 0
    with pytest.raises(NotFound, match="9-1"):
        logs.next_record(ledger, "9-1")
    assert logs.read(ledger, "9-1", 1, 1000) == []
    assert logs.verify(ledger, "9-1") == (0, LogDigest().hexdigest())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(50))
@given(
    sends=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), max_size=40),
    reads=st.lists(st.tuples(st.integers(-1, 60), st.integers(1, 400)), max_size=10),
)
def test_whatever_is_sent_the_log_is_whole(
    ledger: Connection, sends: list[tuple[int, int]], reads: list[tuple[int, int]]
) -> None:
    with ledger.begin_nested() as savepoint:
        digest = LogDigest()
        stored: list[ChunkItem] = []
        for first, count in sends:
            next_record = sum(one.count for one in stored) + 1
            sent = item(first, count)
            if first == next_record:
                logs.append(ledger, [sent])
                stored.append(sent)
                digest.add(msgspec.json.decode(sent.data, type=Lines))
            else:
                with pytest.raises(LogOrder):
                    logs.append(ledger, [sent])
        assert logs.bounds(ledger, "1-1") == (digest.count + 1, sum(len(one.data) for one in stored))
        assert logs.verify(ledger, "1-1") == (digest.count, digest.hexdigest())
        for first, limit in reads:
            wanted = [one for one in stored if one.first + one.count > first]
            got = logs.read(ledger, "1-1", first, limit)
            assert [chunk.data for chunk in got] == [one.data for one in wanted[: len(got)]]
            assert bool(got) == bool(wanted)
            if len(got) > 1:
                assert sum(len(chunk.data) for chunk in got) <= limit
            if got and len(got) < len(wanted):
                assert sum(len(chunk.data) for chunk in got) + len(wanted[len(got)].data) > limit
        savepoint.rollback()


def test_verifying_reads_more_than_one_look_into_the_index_gives(
    ledger: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MOST_CHUNKS", 3)
    digest = LogDigest()
    for number in range(20):
        sent = item(number * 2 + 1, 2)
        logs.append(ledger, [sent])
        digest.add(msgspec.json.decode(sent.data, type=Lines))
    assert logs.verify(ledger, "1-1") == (40, digest.hexdigest())


def test_a_log_with_a_gap_has_a_count_and_no_digest(ledger: Connection) -> None:
    gap = Gap(4, 9, "the journal is damaged")
    data = item(1, 3).data + msgspec.json.encode(gap) + b"\n" + item(10, 1).data
    logs.append(ledger, [ChunkItem(attempt="1-1", first=1, count=10, data=data)])
    logs.append(ledger, [item(11, 2)])
    assert logs.verify(ledger, "1-1") == (12, "")
    for first in (1, 4, 7, 10):
        assert [chunk.first for chunk in logs.read(ledger, "1-1", first, 1 << 20)] == [1, 11]


# -- steps -----------------------------------------------------------------------------------------------------------


def steps_after(connection: Connection, events: list[tuple[int, StepStarted | StepEnded]]) -> list[StepResult]:
    first = logs.next_record(connection, "1-1")
    logs.append(connection, [ChunkItem(attempt="1-1", first=first, count=1, data=b"{}\n", events=events)])
    row = attempts.get(connection, "1-1")
    assert row is not None
    return row.steps


def test_steps_are_what_the_events_tell(ledger: Connection) -> None:
    (step,) = steps_after(ledger, [(NOW, StepStarted(0, "install", "npm ci"))])
    assert step == StepResult(index=0, name="install", command="npm ci", outcome="running", started=NOW, ended=0)
    taken = steps_after(ledger, [(NOW + 7, StepEnded(0, "succeeded", 7, 0)), (NOW + 8, StepStarted(1, "build", ""))])
    assert [(one.outcome, one.ended, one.exit_code) for one in taken] == [
        ("succeeded", NOW + 7, 0),
        ("running", 0, None),
    ]


def test_nonsense_about_steps_harms_nothing(ledger: Connection) -> None:
    huge = 1 << 80
    taken = steps_after(
        ledger,
        [
            (NOW, StepEnded(3, "succeeded", 1)),  # never begun
            (NOW, StepStarted(huge, "x", "")),
            (NOW, StepStarted(-1, "x", "")),
            (huge, StepStarted(0, "\ud800", "\0")),
            (NOW, StepStarted(0, "twice", "")),
            (NOW, StepEnded(0, "nonsense", -1, huge)),
        ],
    )
    assert [(one.index, one.name, one.outcome, one.exit_code) for one in taken] == [(0, "twice", "failed", None)]
