"""The same bytes for many sockets: when there is a file of them, and how long."""

from __future__ import annotations

import os
import random

import pytest

from twistedipc.server.boundaries import NO_FILE
from twistedipc.server.fanout.shared import LEAST_FILED, LEAST_SOCKETS, MOST_FILES, SharedBytes

DATA = random.Random(1).randbytes(3 * LEAST_FILED)


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_a_file_is_for_many_bytes_and_many_sockets() -> None:
    shared = SharedBytes(DATA)
    assert shared.file_for(LEAST_SOCKETS - 1) == NO_FILE
    assert SharedBytes(DATA[: LEAST_FILED - 1]).file_for(LEAST_SOCKETS) == NO_FILE
    file = shared.file_for(LEAST_SOCKETS)
    assert os.pread(file, len(DATA) + 1, 0) == DATA == shared.data
    assert shared.file_for(2 * LEAST_SOCKETS) == file


def test_a_file_is_gone_with_its_bytes() -> None:
    before = SharedBytes.files
    shared = SharedBytes(DATA)
    file = shared.file_for(LEAST_SOCKETS)
    assert is_open(file)
    assert SharedBytes.files == before + 1
    del shared
    assert not is_open(file)
    assert SharedBytes.files == before


def test_files_are_bounded() -> None:
    many = [SharedBytes(DATA) for _ in range(MOST_FILES + 3)]
    files = [shared.file_for(LEAST_SOCKETS) for shared in many]
    assert SharedBytes.files <= MOST_FILES
    assert files[-1] == NO_FILE
    assert many[-1].data == DATA
    del many
    assert SharedBytes(DATA).file_for(LEAST_SOCKETS) != NO_FILE


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_without_a_file_there_are_still_the_bytes(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, fail)
    shared = SharedBytes(DATA)
    assert (shared.file_for(LEAST_SOCKETS), shared.data) == (NO_FILE, DATA)
    assert len(os.listdir("/proc/self/fd")) == before
