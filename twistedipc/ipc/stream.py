"""
Reliable streams: numbered items that arrive once each, in order, over one link after another. Sans-IO; used by
`twistedipc.ipc.streams`, and its windows by whoever forwards a numbered log by rules of his own.

The sender numbers its items from 1 and keeps each (in an *outbox*) until it is acknowledged. On each new link it opens
the stream, and the receiver says how far it has got; the sender goes on from there. So nothing is remembered of the
link that broke::

    sender                                   receiver
    stream-open {stream, id, first}    ─────►
                                       ◄─────  stream-position {id, next, credit}
    stream-items {id, first, items}    ─────►
    …                                  ◄─────  stream-ack {id, next}           everything below `next` is kept there

At most ``credit`` bytes of unacknowledged items are under way. What the receiver has already it drops by its number;
for what it misses it sends another ``stream-position``. ``id`` names the outbox: one that was lost and began anew at 1
is another stream.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec

from twistedipc.ipc.credit import CreditWindow
from twistedipc.ipc.errors import Code, RemoteProtocolError
from twistedipc.ipc.messages import Frame

#: The numbers that JSON can carry between any two languages.
Number = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class StreamOpen(Frame, frozen=True, kw_only=True, gc=False, tag="stream-open"):
    """The sender has items of this stream, from number ``first`` on."""

    stream: Name
    id: Name
    first: Number


class StreamPosition(Frame, frozen=True, kw_only=True, gc=False, tag="stream-position"):
    """The receiver wants the items from number ``next`` on; at most ``credit`` bytes may be under way."""

    id: Name
    next: Number
    credit: Number


class StreamItems(Frame, frozen=True, kw_only=True, gc=False, tag="stream-items"):
    """The next items, an array, the first of which has the number ``first``."""

    id: Name
    first: Number
    items: msgspec.Raw


class StreamAck(Frame, frozen=True, kw_only=True, gc=False, tag="stream-ack"):
    """All items below ``next`` are kept by the receiver."""

    id: Name
    next: Number


class StreamRefused(Frame, frozen=True, kw_only=True, gc=False, tag="stream-refused"):
    """
    The receiver doesn't take this stream (any longer). With ``retry_after`` seconds it may be opened again then;
    without, never.
    """

    id: Name
    code: str
    message: str
    retry_after: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0


FROM_SENDER = (StreamOpen, StreamItems)
FROM_RECEIVER = (StreamPosition, StreamAck, StreamRefused)


class Hole(Exception):
    """Items are missing before those that came; ``next`` is the first of them."""

    def __init__(self, next: int) -> None:
        super().__init__(f"number {next} is missing")
        self.next = next


class SendWindow:
    """
    What of a numbered stream is under way: sent, and not acknowledged. It spends the credit, and gives it back.

    :param credit: in whatever unit the sizes are
    """

    def __init__(self, credit: CreditWindow) -> None:
        self._credit = credit
        self._sent: deque[tuple[int, int]] = deque()  # (the number after the last, size)

    @property
    def free(self) -> int:
        """How much may be sent now; one item more than that is allowed, or big ones could never be sent."""
        return self._credit.free

    def sent(self, end: int, size: int) -> None:
        """Everything below ``end`` was sent; what is new of it has this size."""
        self._credit.spend(size)
        self._sent.append((end, size))

    def acknowledged(self, next: int) -> None:
        """Everything below ``next`` has arrived for good. What was acknowledged before changes nothing."""
        while self._sent and self._sent[0][0] <= next:
            self._credit.give_back(self._sent.popleft()[1])

    def forget(self) -> None:
        """Nothing is under way any more: the link is gone, or all is sent again."""
        self._sent.clear()
        self._credit.give_back_all()

    def renew(self, credit: CreditWindow) -> None:
        """The same, and other credit from now on."""
        self.forget()
        self._credit = credit


class ReceiveWindow:
    """What has come of a numbered stream: all below ``next``, without holes."""

    def __init__(self, next: int = 1) -> None:
        self.next = next

    def skip(self, first: int, end: int) -> int:
        """
        How many of the items ``first`` … ``end - 1`` are here already, and to be dropped: all of them, maybe. Raises
        `Hole` if there is one before them. Nothing is changed: see `take`.
        """
        if first > self.next:
            raise Hole(self.next)
        return min(self.next, end) - first

    def take(self, end: int) -> None:
        """Everything below ``end`` has come."""
        self.next = max(self.next, end)


def check_ack(next: int, sent: int) -> None:
    """`RemoteProtocolError` if a peer acknowledges what it was never sent: ``sent`` is the number after the last."""
    if next > sent:
        raise RemoteProtocolError(Code.BAD_MESSAGE, f"number {next - 1} is acknowledged, and was never sent")
