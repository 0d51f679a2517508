"""Searches in logs over HTTP: pages, streams, what is refused, and readers that go away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from sqlalchemy import update
from twisted.internet.defer import Deferred

from tests.web_world import Answer, World, connect, eventually, reactor, request_bytes
from twistedipc.builds.logs import Lines, encoder
from twistedipc.finding.messages import LogHit, SearchEnd
from twistedipc.finding.query import MAX_QUERY, Needle
from twistedipc.server.searching import MAX_RUNNING, MAX_WAITING_EACH, Searching
from twistedipc.storage import logs
from twistedipc.storage.tables import attempts
from twistedipc.web.api.schemas import LogSearchPage


class Searches(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.path = f"/api/v1/builds/{self.number}/log/search"
        self.held: list[threading.Event] | None = None  # a list: work in threads waits for what is put in it
        self.held_compiling = False  # also queries that are compiled

    def in_thread(self, function: Callable[..., Any], /, *args: object) -> Deferred[Any]:
        held = self.held
        if held is None or (function is Needle and not self.held_compiling):
            return super().in_thread(function, *args)
        event = threading.Event()
        held.append(event)

        def wait() -> Any:
            event.wait(30)
            return function(*args)

        return super().in_thread(wait)

    async def say(self, *lines: str, build: int = 0) -> None:
        """The build's log goes on."""
        attempt = f"{build or self.number}-1"
        first = await self.ledger.read(logs.next_record, attempt)
        data = encoder.encode(Lines(first, 1, 0, list(lines))) + b"\n"
        item = logs.ChunkItem(attempt=attempt, first=first, count=len(lines), data=data)
        await self.ledger.write(logs.append, [item])

    async def search(self, path: str = "", *, token: str = "", **query: Any) -> Answer:
        return await self.ask("GET", f"{path or self.path}?{urlencode(query)}", token=token)

    async def test_a_page(self) -> None:
        await self.say("\x1b[31mERR\x1b[1mOR\x1b[0m: no module", "ok", "<b>error</b> error")
        answer = await self.search(q="error", context=1)
        assert answer.status == 200, answer.raw
        assert answer.json == {
            "hits": [
                {
                    "type": "hit",
                    "build": self.number,
                    "attempt": 1,
                    "record": 1,
                    "parts": ["", "ERROR", ": no module"],
                    "after": [{"record": 2, "text": "ok"}],
                },
                {
                    "type": "hit",
                    "build": self.number,
                    "attempt": 1,
                    "record": 3,
                    "parts": ["<b>", "error", "</b> ", "error", ""],
                    "before": [{"record": 2, "text": "ok"}],
                },
            ],
            "logs": [
                {
                    "type": "log",
                    "build": self.number,
                    "attempt": 1,
                    "matches": 2,
                    "searched": 3,
                    "missing": 0,
                    "complete": True,
                }
            ],
            "matches": 2,
            "searched": 3,
            "missing": 0,
            "complete": True,
            "next": None,
        }
        # A client in Python has it by its type.
        assert msgspec.json.decode(answer.body, type=LogSearchPage).matches == 2
        assert (await self.search(q="ERROR", case=1)).json["matches"] == 1
        found = (await self.search(q="^o|x$", kind="regex", order="newest", limit=1)).json
        assert [hit["record"] for hit in found["hits"]] == [2]
        assert (found["matches"], found["next"]) == (1, None)
        found = (await self.search(q="o", order="newest", limit=1)).json
        assert ([hit["record"] for hit in found["hits"]], found["matches"], found["next"]) == ([3], 3, 3)
        found = (await self.search(q="o", order="newest", limit=1, before=found["next"])).json
        assert ([hit["record"] for hit in found["hits"]], found["matches"], found["next"]) == ([2], 2, 2)

    async def test_a_log_that_goes_on(self) -> None:
        assert (await self.search(q="late")).json["searched"] == 0
        await self.say("early")
        assert (await self.search(q="late")).json["matches"] == 0
        await self.say("late")
        found = (await self.search(q="late", after=1)).json
        assert ([hit["record"] for hit in found["hits"]], found["searched"]) == ([2], 1)

    async def test_a_log_that_was_removed(self) -> None:
        await self.say("error", "fine")
        removed = update(attempts).values(log_removed=1_900_000_000_000, log_rule="logs = 30 days")
        await self.ledger.write(lambda connection: connection.execute(removed))
        found = (await self.search(q="error")).json
        assert (found["hits"], found["missing"], found["complete"]) == ([], 2, True)
        [log] = found["logs"]
        assert log["removed"] == "this log was removed on 2030-03-17 by the rule logs = 30 days"
        found = (await self.search("/api/v1/projects/shop/logs/search", q="error")).json
        assert (found["logs"], found["missing"], found["complete"]) == ([], 0, True)

    async def test_a_stream(self) -> None:
        await self.say(*["error"] * 300)
        answer = await self.search(q="error", format="ndjson", limit=2)
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        messages = [json.loads(line) for line in answer.body.splitlines()]
        assert [each["type"] for each in messages] == ["hit", "hit", "log", "end"]
        decoder = msgspec.json.Decoder(LogHit | SearchEnd)
        hit, end = (decoder.decode(line) for line in (answer.body.splitlines()[1], answer.body.splitlines()[-1]))
        assert isinstance(hit, LogHit)
        assert hit.record == 2
        assert end == SearchEnd(matches=300, searched=300, missing=0, complete=True, next=2)
        # Nothing is said of a log that has nothing.
        answer = await self.search(q="nothing", format="ndjson")
        assert [json.loads(line)["type"] for line in answer.body.splitlines()] == ["end"]
        head = await self.ask("HEAD", f"{self.path}?q=error&format=ndjson")
        assert (head.status, head.body) == (200, b"")

    async def test_a_project(self) -> None:
        second = await self.build()
        await self.say("old error")
        await self.say("old error", "new error", build=second)
        path = "/api/v1/projects/shop/logs/search"
        found = (await self.search(path, q="error", limit=1)).json
        assert [(hit["build"], hit["record"]) for hit in found["hits"]] == [(second, 1)]
        assert ([each["matches"] for each in found["logs"]], found["matches"]) == ([2, 1], 3)
        assert found["next"] == f"{second}-1"
        found = (await self.search(path, q="error", before=found["next"])).json
        assert [(hit["build"], hit["record"]) for hit in found["hits"]] == [(self.number, 1)]
        first = (await self.search(path, q="error", order="oldest", limit=1, count=0)).json
        assert [hit["build"] for hit in first["hits"]] == [self.number]
        assert first["next"] == f"{self.number}-1"
        answer = await self.search(path, q="error", format="ndjson")
        types = [json.loads(line)["type"] for line in answer.body.splitlines()]
        assert types == ["hit", "hit", "log", "hit", "log", "end"]

    async def test_what_is_refused(self) -> None:
        self.problem(await self.search(), 422, "`q`")
        self.problem(await self.search(q=""), 422, "the query is empty")
        self.problem(await self.search(q="x" * 10_240), 422, f"10240 characters, and at most {MAX_QUERY}")
        self.problem(await self.search(q="(", kind="regex"), 422, "isn't one of RE2: missing )")
        self.problem(await self.search(q=r"\pL{999}", kind="regex"), 422, "too large")
        self.problem(await self.search(q="x", attempt=7), 404, "has no attempt 7")
        self.problem(await self.search(q="x", limit=1001), 422)
        self.problem(await self.search(q="x", kind="glob"), 422)
        self.problem(await self.search("/api/v1/projects/shop/logs/search", q="x", before="7"), 422)
        self.problem(await self.search("/api/v1/projects/none/logs/search", q="x"), 404)
        assert (await self.search(q="\ud7ff\u2028", case=1)).json["matches"] == 0

    async def test_too_many_at_once(self) -> None:
        """One person has some at once, with all tokens together, and others aren't refused because of that."""
        await self.say("error")
        eve = await self.person("eve", {"shop": "reader"})
        tokens = [await self.token(name, "read", person=eve) for name in ("laptop", "phone")]
        self.held = []
        asked = [
            Deferred.fromCoroutine(self.search(q="error", token=tokens[number % 2]))
            for number in range(MAX_RUNNING + MAX_WAITING_EACH)
        ]
        searching = self.server.searching
        assert isinstance(searching, Searching)
        await eventually(lambda: searching.waiting == MAX_WAITING_EACH)
        answer = await self.search(q="error", token=tokens[0])
        self.problem(answer, 503, "of your searches wait already")
        assert int(answer.headers["Retry-After"]) > 0
        project = "/api/v1/projects/shop/logs/search"
        answer = await self.search(project, q="error", format="ndjson", token=tokens[1])
        self.problem(answer, 503, "of your searches wait already")
        others = [await self.token(name, "read", service=True) for name in ("first", "second")]
        for token in others:
            more = [Deferred.fromCoroutine(self.search(q="error", token=token)) for _ in range(MAX_WAITING_EACH)]
            asked += more
        await eventually(lambda: searching.waiting == 3 * MAX_WAITING_EACH)
        held, self.held = self.held, None
        for event in held:
            event.set()
        assert [(await each).json["matches"] for each in asked] == [1] * len(asked)

    async def test_a_reader_that_goes_away(self) -> None:
        await self.say("error")
        headers = {"Authorization": f"Bearer {self.admin}"}
        tool = {"name": "search_log", "arguments": {"query": "error", "build": self.number}}
        said = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool})
        by_get = [
            request_bytes("GET", f"{self.path}?q=error&format={form}", headers, b"") for form in ("json", "ndjson")
        ]
        by_tool = request_bytes("POST", "/mcp", {**headers, "Content-Type": "application/json"}, said)
        for request, self.held_compiling in (
            *((each, False) for each in (*by_get, by_tool)),
            (by_get[0], True),
            (by_tool, True),
        ):
            self.held = []
            clients = []
            for _ in range(MAX_RUNNING):
                client = await connect(self.port)
                assert client.transport is not None
                client.transport.write(request)
                clients.append(client)
            await eventually(lambda: len(self.held or ()) == MAX_RUNNING)
            held, self.held = self.held, None
            for client in clients:
                client.abort()
            # Others have their turn, although what was begun in threads goes on.
            self.threads.adjustPoolsize(0, 2 + MAX_RUNNING)
            assert (await self.search(q="error")).json["matches"] == 1
            for event in held:
                event.set()

    async def test_a_token_that_is_revoked(self) -> None:
        await self.say("error")
        secret = await self.token("bob", "read")
        self.held = []
        client = await connect(self.port)
        assert client.transport is not None
        headers = {"Authorization": f"Bearer {secret}"}
        client.transport.write(request_bytes("GET", f"{self.path}?q=error&format=ndjson", headers, b""))
        await eventually(lambda: len(self.held or ()) == 1)
        held, self.held = self.held, None
        number = next(
            each["id"] for each in (await self.ask("GET", "/api/v1/tokens")).json["tokens"] if each["name"] == "bob"
        )
        assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
        for event in held:
            event.set()
        await client.closed.addTimeout(10, reactor)
        assert b'"hit"' not in client.received

    async def test_a_service_that_stops(self) -> None:
        await self.say("error")
        self.held = []
        client = await connect(self.port)
        assert client.transport is not None
        headers = {"Authorization": f"Bearer {self.admin}"}
        client.transport.write(request_bytes("GET", f"{self.path}?q=error&format=ndjson", headers, b""))
        await eventually(lambda: len(self.held or ()) == 1)
        held, self.held = self.held, None
        stopping = Deferred.fromCoroutine(self.site.stop())
        for event in held:
            event.set()
        await stopping
        await client.closed.addTimeout(10, reactor)
