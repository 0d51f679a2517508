"""JSON-RPC with what others have made: vscode-jsonrpc, and the Model Context Protocol's official SDK for Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.node import need_node, node_path
from tests.test_ipc_plain import until
from twistedipc.ipc import (
    CallFailed,
    CallTimedOut,
    Interface,
    LinkReactor,
    Message,
    Peer,
    Request,
    Service,
    SpawnReactor,
    handles,
    listen_jsonrpc,
    spawn_jsonrpc,
)

reactor = cast(SpawnReactor, global_reactor)

HERE = Path(__file__).parent / "jsonrpc"


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with vscode-jsonrpc, of the version that the lock has, and the program that uses it."""
    need_node()
    folder = tmp_path_factory.mktemp("jsonrpc")
    for name in ("package.json", "package-lock.json", "peer.cjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent"]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"PATH": node_path()}, timeout=120)
    return folder


class Sum(msgspec.Struct):
    value: int


class Add(Request[Sum], tag="math/add"):
    a: int
    b: int


class Point(Request[Sum], tag_field="method", array_like=True):
    x: int
    y: int


class Fail(Request[Sum]):
    pass


class Slow(Request[Sum]):
    pass


class AskBack(Request[Sum], tag="ask-back"):
    a: int


class Note(Message):
    text: str


class Noted(Message):
    text: str


SERVER = Interface("server", Add, Point, Fail, Slow, AskBack, Note)
CLIENT = Interface("client", Add, Noted)


class Client(Service):
    interface = CLIENT

    def __init__(self) -> None:
        self.noted: list[str] = []

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b)

    @handles(Noted)
    def note(self, message: Noted, peer: Peer) -> None:
        self.noted.append(message.text)


class Server(Service):
    interface = SERVER

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b)

    @handles(Point)
    def point(self, request: Point, peer: Peer) -> Sum:
        return Sum(request.x * 100 + request.y)

    @handles(Fail)
    def fail(self, request: Fail, peer: Peer) -> Sum:
        raise CallFailed("-32050", "of its own", {"left": 3})

    @handles(Slow)
    def slow(self, request: Slow, peer: Peer) -> Deferred[Sum]:
        return Deferred(lambda _: peer.send(Noted("cancelled")))

    @handles(AskBack)
    def ask_back(self, request: AskBack, peer: Peer) -> Deferred[Sum]:
        return peer.call(Add(request.a, 1))

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        peer.send(Noted(message.text))


class VscodeTests(TestCase):
    timeout = 60

    @pytest.fixture(autouse=True)
    def _folder(self, peers: Path, tmp_path: Path) -> None:
        self.peers, self.folder = peers, tmp_path
        self.node = str(need_node() / "node")

    async def test_as_a_child(self) -> None:
        client = Client()
        command = [self.node, str(self.peers / "peer.cjs"), "serve"]
        server = spawn_jsonrpc(reactor, command, SERVER, service=client, framing="content-length")
        self.addCleanup(server.close)
        assert await server.call(Add(2, 3)) == Sum(5)
        assert await server.call(Point(1, 2)) == Sum(102)
        with self.assertRaises(CallFailed) as failed:
            await server.call(Fail())
        assert (failed.exception.code, failed.exception.data) == ("-32050", {"left": 3})
        with self.assertRaises(CallTimedOut):
            await server.call(Slow(), timeout=0.05)
        await until(lambda: client.noted == ["cancelled"])
        assert await server.call(AskBack(6)) == Sum(7)
        server.send(Note("é€😀"))
        await until(lambda: client.noted[1:] == ["é€😀"])
        calls = [server.call(Add(n, 0)) for n in range(200)]
        assert [(await each).value for each in calls] == list(range(200))
        await server.close()
        assert (await server.ended()).code == 0

    async def test_as_a_client(self) -> None:
        path = self.folder / "socket"
        listening = await listen_jsonrpc(
            cast(LinkReactor, reactor), f"unix:{path}", Server(), calls=CLIENT, framing="content-length"
        )
        self.addCleanup(listening.close)
        out, errors, code = await getProcessOutputAndValue(
            self.node, [str(self.peers / "peer.cjs"), "ask", str(path)], env=os.environ
        )
        assert (errors, code) == (b"", 0)
        five = {"value": 5}
        wrong = [[-32050, {"left": 3}], [-32601, None], [-32602, None]]
        said = [json.loads(line) for line in out.splitlines()]
        assert said[:6] == [five, five, 19_900, *wrong]
        assert sorted(said[6:8], key=str) == [-32800, "cancelled"]
        assert said[8:] == [{"value": 7}, "é€😀", {"value": 2}]


MCP_SERVER = '''
import mcp.server
from mcp.server import MCPServer
server = MCPServer("adder")

@server.tool()
def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)

server.run("stdio")
'''


class Implementation(msgspec.Struct):
    name: str
    version: str = ""


class Initialized(msgspec.Struct, rename="camel"):
    protocol_version: str
    server_info: Implementation


class Initialize(Request[Initialized], rename="camel"):
    protocol_version: str
    client_info: Implementation
    capabilities: dict[str, Any]


class Ready(Message, tag="notifications/initialized"):
    pass


class Text(msgspec.Struct):
    text: str


class Called(msgspec.Struct, rename="camel"):
    content: list[Text]
    is_error: bool = False


class CallTool(Request[Called], tag="tools/call"):
    name: str
    arguments: dict[str, Any]


MCP = Interface("mcp", Initialize, Ready, CallTool)


class McpTests(TestCase):
    timeout = 60

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        pytest.importorskip("mcp")
        self.script = tmp_path / "server.py"
        self.script.write_text(MCP_SERVER)

    async def test_the_official_server(self) -> None:
        printed: list[bytes] = []
        command = [sys.executable, str(self.script)]
        server = spawn_jsonrpc(reactor, command, MCP, cancel="notifications/cancelled", printed=printed.append)
        self.addCleanup(server.close)
        begun = await server.call(Initialize("2025-11-25", Implementation("test", "1"), {}), timeout=50)
        assert begun.server_info.name == "adder"
        server.send(Ready())
        called = await server.call(CallTool("add", {"a": 2, "b": 3}))
        assert (called.content[0].text, called.is_error) == ("5", False)
