"""
``python -m bench.fanout.deflate``: what it saves and costs that viewers ask for ``compress=1``.

Lines such as builds print go at a steady rate through the real apiserver to some viewers, which count the bytes
and don't look into them; once plain, once deflated, in turn. Prints one JSON line for each run.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import socket
import time

from bench.common.processes import CLIENT_CORE, say
from bench.fanout.apiserver import apiserver
from bench.fanout.viewers import DEADLINE, Serving

#: Seconds that a run's lines take, and without a byte until all has come.
SECONDS = 4.0
QUIET = 1.0

#: Seconds for which lines are gathered, as a runner does it.
GATHERED = 0.005

_MODULES = ("react-dom", "webpack", "babel-core", "lodash", "eslint", "postcss", "terser", "vite", "rollup", "node")


def build_output(count: int) -> list[bytes]:
    """So many lines, as npm, a bundler, a linter and a test runner print them; the same each time."""
    chance = random.Random(1)

    def line(number: int) -> str:
        module, large, small = chance.choice(_MODULES), chance.randint(100, 99999), chance.randint(1, 99)
        match number % 4:
            case 0:
                archive = f"{module}-{small}.{small % 7}.{large % 10}.tgz"
                return f"npm http fetch GET 200 /{module}/-/{archive} {large % 900}ms (cache hit)"
            case 1:
                asset = f"{module}-{chance.getrandbits(32):08x}.js"
                return f"\x1b[2mdist/\x1b[22m\x1b[36massets/{asset}\x1b[39m   {large / 100:.2f} kB"
            case 2:
                return f"  ✓ src/components/{module}{small}.test.tsx ({small} tests) {large % 1000}ms"
            case _:
                place = f"src/pages/{module}/index{small}.ts:{large % 700}:{small}"
                return f"{place} warning '{chance.getrandbits(20):x}' is never used"

    return [line(number).encode() + b"\n" for number in range(count)]


def watch(serving: Serving, viewers: int, rate: int, compress: bool) -> None:
    """One run."""
    selector = selectors.DefaultSelector()
    for _ in range(viewers):
        viewer = socket.create_connection(("127.0.0.1", serving.port), DEADLINE)
        headers = "".join(f"{header}\r\n" for header in serving.headers)
        viewer.sendall(
            f"GET {serving.path}?compress={int(compress)} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Extensions: permessage-deflate\r\n{headers}\r\n".encode()
        )
        answer = b""
        while b'"state"' not in answer:
            answer += viewer.recv(4096)
        assert (b"permessage-deflate" in answer) is compress, answer
        viewer.setblocking(False)
        selector.register(viewer, selectors.EVENT_READ)
    lines = build_output(int(rate * SECONDS))
    feed = socket.create_connection(("127.0.0.1", serving.feed_port), DEADLINE)
    received, sent = 0, 0
    began, spent = time.monotonic(), serving.program.cpu_seconds()
    last = began
    while (now := time.monotonic()) - last < QUIET or sent < len(lines):
        due = min(len(lines), int((now - began) // GATHERED * GATHERED * rate))
        if due > sent:
            feed.sendall(b"".join(lines[sent:due]))
            sent, last = due, now
        for key, _ in selector.select(0.005):
            assert isinstance(key.fileobj, socket.socket)
            if data := key.fileobj.recv(1 << 18):
                received += len(data)
                last = now
    used = serving.program.cpu_seconds() - spent
    say(
        compress=compress,
        viewers=viewers,
        rate=rate,
        mib_to_viewers=round(received / (1 << 20), 1),
        bytes_a_line=round(received / viewers / len(lines), 1),
        server_cpu=round(used / SECONDS, 3),
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.fanout.deflate")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument("--rate", type=int, nargs="+", default=[1000, 10_000])
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    for _ in range(options.repetitions):
        for rate in options.rate:
            for viewers in options.viewers:
                for compress in (False, True):
                    with apiserver() as serving:
                        watch(serving, viewers, rate, compress)


if __name__ == "__main__":
    main()
