"""What the ledger has told of its writes, on real SQLite files: once for a group, and nothing of what was undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.storage_fixtures import NOW, add_build, add_project, new_ledger
from twistedipc.cli.ledger import Turns
from twistedipc.storage import attempts, builders, domains, logs, projects, rings, tokens
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.rings import Rings, Topic


class Told:
    """A `rings.Ringing` that keeps what it is given."""

    def __init__(self) -> None:
        self.carried: list[Rings] = []
        self.committed_: list[Rings] = []
        self.fails = False

    def carry(self, connection: Connection, rings: Rings) -> None:
        self.carried.append(rings)
        if self.fails:
            raise RuntimeError("it can't be carried")

    def committed(self, rings: Rings) -> None:
        self.committed_.append(rings)


def _ring(connection: Connection, topic: Topic, hint: str, fault: Exception | None = None) -> None:
    rings.note(connection, topic, hint)
    if fault is not None:
        raise fault


def told_of(path: Path, told: Told, *writes: Callable[[Ledger], Any]) -> list[Exception | None]:
    """Have a ledger make these writes as one group, which waits for the first. Return how each ended."""
    turns = Turns()
    ledger = Ledger(turns, f"sqlite:///{new_ledger(path)}", now=lambda: NOW, group_delay=0.05)
    ledger.ring_by(told)

    async def work() -> list[Exception | None]:
        await ledger.open()
        ended: list[Exception | None] = []
        for waiting in [write(ledger) for write in writes]:
            try:
                await waiting
                ended.append(None)
            except Exception as error:
                ended.append(error)
        await ledger.close()
        return ended

    return turns.run(work())


def test_a_group_is_told_once_and_without_what_was_undone(tmp_path: Path) -> None:
    told = Told()
    ended = told_of(
        tmp_path,
        told,
        lambda ledger: ledger.write(_ring, Topic.STATE, "1"),
        lambda ledger: ledger.write(_ring, Topic.STATE, "2", ValueError()),
        lambda ledger: ledger.write(_ring, Topic.STATE, "3"),
        lambda ledger: ledger.write(_ring, Topic.QUEUE, ""),
    )
    assert [type(each) for each in ended] == [type(None), ValueError, type(None), type(None)]
    assert told.carried == told.committed_ == [{Topic.STATE: {"1", "3"}, Topic.QUEUE: {""}}]


def test_a_group_that_is_not_committed_is_not_told(tmp_path: Path) -> None:
    told = Told()
    told.fails = True
    (error,) = told_of(tmp_path, told, lambda ledger: ledger.write(_ring, Topic.STATE, "1"))
    assert isinstance(error, LedgerUnavailable)
    assert told.committed_ == []


def _queued(connection: Connection) -> None:
    add_build(connection)


def _log(connection: Connection) -> None:
    logs.append(connection, [ChunkItem(attempt="1-1", first=1, count=1, data=b"{}\n")])


@pytest.mark.parametrize(
    ("change", "rung"),
    [
        (_queued, {Topic.STATE: {"2"}, Topic.QUEUE: {""}}),
        (lambda c: attempts.offer(c, "1-1", "lease", "one", NOW), {Topic.STATE: {"1"}}),
        (lambda c: attempts.note_cancel(c, "1-1", "enough"), {Topic.STATE: {"1"}, Topic.QUEUE: {""}}),
        (_log, {Topic.LOG: {"1-1"}}),
        (lambda c: tokens.revoke(c, 7, NOW), {Topic.TOKEN: {"7"}}),
        (lambda c: tokens.revoke_of_person(c, 7, NOW), {Topic.TOKEN: {""}}),
        (lambda c: projects.update(c, "shop", {"timeout": 60}, NOW), {Topic.PROJECT: {"shop"}}),
        (lambda c: domains.put(c, "shop", "a.example", main=True, redirect=False, now=NOW), {Topic.PROJECT: {"shop"}}),
        (
            lambda c: builders.add(c, name="one", pools=[], shared=False, id="k", sealed=b"", now=NOW),
            {Topic.BUILDER: {"one"}},
        ),
    ],
)
def test_what_a_change_is_told_as(tmp_path: Path, change: Callable[[Connection], object], rung: Rings) -> None:
    told = Told()

    def prepared(connection: Connection) -> None:
        add_project(connection)
        add_build(connection)

    def rings_of(ledger: Ledger) -> Any:
        made = ledger.write(prepared)
        return made.addCallback(lambda _: ledger.write(change))

    assert told_of(tmp_path, told, rings_of) == [None]
    assert told.committed_[-1] == rung
