"""
The same bytes for many sockets: when there is a file of them and how long, and that from a viewer's socket comes what
was written to it, in its order, whichever way it went.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.tcp import Server

from tests.test_fanout_costs import IdleReactor
from twistedipc.server.shared import LEAST_FILED, LEAST_SOCKETS, MOST_FILES, NO_FILE, SharedBytes
from twistedipc.web.websocket import ViewerFactory, ViewerProtocol

DATA = random.Random(1).randbytes(3 * LEAST_FILED)


class Viewer:
    """A viewer's protocol on a TCP connection, without a handshake, and the other end of it."""

    def __init__(self, stack: ExitStack) -> None:
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.end = stack.enter_context(socket.create_connection(port.getsockname()))
        self.end.settimeout(10)
        ours = stack.enter_context(port.accept()[0])
        ours.setblocking(False)
        reactor = IdleReactor()
        factory = ViewerFactory(reactor, lambda: 0, 1000)
        self.protocol: ViewerProtocol = factory.buildProtocol(None)
        self.protocol.factory = factory
        self.transport: Any = Server(ours, self.protocol, ("", 0), None, 0, reactor)  # type: ignore[arg-type]
        self.protocol.transport = self.transport
        self.protocol.state = ViewerProtocol.STATE_OPEN

    def write(self, shared: SharedBytes) -> None:
        self.protocol.write_frames(shared.data, shared.file)

    @property
    def waiting(self) -> int:
        """Bytes in the transport's buffer."""
        transport = self.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]

    def received(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self.transport.doWrite()
            data += self.end.recv(min(size - len(data), 1 << 16))
        return data


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with ExitStack() as stack:
        yield Viewer(stack)


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_a_file_is_for_many_bytes_and_many_sockets() -> None:
    assert SharedBytes(DATA, LEAST_SOCKETS - 1).file == NO_FILE
    assert SharedBytes(DATA[: LEAST_FILED - 1], LEAST_SOCKETS).file == NO_FILE
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    assert os.pread(shared.file, len(DATA) + 1, 0) == DATA == shared.data


def test_a_file_is_gone_with_its_bytes() -> None:
    before = SharedBytes.files
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    file = shared.file
    assert is_open(file)
    assert SharedBytes.files == before + 1
    del shared
    assert not is_open(file)
    assert SharedBytes.files == before


def test_files_are_bounded() -> None:
    many = [SharedBytes(DATA, LEAST_SOCKETS) for _ in range(MOST_FILES + 3)]
    assert SharedBytes.files <= MOST_FILES
    assert many[-1].file == NO_FILE
    assert many[-1].data == DATA
    del many
    assert SharedBytes(DATA, LEAST_SOCKETS).file != NO_FILE


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_without_a_file_there_are_still_the_bytes(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, fail)
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    assert (shared.file, shared.data) == (NO_FILE, DATA)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_sent_arrives_though_its_file_is_gone(viewer: Viewer) -> None:
    viewer.protocol.write_frames(b"first")
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    viewer.write(shared)
    assert viewer.waiting == 0
    del shared
    again = SharedBytes(bytes(len(DATA)), LEAST_SOCKETS)  # it may have the pages that the first one had
    assert viewer.received(5 + len(DATA)) == b"first" + DATA
    assert again.data != DATA


def test_what_is_written_first_goes_by_the_file(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only once it is known that nothing waits."""
    sent = []
    sendfile = os.sendfile

    def noted(out: int, file: int, offset: int, count: int) -> int:
        sent.append(file)
        return sendfile(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", noted)
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    for _ in range(3):
        viewer.write(shared)
        assert viewer.received(len(DATA)) == DATA
    assert sent == [shared.file] * 2


@given(
    st.lists(
        st.sampled_from(["small", "filed", "copied", "ping", "read", "turn"]),
        min_size=5,
        max_size=60,
    )
)
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_or_overtaken(steps: list[str]) -> None:
    """Whatever is written, however full the socket is, and when Autobahn writes something of its own."""
    with ExitStack() as stack:
        viewer = Viewer(stack)
        viewer.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        viewer.end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        viewer.end.settimeout(0)
        written, read = [], b""

        def take(size: int) -> bytes:
            try:
                return viewer.end.recv(size)
            except BlockingIOError:
                return b""

        for number, step in enumerate(steps):
            match step:
                case "small":
                    written.append(b"small %d" % number)
                    viewer.protocol.write_frames(written[-1])
                case "filed" | "copied":
                    shared = SharedBytes(b"%s %d" % (step.encode(), number) + DATA, 1 if step == "copied" else 100)
                    written.append(shared.data)
                    viewer.write(shared)
                case "ping":
                    written.append(b"\x89\x03" + b"%03d" % number)
                    viewer.protocol.sendPing(b"%03d" % number)
                case "read":
                    read += take(100_000)
                case "turn":
                    viewer.transport.doWrite()
        expected = b"".join(written)
        while len(read) < len(expected):
            viewer.transport.doWrite()
            read += take(1 << 20)
        assert read == expected


def test_a_lost_connection_takes_nothing(viewer: Viewer) -> None:
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    viewer.write(shared)
    viewer.received(len(DATA))
    viewer.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    viewer.end.close()
    viewer.write(shared)
    assert viewer.waiting == len(DATA)  # for the transport, which finds it out at its next turn
