"""
The channel by which the programs of one step send messages: a UNIX socket in a folder of the attempt's, whose address
they find in the environment variable `node.VARIABLE`. Used by ``interleaving``; ``speech`` reads the messages.

Only Node's handles are answered, and messages that ask for an answer. A connection is closed when its program has
closed it, or the step is over: bad input doesn't end it, since a program may die of a closed channel. While `receive`
isn't called, programs that send much wait.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from twistedipc.runner.ports import Received
from twistedipc.runner.speech import HANDLE_ANSWER, Complaint, Heard, MessageReader, answer

#: How many connections there may be at once; so many more may wait for that. A Node program has two.
MAX_CONNECTIONS = 128

#: The socket's name in its folder.
SOCKET = "channel"
_BLOCK = 64 * 1024


# A UNIX socket's address has room for so many bytes, and a zero (unix(7)).
_MAX_ADDRESS = 107


class NoChannel:
    """The channel of a step that has none: no message comes."""

    address = ""
    descriptors: Sequence[int] = ()

    def receive(self) -> list[Received]:
        """Return nothing: no message can be sent."""
        return []

    def rest(self) -> Iterator[list[Received]]:
        """Yield what was sent before the step was over: nothing."""
        return iter(())

    def answer(self, source: int, ack: int | str) -> None:
        """Do nothing: there is no message to answer."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class StepChannel:
    """
    A step's channel. Raises OSError.

    :param folder: only the attempt's user can write to it
    :param seen: where the step's programs see that folder; "": where it is
    """

    def __init__(self, folder: Path, seen: str = "") -> None:
        self._path = folder / SOCKET
        self._path.unlink(missing_ok=True)
        self._folder = -1
        self._listening = socket.socket(socket.AF_UNIX)
        self._connections: dict[int, tuple[socket.socket, MessageReader]] = {}  # by descriptor
        self._sources: dict[int, int] = {}  # the connection that each descriptor is now
        self._last_source = 0
        self._accepts = True  # until there is one too many
        self._complained = False
        try:
            #: where programs connect to, whatever their working folder is
            self.address = os.fspath(self._path)
            if len(os.fsencode(self._path)) > _MAX_ADDRESS:
                # The same folder by a shorter name, for as long as this is open.
                self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self.address = f"/proc/{os.getpid()}/fd/{self._folder}/{SOCKET}"
            self._listening.setblocking(False)
            self._listening.bind(self.address)
            if seen:
                self.address = f"{seen}/{SOCKET}"
            os.chmod(self._path, 0o600)
            self._listening.listen(MAX_CONNECTIONS)
        except OSError:
            self.close()
            raise

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to `receive`."""
        return [*self._connections, *([self._listening.fileno()] if self._accepts else [])]

    def receive(self) -> list[Received]:
        """Return all that has been sent by now."""
        found = self._accept()
        for number in list(self._connections):
            heard: list[Heard] = []
            ended = not self._read(number, heard)
            if ended:
                found.append(self._end(number, heard))
                self._accepts = True
            elif heard:
                found.append(Received(self._sources[number], heard))
        return found

    def rest(self) -> Iterator[list[Received]]:
        """Yield all that was sent before the step was over, also on connections that wait to be accepted."""
        for _ in range(2):
            # Connections that are closed here make place for those that wait, which aren't more than that.
            yield self.receive()
            yield [self._end(number, []) for number in list(self._connections)]

    def answer(self, source: int, ack: int | str) -> None:
        """Answer a message of a connection, unless its program doesn't read answers."""
        for number, known in self._sources.items():
            if known == source:
                try:
                    self._connections[number][0].send(answer(ack))
                except OSError:
                    pass
                return

    def close(self) -> None:
        """Close the channel and its connections. Idempotent."""
        for connection, _reader in self._connections.values():
            connection.close()
        self._connections.clear()
        self._sources.clear()
        self._listening.close()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        self._path.unlink(missing_ok=True)

    def _accept(self) -> list[Received]:
        self._accepts = True
        while True:
            if len(self._connections) >= MAX_CONNECTIONS:
                return self._full(f"{MAX_CONNECTIONS} connections to the channel are open: others wait")
            try:
                connection, _address = self._listening.accept()
            except BlockingIOError:
                return []
            except OSError as error:  # too many open files
                return self._full(f"a program can't be let in to the channel: {error.strerror}")
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection, MessageReader()
            self._last_source += 1
            self._sources[connection.fileno()] = self._last_source

    def _full(self, why: str) -> list[Received]:
        # Connections that wait wake nothing; they are accepted when something else comes.
        self._accepts = False
        if self._complained:
            return []
        self._complained = True
        return [Received(0, [Heard(Complaint(why))])]

    def _read(self, number: int, found: list[Heard]) -> bool:
        """Read what a connection has now. Return whether the connection is still open."""
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

    def _end(self, number: int, heard: list[Heard]) -> Received:
        connection, reader = self._connections.pop(number)
        connection.close()
        return Received(self._sources.pop(number), [*heard, *reader.finish()], ended=True)


def available(descriptor: int) -> int:
    """Return how many bytes can be read from a pipe or a socket now."""
    size = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", size)[0])
