"""The same bytes for many sockets: when there is a file of them, how long, and that what comes out is what went in."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server

from tests.test_fanout_costs import IdleReactor
from twistedipc.ipc.eager import LEAST_FILED, LEAST_SOCKETS, MOST_FILES, NO_FILE, SharedBytes, send_at_once

DATA = random.Random(1).randbytes(3 * LEAST_FILED)


@pytest.fixture
def ends() -> Iterator[tuple[Server, socket.socket]]:
    """A transport over TCP, and what it is connected to."""
    with ExitStack() as stack:
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        theirs = stack.enter_context(socket.create_connection(port.getsockname()))
        ours = stack.enter_context(port.accept()[0])
        ours.setblocking(False)
        theirs.settimeout(10)
        yield Server(ours, Protocol(), ("", 0), None, 0, IdleReactor()), theirs  # type: ignore[arg-type]


def received(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data))
    return data


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


@pytest.mark.parametrize("sockets", [1, LEAST_SOCKETS])
def test_what_is_sent_arrives_though_its_file_is_gone(sockets: int, ends: tuple[Server, socket.socket]) -> None:
    transport, theirs = ends
    shared = SharedBytes(DATA, sockets)
    assert send_at_once(transport, shared.data, shared.file) == len(DATA)
    del shared
    again = SharedBytes(bytes(len(DATA)), sockets)  # as large, in the place where the first was
    assert received(theirs, len(DATA)) == DATA
    assert again.data != DATA


@pytest.mark.parametrize("sockets", [1, LEAST_SOCKETS])
def test_a_full_socket_takes_a_part_and_then_nothing(sockets: int, ends: tuple[Server, socket.socket]) -> None:
    transport, theirs = ends
    shared = SharedBytes(DATA, sockets)
    sent: list[int] = []
    while not sent or sent[-1]:
        sent.append(send_at_once(transport, shared.data, shared.file))
    # What it says is what has gone: the reader gets exactly that much, and of each piece the beginning.
    assert received(theirs, sum(sent)) == b"".join(DATA[:size] for size in sent)
    assert send_at_once(transport, shared.data, shared.file) > 0


def test_what_waits_is_not_overtaken(ends: tuple[Server, socket.socket]) -> None:
    transport, theirs = ends
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    transport.write(b"first")
    assert send_at_once(transport, shared.data, shared.file) == 0
    transport.doWrite()
    assert send_at_once(transport, shared.data, shared.file) == len(DATA)
    assert received(theirs, 5 + len(DATA)) == b"first" + DATA


def test_a_lost_connection_takes_nothing(ends: tuple[Server, socket.socket]) -> None:
    transport, theirs = ends
    shared = SharedBytes(DATA, LEAST_SOCKETS)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    assert send_at_once(transport, shared.data, shared.file) == 0
