"""
How secrets get from the builder to an attempt's runner without touching a disk: through a UNIX socket in the attempt's
folder, on which the runner listens while it waits for them.

One connection is one message: JSON, ended by the connection's end. The builder may be another process than the one that
started the runner, so there is no pipe between them. What is broken off (the builder was killed) counts as nothing: the
next builder connects again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import msgspec

from twistedipc.builds.attempt import Secrets

#: The socket's name in the attempt's folder.
SOCKET = "secrets"

#: The most bytes of a message; a longer one is dropped.
MAX_MESSAGE = 4 << 20

#: Seconds for a runner that listens to take what it is given.
DEADLINE = 10.0

_BLOCK = 64 * 1024


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """
    The socket's address. One has room for 107 bytes (unix(7)), and the folder's path may be longer: so the folder is
    named by a descriptor.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def hand_over(folder: Path, secrets: Secrets) -> None:
    """Give the runner of this folder its secrets. Blocks. Raises OSError: no runner listens, or it doesn't read."""
    with socket.socket(socket.AF_UNIX) as connection, _address(folder) as address:
        connection.settimeout(DEADLINE)
        connection.connect(address)
        connection.sendall(msgspec.json.encode(secrets))


class Listening:
    """The runner's end. Only its user can connect. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SOCKET
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._connection: socket.socket | None = None
        self._received = bytearray()
        try:
            self._listening.setblocking(False)
            with _address(folder) as address:
                self._listening.bind(address)
            os.chmod(self._path, 0o600)
            self._listening.listen(1)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def descriptors(self) -> Sequence[int]:
        """What becomes readable when there may be something to `take`."""
        return (self._listening.fileno() if self._connection is None else self._connection.fileno(),)

    def take(self) -> Secrets | None:
        """Return what has come; None if nothing whole has."""
        if self._connection is None:
            try:
                self._connection, _peer = self._listening.accept()
            except OSError:  # nobody is there, or has gone already
                return None
            self._connection.setblocking(False)
        if not self._read(self._connection):
            return None
        self._connection.close()
        self._connection = None
        received, self._received = bytes(self._received), bytearray()
        try:
            return msgspec.json.decode(received, type=Secrets)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # it was broken off

    def _read(self, connection: socket.socket) -> bool:
        """Read what is there. Return whether the connection is at its end."""
        while len(self._received) <= MAX_MESSAGE:
            try:
                data = connection.recv(_BLOCK)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not data:
                return True
            self._received += data
        return True

    def close(self) -> None:
        """Listen no more. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._listening.close()
        self._path.unlink(missing_ok=True)
