"""`twistedipc.ipc.spawn` with real children, which are Python programs that use ``stdio:`` (or don't, and should)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from twistedipc.ipc import (
    CallFailed,
    ChildExit,
    Interface,
    Message,
    NotConnected,
    Peer,
    Request,
    Service,
    Spawned,
    StreamOf,
    handles,
    spawn,
)
from twistedipc.ipc.spawn import SpawnReactor

reactor = cast(SpawnReactor, global_reactor)

#: Seconds for anything here, on a machine that may be busy.
DEADLINE = 180

#: What parent and child say to one another; a module of its own for the children.
DECLARED = """
import msgspec
from twistedipc.ipc import Interface, Message, Request, StreamOf

class Text(msgspec.Struct):
    text: str

class Say(Request[Text]):
    what: str
    text: str = ""

class Note(Message):
    number: int
    text: str = ""

EVENTS = StreamOf("events", Note)
CHILD = Interface("child", Say, Note, streams=[EVENTS])
PARENT = Interface("parent", Say, Note)
"""

#: The head of each child; `serve` is what most of them do at the end.
HEAD = """
import os, subprocess, sys, time
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twistedipc.ipc import CallFailed, MemoryOutbox, Service, handles, receives
from twistedipc.ipc import dial
from twistedipc.ipc import listen
from declared import *

class Child(Service):
    interface = CHILD
    count = 0

    @handles(Say)
    async def say(self, request, peer):
        match request.what:
            case "pid":
                return Text(str(os.getpid()))
            case "print":
                print("printed")
                subprocess.run(["echo", "by another process"], check=True)
                os.write(1, b"by descriptor\\n")
                return Text(repr(sys.stdin.read()))
            case "send":
                for number in range(int(request.text)):
                    peer.send(Note(number, "x" * 1000))
                    await peer.drain()
                return Text("sent")
            case "send and exit":
                for number in range(int(request.text)):
                    peer.send(Note(number, "x" * 1000))
                    await peer.drain()
                peer.close("closed", "that is all")
                await Deferred()
            case "exit":
                os._exit(7)
            case "sleep":
                time.sleep(float(request.text))
                return Text("awake")
            case "ask":
                return await peer.call(Say("what is it?"), 30)
            case "fail":
                raise CallFailed("no", "no", [1])
            case "count":
                return Text(str(self.count))
        return Text(request.text)

    @handles(Note)
    def note(self, message, peer):
        self.count += 1

    @receives(EVENTS)
    def events(self, stream):
        return self

    def position(self):
        return self.count + 1

    def take(self, first, items):
        self.count += len(items)

async def serve(reactor):
    listening = await listen(reactor, "stdio:", Child(), calls=PARENT)
    print("closed:", await listening.closed())

def run(main):
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""

SERVE = HEAD + "\nrun(serve)\n"


class Text(msgspec.Struct):
    text: str


class Say(Request[Text]):
    what: str
    text: str = ""


class Note(Message):
    number: int
    text: str = ""


EVENTS = StreamOf("events", Note)
CHILD = Interface("child", Say, Note, streams=[EVENTS])
PARENT = Interface("parent", Say, Note)


class Parent(Service):
    """Answers, and notes what comes."""

    interface = PARENT

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self.react: Callable[[Note], object] = lambda note: None

    @handles(Say)
    def say(self, request: Say, peer: Peer) -> Text:
        return Text(f"the parent was asked {request.what}")

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.numbers.append(message.number)
        self.react(message)

    def peer_ready(self, peer: Peer) -> None:
        self.peers.append(peer)

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append(reason)


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until the condition holds; the test's own time limit ends it if it never does."""
    while not condition():
        await deferLater(reactor, 0.002)


class SpawnTestCase(TestCase):
    timeout = DEADLINE

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="spawn-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        (self.folder / "declared.py").write_text(DECLARED)
        self.parent = Parent()
        self.errors: list[bytes] = []

    def printed(self) -> str:
        return b"".join(self.errors).decode()

    def spawn(self, program: str, interface: Interface | None = CHILD, **more: Any) -> Spawned:
        """Run a Python program that is linked with."""
        (self.folder / "child.py").write_text(program)
        command = more.pop("command", [sys.executable, "child.py"])
        given: dict[str, Any] = {"service": self.parent, "folder": self.folder, "printed": self.errors.append}
        child = spawn(reactor, command, interface, **(given | {"grace": 10.0} | more))

        def kill() -> Deferred[ChildExit]:
            child.signal(signal.SIGKILL)
            return child.ended()

        self.addCleanup(kill)
        return child


class ConversationTests(SpawnTestCase):
    async def test_calls_and_messages_go_both_ways(self) -> None:
        child = self.spawn(SERVE)
        assert await child.call(Say("echo", "größer ☃"), DEADLINE) == Text("größer ☃")
        assert await child.call(Say("pid"), 5) == Text(str(child.pid))
        assert await child.call(Say("ask"), 5) == Text("the parent was asked what is it?")
        assert await child.call(Say("send", "3"), 5) == Text("sent")
        assert self.parent.numbers == [0, 1, 2]
        with self.assertRaises(CallFailed) as caught:
            await child.call(Say("fail"), 5)
        assert (caught.exception.code, caught.exception.data) == ("no", [1])
        child.send(Note(1))
        child.send(Note(2))
        assert await child.call(Say("count"), 5) == Text("2")
        assert self.parent.peers[0].info.name == f"child-server.{child.pid}"
        await child.close()
        assert await child.ended() == ChildExit(0)
        assert child.pid is None
        assert self.printed() == "closed: the peer said: the peer is stopping [closed]\n"
        assert await child.closed() == "it was closed here"

    async def test_what_is_printed_is_not_in_the_link(self) -> None:
        program = HEAD + "sys.stdout.write('early ')\nrun(serve)\n"
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        child = self.spawn(program, environment=buffered)
        assert await child.call(Say("print"), DEADLINE) == Text("''"), "it would read what the parent says"
        await child.close()
        assert self.printed().startswith("early printed\nby another process\nby descriptor\n")

    async def test_a_child_that_asks(self) -> None:
        program = (
            HEAD
            + """
async def main(reactor):
    parent = dial(reactor, "stdio:", PARENT)
    reply = await parent.call(Say("something"), 30)
    print(reply.text)
    for number in range(100):
        parent.send(Note(number))
    await parent.close()

run(main)
"""
        )
        child = self.spawn(program, None)
        assert await child.ended() == ChildExit(0)
        assert self.printed() == "the parent was asked something\n"
        assert self.parent.numbers == list(range(100))
        assert self.parent.lost == ["the peer said: the peer is stopping [closed]"]
        said = "the peer said: the peer is stopping [closed]"
        assert await child.closed() == f"the child has exited with the code 0 ({said})"

    async def test_big_messages_and_many_of_them(self) -> None:
        child = self.spawn(SERVE)
        text = "ü" * 400_000
        assert await child.call(Say("echo", text), DEADLINE) == Text(text)
        replies = [child.call(Say("echo", text[: 300_000 + n]), DEADLINE) for n in range(10)]
        for n, reply in enumerate(replies):
            assert len((await reply).text) == 300_000 + n
        for number in range(3000):
            child.send(Note(number, "y" * 5000))
            await child.drain()
        assert await child.call(Say("count"), 30) == Text("3000")
        assert await child.call(Say("send", "3000"), 30) == Text("sent")
        assert self.parent.numbers == list(range(3000))
        await child.close()

    async def test_a_stream(self) -> None:
        child = self.spawn(SERVE)
        stream = child.stream(EVENTS)
        for number in range(2000):
            await stream.write(Note(number, "x" * 100))
        await stream.flushed()
        assert await child.call(Say("count"), 30) == Text("2000")
        await child.close()

    async def test_other_interfaces_are_refused(self) -> None:
        child = self.spawn(SERVE, Interface("another", Say), service=None)
        with self.assertRaises(NotConnected):
            await child.call(Say("echo"), DEADLINE)
        assert "another-server is wanted" in self.printed() or "child-client is wanted" in self.printed()
        assert await child.ended() == ChildExit(0)

    async def test_nobody_to_talk_to(self) -> None:
        with self.assertRaisesRegex(TypeError, "an interface of the child's, or a service"):
            spawn(reactor, ["true"])


class PressureTests(SpawnTestCase):
    async def test_a_child_that_does_not_read_makes_us_wait(self) -> None:
        child = self.spawn(SERVE)
        await child.linked(DEADLINE)
        asleep = child.call(Say("sleep", "0.5"), 30)
        waited = 0
        for number in range(300):
            child.send(Note(number, "x" * 10_000))
            await deferLater(reactor, 0)
            waited += child.peer is not None and child.peer.paused
            await child.drain()
        assert waited
        assert await asleep == Text("awake")
        assert await child.call(Say("count"), 30) == Text("300")
        await child.close()

    async def test_pausing_reaches_the_child(self) -> None:
        child = self.spawn(SERVE)
        (peer,) = [await child.linked(DEADLINE)]
        sent = child.call(Say("send", "5000"), DEADLINE)
        await until(lambda: self.parent.numbers)
        peer.pause_reading()
        have = len(self.parent.numbers)
        await deferLater(reactor, 0.3)
        assert len(self.parent.numbers) == have < 5000
        assert not sent.called
        peer.resume_reading()
        assert await sent == Text("sent")
        assert self.parent.numbers == list(range(5000))
        await child.close()


class EndTests(SpawnTestCase):
    async def test_a_kill(self) -> None:
        child = self.spawn(SERVE)
        await child.call(Say("echo"), DEADLINE)
        reply = child.call(Say("sleep", "60"), 90)
        child.signal(signal.SIGKILL)
        with self.assertRaises(NotConnected):
            await reply
        assert await child.closed() == "the child was ended by SIGKILL (the peer closed the connection)"
        assert await child.ended() == ChildExit(None, signal.SIGKILL)
        child.signal(signal.SIGKILL)  # no process is hit
        with self.assertRaisesRegex(NotConnected, "was ended by SIGKILL"):
            await child.call(Say("echo"), 5)
        with self.assertRaisesRegex(NotConnected, "was ended by SIGKILL"):
            child.send(Note(1))
        with self.assertRaises(NotConnected):
            await child.linked()
        await child.close()

    async def test_an_exit_while_it_is_being_written_to(self) -> None:
        """What it had sent arrives, whatever becomes of what we write."""
        child = self.spawn(SERVE)
        await child.linked(DEADLINE)
        child.call(Say("send", "300"), DEADLINE).addErrback(lambda _: None)
        child.call(Say("exit"), DEADLINE).addErrback(lambda _: None)
        peer = child.peer
        while peer is child.peer and peer is not None:
            peer.send(Note(1, "x" * 50_000))
            await deferLater(reactor, 0)
        assert await child.ended() == ChildExit(7)
        count = len(self.parent.numbers)
        assert self.parent.numbers == list(range(count))

    async def test_what_was_sent_before_the_exit_arrives(self) -> None:
        child = self.spawn(SERVE)
        with self.assertRaises(NotConnected):
            await child.call(Say("send and exit", "5000"), DEADLINE)
        assert self.parent.numbers == list(range(5000))
        assert await child.ended() == ChildExit(0)

    async def test_what_was_sent_before_the_exit_arrives_however_late_it_is_wanted(self) -> None:
        exits = "await deferLater(reactor, 0.05)\n                os._exit(3)\n                "
        program = HEAD.replace("peer.close(", exits + "peer.close(") + "\nrun(serve)\n"
        child = self.spawn(program)
        peer = await child.linked(DEADLINE)
        self.parent.react = lambda note: peer.pause_reading() if note.number == 0 else None
        child.call(Say("send and exit", "40"), DEADLINE).addErrback(lambda _: None)
        await until(lambda: child.child.exit is not None)
        await deferLater(reactor, 1.3)  # longer than what is left is waited for
        assert len(self.parent.numbers) < 40
        peer.resume_reading()
        assert await child.ended() == ChildExit(3)
        assert self.parent.numbers == list(range(40))

    async def test_a_child_that_cannot_even_begin(self) -> None:
        child = self.spawn("import sys\nsys.exit('no such luck')\n")
        waiting: list[Deferred[Any]] = [child.call(Say("echo"), DEADLINE), child.linked()]
        for each in waiting:
            with self.assertRaisesRegex(NotConnected, "the child has exited with the code 1"):
                await each
        assert await child.ended() == ChildExit(1)
        assert self.printed() == "no such luck\n"

    async def test_a_child_that_says_something_else(self) -> None:
        child = self.spawn("import os, time\nos.write(1, b'hello\\n')\ntime.sleep(100)\n", grace=0.1)
        reason = await child.closed()
        assert "this is a twistedipc link, and expects challenge" in reason
        assert await child.ended() == ChildExit(None, signal.SIGTERM)

    async def test_a_child_that_does_not_want_to_end(self) -> None:
        program = (
            HEAD
            + """
import signal
async def main(reactor):
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    await serve(reactor)
    await Deferred()

run(main)
"""
        )
        child = self.spawn(program, grace=0.3)
        await child.call(Say("echo"), DEADLINE)
        await child.close()
        assert await child.ended() == ChildExit(None, signal.SIGKILL)

    async def test_silence(self) -> None:
        # The listener's heartbeat is the one that counts.
        program = SERVE.replace("calls=PARENT)", "calls=PARENT, heartbeat=0.1)")
        child = self.spawn(program, dead_after=0.3, grace=0.1)
        await child.call(Say("echo"), DEADLINE)
        await deferLater(reactor, 0.6)
        assert child.peer is not None, "it lives, and says so"
        child.signal(signal.SIGSTOP)
        assert "nothing was received" in await child.closed()
        assert (await child.ended()).signal == signal.SIGKILL

    async def test_a_grandchild_that_holds_the_pipes_does_not_hold_the_end_up(self) -> None:
        child = self.spawn(
            SERVE, command=["sh", "-c", f"sleep 60 2>&- & echo $! >pid; exec {sys.executable} child.py"], printed=None
        )
        await child.linked(DEADLINE)
        child.call(Say("exit"), 5).addErrback(lambda _: None)
        try:
            assert await child.ended() == ChildExit(7)
        finally:
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)

    async def test_the_parents_death_is_noticed(self) -> None:
        parent = """
import sys
from twisted.internet.task import react
from twisted.internet.defer import Deferred
from twistedipc.ipc import spawn
from declared import *

async def main(reactor):
    child = spawn(reactor, [sys.executable, "child.py"], CHILD)
    await child.call(Say("echo"), 60)
    print("linked", flush=True)
    await Deferred()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""
        (self.folder / "child.py").write_text(SERVE)
        (self.folder / "parent.py").write_text(parent)
        with subprocess.Popen(  # noqa: ASYNC220  (what it prints is all that is waited for)
            [sys.executable, "parent.py"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "linked\n"
            process.kill()
            # To the end: the child has this pipe too, and lets go of it by exiting.
            assert process.stderr.read() == "closed: the peer closed the connection\n"

    async def test_a_program_that_is_not_there(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for program in ("/nonexistent/program", "no-such-program-anywhere"):
            for folder in (None, self.folder):
                with self.assertRaises(FileNotFoundError):
                    spawn(reactor, [program], CHILD, folder=folder)
        assert len(os.listdir("/proc/self/fd")) == before

    async def test_no_descriptor_is_left(self) -> None:
        counts: list[int] = []
        for _ in range(3):
            child = self.spawn(SERVE)
            await child.call(Say("echo"), DEADLINE)
            await child.close()
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[0] == counts[-1], "the reactor's own are made with the first child"


class StandardInputTests(SpawnTestCase):
    """Where ``stdio:`` can't be used, and why."""

    def complaint(self, **streams: Any) -> str:
        (self.folder / "child.py").write_text(SERVE)
        done = subprocess.run(
            [sys.executable, "child.py"],
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE,
            check=False,
            **streams,
        )
        assert done.returncode == 1
        return str(done.stderr.strip().splitlines()[-1])

    def test_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        complaint = self.complaint(stdin=theirs, stdout=theirs)
        os.close(theirs)
        assert "BadEndpoint: stdio: standard input is neither a pipe nor a socket" in complaint

    def test_a_file(self) -> None:
        with open(self.folder / "declared.py") as file:
            assert "standard input is neither" in self.complaint(stdin=file, stdout=subprocess.PIPE)
        with open(self.folder / "output", "w") as output:
            assert "standard output is neither" in self.complaint(stdin=subprocess.PIPE, stdout=output)

    def test_twice(self) -> None:
        program = (
            HEAD
            + """
async def main(reactor):
    await listen(reactor, "stdio:", Child(), calls=PARENT)
    await listen(reactor, "stdio:", Child(), calls=PARENT)

run(main)
"""
        )
        (self.folder / "child.py").write_text(program)
        with subprocess.Popen(
            [sys.executable, "child.py"],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            _out, errors = process.communicate(timeout=DEADLINE)
        assert "standard input is neither a pipe nor a socket" in errors
