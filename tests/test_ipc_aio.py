"""`twistedipc.ipc.aio`: the library on a loop of asyncio's own, without a reactor, and on Twisted's asyncio reactor."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twistedipc.ipc import (
    BadEndpoint,
    CallFailed,
    CallTimedOut,
    Interface,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    Receiver,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    TLSFiles,
    Unlinked,
    aio,
    handles,
    receives,
)
from twistedipc.ipc.places.loop import LoopReactor
from twistedipc.ipc.testing import ServicePair

DEADLINE = 60.0


class Value(msgspec.Struct):
    value: int


class Double(Request[Value]):
    of: int


class Wait(Request[Value]):
    pass


class AskBack(Request[Value]):
    pass


class InThread(Request[Value]):
    pass


class Fail(Request[Value]):
    code: str


class Note(Message):
    text: str


class Count(StreamedRequest[Value]):
    upto: int


class Who(Request[Value]):
    pass


VALUES = StreamOf("values", Value)
DOUBLER = Interface("doubler", Double, Wait, AskBack, InThread, Fail, Count, Note, streams=[VALUES])
CLERK = Interface("clerk", Who)


class Shelf:
    """A receiver that awaits what is asyncio's."""

    def __init__(self) -> None:
        self.items: list[int] = []

    async def position(self) -> int:
        await asyncio.sleep(0)
        return len(self.items) + 1

    async def take(self, first: int, items: Any) -> None:
        await asyncio.sleep(0)
        assert first == len(self.items) + 1
        self.items += [item.value for item in items]


class Doubler(Service):
    interface = DOUBLER

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.noted = asyncio.Event()
        self.shelf = Shelf()
        self.peers: list[Peer] = []
        self.threads: set[int] = set()

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        return Value(request.of * 2)

    @handles(Wait)
    async def wait(self, request: Wait, peer: Peer) -> Value:
        self.began.set()
        try:
            async with asyncio.timeout(DEADLINE):  # which needs a task
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Value(0)

    @handles(AskBack)
    async def ask_back(self, request: AskBack, peer: Peer) -> Value:
        one = await peer.call(Who())
        others = await asyncio.gather(peer.call(Who()), peer.call(Who()))
        await peer.drain()
        return Value(one.value + sum(each.value for each in others) + await succeed(1))

    @handles(InThread, thread=True)
    def in_thread(self, request: InThread, peer: Peer) -> Value:
        self.threads.add(threading.get_ident())
        return Value(1)

    @handles(Fail)
    async def fail(self, request: Fail, peer: Peer) -> Value:
        await asyncio.sleep(0)
        raise CallFailed(request.code, "as it was asked to", {"n": 1})

    @handles(Count)
    async def count(self, request: Count, peer: Peer) -> AsyncIterator[Value]:
        try:
            if request.upto < 0:
                yield Value(0)
                await asyncio.sleep(DEADLINE)
            for n in range(request.upto):
                if n % 100 == 1:
                    await asyncio.sleep(0)
                    await succeed(None)
                yield Value(n)
        finally:
            await asyncio.sleep(0.01)
            self.cancelled.set()

    @handles(Note)
    async def note(self, message: Note, peer: Peer) -> None:
        await asyncio.sleep(0)
        self.notes.append(message.text)
        self.noted.set()

    @receives(VALUES)
    def values(self, stream: StreamId) -> Receiver[Value]:
        return self.shelf

    def peer_ready(self, peer: Peer) -> None:
        self.peers.append(peer)


class Clerk(Service):
    interface = CLERK

    @handles(Who)
    def who(self, request: Who, peer: Peer) -> Value:
        return Value(100)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Doubler, aio.Remote, aio.Listening], Coroutine[Any, Any, None]]], None]:
    """Runs a test in a loop, with a doubler that listens and a remote that has dialled it."""

    def run(test: Callable[[Doubler, aio.Remote, aio.Listening], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            endpoint = f"unix:{tmp_path}/socket"
            doubler = Doubler()
            async with (
                asyncio.timeout(DEADLINE),
                await aio.listen(endpoint, doubler, calls=CLERK) as listening,
                aio.dial(endpoint, DOUBLER, service=Clerk(), name="asker") as remote,
            ):
                await test(doubler, remote, listening)

        asyncio.run(main(), debug=True)

    return run


Run = Callable[[Callable[[Doubler, aio.Remote, aio.Listening], Coroutine[Any, Any, None]]], None]


def test_calls_and_messages(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        assert await remote.call(Double(of=21)) == Value(42)
        replies = await asyncio.gather(*(remote.call(Double(of=n)) for n in range(100)))
        assert [reply.value for reply in replies] == list(range(0, 200, 2))
        assert await asyncio.create_task(remote.call(Double(of=2))) == Value(4)
        remote.send(Note(text="hello"))
        await remote.drain()
        await doubler.noted.wait()
        assert doubler.notes == ["hello"]

    run(test)


def test_a_peer_is_always_the_same(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        peer = await remote.linked()
        assert remote.peer is peer
        assert {await remote.linked(), peer} == {peer}

    run(test)


def test_calls_the_other_way(run: Run) -> None:
    """A handler awaits calls, several at a time, and Deferreds."""

    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        assert await remote.call(AskBack()) == Value(301)
        (peer,) = listening.peers
        assert peer is doubler.peers[0]
        assert peer.info.name == "asker"
        assert await peer.call(Who()) == Value(100)
        other = remote.peer
        assert other is not None
        assert await other.call(Double(of=1)) == Value(2)
        assert (await remote.linked()).info.role == "doubler-server"

    run(test)


def test_a_cancelled_task_cancels_its_call(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        call = asyncio.create_task(remote.call(Wait()))
        await doubler.began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await doubler.cancelled.wait()
        assert await remote.call(Double(of=1)) == Value(2)

    run(test)


def test_what_a_call_fails_with(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        with pytest.raises(CallFailed) as failed:
            await remote.call(Fail(code="so"))
        assert (failed.value.code, failed.value.data) == ("so", {"n": 1})
        with pytest.raises(CallTimedOut):
            await remote.call(Wait(), timeout=0.05)
        if doubler.began.is_set():  # else the machine was so busy that the call and its drop came together
            await doubler.cancelled.wait()
        call = asyncio.create_task(remote.call(Wait()))
        doubler.began.clear()
        await doubler.began.wait()
        await remote.close()
        with pytest.raises(NotConnected):
            await call
        assert await remote.closed() == "it was closed here"
        with pytest.raises(NotConnected):
            remote.send(Note(text="late"))

    run(test)


def test_a_handler_in_a_thread(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        assert await remote.call(InThread()) == Value(1)
        assert threading.get_ident() not in doubler.threads

    run(test)


def test_another_thread(run: Run) -> None:
    """A call out of a foreign thread is refused, and not a race."""

    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        await remote.linked()
        with pytest.raises(LocalProtocolError, match="another thread"):
            await asyncio.to_thread(remote.send, Note(text="from afar"))
        with pytest.raises(LocalProtocolError, match="another thread"):
            await asyncio.to_thread(remote._remote.call, Double(of=1))
        assert await remote.call(Double(of=1)) == Value(2)

    run(test)


def test_a_stream(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        stream = remote.stream(VALUES)
        for n in range(500):
            await stream.write(Value(n))
        await stream.flushed()
        for peer in list(listening.peers):
            peer.close("closed", "a break")
        assert [await stream.write(Value(n)) for n in range(500, 1000)][-1] == 1000
        await stream.flushed()
        assert doubler.shelf.items == list(range(1000))
        stream.close()

    run(test)


def test_a_streamed_reply(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        assert [row.value async for row in remote.stream_call(Count(upto=300))] == list(range(300))
        assert doubler.cancelled.is_set()
        doubler.cancelled.clear()
        async with remote.stream_call(Count(upto=10**9)) as rows:
            async for row in rows:
                if row.value == 500:
                    break
        async with asyncio.timeout(DEADLINE):
            await doubler.cancelled.wait()

    run(test)


def test_a_streamed_reply_that_is_left_takes_its_time_to_end(run: Run) -> None:
    failures: list[Any] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        failures.extend([event["log_failure"]] if "log_failure" in event else [])

    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        async with remote.stream_call(Count(upto=-1)) as rows:
            assert (await anext(rows)).value == 0
            await asyncio.sleep(0.01)
        async with asyncio.timeout(DEADLINE):
            await doubler.cancelled.wait()
            assert (await remote.call(Double(of=1))).value == 2

    globalLogPublisher.addObserver(observe)
    try:
        run(test)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert failures == []


def test_hooks_and_counts(run: Run) -> None:
    async def test(doubler: Doubler, remote: aio.Remote, listening: aio.Listening) -> None:
        told: list[tuple[str, Any]] = []
        remote.on_link = lambda peer: told.append(("remote", peer))
        remote.on_loss = lambda peer, reason: told.append(("remote lost", peer))
        listening.on_link = lambda peer: told.append(("listening", peer))
        peer = await remote.linked()
        assert await peer.call(Double(of=1)) == Value(2)
        assert dict(told) == {"remote": peer, "listening": next(iter(listening.peers))}
        assert (remote.traffic.calls, listening.traffic.calls_received) == (1, 1)
        assert (remote.queues.calls, listening.queues.calls) == (0, 0)
        await remote.close()
        assert told[2:] == [("remote lost", peer)]

    run(test)


PLAIN = Interface("plain-doubler", Double, Note)


class PlainDoubler(Service):
    interface = PLAIN

    @handles(Double)
    async def double(self, request: Double, peer: Peer) -> Value:
        await asyncio.sleep(0)
        return Value(request.of * 2)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        pass


@pytest.mark.parametrize(
    ("listen", "dial"), [(aio.listen_plain, aio.dial_plain), (aio.listen_jsonrpc, aio.dial_jsonrpc)]
)
def test_other_formats(listen: Any, dial: Any, tmp_path: Path) -> None:
    async def main() -> None:
        endpoint = f"unix:{tmp_path}/socket"
        async with (
            asyncio.timeout(DEADLINE),
            await listen(endpoint, PlainDoubler()) as listening,
            dial(endpoint, PLAIN) as remote,
        ):
            replies = await asyncio.gather(*(remote.call(Double(of=n)) for n in range(10)))
            assert [reply.value for reply in replies] == list(range(0, 20, 2))
            assert len(listening.peers) == 1

    asyncio.run(main(), debug=True)


#: A child that doubles, until its parent closes the link.
CHILD = """
import asyncio, sys
from twistedipc.ipc import aio
from tests.test_ipc_aio import PlainDoubler

async def main():
    listen = aio.listen_jsonrpc if sys.argv[1] == "spawn_jsonrpc" else aio.listen
    print("begun", file=sys.stderr, flush=True)
    async with await listen("stdio:", PlainDoubler()) as listening:
        await listening.closed()

asyncio.run(main())
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["spawn", "spawn_jsonrpc"])
@pytest.mark.parametrize("has_descriptors", [True, False])
def test_a_child(kind: str, has_descriptors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both as systems can tell of its end, and as they can't."""
    if not has_descriptors:
        monkeypatch.delattr("os.pidfd_open", raising=False)

    async def main() -> None:
        printed = bytearray()
        spawn: Any = getattr(aio, kind)
        command = [sys.executable, "-c", CHILD, kind]
        async with asyncio.timeout(DEADLINE), spawn(command, PLAIN, printed=printed.extend) as child:
            assert await child.call(Double(of=4)) == Value(8)
            assert child.pid is not None
        exit = await child.ended()
        assert (exit.code, bytes(printed), child.pid) == (3, b"begun\n", None)

    asyncio.run(main(), debug=True)


def test_a_child_that_is_killed_and_one_that_is_not_there() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="no-such-program"):
            aio.spawn(["no-such-program"], PLAIN)
        async with asyncio.timeout(DEADLINE), aio.spawn(["sleep", "1000"], PLAIN) as child:
            child.signal(signal.SIGKILL)
            assert (await child.ended()).signal == signal.SIGKILL
            with pytest.raises(NotConnected, match="SIGKILL"):
                await child.call(Double(of=1))

    asyncio.run(main(), debug=True)


def test_without_a_listener(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(BadEndpoint):
            aio.dial("tcp:nowhere", DOUBLER)
        (tmp_path / "file").touch()
        with pytest.raises(BadEndpoint):
            await aio.listen(f"unix:{tmp_path}/file", Doubler())
        async with aio.dial(f"unix:{tmp_path}/none", DOUBLER, unlinked=Unlinked(calls_wait=False)) as remote:
            with pytest.raises(NotConnected):
                await remote.call(Double(of=1))
            with pytest.raises(NotConnected):
                await remote.linked(timeout=0.05)

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.dial("unix:x", DOUBLER)


def test_over_tls(tmp_path: Path) -> None:
    """By the same code as with Twisted: asyncio's own ssl has no part in it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    files = TLSFiles(tmp_path / "both.pem", tmp_path / "both.pem", authority=tmp_path / "authority.pem")
    key = b"k" * 32

    async def main() -> None:
        async with (
            asyncio.timeout(DEADLINE),
            await aio.listen("tls:0:interface=127.0.0.1", Doubler(), key=key, tls=files) as listening,
            aio.dial(f"tls:localhost:{listening.port}", DOUBLER, key=key, tls=files) as remote,
        ):
            assert await remote.call(Double(of=4)) == Value(8)

    asyncio.run(main(), debug=True)


def test_a_host_that_isnt_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        # The name is for this machine, or it would be refused.
        async with aio.dial("tcp:localhost:1", DOUBLER, key=b"k" * 32) as remote:
            with pytest.raises(NotConnected, match="no results for hostname lookup: localhost"):
                await remote.linked(timeout=0.1)

    asyncio.run(main())


_PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.test_ipc_aio import Double, DOUBLER, Doubler
from twistedipc.ipc import SyncRemote, aio

KEY = b"k" * 32

async def main():
    async with await aio.listen("tcp:0", Doubler(), key=KEY) as listening:
        endpoint = f"tcp:localhost:{listening.port}"
        async with aio.dial(endpoint, DOUBLER, key=KEY) as remote:
            print((await remote.call(Double(of=1))).value)
        with SyncRemote(endpoint, DOUBLER, key=KEY) as remote:
            print((await asyncio.to_thread(remote.call, Double(of=2))).value)
"""

_OWN = """
asyncio.run(main())
print("twisted.internet.reactor" in sys.modules)
"""

_TWISTED = """
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred

async def both():
    await Deferred.fromFuture(asyncio.ensure_future(main()))
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(both()))
reactor.run()
print(type(reactor).__name__)
"""


@pytest.mark.parametrize(("kind", "last"), [(_OWN, "False"), (_TWISTED, "AsyncioSelectorReactor")])
def test_as_a_program(kind: str, last: str) -> None:
    """On a loop of asyncio's own nothing imports a reactor; on Twisted's asyncio reactor both go side by side."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", _PROGRAM + kind]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.stdout.split() == ["2", "4", last], done.stderr


class Shared(Service):
    """Written for both."""

    interface = Interface("shared", AskBack)

    @handles(AskBack)
    async def ask_back(self, request: AskBack, peer: Peer) -> Value:
        return Value((await peer.call(Who())).value + 1)


class OnTwisted(SynchronousTestCase):
    def test_the_same_service(self) -> None:
        pair = ServicePair(Shared(), answers=Clerk())
        reply = pair.remote.call(AskBack())
        pair.pump()
        self.assertEqual(self.successResultOf(reply), Value(101))


def test_the_same_service_on_asyncio(tmp_path: Path) -> None:
    async def main() -> None:
        endpoint = f"unix:{tmp_path}/socket"
        async with (
            asyncio.timeout(DEADLINE),
            await aio.listen(endpoint, Shared(), calls=CLERK),
            aio.dial(endpoint, Shared.interface, service=Clerk()) as remote,
        ):
            assert await remote.call(AskBack()) == Value(101)

    asyncio.run(main())


def test_later() -> None:
    """What is to be called later, as Twisted has it."""

    async def main() -> None:
        reactor = LoopReactor(asyncio.get_running_loop())
        called: list[str] = []
        turn = reactor.callLater(0, called.append, "turn")
        moved = reactor.callLater(1000, called.append, "moved")
        dropped = reactor.callLater(0.001, called.append, "dropped")
        assert moved.active()
        moved.delay(-1000)
        dropped.cancel()
        fired: Deferred[None] = Deferred()
        last = reactor.callLater(0.01, fired.callback, None)
        last.reset(0.02)
        assert last.getTime() <= reactor.seconds() + 0.02
        await fired.asFuture(reactor.loop)
        assert sorted(called) == ["moved", "turn"]
        assert not turn.active()
        with pytest.raises(AlreadyCalled):
            turn.cancel()
        with pytest.raises(AlreadyCancelled):
            dropped.reset(1)

    asyncio.run(main())
