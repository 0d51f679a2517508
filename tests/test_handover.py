"""Secrets from the builder to a runner, through a socket in the attempt's folder."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from twistedipc.attempts.handover import SOCKET, Listening, hand_over
from twistedipc.builds.attempt import Secrets
from twistedipc.builds.secrets import GivenSecret

SECRETS = Secrets(granted=True, steps=[GivenSecret(name="KEY", value="s3cret\nline", steps="install")])


def taken(listening: Listening) -> Secrets:
    """What comes, within some seconds."""
    deadline = time.monotonic() + 180
    while (found := listening.take()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("name", ["attempt", "x" * 200])
def test_what_is_handed_over_is_taken(tmp_path: Path, name: str) -> None:
    """Also in a folder whose path has no room in a socket's address."""
    folder = tmp_path / name
    folder.mkdir()
    with Listening(folder) as listening:
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
        assert listening.take() is None
        hand_over(folder, SECRETS)
        assert taken(listening) == SECRETS
    assert list(folder.iterdir()) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hand_over(tmp_path, SECRETS)
    with Listening(tmp_path):
        os.link(tmp_path / SOCKET, tmp_path / "left")
    os.rename(tmp_path / "left", tmp_path / SOCKET)
    with pytest.raises(ConnectionRefusedError):
        hand_over(tmp_path, SECRETS)
    with Listening(tmp_path) as listening:  # in the place of what a killed runner has left
        hand_over(tmp_path, SECRETS)
        assert taken(listening) == SECRETS


@pytest.mark.parametrize("broken", [b"", b"{", b'{"granted": tr', b"[]", b"\xff", b"x" * (5 << 20)])
def test_what_was_broken_off_counts_as_nothing(tmp_path: Path, broken: bytes) -> None:
    with Listening(tmp_path) as listening:

        def break_off() -> None:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(os.fspath(tmp_path / SOCKET))
                try:
                    connection.sendall(broken)
                except OSError:
                    pass  # it was too much

        thread = threading.Thread(target=break_off)
        thread.start()
        while thread.is_alive():
            assert listening.take() is None
        thread.join()
        assert listening.take() is None
        hand_over(tmp_path, SECRETS)
        assert taken(listening) == SECRETS


def test_a_large_message(tmp_path: Path) -> None:
    large = Secrets(granted=True, steps=[GivenSecret(name=f"K{n}", value="x" * 30_000) for n in range(30)])
    with Listening(tmp_path) as listening:
        thread = threading.Thread(target=hand_over, args=(tmp_path, large))
        thread.start()
        assert taken(listening) == large
        thread.join()
