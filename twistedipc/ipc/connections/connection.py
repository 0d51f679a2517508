"""
What the three formats of a connection share: `Connection`. ``link``, ``plain`` and ``node`` are the formats; they give
it events and bytes, and decide when an event may be handed on.

How bytes move. The events of a chunk are handed on one by one. Events that the application doesn't want yet wait here;
meanwhile the transport isn't read, so at most one chunk's events wait. What is sent goes through a `Cork`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto
from threading import get_ident
from typing import Any, cast

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.cork import Cork, LinkTransport
from twistedipc.ipc.connections.drains import Room
from twistedipc.ipc.connections.failing import Failing
from twistedipc.ipc.connections.streamed import Arriving
from twistedipc.ipc.connections.tap import Tap
from twistedipc.ipc.connections.timer import Timer
from twistedipc.ipc.connections.traffic import Traffic
from twistedipc.ipc.places.endpoints import why_lost
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected

#: Seconds between this side's last word and an abort, for a peer that doesn't read it.
LINGER = 5.0


def check_thread(own: int) -> None:
    """Raise `LocalProtocolError` unless this is the thread that a link lives in: 0 if that isn't known yet."""
    if own not in (0, get_ident()):
        raise LocalProtocolError(
            "this is another thread than the link's, where it can't be used: use reactor.callFromThread, "
            "loop.call_soon_threadsafe, or a SyncRemote"
        )


class Life(Enum):
    """How far a connection has come. It never goes back."""

    NEW = auto()  # it has no transport yet
    OPEN = auto()
    LEAVING = auto()  # nothing more is sent, but what the peer sends is still received (Node's channel)
    CLOSING = auto()  # the application's part is over; what is left to write is being written
    LOST = auto()  # the transport is closed


# To look a member up in its enumeration costs as much as an encoding.
_OPEN = Life.OPEN


class Connection(Protocol, ABC):
    """
    One connection on a Twisted transport.

    :param outbound_limit: bytes that may wait for a peer that doesn't read
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, outbound_limit: int) -> None:
        self.life = Life.NEW
        #: why it has ended, for people
        self.reason = ""
        #: the code, once the connection is lost, if one side has refused the other before there was a link
        self.refusal: str | None = None
        #: whether the application wants nothing more for now
        self.paused = False  # an instance's own is found faster than the class's
        #: whether the transport has enough, as the application knows it
        self.writing_is_paused = False
        self._thread = 0  # the reactor's, from `connectionMade` on
        self._clock = clock
        self._cork = Cork(clock, outbound_limit, self._turn_ended, self._overflowed)
        self._traffic = self._cork.traffic
        self._timer = Timer(clock, self._time_came)
        self._backlog: deque[Iterator[Any]] = deque()  # what each chunk brought and hasn't been handed on
        self._handing_on = False
        self._wire_is_paused = False
        self._room = Room()
        self._failing = Failing(clock)

    # -- what a format says ------------------------------------------------------------------------------------------

    @abstractmethod
    def _made(self, address: str) -> None:
        """The connection has a transport. ``address`` is the peer's, or "" where there are no addresses."""

    @abstractmethod
    def _application_failed(self, error: Exception) -> None:
        """The application has raised ``error`` when something was handed on to it."""

    @abstractmethod
    def _overflowed(self) -> None:
        """Too much waits for a peer that doesn't read."""

    @abstractmethod
    def _detach(self) -> None:
        """Tell the application that nothing can be sent any more, before any call fails for that."""

    @abstractmethod
    def _tell_the_end(self) -> None:
        """Tell the application that the connection has ended."""

    @abstractmethod
    def _gone(self) -> None:
        """Tell the owner that the transport is closed."""

    @abstractmethod
    def _hand_on_events(self) -> None:
        """Hand on the events of the backlog, until there are none or the application wants no more for now."""

    def _may_hand_on(self) -> bool:
        """Return whether an event may be handed on now."""
        return not self.paused

    def _time_came(self) -> None:
        """The deadline that the timer was set to has come, or was put off meanwhile."""

    def _writing_paused(self) -> None:
        """The transport has enough."""

    def _writing_resumed(self) -> None:
        """The transport has room."""

    def _refused(self, code: str) -> None:
        """Note that one side has refused the other before there was a link."""
        self.refusal = code

    def _why_lost(self, failure: Failure) -> str:
        """Return why the connection was lost, as a text for logs, if this side hasn't ended it."""
        return "the peer closed the connection" if isinstance(failure.value, ConnectionDone) else why_lost(failure)

    # -- the transport's ---------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        assert self.transport is not None
        peer = self.transport.getPeer()
        address = ""
        if isinstance(peer, IPv4Address | IPv6Address):
            address = f"{peer.host}:{peer.port}"
            if ITCPTransport.providedBy(self.transport):
                self.transport.setTcpNoDelay(True)
        self.life = _OPEN
        self._thread = get_ident()
        self._cork.connect(self._wire)
        self._wire.registerProducer(Tap(self), True)
        self._made(address)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.reason == "":
            self.reason = self._why_lost(reason)
        if self.life is not Life.NEW:
            self._end()
        self.life = Life.LOST
        self._timer.cancel()
        self._cork.stop()
        self._gone()

    # -- reading -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading; what has been read and not been handed on waits. Idempotent."""
        if not self.paused and self.life is _OPEN:
            self.paused = True
            self._read_or_not()

    def resumeProducing(self) -> None:
        """Read again. What waits is handed on first, and not from within this call. Idempotent."""
        if self.paused and self.life is _OPEN:
            self.paused = False
            self._cork.wait_for_turn()

    def _read_or_not(self) -> None:
        """
        Have the transport read if what it reads could be handed on: not before what waits is handed on, for what the
        transport has may be the connection's end.
        """
        if self.life is _OPEN and self._wire_is_paused is (self._may_hand_on() and not self._backlog):
            self._wire_is_paused = not self._wire_is_paused
            if self._wire_is_paused:
                self._wire.pauseProducing()
            else:
                self._wire.resumeProducing()

    def _hand_on(self) -> None:
        """Hand events on, until there are none or the application wants no more for now."""
        if self._handing_on:
            return
        self._handing_on = True
        try:
            self._hand_on_events()
        except Exception as error:
            self._application_failed(error)
        finally:
            self._handing_on = False

    # -- writing -----------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> IReactorTime:
        """The connection's clock."""
        return self._clock

    @property
    def waiting(self) -> int:
        """How many bytes the transport hasn't been given yet."""
        return self._cork.waiting

    def count(self, traffic: Traffic) -> None:
        """Count what goes over this connection from now on there."""
        self._traffic = self._cork.traffic = traffic

    def drain(self) -> Deferred[None]:
        """See `Peer.drain`."""
        if self.life is not _OPEN:
            return self._failing.fail(NotConnected(self.reason))
        # While those that wait are let go on, one after the other, a newcomer goes behind them.
        drains = self._room.drains
        return drains.wait() if self.writing_is_paused or len(drains) else succeed(None)

    def call_for_items(self, request: msgspec.Struct, credit: int, arriving: Arriving) -> int:
        """See `Peer.stream_call`. Only links have streamed replies."""
        raise LocalProtocolError("streamed replies need a link, which this connection isn't")

    def more(self, id_: int, credit: int) -> None:
        """Let the peer send more items of a call. Nothing happens unless there is such a call."""

    def drop(self, id_: int) -> None:
        """Drop a call for items. Nothing happens unless there is such a call."""

    def pause_writing(self) -> None:
        """Note that the transport has enough. May be called several times."""
        self._cork.is_full = True
        if not self.writing_is_paused:
            self.writing_is_paused = True
            if not self._room.is_told_full:
                self._room.is_told_full = True
                self._writing_paused()

    def resume_writing(self) -> None:
        """The transport has room."""
        self._cork.write_held()
        if self.writing_is_paused and not self._cork.is_full:
            self.writing_is_paused = False
            self._room.go_on(self._who_waits(), lambda: self.writing_is_paused)

    def _who_waits(self) -> list[Callable[[], None]]:
        """Return how those who wait for room go on. The application is one of them: its streams may fill it all."""
        return [self._tell_room, self._release_drains]

    def _tell_room(self) -> None:
        if self._room.is_told_full:
            self._room.is_told_full = False
            self._writing_resumed()

    def _release_drains(self) -> None:
        while len(self._room.drains) and not self.writing_is_paused:
            self._room.drains.release(lambda: not self.writing_is_paused)

    def _turn_ended(self) -> None:
        """The turn of the reactor ends in which something was sent, or reading was resumed."""
        self._hand_on()
        self._flush()
        self._read_or_not()

    def _flush(self) -> None:
        """Write what was collected, at the end of a chunk or a turn."""
        self._cork.end_chunk()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """End the application's part, once."""
        if self.life in (Life.CLOSING, Life.LOST):
            return
        self.life = Life.CLOSING
        self._backlog.clear()
        self._detach()
        self._room.drains.fail(NotConnected(self.reason))
        self._tell_the_end()

    def _close_transport(self, linger: float = LINGER, *, abrupt: bool = False) -> None:
        """Write what is left, and close the transport: at once, or when the peer has read it, or after ``linger``."""
        if abrupt:
            self._timer.cancel()
            self._wire.abortConnection()
            return
        # Everything goes to the transport, which closes once it is written; a producer would keep it from that.
        self._wire.unregisterProducer()
        self._cork.write_all()
        self.paused = False
        if self._wire_is_paused:
            # What the peer still sends must be read: unread bytes would make the kernel reset the connection, and
            # the peer would never see what was written last.
            self._wire_is_paused = False
            self._wire.resumeProducing()
        self._timer.set_last(linger, self._wire.abortConnection)
        self._wire.loseConnection()

    def _guard(self, told: Callable[[str], None], name: str, peer: str, reason: str) -> None:
        """Tell the application why something has ended. What the application raises is logged."""
        try:
            told(reason)
        except Exception:
            self._log.failure("{peer}: {name} failed", peer=peer, name=name)

    def _check_open(self) -> None:
        """
        Raise an exception if nothing can be sent.

        :raises NotConnected: the connection has ended
        :raises LocalProtocolError: it hasn't begun, or this is another thread than the reactor's
        """
        check_thread(self._thread)
        if self.life is Life.NEW:
            raise LocalProtocolError("there is no connection yet")
        if self.life is not _OPEN:
            raise NotConnected(self.reason)

    @property
    def _wire(self) -> LinkTransport:
        return cast(LinkTransport, self.transport)
