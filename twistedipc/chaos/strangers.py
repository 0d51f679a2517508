"""
What strangers do at the platform's sockets: garbage, floods, and one wish many times at once. Blocking functions, for
threads; each ends by itself, in seconds, whatever the other side does or doesn't.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

_T = TypeVar("_T")

#: Seconds for one stranger, and for the answer to a wish.
PATIENCE = 1.0
ANSWER_TIMEOUT = 10.0

#: The most that a stranger reads.
_MOST_READ = 1 << 16

_TLS_HELLO: Final = bytes.fromhex("16030101fc010001f80303")

# -- asking once ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The answer to a wish. ``status`` 0: there was none, the server was away or broke off."""

    status: int
    retry_after: str | None = None
    build: int | None = None
    body: bytes = b""

    @property
    def right(self) -> bool:
        """Whether the request was done, or refused for now as a server does that, or no server was there."""
        if self.status in (429, 503):
            return self.retry_after is not None
        return self.status == 0 or (self.status == 201 and self.build is not None)


def ask_once(port: int, token: str, path: str, wish: msgspec.Struct, key: str) -> Answer:
    """``POST`` a wish for a build, once."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT)) as connection:
            connection.request("POST", path, msgspec.json.encode(wish), headers)
            response = connection.getresponse()
            body = response.read(_MOST_READ)
    except (OSError, http.client.HTTPException):
        return Answer(0)
    build = None
    with suppress(ValueError, KeyError, TypeError):
        build = int(json.loads(body)["id"])
    return Answer(response.status, response.getheader("Retry-After"), build, body)


def storm(port: int, token: str, path: str, wish: msgspec.Struct, key: str, count: int) -> list[Answer]:
    """Send the same request ``count`` times at once, under one Idempotency-Key."""
    ready = threading.Barrier(count)

    def ask() -> Answer:
        with suppress(threading.BrokenBarrierError):
            ready.wait(PATIENCE)
        return ask_once(port, token, path, wish, key)

    return _at_once([ask] * count)


# -- garbage -------------------------------------------------------------------------------------------------------


def throw_at_link(where: Path, chance: random.Random) -> list[bytes]:
    """Send what no link says to a link's socket. Return the answers."""
    noise = chance.randbytes(chance.randint(1, 5000))
    payloads = [
        noise,
        noise.replace(b"\n", b""),
        _TLS_HELLO + noise,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"x" * (2 << 20),
        b"\n" * 200_000,
        b"[" * 3000 + b"\n",
        b'{"type":"hello"}\n' * 3,
        b'{"type":"hello","version":NaN,"node":"../x"}\n',
        b"\xff\xfe\xc0\x80\xed\xa0\x80\n",
        b'\xef\xbb\xbf{"type":"log","attempt":"1-1","first":1,"lines":["not yours"]}\r\n',
        b'{"type":"final","attempt":"1-1","lease":"%s"}\n' % (b"0" * 32),
        b"7\nnull\n[]\n\x00\n",
        b"",
    ]
    return _at_once([_thrower(_unix(where), payload) for payload in payloads])


def throw_at_api(port: int, chance: random.Random) -> list[bytes]:
    """Send what isn't HTTP, or isn't good HTTP, to the API's port. Return the answers."""
    noise = chance.randbytes(chance.randint(1, 5000))
    head = b"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    payloads = [
        noise,
        _TLS_HELLO + noise,
        b'{"type":"hello"}\n',
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /api/v1/builds/%00%0a..%2f HTTP/1.1\r\nHost: localhost\r\n\r\n",
        head + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        head + b"Content-Length: -1\r\n\r\n{}",
        head + b"Content-Length: 5000\r\n\r\n" + noise[:2000],
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + noise,
        head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\n" * 1000,
        b"",
    ]
    return _at_once([_thrower(_tcp(port), payload) for payload in payloads])


def throw_at_websocket(port: int, token: str, path: str, chance: random.Random) -> list[bytes]:
    """Send what a WebSocket's client may not send, after a good handshake. Return the answers."""
    noise = chance.randbytes(chance.randint(1, 5000))
    mask = b"\x00\x00\x00\x00"
    payloads = [
        noise,
        b"\x81\x05hello",  # not masked
        b"\xf1\x80" + mask,  # reserved bits
        b"\x83\x80" + mask,  # an opcode that isn't one
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + mask,  # longer than anything
        b"\x89\xfe\x00\x7e" + mask + bytes(126),  # a ping that is too long
        b"\x09\x80" + mask,  # a ping in pieces
        b"\x81\x83" + mask + b"\xc0\x80\xff",  # not UTF-8
        b"\x88\x81" + mask + b"\x03",  # a close with half a code
        b"\x89\x80" + mask + (b"\x89\x80" + mask) * 5000,  # many pings
        b"\x01\x81" + mask + b"a" + (b"\x00\x80" + mask) * 5000,  # a message in many pieces that are empty
        b"\x81\x82" + mask + b"{}",  # a message where none is expected
        b"\x82\xfe\xff\xff" + mask + bytes(65535),
    ]
    hello = handshake(token, path)
    return _at_once([_thrower(_tcp(port), payload, hello) for payload in payloads])


def handshake(token: str, path: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def _thrower(connect: Callable[[], socket.socket], payload: bytes, hello: bytes = b"") -> Callable[[], bytes]:
    def throw() -> bytes:
        """Send, and read until the other side closes or for as long as patience lasts."""
        until = time.monotonic() + PATIENCE
        answer = bytearray()
        try:
            with closing(connect()) as connection:
                connection.settimeout(PATIENCE)
                if hello:
                    connection.sendall(hello)
                    connection.recv(_MOST_READ)
                with suppress(OSError):  # it may have been thrown out in the middle, with an answer
                    connection.sendall(payload)
                while len(answer) < _MOST_READ and (left := until - time.monotonic()) > 0:
                    connection.settimeout(left)
                    data = connection.recv(_MOST_READ)
                    if not data:
                        break
                    answer += data
        except OSError:
            pass  # the other side was away, or has gone, or waits for more
        return bytes(answer)

    return throw


# -- floods --------------------------------------------------------------------------------------------------------


def flood(port: int, token: str, path: str, seconds: float, count: int) -> int:
    """
    ``count`` viewers: some reset their connection at once, some in the middle of the handshake or after it, some never
    end it, until all are reset after ``seconds``. How many could connect.
    """
    hello = handshake(token, path)
    kept: list[socket.socket] = []
    made = 0
    until = time.monotonic() + PATIENCE
    for number in range(count):
        if time.monotonic() > until:
            break
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=0.2)
        except OSError:
            continue
        made += 1
        with suppress(OSError):
            match number % 4:
                case 0:
                    pass
                case 1:
                    connection.sendall(hello[: len(hello) // 2])
                case _:
                    connection.sendall(hello)
        if number % 4 in (1, 2):
            kept.append(connection)
        else:
            _reset(connection)
    time.sleep(seconds)
    for connection in kept:
        _reset(connection)
    return made


def _reset(connection: socket.socket) -> None:
    """Reset the connection: what was sent may never arrive."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- how -----------------------------------------------------------------------------------------------------------


def _tcp(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def _unix(where: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(where))
        except OSError:
            connection.close()
            raise
        return connection

    return connect


def _at_once(acts: list[Callable[[], _T]]) -> list[_T]:
    """Call all functions, each in a thread of its own. Return their results."""
    results: list[_T] = []

    def run(act: Callable[[], _T]) -> None:
        results.append(act())

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
