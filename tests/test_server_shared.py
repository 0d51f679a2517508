"""The same bytes for many sockets: when there is a file of them, and how long."""

from __future__ import annotations

import os
import random

import pytest

from twistedipc.server.boundaries import NO_FILE
from twistedipc.server.fanout.shared import SharedBytes, SharedFiles

LEAST_BYTES, LEAST_SOCKETS, MOST = 4000, 5, 8

DATA = random.Random(1).randbytes(3 * LEAST_BYTES)


@pytest.fixture
def files() -> SharedFiles:
    return SharedFiles(least_bytes=LEAST_BYTES, least_sockets=LEAST_SOCKETS, most=MOST)


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_a_file_is_for_many_bytes_and_many_sockets(files: SharedFiles) -> None:
    shared = SharedBytes(DATA, files)
    assert shared.file_for(LEAST_SOCKETS - 1) == NO_FILE
    assert SharedBytes(DATA[: LEAST_BYTES - 1], files).file_for(LEAST_SOCKETS) == NO_FILE
    file = shared.file_for(LEAST_SOCKETS)
    assert os.pread(file, len(DATA) + 1, 0) == DATA == shared.data
    assert shared.file_for(2 * LEAST_SOCKETS) == file


def test_a_file_is_gone_with_its_bytes(files: SharedFiles) -> None:
    shared = SharedBytes(DATA, files)
    file = shared.file_for(LEAST_SOCKETS)
    assert is_open(file)
    assert files.open == 1
    del shared
    assert not is_open(file)
    assert files.open == 0


def test_files_are_bounded(files: SharedFiles) -> None:
    many = [SharedBytes(DATA, files) for _ in range(MOST + 3)]
    given = [shared.file_for(LEAST_SOCKETS) for shared in many]
    assert files.open == MOST
    assert given[-1] == NO_FILE
    assert many[-1].data == DATA
    del many
    assert SharedBytes(DATA, files).file_for(LEAST_SOCKETS) != NO_FILE


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_without_a_file_there_are_still_the_bytes(
    files: SharedFiles, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, fail)
    shared = SharedBytes(DATA, files)
    assert (shared.file_for(LEAST_SOCKETS), shared.data) == (NO_FILE, DATA)
    assert len(os.listdir("/proc/self/fd")) == before
