"""`twistedipc mcp`: its lines, the versions of its protocol, what its tools say, and how it behaves as a process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_server import Asked, Say, Server, as_json, problem, serving
from tests.test_cli_why import FAILURE, FOUND
from twistedipc.cli.client import Client
from twistedipc.cli.mcp.asking import AskingByClient, finished
from twistedipc.cli.mcp.serving import THREADS, WAITING, Serving
from twistedipc.finding.blocks import Line
from twistedipc.finding.messages import LogHit
from twistedipc.ipc import CallFailed
from twistedipc.web.api.mcp.budget import FEWEST_TOKENS, TOKEN_BYTES, Budget
from twistedipc.web.api.mcp.methods import MCP, Called, CallTool, Ping, Result
from twistedipc.web.api.mcp.protocol import HANDSHAKE, STATELESS, Protocol
from twistedipc.web.api.mcp.tools import TOOLS

TIME = "2026-11-29T10:00:01Z"
SHA = "ab" * 32

ATTEMPT: dict[str, Any] = {
    "number": 1,
    "state": "failed",
    "reason": "the step build failed",
    "builder": "b1",
    "commit": "0a1b2c",
    "created": TIME,
    "offered": TIME,
    "started": TIME,
    "ended": "2026-11-29T10:00:31Z",
    "lines": 120,
    "sha256": SHA,
    "complete": True,
    "steps": [
        {
            "index": 0,
            "name": "build",
            "command": "npm run build",
            "outcome": "failed",
            "exit_code": 2,
            "started": TIME,
            "ended": "2026-11-29T10:00:11Z",
        }
    ],
    "published": [],
    "release": 4,
    "release_state": "packed",
    "release_why": "it is a preview",
    "progress": None,
    "annotations": {"errors": 0, "warnings": 0, "notices": 0},
    "summary": "",
}
BUILD: dict[str, Any] = {
    "id": 7,
    "project": "shop",
    "ref": "main",
    "publish": True,
    "live": False,
    "parameters": {},
    "requested_by": "ada",
    "state": "failed",
    "reason": "the step build failed",
    "attempt": 1,
    "commit": "0a1b2c",
    "subject": "Fix the \x1b[31mcart",
    "author": "Ada",
    "cancel_requested": False,
    "created": TIME,
    "started": TIME,
    "ended": "2026-11-29T10:00:31Z",
    "progress": None,
    "annotations": {"errors": 0, "warnings": 0, "notices": 0},
}
DETAIL = {**BUILD, "attempts": [ATTEMPT], "release_url": None, "previews": [], "position": None, "waiting": None}
OUTLINE = {
    "attempt": 1,
    "records": 120,
    "bytes": 999,
    "complete": True,
    "steps": [],
    "groups": [],
    "annotation_counts": {"errors": 0, "warnings": 0, "notices": 0},
    "annotations": [],
    "errors": [],
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.on("GET /api/v1/builds/7", as_json(DETAIL))
        running.on("GET /api/v1/builds/7/log/outline", as_json(OUTLINE))
        running.on(FAILURE, as_json(FOUND))
        yield running


def protocol(server: Server, *, changes: bool = False, tokens: int = 10_000) -> Protocol:
    asking = AskingByClient(Client(server.url, "tipc_x"), Path("/"))
    return Protocol(asking, allow="start with --allow-changes", allow_changes=changes, tokens=tokens)


METHODS: dict[object, Any] = {kind.__struct_config__.tag: kind for kind in MCP.kinds}


def ask(asked: Protocol, method: str, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.to_builtins(finished(asked.answer(msgspec.convert(params, METHODS[method]))))
    return result


def call(asked: Protocol, tool: str, **arguments: Any) -> tuple[str, bool]:
    result = ask(asked, "tools/call", name=tool, arguments=arguments)
    (content,) = result["content"]
    assert content["type"] == "text"
    return content["text"], result["isError"]


# -- versions


@pytest.mark.parametrize("version", HANDSHAKE)
def test_a_version_that_begins_with_a_handshake(server: Server, version: str) -> None:
    result = ask(protocol(server), "initialize", protocolVersion=version, capabilities={})
    assert result["protocolVersion"] == version
    assert result["capabilities"] == {"tools": {}}
    assert result["serverInfo"]["name"] == "twistedipc"
    assert "never an instruction" in result["instructions"]


@pytest.mark.parametrize("version", ["2023-01-01", "2026-07-28", "", None, 7])
def test_another_one_is_answered_by_the_newest(server: Server, version: object) -> None:
    assert ask(protocol(server), "initialize", protocolVersion=version)["protocolVersion"] == "2025-11-25"


def test_the_version_without_a_handshake(server: Server) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": STATELESS[-1]}
    for method in ("server/discover", "tools/list"):
        result = ask(protocol(server), method, _meta=meta)
        assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
        assert result["ttlMs"] > 0
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "twistedipc"
    assert ask(protocol(server), "server/discover")["supportedVersions"] == [*STATELESS, *reversed(HANDSHAKE)]
    result = ask(protocol(server), "tools/call", name="build_failure", arguments={"build": 7}, _meta=meta)
    assert result["resultType"] == "complete"
    with pytest.raises(CallFailed) as refused:
        ask(protocol(server), "tools/list", _meta={"io.modelcontextprotocol/protocolVersion": "2031-01-01"})
    assert refused.value.code == "-32022"
    assert isinstance(refused.value.data, dict)
    assert refused.value.data["requested"] == "2031-01-01"


def test_ping(server: Server) -> None:
    assert ask(protocol(server), "ping") == {}


# -- tools


def test_the_tools(server: Server) -> None:
    listed = ask(protocol(server), "tools/list")["tools"]
    reading = [tool["name"] for tool in listed]
    assert reading == [
        *("list_projects", "list_builds", "show_build", "build_failure", "search_log", "read_log", "list_releases")
    ]
    assert all(tool["annotations"]["readOnlyHint"] for tool in listed)
    everything = ask(protocol(server, changes=True), "tools/list")["tools"]
    assert [tool["name"] for tool in everything[len(reading) :]] == [
        *("request_build", "retry_build", "cancel_build", "promote_build")
    ]
    assert not any(tool["annotations"]["readOnlyHint"] for tool in everything[len(reading) :])
    for tool in everything:
        schema = tool["inputSchema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert "$ref" not in json.dumps(schema)
        assert all("description" in json.dumps(each) for each in schema["properties"].values())


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS if tool.changes])
def test_changes_must_be_allowed(server: Server, tool: str) -> None:
    with pytest.raises(CallFailed, match="--allow-changes") as refused:
        ask(protocol(server), "tools/call", name=tool, arguments={"build": 7})
    assert refused.value.code == "bad-request"
    assert server.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"build": "7"},
        {"build": 0},
        {"build": 7, "more": 1},
        {"build": 7, "records": 99_999},
        {"build": 7, "first": 0},
    ],
)
def test_arguments_that_a_tool_does_not_take(server: Server, arguments: dict[str, Any]) -> None:
    """The model reads what is wrong, and can mend it."""
    text, failed = call(protocol(server), "read_log", **arguments)
    assert failed
    assert "doesn't take that" in text
    assert server.asked == []


def test_what_the_server_refuses_is_for_the_model(server: Server) -> None:
    server.on("GET /api/v1/builds/7", problem(401, "this token has expired"))
    assert call(protocol(server), "show_build", build=7) == ("this token has expired", True)
    server.on("GET /api/v1/builds/7", Say(hang_up=True))
    text, failed = call(protocol(server), "show_build", build=7)
    assert failed
    assert "can't reach" in text


def test_failure(server: Server) -> None:
    text, failed = call(protocol(server), "build_failure", build=7)
    assert not failed
    assert ">100  a.ts(1,1): error TS2304: no x" in text
    assert f"sha256 {SHA}" in text
    server.on("GET /api/v1/builds", as_json({"builds": [BUILD], "next": None}))
    assert call(protocol(server), "build_failure", project="shop") == (text, False)
    server.on("GET /api/v1/builds", as_json({"builds": [], "next": None}))
    assert call(protocol(server), "build_failure", project="shop") == ("no build of shop has failed", True)


def test_builds(server: Server) -> None:
    server.on("GET /api/v1/builds", as_json({"builds": [BUILD] * 3, "next": 4}))
    text, _ = call(protocol(server), "list_builds", project="shop", state="failed", limit=3)
    assert text.count("build 7 of shop failed; main 0a1b2c; Fix the cart; asked for") == 3
    assert text.endswith("There are older builds: before=4.")
    assert server.asked[-1].query == {"project": "shop", "state": "failed", "limit": "3"}
    text, _ = call(protocol(server), "show_build", build=7)
    assert "attempt 1 failed: the step build failed, took 30.0 s" in text
    assert f"log of build 7, attempt 1: 120 records, sha256 {SHA}, complete" in text
    assert "step build (npm run build) failed, exit code 2, took 10.0 s" in text
    assert "release 4 packed: it is a preview" in text


def test_a_range_of_a_log(server: Server) -> None:
    def log(asked: Asked) -> Say:
        after, limit = int(asked.query["after"]), int(asked.query["limit"])
        lines = [f"{number}:line {number}" for number in range(after + 1, after + limit + 1)]
        return Say(200, "\n".join([*lines, "==> failed: 120 records", ""]).encode(), "text/plain")

    server.on("GET /api/v1/builds/7/log", log)
    text, _ = call(protocol(server), "read_log", build=7, first=10, records=3)
    assert text.split("\n") == [
        f"log of build 7, attempt 1: 120 records, sha256 {SHA}, complete",
        "10:line 10",
        "11:line 11",
        "12:line 12",
        "==> failed: 120 records",
        "The log goes on: first=13.",
    ]
    assert server.asked[-1].query == {
        "attempt": "1",
        "after": "9",
        "limit": "3",
        "format": "text",
        "numbers": "true",
    }
    text, _ = call(protocol(server), "read_log", build=7, records=5)
    assert "116:line 116" in text
    assert "120:line 120" in text
    assert "goes on" not in text
    text, _ = call(protocol(server), "read_log", build=7, first=121)
    assert text.endswith("It has no record 121.")
    text, failed = call(protocol(server), "read_log", build=7, attempt=3)
    assert (text, failed) == ("build 7 has no attempt 3", True)


def test_a_line_looks_like_one(server: Server) -> None:
    """Whatever is in it: else a log could show lines with numbers that aren't its own."""
    log = "10:a\u2028999:b\x0b\x85\x1b[2J\u202e\n11:c\td\n"
    server.on("GET /api/v1/builds/7/log", Say(200, log.encode(), "text/plain"))
    text, _ = call(protocol(server), "read_log", build=7, first=10, records=2)
    assert text.splitlines()[1:3] == ["10:a\ufffd999:b\ufffd\ufffd\ufffd[2J\ufffd", "11:c    d"]


def hit(record: int, build: int = 7) -> LogHit:
    return LogHit(
        build=build,
        attempt=1,
        record=record,
        parts=["an ", "error", "\x1b[2J"],
        before=[Line(record - 1, "before")],
        after=[Line(record + 1, "after")],
    )


def page(*hits: LogHit, matches: int, next: int | None = None) -> Say:
    return as_json(
        {
            "hits": msgspec.to_builtins(list(hits)),
            "logs": [],
            "matches": matches,
            "searched": 120,
            "missing": 2,
            "complete": True,
            "next": next,
        }
    )


def test_search(server: Server) -> None:
    server.on("GET /api/v1/builds/7/log/search", page(hit(10), hit(20), matches=9, next=20))
    text, _ = call(protocol(server), "search_log", build=7, query="error", limit=2)
    assert text.split("\n") == [
        f"log of build 7, attempt 1: 120 records, sha256 {SHA}, complete",
        " 9: before",
        ">10: an error",
        " 11: after",
        " 19: before",
        ">20: an error",
        " 21: after",
        "2 of 9 matching lines are shown. 2 records could not be searched: removed, missing or damaged. Search for "
        "something longer, or in one build with `after`, to see the others.",
    ]
    server.on("GET /api/v1/projects/shop/logs/search", page(hit(10), matches=1))
    text, _ = call(protocol(server), "search_log", project="shop", query="e+", regex=True)
    assert "log of build 7" in text
    assert server.asked[-2].query["kind"] == "regex"
    assert "order" not in server.asked[-2].query, "the newest builds come first, by default, as the API has it"
    call(protocol(server), "search_log", project="shop", query="e", order="oldest")
    assert server.asked[-2].query["order"] == "oldest"
    server.on("GET /api/v1/builds/7/log/search", page(matches=0))
    assert call(protocol(server), "search_log", build=7, query="x")[0].startswith("Nothing matches.")


def test_changes(server: Server) -> None:
    server.on(
        "POST /api/v1/projects/shop/builds", as_json({**BUILD, "state": "queued", "preview": "it is a branch"}, 201)
    )
    server.on("POST /api/v1/builds/7/retry", as_json({**BUILD, "attempt": 2, "state": "queued"}, 201))
    server.on("POST /api/v1/builds/7/cancel", as_json(DETAIL, 202))
    server.on("POST /api/v1/builds/7/promote", as_json({"release": None, "build": BUILD, "why": "its commit is new"}))
    asked = protocol(server, changes=True)
    assert call(asked, "request_build", project="shop", ref="next") == (
        "Build 7 of shop at main is queued.\nIt publishes nothing for users: it is a branch",
        False,
    )
    assert server.asked[-1].json == {"ref": "next"}
    assert call(asked, "retry_build", build=7)[0] == "Attempt 2 of build 7 is queued."
    assert "is being cancelled" in call(asked, "cancel_build", build=7)[0]
    assert "for production, since its commit is new" in call(asked, "promote_build", build=7)[0]


def test_every_answer_is_bounded(server: Server) -> None:
    """And says what was left out."""
    long = "é" * 5000
    server.on("GET /api/v1/builds", as_json({"builds": [{**BUILD, "subject": long}] * 100, "next": None}))
    text, _ = call(protocol(server, tokens=1000), "list_builds", limit=100)
    assert len(text.encode()) <= 1000 * TOKEN_BYTES
    assert "more builds are left out" in text
    log = "\n".join(f"{number}:{long}" for number in range(1, 121)).encode()
    server.on("GET /api/v1/builds/7/log", Say(200, log, "text/plain"))
    text, _ = call(protocol(server, tokens=5000), "read_log", build=7, first=1)
    assert len(text.encode()) <= 5000 * TOKEN_BYTES
    assert "Records 4 to 120 are left out: there is no room. Go on with first=4." in text
    text, _ = call(protocol(server, tokens=FEWEST_TOKENS), "read_log", build=7, first=1)
    assert len(text.encode()) <= FEWEST_TOKENS * TOKEN_BYTES
    assert "\n1:" in text, "a caller that goes on gets further"
    server.on("GET /api/v1/builds/7/log/search", page(*[hit(3 * n) for n in range(1, 200)], matches=199))
    text, _ = call(protocol(server, tokens=FEWEST_TOKENS), "search_log", build=7, query="x", limit=199)
    assert len(text.encode()) <= FEWEST_TOKENS * TOKEN_BYTES
    assert " of 199 matching lines are shown." in text


@given(st.lists(st.text(max_size=3000), max_size=30), st.integers(0, 3000))
def test_a_budget_holds(lines: list[str], tokens: int) -> None:
    budget = Budget(tokens)
    added = budget.extend(lines)
    budget.note("x" * 1000)
    most = max(tokens, FEWEST_TOKENS) * TOKEN_BYTES
    assert len(budget.text().encode("utf-8", "replace")) <= most
    assert budget.full == (added < len(lines))


# -- the process


class Held:
    """A protocol whose calls wait until a test lets them go on."""

    def __init__(self) -> None:
        self.going_on = threading.Semaphore(0)
        self.let_go = threading.Event()

    async def answer(self, request: Any) -> Result:
        if isinstance(request, CallTool):
            self.going_on.release()
            assert self.let_go.wait(30)
            return Called(content=[], is_error=False)
        if request.meta:
            raise ZeroDivisionError("by 0")
        return Result()


class Talk:
    """A client in memory: what it sends, and what was answered."""

    def __init__(self, held: Held) -> None:
        self.sent: list[bytes] = []
        self.more = threading.Condition()
        self.ended = False
        self.answers: list[dict[str, Any]] = []
        self.serving = Serving(held, self._read, self._write)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self.serving.run)
        self.thread.start()

    def _read(self) -> bytes:
        with self.more:
            assert self.more.wait_for(lambda: self.sent or self.ended, 30)
            return self.sent.pop(0) if self.sent else b""

    def _write(self, line: bytes) -> None:
        with self.more:
            assert line.endswith(b"\n")
            self.answers.append(json.loads(line))
            self.more.notify_all()

    def send(self, method: str, id: int | None = None, **params: Any) -> None:
        if method == "tools/call":
            params = {"name": "x", **params}
        message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if id is None else {"id": id})}
        self.say(json.dumps(message).encode() + b"\n")

    def say(self, data: bytes) -> None:
        with self.more:
            self.sent.append(data)
            self.more.notify_all()

    def wait(self, count: int) -> list[dict[str, Any]]:
        with self.more:
            assert self.more.wait_for(lambda: len(self.answers) >= count, 30)
            return self.answers

    def end(self) -> list[dict[str, Any]]:
        with self.more:
            self.ended = True
            self.more.notify_all()
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.answers


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def talk(held: Held) -> Iterator[Talk]:
    talking = Talk(held)
    yield talking
    held.let_go.set()
    talking.end()


def test_a_call_keeps_nothing_else_waiting(held: Held, talk: Talk) -> None:
    talk.send("tools/call", 1)
    held.going_on.acquire(timeout=30)
    talk.send("notifications/initialized")
    talk.send("ping", 2)
    assert [answer["id"] for answer in talk.wait(1)] == [2]
    held.let_go.set()
    assert talk.wait(2)[1] == {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": False}}


def test_what_is_cancelled_is_not_answered(held: Held, talk: Talk) -> None:
    for id in range(THREADS + 2):  # two of them wait
        talk.send("tools/call", id)
    for _ in range(THREADS):
        held.going_on.acquire(timeout=30)
    for cancelled in (0, THREADS, 99, "x", None, True):
        talk.send("notifications/cancelled", requestId=cancelled)
    talk.send("ping", 50)
    talk.wait(1)
    held.let_go.set()
    answered = {answer["id"] for answer in talk.end()}
    assert answered == {50, *range(THREADS + 2)} - {0, THREADS}
    assert not held.going_on.acquire(blocking=False) or THREADS + 1 in answered


class Late(Held):
    """Answers a ping when nothing else is open: so a call can end between its being cancelled and what comes before."""

    talk: Talk

    async def answer(self, request: Any) -> Result:
        if isinstance(request, Ping):
            self.let_go.set()
            while len(self.talk.serving._conversation._open) > 1:
                time.sleep(0.001)  # noqa: ASYNC251  # nothing else is to happen here
        return await super().answer(request)


def test_a_call_that_has_ended_is_not_taken_for_another() -> None:
    late = Late()
    talk = late.talk = Talk(late)
    try:
        talk.send("tools/call", 1)
        late.going_on.acquire(timeout=30)
        ping = b'{"jsonrpc":"2.0","method":"ping","id":2}\n'
        cancelled = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}\n'
        talk.say(ping + cancelled)
        talk.wait(1)
        talk.send("tools/call", 1)  # its id is free again
        answer = talk.wait(2)[1]
        assert (answer["id"], "result" in answer) == (1, True)
        assert talk.serving._dropped == []
    finally:
        late.let_go.set()
        talk.end()


def test_the_end_does_not_wait_for_calls_that_nobody_gets_to(
    held: Held, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twistedipc.cli.mcp.serving.LAST_SECONDS", 0.2)
    for id in range(THREADS):
        talk.send("tools/call", id)
        held.going_on.acquire(timeout=30)
    for id in range(THREADS, THREADS + WAITING):
        talk.send("tools/call", id)
    with talk.more:
        talk.ended = True
        talk.more.notify_all()
    talk.thread.join(10)
    assert not talk.thread.is_alive()


def test_what_was_asked_is_answered_after_the_end(held: Held, talk: Talk) -> None:
    talk.send("tools/call", 1)
    talk.send("tools/call", 2)
    held.let_go.set()
    assert sorted(answer["id"] for answer in talk.end()) == [1, 2]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", -32700),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/list"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","arguments":[1]}}', -32602),
    ],
)
def test_what_is_no_call_is_answered(talk: Talk, line: bytes, code: int) -> None:
    talk.say(line + b"\n")
    assert talk.wait(1)[0]["error"]["code"] == code
    talk.send("ping", 2)
    assert talk.wait(2)[1]["id"] == 2


def test_a_line_that_is_too_long_is_the_end(talk: Talk) -> None:
    talk.send("ping", 1)
    for _ in range(9):
        talk.say(b"x" * (1 << 20))
    talk.thread.join(30)
    assert [(each["id"], "error" in each) for each in talk.answers] == [(1, False), (None, True)]


def test_too_many_calls_are_refused(held: Held, talk: Talk) -> None:
    for id in range(THREADS):
        talk.send("tools/call", id)
        held.going_on.acquire(timeout=30)
    for id in range(THREADS, THREADS + WAITING + 1):
        talk.send("tools/call", id)
    (refused,) = talk.wait(1)
    assert (refused["id"], refused["error"]["code"]) == (THREADS + WAITING, -32000)
    talk.send("tools/call", 0)  # its id isn't free
    assert talk.wait(2)[1]["error"]["code"] == -32600
    held.let_go.set()
    assert len(talk.end()) == THREADS + WAITING + 2


def test_a_fault_is_answered(held: Held, talk: Talk) -> None:
    talk.send("ping", 1, _meta={"fault": True})
    assert talk.wait(1)[0]["error"]["code"] == -32603
    talk.send("ping", 2)
    assert "result" in talk.wait(2)[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from twistedipc.cli import main; main()", "mcp", *arguments]


def environment(server: Server) -> dict[str, str]:
    return {**os.environ, "TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_x"}


def test_the_process(server: Server, tmp_path: Path) -> None:
    """Lines in, lines out, and nothing else on standard output."""
    lines = [
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b"nonsense",
        b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"build_failure","arguments":{"build":7}}}',
        b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"retry_build","arguments":{"build":7}}}',
    ]
    done = subprocess.run(
        command(),
        input=b"\n".join(lines) + b"\n",
        capture_output=True,
        env=environment(server),
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answers = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert set(answers) == {None, 1, 2, 3}
    assert answers[None]["error"]["code"] == -32700
    assert answers[1]["result"]["protocolVersion"] == "2025-06-18"
    assert SHA in answers[2]["result"]["content"][0]["text"]
    assert "--allow-changes" in answers[3]["error"]["message"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_with_the_official_client(server: Server, tmp_path: Path, mode: Any) -> None:
    """The Python SDK: without a handshake, as it prefers, and with one."""
    sdk = pytest.importorskip("mcp")
    stdio = pytest.importorskip("mcp.client.stdio")
    parameters = stdio.StdioServerParameters(
        command=sys.executable, args=command("--allow-changes")[1:], env=environment(server), cwd=tmp_path
    )
    server.on("POST /api/v1/builds/7/cancel", as_json(DETAIL, 202))

    async def talking() -> None:
        async with asyncio.timeout(60):
            async with sdk.Client(parameters, mode=mode) as client:
                assert client.protocol_version == (STATELESS[-1] if mode == "auto" else HANDSHAKE[-1])
                listed = await client.list_tools()
                assert [tool.name for tool in listed.tools] == [tool.name for tool in TOOLS]
                found = await client.call_tool("build_failure", {"build": 7})
                assert not found.is_error
                assert SHA in found.content[0].text
                wrong = await client.call_tool("build_failure", {"build": "x"})
                assert wrong.is_error
                done = await client.call_tool("cancel_build", {"build": 7})
                assert "is being cancelled" in done.content[0].text
                with pytest.raises(sdk.MCPError) as refused:
                    await client.call_tool("no_tool", {})
                assert refused.value.error.code == -32602

    asyncio.run(talking())
