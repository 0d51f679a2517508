"""A PostgreSQL that doesn't answer: frozen, cut off, or started again. Nothing hangs, and all goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from sqlalchemy import URL, Connection, make_url, text
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from tests.postgres import PostgreSQL, running_postgresql
from tests.test_web_routes import _path as path_of
from tests.web_world import Answer, World, eventually
from twistedipc.builds.scopes import SCOPES
from twistedipc.storage import projects
from twistedipc.storage.ledger import LedgerUnavailable
from twistedipc.web.api.route import Route
from twistedipc.web.api.routes import ROUTES

reactor: Any = global_reactor

pytestmark = pytest.mark.long  # each waits until the ledger gives a server up, which takes seconds

#: Seconds within which whoever asks is told that the database can't be used.
TOLD = 5.0

servers: list[PostgreSQL] = []


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """One for all tests of this module."""
    with running_postgresql() as running:
        servers.append(running)
        yield
        servers.clear()


class OnPostgreSQL(World):
    """The API, with its ledger on the module's server."""

    def address(self) -> URL:
        (running,) = servers
        running.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return make_url(running.url)

    async def told(self, *asked: Deferred[Any]) -> list[object]:
        """How these end, which mustn't take long."""
        begun = time.monotonic()
        ended = await gatherResults([each.addBoth(_value) for each in asked])
        assert time.monotonic() - begun < TOLD
        return ended


def _value(result: object) -> object:
    return result.value if isinstance(result, Failure) else result


class FrozenTests(OnPostgreSQL):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()

    async def test_each_route_says_so_and_goes_on_afterwards(self) -> None:
        (running,) = servers
        with running.frozen():
            begun = time.monotonic()
            answers = await gatherResults([Deferred.fromCoroutine(self._asked(route)) for route in ROUTES])
            assert time.monotonic() - begun < TOLD
            refused = set()
            for route, answer in zip(ROUTES, answers, strict=True):
                if answer.status == 503:
                    refused.add(route.name)
                    # Who asks for the service's health asks again in any case.
                    assert route.name == "show_health" or int(answer.headers["Retry-After"]) >= 1
                else:  # it needs no ledger for this
                    assert answer.status < 500, (route, answer.raw)
            # Who calls is looked up first. Of the others, these ask the ledger for what they show.
            assert refused >= {route.name for route in ROUTES if route.needs in SCOPES} | {"show_health"}
            # Also of those that come later, when no connection can be made.
            begun = time.monotonic()
            self.problem(await self.ask("GET", f"/api/v1/builds/{self.number}"), 503)
            assert time.monotonic() - begun < TOLD
        assert (await self.ask("GET", f"/api/v1/builds/{self.number}")).json["state"] == "queued"
        assert await self.build() > self.number

    async def _asked(self, route: Route) -> Answer:
        headers = {"Upgrade": "websocket"} if route.websocket else {}
        if route.body is not None:
            headers["Content-Type"] = "application/json"
        return await self.ask(route.method, path_of(route, self.number), b"{}", headers=headers)

    async def test_what_waits_behind_it_is_told_as_soon(self) -> None:
        (running,) = servers
        with running.frozen():
            asked = [self.ledger.read(projects.get, f"p{number}") for number in range(100)]
            asked += [self.ledger.write(projects.get, f"p{number}") for number in range(100)]
            for error in await self.told(*asked):
                assert isinstance(error, LedgerUnavailable)
                assert "hasn't answered for" in str(error) or "can't be reached" in str(error)
        assert await self.ledger.read(projects.get, "shop") is not None
        assert await self.ledger.write(projects.get, "shop") is not None


class StartedAgainTests(OnPostgreSQL):
    async def test_a_restart_costs_no_read_and_no_write(self) -> None:
        """The connections that the server has closed while nobody used them are no reason to refuse anybody."""
        (running,) = servers
        await self.project()
        await gatherResults([self.ledger.read(projects.get, f"p{number}") for number in range(8)])
        await deferToThread(running.stop)
        (error,) = await self.told(self.ledger.read(projects.get, "shop"))
        assert "can't be reached" in str(error)
        await deferToThread(running.start)
        found = await gatherResults([self.ledger.read(projects.get, f"p{number}") for number in range(8)])
        assert found == [None] * 8
        assert await self.ledger.write(projects.get, "shop") is not None
        await deferToThread(running.stop)
        await deferToThread(running.start)
        assert await self.ledger.read(projects.get, "shop") is not None
        assert await self.ledger.write(projects.get, "shop") is not None


class _End(Protocol):
    """One end of a line. ``other``: where its bytes go."""

    other: _End | None = None

    def __init__(self, line: Line) -> None:
        self._line = line
        self._early = bytearray()

    def connectionMade(self) -> None:
        self._line.ends.append(self)
        self._line.pause(self)

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self._early += data
        else:
            cast(Any, self.other.transport).write(data)

    def lead_to(self, other: _End) -> None:
        """Join two ends."""
        self.other, other.other = other, self
        for each in (self, other):
            early, each._early = each._early, bytearray()
            each.dataReceived(bytes(early))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._line.ends.remove(self)
        if self.other is not None:
            cast(Any, self.other.transport).loseConnection()


class _Listening(_End):
    def connectionMade(self) -> None:
        super().connectionMade()
        connecting = UNIXClientEndpoint(reactor, self._line.path).connect(Factory.forProtocol(lambda: _End(self._line)))
        connecting.addCallback(lambda other: self.lead_to(cast(_End, other)))


class Line:
    """A network between the ledger and the server, which can stop to carry anything."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.ends: list[_End] = []
        self._cut = False
        factory = Factory.forProtocol(lambda: _Listening(self))
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.number: int = self._port.getHost().port

    def cut(self) -> None:
        """Carry nothing more, in either direction; also of connections that are made later."""
        self._cut = True
        self._all("pauseProducing")

    def mend(self) -> None:
        """Carry what has come meanwhile, and go on."""
        self._cut = False
        self._all("resumeProducing")

    def pause(self, end: _End) -> None:
        if self._cut:
            cast(IPushProducer, end.transport).pauseProducing()

    def _all(self, what: str) -> None:
        for end in list(self.ends):
            getattr(end.transport, what)()

    async def close(self) -> None:
        await self._port.stopListening()
        self._all("resumeProducing")
        self._all("abortConnection")
        await eventually(lambda: not self.ends)


class CutTests(OnPostgreSQL):
    def address(self) -> URL:
        address = super().address()
        folder = address.query["host"]
        self.line = Line(f"{folder}/.s.PGSQL.5432")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.line.close()))
        return make_url(f"postgresql://tests@127.0.0.1:{self.line.number}/postgres")

    async def test_a_network_that_carries_nothing_any_more(self) -> None:
        await self.project()
        self.line.cut()
        for _ in range(2):  # by the connections that there are, and by new ones
            asked: Iterable[Deferred[Any]] = (
                self.ledger.read(projects.get, "shop"),
                self.ledger.write(projects.get, "shop"),
            )
            for error in await self.told(*asked):
                assert isinstance(error, LedgerUnavailable)
        self.line.mend()
        assert await self.ledger.read(projects.get, "shop") is not None
        assert await self.ledger.write(projects.get, "shop") is not None


class ReaderTests(OnPostgreSQL):
    async def test_a_reader_sees_one_state_and_changes_nothing(self) -> None:
        def settings(connection: Connection) -> list[str]:
            names = "transaction_isolation", "transaction_read_only", "statement_timeout", "lock_timeout"
            return [str(connection.execute(text(f"SHOW {name}")).scalar()) for name in names]

        assert await self.ledger.read(settings) == ["repeatable read", "on", "3s", "2500ms"]
        assert await self.ledger.write(settings) == ["read committed", "off", "3s", "2500ms"]
        (error,) = await self.told(self.ledger.read(projects.delete, "shop", 1))
        assert error is False or isinstance(error, LedgerUnavailable)
