"""
The same bytes for many sockets. Used by ``entries``, whose runs are sent to many viewers, and by ``web``.

The kernel copies what it is told to send, once for each socket, unless it is in a file, whose pages it gives to all
sockets as they are (``sendfile``). At 64 KiB that takes two thirds of the time, and what waits in the sockets' buffers
is in memory once.
"""

from __future__ import annotations

import os

from twistedipc.server.boundaries import NO_FILE


class SharedFiles:
    """
    The files in memory of one server's logs, and when a file is made.

    :param least_bytes: bytes, and
    :param least_sockets: sockets from which on a file is worth making: below, its pages cost as much as the copies
    :param most: files that may be open at a time: each needs a descriptor. Beyond that, bytes are copied
    """

    __slots__ = ("least_bytes", "least_sockets", "most", "open")

    def __init__(self, *, least_bytes: int = 24 << 10, least_sockets: int = 16, most: int = 256) -> None:
        self.least_bytes = least_bytes
        self.least_sockets = least_sockets
        self.most = most
        self.open = 0  # files now


class SharedBytes:
    """Bytes, and the file in memory that has them too, once many sockets are to be sent them."""

    __slots__ = ("_file", "_files", "data")

    def __init__(self, data: bytes, files: SharedFiles) -> None:
        self.data = data
        self._files = files
        self._file = NO_FILE

    def file_for(self, sockets: int) -> int:
        """
        The file's descriptor, if it's worth having for so many; else `NO_FILE`. It is closed with the last reference
        to this; what the kernel has yet to send from it stays with the kernel.
        """
        files = self._files
        if sockets < files.least_sockets or len(self.data) < files.least_bytes:
            return NO_FILE
        if self._file == NO_FILE and files.open < files.most:
            self._file = _file_of(self.data)
            files.open += self._file != NO_FILE
        return self._file

    def __del__(self) -> None:
        if self._file != NO_FILE:
            self._files.open -= 1
            os.close(self._file)


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
