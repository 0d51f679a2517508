"""Node's channel with the real Node at the other end, as its parent and as its child."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.node import need_node
from twistedipc.ipc.connections.node import NodePeer
from twistedipc.ipc.node import (
    NodeProcess,
    NodeReactor,
    NoParentChannel,
    parent_channel,
    spawn_node,
)
from twistedipc.ipc.places.child import ChildExit
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected

reactor = cast(NodeReactor, global_reactor)

#: Seconds for anything here, on a machine that may be busy.
DEADLINE = 180

ROOT = Path(__file__).resolve().parent.parent


def open_descriptors() -> int:
    """How many descriptors this process has open; 0 where that can't be told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


class Recorder:
    """An application that notes what comes, and can wait for it."""

    def __init__(self, peer: NodePeer) -> None:
        self.peer = peer
        self.messages: list[Any] = []
        self.closed: list[str] = []
        self.react: Callable[[Any], object] | None = None
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def message_received(self, message: Any) -> None:
        self.messages.append(message)
        if self.react is not None:
            self.react(message)
        for count, waiting in list(self._waiting):
            if len(self.messages) >= count:
                self._waiting.remove((count, waiting))
                waiting.callback(None)

    def channel_closed(self, reason: str) -> None:
        self.closed.append(reason)

    def received(self, count: int) -> Deferred[None]:
        """Fires when so many messages have come."""
        waiting: Deferred[None] = Deferred()
        if len(self.messages) >= count:
            waiting.callback(None)
        else:
            self._waiting.append((count, waiting))
        return waiting.addTimeout(DEADLINE, reactor)


class NodeTestCase(TestCase):
    """Runs scripts."""

    timeout = DEADLINE

    def setUp(self) -> None:
        self.node = str(need_node() / "node")
        self.recorders: list[Recorder] = []
        self.printed: list[bytes] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="node-")
        self.addCleanup(self._temporary.cleanup)
        self.folder = Path(self._temporary.name)

    def application(self, peer: NodePeer) -> Recorder:
        """The application's factory."""
        self.recorders.append(Recorder(peer))
        return self.recorders[-1]

    def spawn(self, script: str, **more: Any) -> tuple[NodeProcess, Recorder]:
        """Run a Node script that has a channel."""
        path = self.folder / "script.js"
        path.write_text(script)
        process = spawn_node(
            reactor,
            path,
            self.application,
            node=[self.node],
            output=lambda descriptor, data: self.printed.append(data),
            **more,
        )

        def kill() -> Deferred[ChildExit]:
            process.signal(signal.SIGKILL)
            return process.ended()

        self.addCleanup(kill)
        return process, self.recorders[-1]

    async def end_of(self, process: NodeProcess) -> ChildExit:
        """How it ends."""
        return await process.ended().addTimeout(DEADLINE, reactor)

    def output(self) -> str:
        """What was printed."""
        return b"".join(self.printed).decode()


class ParentTests(NodeTestCase):
    """Python is the parent of a Node script."""

    async def test_messages_go_both_ways(self) -> None:
        process, recorder = self.spawn("""
            process.on('message', (message) => {
                process.send({echo: message});
                if (message === 'end') process.disconnect();
            });
            process.send('ready');
        """)
        await recorder.received(1)
        for message in ({"a": [1, 2.5, None, True]}, "größer 😀", 5, ["\ud83d", "x"], "end"):
            process.peer.send(message)
        assert await self.end_of(process) == ChildExit(0)
        assert recorder.messages == [
            "ready",
            {"echo": {"a": [1, 2.5, None, True]}},
            {"echo": "größer 😀"},
            {"echo": 5},
            {"echo": ["\ud83d", "x"]},
            {"echo": "end"},
        ]
        assert len(recorder.closed) == 1
        with self.assertRaises(NotConnected):
            process.peer.send("too late")

    async def test_big_messages_and_many_of_them(self) -> None:
        process, recorder = self.spawn("""
            let total = 0, count = 0;
            process.on('message', (message) => {
                total += message.text.length;
                count += 1;
                if (count === 200) {
                    process.send({total, text: 'y'.repeat(12_000_000)}, () => process.disconnect());
                }
            });
        """)
        for number in range(200):
            process.peer.send({"number": number, "text": "x" * 50_000})
            await process.peer.drain()
        assert await self.end_of(process) == ChildExit(0)
        assert recorder.messages == [{"total": 10_000_000, "text": "y" * 12_000_000}]

    async def test_what_was_sent_before_the_exit_arrives(self) -> None:
        process, recorder = self.spawn("""
            let left = 5000;
            for (let i = 0; i < 5000; i++) process.send(i, () => { if (--left === 0) process.exit(3); });
        """)
        assert await self.end_of(process) == ChildExit(3)
        assert recorder.messages == list(range(5000))

    async def test_a_kill_in_the_middle_of_a_message_drops_that_one_alone(self) -> None:
        process, recorder = self.spawn("""
            process.send('whole');
            require('fs').writeSync(3, '"half');
            setInterval(() => {}, 1000);
        """)
        await recorder.received(1)
        process.signal(signal.SIGKILL)
        assert await self.end_of(process) == ChildExit(None, signal.SIGKILL)
        assert recorder.messages == ["whole"]

    async def test_a_handle_is_refused_and_holds_nothing_up(self) -> None:
        process, recorder = self.spawn("""
            const net = require('net');
            const server = net.createServer().listen(0, '127.0.0.1', () => {
                process.send({with: 'server'}, server);
                process.send('next');
                process.send('last', () => { server.close(); process.disconnect(); });
            });
        """)
        before = open_descriptors()
        assert await self.end_of(process) == ChildExit(0), self.output()
        assert recorder.messages == [{"with": "server"}, "next", "last"]
        assert open_descriptors() <= before, "the server's descriptor was kept"

    async def test_nodes_own_messages_are_kept_apart(self) -> None:
        process, recorder = self.spawn("""
            process.on('internalMessage', () => process.send('internal!'));
            process.on('message', (message) => { process.send(message); process.disconnect(); });
        """)
        with self.assertRaises(LocalProtocolError):
            process.peer.send({"cmd": "NODE_HANDLE", "type": "net.Socket"})
        process.peer.send({"cmd": "NODE_"})
        await self.end_of(process)
        assert recorder.messages == [{"cmd": "NODE_"}]

    async def test_a_child_that_does_not_read_makes_us_wait(self) -> None:
        process, recorder = self.spawn("""
            process.send('ready');
            process.once('message', () => {
                // Busy for a while: nothing is read meanwhile.
                const end = Date.now() + 300;
                while (Date.now() < end) {}
                let count = 0;
                process.on('message', () => { if (++count === 400) process.disconnect(); });
            });
        """)
        await recorder.received(1)
        waited = 0
        for _ in range(401):
            process.peer.send("x" * 10_000)
            if process.peer.paused:
                waited += 1
            await process.peer.drain()
            await deferLater(reactor, 0)
        assert waited
        assert await self.end_of(process) == ChildExit(0)

    async def test_pausing_reaches_the_child(self) -> None:
        process, recorder = self.spawn("""
            let sent = 0;
            function more() {
                while (sent < 3000) {
                    sent += 1;
                    if (!process.send('z'.repeat(1000), more)) return;
                }
                if (sent === 3000) { sent += 1; process.send('done', () => process.disconnect()); }
            }
            more();
        """)
        process.peer.pause_reading()
        await deferLater(reactor, 0.2)
        assert len(recorder.messages) == 0
        process.peer.resume_reading()
        assert await self.end_of(process) == ChildExit(0)
        assert len(recorder.messages) == 3001
        assert recorder.messages[-1] == "done"

    async def test_what_was_sent_before_the_exit_arrives_however_late_it_is_wanted(self) -> None:
        process, recorder = self.spawn("""
            let left = 50;
            for (let i = 0; i < 50; i++) process.send(i, () => { if (--left === 0) process.exit(0); });
        """)
        process.peer.pause_reading()
        while process.pid is not None:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 1.3)  # longer than what is left is waited for
        assert recorder.messages == []
        process.peer.resume_reading()
        assert await self.end_of(process) == ChildExit(0)
        assert recorder.messages == list(range(50))

    async def test_it_knows_nothing_of_a_cluster_and_its_children_of_the_channel(self) -> None:
        process, recorder = self.spawn(
            """
            const {execFileSync} = require('child_process');
            const own = execFileSync(process.execPath, ['-p', 'typeof process.send']).toString().trim();
            process.send([require('cluster').isWorker, own, process.env.NODE_CHANNEL_FD === undefined, process.env.X],
                () => process.disconnect());
            """,
            environment={**os.environ, "NODE_UNIQUE_ID": "1", "X": "mine"},
        )
        assert await self.end_of(process) == ChildExit(0), self.output()
        assert recorder.messages == [[False, "undefined", True, "mine"]]

    async def test_disconnecting_is_noticed_there(self) -> None:
        process, recorder = self.spawn("""
            process.on('message', (m) => console.log(m));
            process.on('disconnect', () => { console.log('gone'); process.exit(4); });
            process.send('ready');
        """)
        await recorder.received(1)
        process.peer.send("one more")
        await process.peer.disconnect()
        assert await self.end_of(process) == ChildExit(4)
        assert self.output() == "one more\ngone\n"

    async def test_output_held_open_by_a_grandchild_does_not_hold_the_end_up(self) -> None:
        process, recorder = self.spawn("""
            const {spawn} = require('child_process');
            const sleeper = spawn('sleep', ['60'], {stdio: ['ignore', 'inherit', 'inherit'], detached: true});
            process.send(sleeper.pid, () => process.exit(0));
        """)
        assert await self.end_of(process) == ChildExit(0)
        os.kill(recorder.messages[0], signal.SIGKILL)

    async def test_a_program_that_is_not_there(self) -> None:
        with self.assertRaises(FileNotFoundError):
            spawn_node(reactor, "x.js", self.application, node=["/nonexistent/node"])
        assert self.recorders == []

    async def test_an_application_that_fails_closes_the_channel(self) -> None:
        process, recorder = self.spawn("""
            process.on('disconnect', () => process.exit(5));
            process.send('hello');
        """)

        def fail(message: Any) -> None:
            raise ZeroDivisionError

        recorder.react = fail
        assert await self.end_of(process) == ChildExit(5)
        assert recorder.closed == ["an error inside"]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


CHILD = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twistedipc.ipc.node import parent_channel

class Child:
    def __init__(self, peer):
        self.peer = peer
    def message_received(self, message):
        if message == "end":
            self.peer.send("bye")
            self.peer.disconnect()
        else:
            self.peer.send({"echo": message})
    def channel_closed(self, reason):
        print("closed:", reason, flush=True)
        reactor.stop()

peer = parent_channel(reactor, Child)
reactor.callWhenRunning(peer.send, "ready")
reactor.run()
"""

PARENT = """
const {fork} = require('child_process');
const net = require('net');
const child = fork(process.argv[2], [], {execPath: process.argv[3], execArgv: ['-I'], ...JSON.parse(process.argv[4])});
const got = [];
let sent = false;
child.on('message', (message) => {
    got.push(message);
    if (message === 'ready') {
        child.send({number: 1, text: '\\ud83d'});
        const server = net.createServer().listen(0, '127.0.0.1', () => {
            child.send('with a server', server);
            child.send('x'.repeat(3_000_000));
            child.send('end');
            server.close();
        });
    }
});
child.on('disconnect', () => got.push('disconnected'));
child.on('exit', (code, signal) => {
    console.log(JSON.stringify({got: got.map((m) => m.echo && m.echo.length > 100 ? m.echo.length : m), code, signal}));
});
"""


class ChildTests(NodeTestCase):
    """Python is forked by Node."""

    async def run_parent(self, script: str, *arguments: str) -> str:
        """Run a Node program (which needs no channel of its own); what it printed."""
        process, _recorder = self.spawn(script, arguments=arguments)
        await process.peer.disconnect()
        await self.end_of(process)
        return self.output()

    def child(self, source: str) -> str:
        """The path of a Python program."""
        path = self.folder / "child.py"
        path.write_text(source)
        return str(path)

    async def test_a_forked_python_talks_to_its_parent(self) -> None:
        printed = await self.run_parent(PARENT, self.child(CHILD), sys.executable, "{}")
        last = printed.strip().splitlines()[-1]
        assert json.loads(last) == {
            "got": [
                "ready",
                {"echo": {"number": 1, "text": "\ud83d"}},
                {"echo": "with a server"},
                3_000_000,
                "bye",
                "disconnected",
            ],
            "code": 0,
            "signal": None,
        }, printed
        assert "closed: the channel was closed here" in printed

    async def test_the_advanced_format_is_refused(self) -> None:
        child = self.child("""
from twisted.internet import reactor
from twistedipc.ipc.node import NoParentChannel, parent_channel
try:
    parent_channel(reactor, None)
except NoParentChannel as error:
    print(error, flush=True)
""")
        printed = await self.run_parent(PARENT, child, sys.executable, '{"serialization": "advanced"}')
        assert "'advanced'" in printed

    async def test_the_parents_death_is_noticed(self) -> None:
        process, recorder = self.spawn(
            """
            const {fork} = require('child_process');
            const child = fork(process.argv[2], [], {execPath: process.argv[3], execArgv: ['-I']});
            child.on('message', (m) => process.send(m));
            """,
            arguments=[self.child(CHILD), sys.executable],
        )
        await recorder.received(1)
        process.signal(signal.SIGKILL)
        # The child has the parent's output, whose end is waited for.
        await self.end_of(process)
        assert "closed: the parent has closed the channel" in self.output()

    async def test_without_a_parent(self) -> None:
        environment: dict[str, str] = {}
        for value, complaint in (
            (None, "isn't set"),
            ("x", "isn't a descriptor"),
            ("9" * 12, "isn't a descriptor"),
            ("987654", "can't be used"),
            ("0x3", "isn't a descriptor"),
        ):
            if value is not None:
                environment["NODE_CHANNEL_FD"] = value
            with self.assertRaisesRegex(NoParentChannel, complaint):
                parent_channel(reactor, self.application, environment=environment)
            assert not environment

    async def test_a_descriptor_that_is_no_socket(self) -> None:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        with self.assertRaisesRegex(NoParentChannel, "isn't a socket"):
            parent_channel(reactor, self.application, environment={"NODE_CHANNEL_FD": str(descriptor)})

    async def test_the_descriptor_is_not_passed_on(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        number = theirs.detach()
        peer = parent_channel(reactor, self.application, environment={"NODE_CHANNEL_FD": str(number)})
        with self.assertRaises(OSError):
            os.fstat(number)
        ours.sendall(b'"hello"\n')
        await self.recorders[0].received(1)
        ours.close()
        await peer.disconnect()
