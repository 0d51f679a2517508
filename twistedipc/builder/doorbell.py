"""
The builder's doorbell: a UNIX datagram socket on which runners ring after each append. Made by ``compose``.

A ring says "look at this attempt" and carries nothing else, so a lost ring costs only the time until the next look at
all attempts (`looking.LOOK_INTERVAL`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IListeningPort, IReactorUNIXDatagram
from twisted.internet.protocol import DatagramProtocol

_MAX_DATAGRAM = 8192


class Doorbell(DatagramProtocol):
    """Calls ``rung`` with the folder's name for each ring."""

    def __init__(self, rung: Callable[[str], None]) -> None:
        self._rung = rung

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take a runner's ring."""
        self._rung(datagram[:256].decode("ascii", "replace"))


def listen(reactor: IReactorUNIXDatagram, path: Path, rung: Callable[[str], None]) -> IListeningPort:
    """
    Listen at ``path``, in place of a socket that an earlier builder has left there. Raises `CannotListenError`, or
    OSError if the folder can't be opened.
    """
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    # A UNIX socket's address has room for 107 bytes (unix(7)), and the data folder's path may be longer. So the address
    # names the folder by a descriptor, which is needed only while the socket is made.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return reactor.listenUNIXDatagram(f"/proc/self/fd/{folder}/{path.name}", Doorbell(rung), _MAX_DATAGRAM, 0o600)
    finally:
        os.close(folder)
