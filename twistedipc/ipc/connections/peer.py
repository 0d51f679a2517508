"""
The seam between a link and what is built on it. An application implements `Application` and calls `Peer`; ``link`` has
the other side of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc.connections.streamed import Arriving, AsksForItems, StreamedReply
from twistedipc.ipc.connections.traffic import Queues, Traffic
from twistedipc.ipc.wire.identity import PeerInfo
from twistedipc.ipc.wire.interface import Request, StreamedRequest, StreamOf

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Complaint:
    """
    A peer's word that it hasn't taken something of this side's that has no other answer: a one-way message, or a reply.

    :param code: for programs: ``unknown-type`` (the peer is older, say), ``bad-message`` or ``bad-reply`` (wrong
        fields), or what the peer's program has said
    :param message: for people; it names the message
    """

    code: str
    message: str


class Application(Protocol):
    """
    One for each ready connection, made by an `ApplicationFactory`. All is called in the reactor's thread, and in the
    order in which it arrived. An exception that gets out of any of these is logged and ends the link; but
    `RemoteProtocolError`, out of what receives messages, ends it with that code and reason: it is the peer's fault.

    An application that has a method ``messages_received(messages: list)`` gets its messages by it instead of
    `message_received`: those that have come together, in lists, which saves it a call per message. Pausing holds back
    what comes after the list.

    Two more methods are called if there are any: ``link_ready()``, when it has been made, before anything is received;
    and ``link_ended(reason: str)``, as soon as nothing can be sent any more, which is before calls fail for that, and
    before the last that has come is received. What stands for the peer over several links lets go of this one there.
    ``complaint_received(complaint: Complaint)`` is called when the peer says that it hasn't taken something. What that
    raises is logged, and the link goes on.
    """

    def message_received(self, message: Any) -> None:
        """Take a one-way message that has come: one of the types in the vocabulary's ``receives``."""

    def call_received(self, request: Any) -> Any:
        """
        Answer a call that has come: one of the types in the vocabulary's ``answers``. Return the reply, or something to
        await for it (a coroutine, a Deferred), which is cancelled when the peer doesn't wait any longer or the link
        ends.

        Raise `CallFailed` to answer by an error. Any other exception is logged, and the peer gets ``internal``.
        """

    def connection_lost(self, reason: str) -> None:
        """Take note that the link has ended. The last method that is called. ``reason`` is a text for logs."""

    def writing_paused(self) -> None:
        """Take note that the peer doesn't keep up. What is sent all the same is kept, up to ``outbound_limit``."""

    def writing_resumed(self) -> None:
        """Take note that the peer keeps up again."""


class Link(Protocol):
    """What a `Peer` needs of its connection."""

    writing_is_paused: bool

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def send_limit(self) -> int: ...

    def send(self, message: msgspec.Struct) -> None: ...

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None: ...

    def call(self, request: msgspec.Struct, timeout: float) -> Deferred[Any]: ...

    def understands(self, kind: type[msgspec.Struct] | StreamOf[Any], *, exactly: bool) -> bool: ...

    def call_for_items(self, request: msgspec.Struct, credit: int, arriving: Arriving) -> int: ...

    def more(self, id_: int, credit: int) -> None: ...

    def drop(self, id_: int) -> None: ...

    def complain(self, code: str, message: str) -> None: ...

    def count(self, traffic: Traffic) -> None: ...

    @property
    def queues(self) -> Queues: ...

    def drain(self) -> Deferred[None]: ...

    def close(self, code: str, reason: str) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Peer:
    """The authenticated other end of a ready link: what handlers are given, and what `Remote.linked` gives."""

    def __init__(self, info: PeerInfo, link: Link) -> None:
        #: the peer's name, role and address: a `PeerInfo`
        self.info = info
        self._link = link
        self._for_tasks: Peer | None = None  # the same peer, as ``futures`` has it

    def __repr__(self) -> str:
        return f"<Peer {self.info.name} ({self.info.role}) at {self.info.address}>"

    @property
    def paused(self) -> bool:
        """Whether the peer doesn't keep up with what it is sent. `drain` waits until it does."""
        return self._link.writing_is_paused

    @property
    def frame_limit(self) -> int:
        """The most bytes of a message that may be sent: the smaller of both sides' ``frame_limit``."""
        return self._link.send_limit

    def understands(self, kind: type[msgspec.Struct] | StreamOf[Any], *, exactly: bool = False) -> bool:
        """
        Return whether the peer takes messages or calls of this class, or this stream: its program may be older or newer
        than this one. Both sides say so when they link, so the answer is there from `Service.peer_ready` on, and
        doesn't change on a link. ::

            if peer.understands(Estimate):
                reply = await peer.call(Estimate(…))

        A peer that says nothing is told apart by ``"interface" in peer.info.features``: it has an older version of this
        library, or one in another language that doesn't say it, or speaks the plain profile. Then the answer is always
        False, so that a program does what it did before there was such a message.

        What a peer says of itself is for such decisions alone. Nothing is decoded by it, and nothing is kept from being
        sent.

        :param exactly: whether the fields are to be the same as here, and of a call those of its reply too: the same
            names, types and bounds, the same of them required. Otherwise it is enough that the peer takes something by
            this name; see "Changing an interface" in docs/ipc.md
        """
        return self._link.understands(kind, exactly=exactly)

    def send(self, message: msgspec.Struct) -> None:
        """
        Send a one-way message. It leaves at the end of this turn of the reactor at the latest, with all others. Never
        waits: what the peer doesn't read is kept, and over 64 MiB of it (``outbound_limit``) the link is closed. A
        caller that sends a lot awaits `drain` now and then.

        :raises NotConnected: the link has ended
        :raises LocalProtocolError: the message is over the frame limit, has no tag, or can't be sent as JSON (a number
            in it is NaN or infinite, a string has a lone surrogate)
        """
        self._link.send(message)

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """Send several messages, all or none, for the price of one. Raises as `send` does."""
        self._link.send_many(messages)

    @overload
    def call(self, request: Request[R], timeout: float = 30.0) -> Deferred[R]: ...

    @overload
    def call(self, request: msgspec.Struct, timeout: float = 30.0) -> Deferred[Any]: ...

    def call(self, request: msgspec.Struct, timeout: float = 30.0) -> Deferred[Any]:
        """
        Call the peer, and wait for the reply for at most ``timeout`` seconds. Cancelling the Deferred makes the peer
        drop the call.

        :returns: a Deferred of the reply, of the type that the request's class says. It fails with `CallFailed` (the
            peer answered by an error, with code, message and data; or its reply isn't what was declared, code
            ``bad-reply``),
            `TooManyCalls` (1024 are under way), `CallTimedOut`, or `NotConnected`
        :raises LocalProtocolError: the peer doesn't answer such requests (they are of no interface that `dial` or
            `listen` was given), or the request is over the frame limit, or can't be sent as JSON
        """
        return self._link.call(request, timeout)

    def stream_call(self, request: StreamedRequest[R], timeout: float | None = 30.0) -> StreamedReply[R]:
        """See `Remote.stream_call`. On this link alone."""
        return StreamedReply(self._link.clock, lambda _: succeed(self._link), request, timeout)

    def asks_for_items(self) -> AsksForItems:
        """Return the link, for a `StreamedReply`. Internal to the library."""
        return self._link

    def complain(self, code: str, message: str) -> None:
        """
        Tell the peer that one of its one-way messages wasn't taken, and why. The peer logs that. Nothing happens if the
        link has ended.

        :param code: for programs
        :param message: a text for the peer's log
        """
        self._link.complain(code, message)

    @property
    def queues(self) -> Queues:
        """What waits on this link just now."""
        return self._link.queues

    def count(self, traffic: Traffic) -> None:
        """Count what goes over the link from now on there. Internal to the library."""
        self._link.count(traffic)

    def drain(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the peer keeps up with what this side sends (`paused` is false); at once, if
        the peer keeps up now. A caller that sends a lot waits for this now and then. The Deferred fails with
        `NotConnected` if the link ends before.
        """
        return self._link.drain()

    def close(self, code: str, reason: str) -> None:
        """
        Tell the peer why, and end the link. Nothing is received from now on. Idempotent. A side that dials makes the
        link again.

        :param code: for programs: ``closed`` (`Code.CLOSED`), or a word of your own
        :param reason: a text for the logs of both sides
        """
        self._link.close(code, reason)

    def pause_reading(self) -> None:
        """
        Receive nothing more for now, replies included (a call whose reply hasn't come may time out meanwhile): the
        peer's own writing will be paused in time. The link stays alive.
        """
        self._link.pauseProducing()

    def resume_reading(self) -> None:
        """Receive again."""
        self._link.resumeProducing()


ApplicationFactory = Callable[[Peer], Application]
