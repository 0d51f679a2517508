"""The Model Context Protocol over HTTP: what a message is answered, with whose rights, and the official client."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, update
from twisted.internet.threads import deferToThread

from tests.web_world import Answer, World
from twistedipc.builds.logs import Lines, Record, StepEnded, StepStarted, encoder
from twistedipc.sealed.outline import marked_of
from twistedipc.storage import logs
from twistedipc.storage.tables import attempts, builds
from twistedipc.web.api.call import Reply
from twistedipc.web.api.mcp.at_once import MOST, MOST_EACH, CallsAtOnce
from twistedipc.web.api.mcp.budget import FEWEST_TOKENS, TOKEN_BYTES, Budget
from twistedipc.web.api.mcp.protocol import HANDSHAKE, STATELESS
from twistedipc.web.api.mcp.tools import ReadLog, read_log
from twistedipc.web.api.mcp.within import PAGE_RECORDS, AskingWithin
from twistedipc.web.site import api_site

ERROR = "src/cart.ts(3,29): error TS2322: Type 'string' is not assignable to type 'number'."
RECORDS: list[Record] = [
    StepStarted(0, "build", "npm run build"),
    *(f"line {number}" for number in range(2, 1500)),
    ERROR,
    StepEnded(0, "failed", 9, 2),
]
VERSION = "io.modelcontextprotocol/protocolVersion"


class Mcp(World):
    async def prepare(self) -> None:
        self.calls = CallsAtOnce()
        self.port = self.listen(api_site(replace(self.context, logs=self.server.logs, mcp_calls=self.calls)))
        await self.project()
        await self.build()
        item = logs.ChunkItem(
            attempt="1-1",
            first=1,
            count=len(RECORDS),
            data=encoder.encode(Lines(1, 1_800_000_000_000, 0, RECORDS)) + b"\n",
            events=[(1_800_000_000_000, each) for each in RECORDS if isinstance(each, StepStarted | StepEnded)],
            marks=marked_of(Lines(1, 1_800_000_000_000, 0, RECORDS)),
        )
        await self.ledger.write(logs.append, [item])

        def end(connection: Connection) -> None:
            ended = {"state": "failed", "reason": "the step build failed"}
            connection.execute(update(attempts).values(ended=2, lines=len(RECORDS), **ended))
            connection.execute(update(builds).values(state="failed"))

        await self.ledger.write(end)

    async def say(self, message: object, query: str = "", **more: Any) -> Answer:
        return await self.ask("POST", f"/mcp{query}", message, **more)

    async def call(self, tool: str, arguments: dict[str, Any], query: str = "", **more: Any) -> tuple[str, bool]:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = await self.say(message, query, **more)
        assert answer.status == 200, answer.raw
        (content,) = answer.json["result"]["content"]
        return content["text"], answer.json["result"]["isError"]

    async def test_one_message_one_answer(self) -> None:
        begin = {
            "jsonrpc": "2.0",
            "id": "a",
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            },
        }
        answer = await self.say(json.dumps(begin, indent=1).encode(), headers={"Content-Type": "application/json"})
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json["id"] == "a"
        assert answer.json["result"]["protocolVersion"] == "2025-06-18"
        assert "Mcp-Session-Id" not in answer.headers
        answer = await self.say(
            {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers={"MCP-Protocol-Version": "2025-06-18"}
        )
        assert (answer.status, answer.body) == (202, b"")
        for method in ("GET", "DELETE"):
            answer = await self.ask(method, "/mcp")
            assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")

    async def test_what_is_no_message(self) -> None:
        for body, status, code in (
            (b"{", 400, -32700),
            (b"", 400, -32700),
            (b"\r\n", 400, -32700),
            (b'{"jsonrpc":"2.0","id":1}', 400, -32600),
            (b"[]", 400, -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"resources/list"}', 200, -32601),
            (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}', 200, -32602),
        ):
            answer = await self.say(body, headers={"Content-Type": "application/json"})
            assert (answer.status, answer.json["error"]["code"]) == (status, code), body
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        self.problem(await self.say(b"{}", headers={"Content-Type": "text/plain"}), 415)
        self.problem(await self.say(ping, "?token=5"), 422)

    async def test_from_where_and_by_whom(self) -> None:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        self.problem(await self.say(ping, token=None), 401)
        self.problem(await self.say(ping, headers={"Origin": "http://evil.example"}), 403)
        for origin in ("http://api.test", "https://console.example"):
            assert (await self.say(ping, headers={"Origin": origin})).status == 200

    async def test_headers_by_which_proxies_decide(self) -> None:
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "list_projects", "_meta": {VERSION: STATELESS[-1]}},
        }
        right = {"MCP-Protocol-Version": STATELESS[-1], "Mcp-Method": "tools/call", "Mcp-Name": "list_projects"}
        answer = await self.say(message, headers=right)
        assert (answer.status, answer.json["result"]["resultType"]) == (200, "complete")
        for name, other in (("MCP-Protocol-Version", HANDSHAKE[-1]), ("Mcp-Method", "ping"), ("Mcp-Name", "x")):
            answer = await self.say(message, headers={**right, name: other})
            assert (answer.json["error"]["code"], name in answer.json["error"]["message"]) == (-32020, True)
        answer = await self.say({**message, "method": "x/y"}, headers={**right, "Mcp-Method": "x/y"})
        assert (answer.status, answer.json["error"]["code"]) == (404, -32601)

    async def test_a_version_that_is_not_known(self) -> None:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        by_header, said = {"MCP-Protocol-Version": "2031-01-01"}, {**ping, "params": {"_meta": {VERSION: "2031-01-01"}}}
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        for message, headers, id_ in (
            (ping, by_header, 1),
            (said, {}, 1),
            (said, by_header, 1),
            (told, by_header, None),
        ):
            answer = await self.say(message, headers=headers)
            assert (answer.status, answer.headers["Content-Type"]) == (400, "application/json")
            assert (answer.json["id"], answer.json["error"]["code"]) == (id_, -32022)
            assert answer.json["error"]["data"] == {
                "supported": [*STATELESS, *reversed(HANDSHAKE)],
                "requested": "2031-01-01",
            }

    async def test_a_later_version_without_its_header(self) -> None:
        for method, status, code in (("ping", 400, -32020), ("x/y", 404, -32601)):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": {VERSION: STATELESS[-1]}}}
            answer = await self.say(message)
            assert (answer.status, answer.json["error"]["code"]) == (status, code)

    async def test_what_tools_see_is_what_the_token_sees(self) -> None:
        await self.project("other")
        mine = await self.token("reader", "read", ["shop"])
        other = await self.token("stranger", "read", ["other"])
        assert (await self.call("list_projects", {}, token=mine))[0].startswith("shop: https://git.example")
        assert await self.call("show_build", {"build": 1}, token=other) == ("there is no build 1", True)
        text, failed = await self.call("show_build", {"build": 1}, token=mine)
        assert not failed
        assert "attempt 1 failed: the step build failed" in text
        assert await self.call("list_releases", {}, token=mine) == ("name a project", True)
        said = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "retry_build"}}
        assert "add ?changes=1" in (await self.say(said)).json["error"]["message"]
        text, failed = await self.call("retry_build", {"build": 1}, "?changes=1", token=mine)
        assert (text, failed) == ("this needs a token with the scope build", True)
        builder = await self.token("builder", "build", ["shop"])
        assert await self.call("retry_build", {"build": 1}, "?changes=1", token=builder) == (
            "Attempt 2 of build 1 is queued.",
            False,
        )
        text, _ = await self.call("request_build", {"project": "shop", "ref": "next"}, "?changes=1", token=builder)
        assert text.startswith("Build 2 of shop at next is queued.")
        found = await self.ask("GET", "/api/v1/audit")
        assert [entry["who"] for entry in found.json["lines"] if entry["action"].startswith("build.")][:2] == [
            "builder",
            "builder",
        ]

    async def test_a_build_is_requested_once(self) -> None:
        once = {"Idempotency-Key": "k1"}
        for _ in range(2):
            text, _ = await self.call("request_build", {"project": "shop", "ref": "next"}, "?changes=1", headers=once)
            assert text.startswith("Build 2 of shop at next is queued.")
        text, failed = await self.call("request_build", {"project": "shop"}, "?changes=1", headers=once)
        assert (failed, "Idempotency-Key" in text) == (True, True)
        text, _ = await self.call("request_build", {"project": "shop", "ref": "next"}, "?changes=1")
        assert text.startswith("Build 3 of shop")

    async def test_a_log_is_quoted_as_it_is_over_http(self) -> None:
        text, failed = await self.call("read_log", {"build": 1, "first": 1, "records": 1400})
        assert not failed
        lines = text.split("\n")
        assert lines[1:3] == ["1:==> build: npm run build", "2:line 2"]
        assert lines[1400:] == ["1400:line 1400", "The log goes on: first=1401."]
        plain = await self.ask("GET", "/api/v1/builds/1/log?format=text&numbers=true&limit=1400")
        assert "\n".join(lines[1:1401]) == plain.body.decode().removesuffix("\n")
        text, _ = await self.call("read_log", {"build": 1, "first": 1}, f"?tokens={FEWEST_TOKENS}")
        assert len(text.encode()) <= FEWEST_TOKENS * TOKEN_BYTES
        text, _ = await self.call("search_log", {"build": 1, "query": "TS2322"})
        assert f">1500: {ERROR}" in text
        newer = await self.build()
        again = logs.ChunkItem(
            attempt=f"{newer}-1", first=1, count=1, data=encoder.encode(Lines(1, 1, 0, [ERROR])) + b"\n"
        )
        await self.ledger.write(logs.append, [again])
        text, _ = await self.call("search_log", {"project": "shop", "query": "TS2322"})
        assert text.index(f"log of build {newer},") < text.index("log of build 1,")
        text, _ = await self.call("build_failure", {"project": "shop"})
        assert f">1500  {ERROR}" in text

    async def test_no_more_of_a_log_is_read_than_there_is_room_for(self) -> None:
        asked: list[str] = []

        async def ask(method: str, uri: str, body: bytes = b"") -> Reply[bytes]:
            answer = await self.ask(method, uri)
            asked.append(uri)
            return Reply(body=answer.body)

        asking = AskingWithin(cast(Any, SimpleNamespace(ask=ask)))
        budget = Budget(FEWEST_TOKENS)
        await read_log(asking, ReadLog(build=1, first=1, records=1400), budget)
        assert "Go on with first=" in budget.text()
        pages = [uri for uri in asked if "/log?" in uri]
        assert [f"limit={PAGE_RECORDS}" in uri for uri in pages] == [True]
        whole = Budget(10_000)
        await read_log(asking, ReadLog(build=1, first=1, records=1400), whole)
        assert len([uri for uri in asked if "/log?" in uri]) == 1 + 1400 / PAGE_RECORDS

    async def test_calls_at_once_are_bounded(self) -> None:
        eve = await self.person("eve", {"shop": "reader"})
        mine, other = await self.token("laptop", "read", person=eve), await self.token("other", "read", service=True)
        calls = self.calls
        with ExitStack() as going_on:
            for _ in range(MOST_EACH):
                going_on.enter_context(calls.one(f"person {eve}"))
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_projects"}}
            error = (await self.say(message, token=mine)).json["error"]
            assert (error["code"], f"{MOST_EACH} of your calls go on" in error["message"]) == (-32000, True)
            assert (await self.say({**message, "method": "tools/list"}, token=mine)).json["result"]["tools"]
            assert not (await self.call("list_projects", {}, token=other))[1]
            for number in range(MOST - MOST_EACH):
                going_on.enter_context(calls.one(f"somebody {number // MOST_EACH}"))
            error = (await self.say(message, token=other)).json["error"]
            assert (error["code"], f"{MOST} calls go on here" in error["message"]) == (-32000, True)
        assert not (await self.call("list_projects", {}, token=mine))[1]

    async def test_the_official_client(self) -> None:
        """Without a handshake, as new clients begin, and with one."""
        sdk = pytest.importorskip("mcp")
        httpx = pytest.importorskip("httpx2")
        transport = pytest.importorskip("mcp.client.streamable_http")

        async def talking(mode: str) -> str:
            headers = {"Authorization": f"Bearer {self.admin}", "Host": "api.test"}
            address = f"http://127.0.0.1:{self.port}/mcp?changes=1"
            async with asyncio.timeout(60), httpx.AsyncClient(headers=headers) as http:
                over = transport.streamable_http_client(address, http_client=http)
                async with sdk.Client(over, mode=mode) as client:
                    assert len((await client.list_tools()).tools) == 11
                    found = await client.call_tool("build_failure", {"build": 1})
                    assert ERROR in found.content[0].text
                    wrong = await client.call_tool("show_build", {"build": 99})
                    assert wrong.is_error
                    with pytest.raises(sdk.MCPError) as refused:
                        await client.call_tool("no_tool", {})
                    assert refused.value.error.code == -32602
                    version: str = client.protocol_version
            return version

        for mode, version in (("auto", STATELESS[-1]), ("legacy", HANDSHAKE[-1])):
            spoken: str = await deferToThread(asyncio.run, talking(mode))
            assert spoken == version
