"""
What a connection writes, and when: `Cork`. Used by ``connection``.

Three things can hold bytes back. A chunk is being read: what is sent meanwhile is written at its end, or as soon as it
is worth a write, so that the peer has work while this side is busy. Or the reactor's turn isn't over: all that is sent
in one turn is one write. Or the transport has enough: then bytes wait here, where they are counted and bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime

from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.traffic import Traffic

#: Bytes that are written without waiting for the end: of the reactor's turn, and of the chunk that is being read.
TURN = 128 * 1024
CHUNK = 4096


class LinkTransport(Protocol):
    """What a connection needs of its transport: what Twisted's TCP, UNIX and TLS transports all have."""

    def write(self, data: bytes) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Cork:
    """
    Collects what one connection writes, and holds what its transport doesn't take.

    :param limit: bytes that may be held
    :param turn_ended: called at the end of a turn that `wait_for_turn` was called in, before anything is written
    :param overflowed: called when more than ``limit`` bytes were held; they are dropped
    """

    def __init__(
        self, clock: IReactorTime, limit: int, turn_ended: Callable[[], None], overflowed: Callable[[], None]
    ) -> None:
        #: bytes collected at which `look` is to be called; 0 while no end of a chunk or a turn is coming
        self.enough = 0
        #: what was encoded and not yet written: formats append to it
        self.collected = bytearray()
        #: whether the transport takes no more for now
        self.is_full = False
        #: whether anything was written since `begin_chunk`
        self.has_written = False
        #: counts what is written
        self.traffic = Traffic()
        self._clock = clock
        self.limit = limit
        self._turn_ended = turn_ended
        self._overflowed = overflowed
        self._transport: LinkTransport | None = None
        self._turn_end: IDelayedCall | None = None
        self._held: deque[bytes] = deque()
        self._held_bytes = 0

    def connect(self, transport: LinkTransport) -> None:
        """Write to this transport."""
        self._transport = transport

    @property
    def waiting(self) -> int:
        """How many bytes the transport hasn't been given."""
        return len(self.collected) + self._held_bytes

    # -- collecting

    def begin_chunk(self) -> None:
        """Note that a chunk is being read. `end_chunk` must be called at its end."""
        self.enough = CHUNK
        self.has_written = False

    def end_chunk(self) -> None:
        """Write what was collected: the chunk, or the turn, has ended."""
        self.enough = 0 if self._turn_end is None else TURN
        if self.collected:
            self.flush()

    def add(self, data: bytes) -> None:
        """Collect ``data`` too."""
        self.collected += data
        if len(self.collected) >= self.enough:
            self.look()

    def look(self) -> None:
        """Write what was collected if it is enough. Otherwise wait for the end of the turn, unless an end is coming."""
        if self.enough == 0:
            self.wait_for_turn()
        if len(self.collected) >= self.enough:
            self.flush()

    def wait_for_turn(self) -> None:
        """Have ``turn_ended`` called at the end of this turn of the reactor."""
        if self._turn_end is None and self._transport is not None:
            self._turn_end = self._clock.callLater(0, self._at_turn_end)
            self.enough = self.enough or TURN

    def _at_turn_end(self) -> None:
        self._turn_end = None
        self.enough = CHUNK
        self._turn_ended()

    # -- writing

    def flush(self) -> None:
        """Write what was collected: straight to the socket, if that is possible."""
        data = bytes(self.collected)
        self.collected.clear()
        transport = self._transport
        if transport is None:
            return
        self.has_written = True
        self.traffic.bytes_sent += len(data)
        if not self._held and not self.is_full:
            sent = send_at_once(transport, data)
            if sent < len(data):
                transport.write(data[sent:] if sent else data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self.limit:
            self._drop()
            self._overflowed()

    def write_held(self) -> None:
        """Write what was held until the transport has enough again: it has room."""
        self.is_full = False
        transport = self._transport
        while transport is not None and self._held and not self.is_full:
            data = self._held.popleft()
            self._held_bytes -= len(data)
            transport.write(data)

    # -- the end

    def write_all(self) -> None:
        """Write everything, whether or not the transport has enough: it is going to be closed."""
        self.write_held()
        if self.collected:
            self.flush()
        self.stop()

    def stop(self) -> None:
        """Write nothing any more, and don't wait for a turn's end."""
        self._transport = None
        if self._turn_end is not None:
            self._turn_end.cancel()
            self._turn_end = None
        self._drop()
        self.collected.clear()

    def _drop(self) -> None:
        self._held.clear()
        self._held_bytes = 0
