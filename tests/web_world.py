"""
The API with everything real under it but the builders: a real ledger, real stores, a real port on the loopback. The
twins of `server.boundaries` are small and in memory. For ``test_web_*``.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import URL, Connection
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource, Resource

from tests.ask_program import AskPrograms
from tests.outside import Letters, Outsiders
from tests.publish_program import Programs
from tests.storage_fixtures import ledger_address
from twistedipc.builds.logs import Lines, Record, batch_decoder, encoder, trim
from twistedipc.builds.roles import Role
from twistedipc.publish.targets.differences import Difference
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.target import Static
from twistedipc.publish.targets.target import DiskUse
from twistedipc.server.boundaries import LogEntry, StateChange, Waiting
from twistedipc.server.compose import Outside, ServerSettings, compose
from twistedipc.server.fanout.entries import Entry, Run, run_of, tag_of
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.storage import members, people, releases, tokens
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import NoSuchRelease
from twistedipc.storage.id_tokens import Issuer
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_archive import LogArchive
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import Actor, AttemptRow, Place, ReleaseRow
from twistedipc.storage.secrets import SecretBox
from twistedipc.storage.signing import SigningKey
from twistedipc.storage.standing import Standing, standing
from twistedipc.taps.compose import web_context
from twistedipc.web.access.domains import Domains
from twistedipc.web.access.held import Holding
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.site import ApiSite, api_site

_T = TypeVar("_T")
reactor: Any = global_reactor


class Answer:
    """A response as a client has it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.status = 0
        self.headers: http.client.HTTPMessage = http.client.HTTPMessage()
        self.body = b""
        self.whole = True
        if not raw:
            return

        class _Socket:
            def makefile(self, *_: object) -> io.BytesIO:
                return io.BytesIO(raw)

        response = http.client.HTTPResponse(_Socket())  # type: ignore[arg-type]  # all that it asks of a socket
        response.begin()
        self.status, self.headers = response.status, response.msg
        try:
            self.body = response.read()
        except http.client.IncompleteRead as error:
            self.body, self.whole = error.partial, False

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class _Client(Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.closed: Deferred[None] = Deferred()
        self._until: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for wanted in [each for each in self._until if each[0] in self.received]:
            self._until.remove(wanted)
            wanted[1].callback(None)

    def until(self, wanted: bytes) -> Deferred[None]:
        """Fires when this has been received."""
        done: Deferred[None] = Deferred()
        if wanted in self.received:
            done.callback(None)
        else:
            self._until.append((wanted, done))
        return done.addTimeout(10, reactor)

    def abort(self) -> None:
        """Close it as a crash does."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def connect(port: int) -> _Client:
    """A connection, of which nothing is said yet."""
    factory = Factory.forProtocol(_Client)
    connected = TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
    client: Any = await connected
    assert isinstance(client, _Client)
    return client


async def say(port: int, data: bytes) -> bytes:
    """Send these bytes, and return what came until the connection was closed."""
    client = await connect(port)
    assert client.transport is not None
    client.transport.write(data)
    await client.closed.addTimeout(15, reactor)
    return bytes(client.received)


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request after which the connection is to be closed."""
    lines = [f"{method} {path} HTTP/1.1", *([] if "Host" in headers else ["Host: api.test"]), "Connection: close"]
    if body and not any(name.lower() in ("content-length", "transfer-encoding") for name in headers):
        headers = {**headers, "Content-Length": str(len(body))}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# -- twins -----------------------------------------------------------------------------------------------------------


class TwinEntry(Entry):
    """An entry as it is, of build 1's first attempt."""

    def __init__(self, first: int, end: int, message: bytes, final: bool = False) -> None:
        super().__init__(first, end, message, tag_of("1-1"), final=final)


def _behind(entry: TwinEntry, after: int) -> TwinEntry:
    """What of the entry is behind record ``after``."""
    if entry.final or entry.first > after:
        return entry
    rest = trim(batch_decoder.decode(entry.message), after + 1)
    assert rest is not None
    return TwinEntry(rest.first, rest.end, encoder.encode(rest))


class TwinCursor:
    """See `boundaries.Cursor`. The first of ``stored`` entries must be fetched."""

    def __init__(self, log: TwinLog, after: int, wake: Callable[[], object]) -> None:
        self._log, self._after, self.wake = log, after, wake
        #: How many of the log's entries are behind it.
        self.taken = next(
            (i for i, each in enumerate(log.entries) if each.end > after + 1 or each.final), len(log.entries)
        )
        self._fetched = not log.stored
        self._waiting = False
        self.closed = False
        log.cursors.append(self)

    @property
    def place(self) -> object:
        return self._log, self._after, self.taken, self._fetched

    def branch(self, place: object, wake: Callable[[], object]) -> TwinCursor:
        assert not self.closed
        assert isinstance(place, tuple)
        log, after, index, fetched = place
        cursor = TwinCursor(log, after, wake)
        cursor.taken, cursor._fetched = index, fetched
        return cursor

    def take(self, limit: int) -> Run | None:
        assert not self.closed
        if not self._fetched:
            return None
        taken: list[LogEntry] = []
        size = 0
        while self.taken < len(self._log.entries) and (size < limit or not taken):
            taken.append(_behind(self._log.entries[self.taken], self._after))
            size += len(taken[-1].message)
            self.taken += 1
        self._waiting = not taken
        return run_of(taken, self._log.files, more=bool(taken))

    async def fetch(self) -> None:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
        if self._log.fault is not None:
            raise self._log.fault
        self._fetched = True

    def close(self) -> None:
        self.closed = True

    def grown(self) -> None:
        """The log has something new."""
        if self._waiting and not self.closed:
            self._waiting = False
            self.wake()


class TwinLog:
    """One log."""

    def __init__(self) -> None:
        self.entries: list[TwinEntry] = []
        self.cursors: list[TwinCursor] = []
        self.files = SharedFiles()
        self.stored = False
        self.fault: Exception | None = None
        self.next = 1

    def add(self, *lines: Record, more: list[int] | None = None) -> None:
        """A batch."""
        batch = Lines(first=self.next, time=1, step=0, lines=list(lines), more=more or [])
        self._append(TwinEntry(self.next, batch.end, encoder.encode(batch)))

    def gap(self, count: int) -> None:
        """Lost records."""
        end = self.next + count
        message = {"type": "gap", "from": self.next, "to": end - 1, "reason": "lost"}
        self._append(TwinEntry(self.next, end, msgspec.json.encode(message)))

    def end(self, *, complete: bool = True) -> None:
        """The end."""
        sha256 = "00" if complete else ""
        message = {"type": "end", "lines": self.next - 1, "sha256": sha256, "state": "succeeded", "complete": complete}
        self._append(TwinEntry(self.next, self.next, msgspec.json.encode(message), final=True))

    def _append(self, entry: TwinEntry) -> None:
        self.entries.append(entry)
        self.next = entry.end
        for cursor in list(self.cursors):
            cursor.grown()


class TwinLogs:
    """See `boundaries.Logs`."""

    def __init__(self) -> None:
        self.logs: dict[str, TwinLog] = {}

    def of(self, attempt: str) -> TwinLog:
        """The attempt's log."""
        return self.logs.setdefault(attempt, TwinLog())

    def cursor(self, attempt: str, after: int, wake: Callable[[], object]) -> TwinCursor:
        return TwinCursor(self.of(attempt), after, wake)


class TwinDispatch:
    """See `boundaries.Dispatch`."""

    def __init__(self) -> None:
        self.linked = 2
        self.no_builder_since: int | None = None
        self.isolations = ["bubblewrap"]
        self.waiting: Waiting | None = None

    def why_waiting(self, row: AttemptRow, place: Place | None) -> Waiting | None:
        return self.waiting

    def wake(self) -> None:
        """Do nothing: nothing is dispatched."""


class TwinReleasing:
    """See `context.ReleaseSwitch`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.stored_files: dict[str, Path] = {}  # contents of releases, by SHA-256
        self.switching: dict[int, Deferred[None]] = {}  # builds whose release isn't served yet

    def switched(self, builds: Iterable[int]) -> Deferred[None]:
        waiting = [self.switching[build] for build in builds if build in self.switching]
        return waiting[0] if waiting else succeed(None)

    async def activate(self, project: str, release: int, *, by: Actor) -> tuple[ReleaseRow, Standing]:
        if await self._world.ledger.read(releases.get, project, release) is None:
            raise NoSuchRelease(f"{project} has no release {release}")
        row = await self._world.ledger.write(releases.activate, project, release, self._world.now(), who=by.who)
        decides = await self._world.ledger.read(standing, project)
        assert decides is not None
        return row, decides

    async def has(self, release: ReleaseRow) -> bool:
        return self._world.release_store.has(release.project, release.id)

    async def resume(self, project: str, *, by: Actor) -> tuple[bool, list[ReleaseRow]]:
        hold, row = await self._world.ledger.write(releases.resume, project, self._world.now())
        return hold is not None, row

    def stored(self, project: str, sha256: str) -> Path | None:
        return self.stored_files.get(sha256)

    async def compare(self, before: ReleaseRow | None, after: ReleaseRow, most: int) -> Difference:
        return await self._world.server.releasing.compare(before, after, most)

    async def disk_use(self, project: str) -> DiskUse:
        return self._world.release_store.disk_use(project)

    async def delete_project(self, project: str, delete: Callable[[Connection], bool]) -> bool:
        deleted = await self._world.ledger.write(delete)
        self._world.release_store.remove_project(project)
        return deleted


class _Said(Resource):
    isLeaf = True

    def __init__(self, holding: Holding, text: str) -> None:
        super().__init__()
        self._holding = holding
        self._text = text

    def render(self, request: Any) -> bytes:
        request.channel.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + self._text.encode())
        request.channel.transport.loseConnection()
        self._holding.release()
        return b""


class TwinWebSockets:
    """See `context.WebSocketRoutes`: says what it was asked for, and closes."""

    def stream_resource(self, holding: Holding, *, compress: bool) -> IResource:
        return _Said(holding, f"stream {holding.token.name}{' compressed' * compress}")

    def log_resource(self, build: int, attempt: int, after: int, holding: Holding, *, compress: bool) -> IResource:
        return _Said(holding, f"log {build} {attempt} {after} {holding.token.name}{' compressed' * compress}")


def forget_timers() -> None:
    """Autobahn batches its timers, so that one may be left when there is nothing to time any more."""
    for call in reactor.getDelayedCalls():
        if "_BatchedTimer" in str(call.func):
            call.cancel()


# -- the world -------------------------------------------------------------------------------------------------------


class World(TestCase):
    """The base of tests that talk to the API as a client does."""

    timeout = 180
    local_repositories = False
    hosts = Hosts(api=["api.test", "x"])
    api_url = ""
    scheme = "http"  # of the releases

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.folder = Path(tempfile.mkdtemp(prefix="twistedipc-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.time = 1_800_000_000_000
        self.threads = ThreadPool(0, 2, "files")
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.ledger = Ledger(reactor, self.address(), now=self.now)
        await self.ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.ledger.close()))
        self.artifacts = ArtifactStore(self.folder / "artifacts")
        self.programs = Programs()
        self.ask_programs = AskPrograms()
        self.outside, self.letters = Outsiders(), Letters()
        self.release_store = ReleaseStore(self.folder / "releases")
        self.server = compose(
            Outside(
                clock=reactor,
                now=self.now,
                spent=reactor.seconds,
                random=os.urandom,
                in_thread=self.in_thread,
                search_in_thread=self.in_thread,
                ledger=self.ledger,
                artifact_store=self.artifacts,
                log_archive=LogArchive(self.folder / "logs"),
                releases={Static.name: self.release_store},
                secret_box=SecretBox(self.folder / "secret.key"),
                signing_key=SigningKey(self.folder / "signing.key"),
                issuer=Issuer(self.folder / "id-tokens.key", self.api_url, now=lambda: self.now() / 1000),
                program=self.programs,
                ask_program=self.ask_programs,
                requests=self.outside,
                mail=self.letters,
            ),
            ServerSettings(uploads_url=self.api_url, release_url=lambda name: f"http://{name}.test/", lost_after=600.0),
        )
        self.feed, self.uploads = self.server.feed, self.server.grants
        self.published: list[StateChange] = []
        self.feed.listen(self.published.append)
        self.rung = 0  # how often the dispatch was woken
        self.server.bell.listen(Topic.QUEUE, lambda hint: self._rung())
        self.logs, self.dispatch, self.websockets = TwinLogs(), TwinDispatch(), TwinWebSockets()
        self.releasing = TwinReleasing(self)
        self.draining = False
        context = web_context(
            self.server,
            websockets=self.websockets,
            version="1.2.3",
            domains=Domains(self.hosts, lambda project: [f"{self.scheme}://{project}.localhost:8081/"]),
            draining=lambda: self.draining,
            allowed_origins=frozenset({"https://console.example"}),
            local_repositories=self.local_repositories,
            api_url=self.api_url,
        )
        self.context = replace(
            context,
            dispatch=self.dispatch,
            logs=self.logs,
            releasing=self.releasing,
            publishing={"PATH": str(self.folder / "no-programs")},
        )
        self.site: ApiSite = api_site(self.context)
        self.port = self.listen(self.site)
        self.admin = await self.token("ada", "admin")
        await self.prepare()

    def listen(self, site: ApiSite) -> int:
        """The port at which this site is, until the test ends."""
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(site.stop()))
        port: int = listening.getHost().port
        return port

    def address(self) -> URL:
        """Where the ledger is."""
        return ledger_address(self.folder)

    async def prepare(self) -> None:
        """What the tests of a class begin with."""

    def now(self) -> int:
        return self.time

    def _rung(self) -> None:
        self.rung += 1

    def in_thread(self, function: Callable[..., _T], /, *args: object) -> Deferred[_T]:
        return deferToThreadPool(reactor, self.threads, function, *args)

    async def token(
        self,
        name: str,
        scope: str,
        projects: list[str] | None = None,
        expires: int | None = None,
        *,
        service: bool = False,
        person: int | None = None,
    ) -> str:
        """A new token's secret."""

        def issue(connection: Any) -> str:
            return tokens.issue(
                connection,
                random=os.urandom,
                service=service,
                person=person,
                name=name,
                scopes=[scope],
                projects=projects,
                expires=expires,
                now=self.time,
            )[1]

        return await self.ledger.write(issue)

    async def person(self, name: str, roles: Mapping[str, Role] | None = None, *, admin: bool = False) -> int:
        """A new person's number, who has these roles in projects."""

        def add(connection: Any) -> int:
            row = people.add(connection, name=name, email=None, role="admin" if admin else "member", now=self.time)
            for project, role in (roles or {}).items():
                members.set_role(connection, project, row.id, role, self.time)
            return row.id

        return await self.ledger.write(add)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """
        A request's answer. ``token``: "" is the admin's, None is none; ``body``: bytes as they are, all else as JSON.
        """
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.admin}")
        data = b""
        if isinstance(body, bytes):
            data = body
        elif body is not None:
            data = msgspec.json.encode(body)
            sent.setdefault("Content-Type", "application/json")
        return Answer(await say(self.port, request_bytes(method, path, sent, data)))

    async def project(self, name: str = "shop", **fields: Any) -> Any:
        """A new project."""
        answer = await self.ask(
            "POST", "/api/v1/projects", {"name": name, "repository": "https://git.example/shop.git", **fields}
        )
        assert answer.status == 201, answer.raw
        return answer.json

    async def build(self, project: str = "shop") -> int:
        """A new build's number."""
        answer = await self.ask("POST", f"/api/v1/projects/{project}/builds", {})
        assert answer.status == 201, answer.raw
        number: int = answer.json["id"]
        return number

    def problem(self, answer: Answer, status: int, part: str = "") -> None:
        """The answer is this problem, in the one shape."""
        assert answer.status == status, answer.raw
        assert answer.headers["Content-Type"] == "application/problem+json", answer.raw
        assert set(answer.json) >= {"type", "title", "status", "detail"}
        assert answer.json["status"] == status
        assert part in answer.json["detail"], answer.raw
        assert b"Traceback" not in answer.raw


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it, at most a minute."""
    deadline = reactor.seconds() + 60
    while reactor.seconds() < deadline:
        if condition():
            return
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)
        await turn
    raise AssertionError("it didn't come true")
