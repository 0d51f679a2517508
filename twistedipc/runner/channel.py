"""
The channel on which the programs of one step can say something: a UNIX socket in the attempt's folder, whose address
they find in the environment variable `node.VARIABLE`. Used by ``steps``; what comes is ``speech``'s.

Nothing is ever answered, but for Node's handles. A connection is closed when its program has closed it, or the step is
over: what is wrong on it ends nothing, since a program may die of a closed channel. While nobody calls `receive`,
programs that have much to say wait.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

from twistedipc.runner.speech import HANDLE_ANSWER, Complaint, Message, MessageReader

#: How many programs may be connected at once; so many more may wait for that.
MAX_CONNECTIONS = 64

_SOCKET = "channel"
_BLOCK = 64 * 1024

# A UNIX socket's address has room for so many bytes, and a zero (unix(7)).
_MAX_ADDRESS = 107


class Channel:
    """A step's channel. ``folder`` is the attempt's, which only its user can write to. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _SOCKET
        self._path.unlink(missing_ok=True)
        self._folder = -1
        self._listening = socket.socket(socket.AF_UNIX)
        self._connections: dict[int, tuple[socket.socket, MessageReader]] = {}
        self._accepts = True  # until there is one too many
        self._complained = False
        try:
            #: where programs connect to, from wherever they are
            self.address = os.fspath(self._path)
            if len(os.fsencode(self._path)) > _MAX_ADDRESS:
                # The same folder by a shorter name, for as long as this is open.
                self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self.address = f"/proc/{os.getpid()}/fd/{self._folder}/{_SOCKET}"
            self._listening.setblocking(False)
            self._listening.bind(self.address)
            os.chmod(self._path, 0o600)
            self._listening.listen(MAX_CONNECTIONS)
        except OSError:
            self.close()
            raise

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to `receive`."""
        return [*self._connections, *([self._listening.fileno()] if self._accepts else [])]

    def receive(self) -> list[Message]:
        """All that has been sent by now."""
        found: list[Message] = []
        self._accept(found)
        for number in list(self._connections):
            if not self._read(number, found):
                self._end(number, found)
                self._accepts = True
        return found

    def rest(self) -> Iterator[list[Message]]:
        """The step is over: all that was sent before, also by those who are waiting to be let in."""
        for _ in range(2):
            # Who has been let in makes place for those who wait, of whom there aren't more than that.
            yield self.receive()
            found: list[Message] = []
            for number in list(self._connections):
                self._end(number, found)
            yield found

    def close(self) -> None:
        """Close all of it. Idempotent."""
        for connection, _reader in self._connections.values():
            connection.close()
        self._connections.clear()
        self._listening.close()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        self._path.unlink(missing_ok=True)

    def _accept(self, found: list[Message]) -> None:
        self._accepts = True
        while True:
            if len(self._connections) >= MAX_CONNECTIONS:
                self._full(f"{MAX_CONNECTIONS} programs are connected to the channel: others wait", found)
                return
            try:
                connection, _address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # too many open files
                self._full(f"a program can't be let in to the channel: {error.strerror}", found)
                return
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection, MessageReader()

    def _full(self, why: str, found: list[Message]) -> None:
        # Nobody is woken for those who wait; they are looked at whenever something else comes.
        self._accepts = False
        if not self._complained:
            self._complained = True
            found.append(Complaint(why))

    def _read(self, number: int, found: list[Message]) -> bool:
        """Read what a connection has now: whether it goes on."""
        connection, reader = self._connections[number]
        left = available(number)
        while True:
            try:
                data = connection.recv(min(left, _BLOCK) or 1)
            except BlockingIOError:
                return True
            except OSError:  # it was closed without reading our answers
                return False
            if not data:
                return False
            found += reader.feed(data)
            if reader.handles:
                try:
                    connection.send(HANDLE_ANSWER * reader.handles)
                except OSError:
                    pass  # it doesn't listen
                reader.handles = 0
            left -= len(data)
            if left <= 0:
                return True

    def _end(self, number: int, found: list[Message]) -> None:
        connection, reader = self._connections.pop(number)
        connection.close()
        found += reader.finish()


def available(descriptor: int) -> int:
    """How many bytes can be read from a pipe or a socket now."""
    size = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", size)[0])
