"""
Writing to a socket now, not at the reactor's next turn. For ``protocol``, and for whoever writes to many sockets.

The same bytes for many sockets are `SharedBytes`: the kernel copies what it is told to send, once for each socket,
unless they are in a file, whose pages it gives to all sockets as they are (``sendfile``). At 64 KiB that takes two
thirds of the time, and what waits in the sockets' buffers is there once.
"""

from __future__ import annotations

import os
from typing import Final

from twisted.internet import tcp

#: In place of a file's descriptor: there is none.
NO_FILE: Final = -1

#: Bytes and sockets from which on a file is worth making: below, its pages cost as much as the copies.
LEAST_FILED = 24 << 10
LEAST_SOCKETS = 16

#: Files that may be open at a time: each needs a descriptor. Beyond that, bytes are copied as ever.
MOST_FILES = 256


class SharedBytes:
    """
    Bytes that about so many ``sockets`` are sent, and the file in memory that has them too, or `NO_FILE`. The file is
    closed with the last reference to this; what the kernel has yet to send from it stays with the kernel.
    """

    __slots__ = ("data", "file")

    files = 0  # that are open now

    def __init__(self, data: bytes, sockets: int) -> None:
        self.data = data
        self.file = NO_FILE
        if sockets >= LEAST_SOCKETS and len(data) >= LEAST_FILED and SharedBytes.files < MOST_FILES:
            self.file = _file_of(data)
            SharedBytes.files += self.file != NO_FILE

    def __del__(self) -> None:
        if self.file != NO_FILE:
            SharedBytes.files -= 1
            os.close(self.file)


def _file_of(data: bytes) -> int:
    """A descriptor of a new file in memory with these bytes, or `NO_FILE` where none can be had."""
    try:
        file = os.memfd_create("shared")
    except (AttributeError, OSError):  # not Linux; or out of descriptors
        return NO_FILE
    try:
        written = os.write(file, data)
    except OSError:  # out of memory
        written = 0
    if written < len(data):
        os.close(file)
        return NO_FILE
    return file


def send_at_once(transport: object, data: bytes, file: int = NO_FILE) -> int:
    """
    How many bytes of ``data`` went straight into the socket; the rest is for ``transport.write``. ``file``: see
    `SharedBytes`.

    `ITransport.write` waits for the reactor's next turn, which on a link with little traffic is most of the time that
    a message takes, and has the reactor watch the socket, which costs two more system calls. Only a plain TCP or UNIX
    transport can be written to before that (TLS has its own layer above the socket), and only if nothing waits in its
    buffer, or bytes would overtake others. Twisted has no public name for that buffer: where it isn't as known here,
    nothing is sent, and all goes the usual way.
    """
    if not isinstance(transport, tcp.Connection):
        return 0
    try:
        if (
            transport.dataBuffer
            or transport._tempDataBuffer
            or transport.TLS
            or not transport.connected
            or transport.disconnecting
            or transport._writeDisconnecting
        ):
            return 0
    except AttributeError:
        return 0
    try:
        if file == NO_FILE:
            return transport.socket.send(data)
        return os.sendfile(transport.socket.fileno(), file, 0, len(data))
    except OSError:
        # It is full; or the connection is lost, which the transport will find out by itself.
        return 0
