"""
Reliable streams: numbered items that arrive once each, in order, over one link after another. Sans-IO; used by
`twistedipc.ipc.streams`; its windows also by programs that forward a numbered log in messages of their own.

The sender numbers its items from 1 and keeps each (in an *outbox*) until it is acknowledged. On each new link it opens
the stream, and the receiver says how far it has got; the sender goes on from there. So nothing is remembered of the
link that broke::

    sender                                   receiver
    stream-open {stream, id, first}    ─────►
                                       ◄─────  stream-position {id, next, credit}
    stream-items {id, first, items}    ─────►
    …                                  ◄─────  stream-ack {id, next}           everything below `next` is kept there
    stream-close {id}                  ─────►                                  it was closed, or had been refused

At most ``credit`` bytes of unacknowledged items are under way. The receiver drops items that it has already, by their
numbers, and sends another ``stream-position`` if items are missing. ``id`` names the outbox: an outbox that was lost
and begins again at 1 is another stream. Position and refusal say which ``opening`` they answer: a sender that has
closed and opened the stream again on one link isn't to take the first answer for the second.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec

from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import Code, RemoteProtocolError
from twistedipc.ipc.wire.messages import Frame

#: The numbers that JSON can carry between any two languages.
MAX_NUMBER = 2**53 - 1
Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
#: Of the openings that a sender makes on a link each has another number; 0: it doesn't count them.
Opening = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class StreamOpen(Frame, frozen=True, kw_only=True, gc=False, tag="stream-open"):
    """The sender has items of this stream, from number ``first`` on."""

    stream: Name
    id: Name
    first: Number
    opening: Opening = 0


class StreamPosition(Frame, frozen=True, kw_only=True, gc=False, tag="stream-position"):
    """The receiver wants the items from number ``next`` on; at most ``credit`` bytes may be under way."""

    id: Name
    next: Number
    credit: Number
    opening: Opening = 0  # the one that this answers


class StreamItems(Frame, frozen=True, kw_only=True, gc=False, tag="stream-items"):
    """The next items, an array, the first of which has the number ``first``."""

    id: Name
    first: Number
    items: msgspec.Raw


class UnreadItems(Frame, frozen=True, kw_only=True, gc=False, tag="stream-items"):
    """`StreamItems` of which only this can be read."""

    id: Name
    first: Number
    complaint: str = ""  # why


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
    opening: Opening = 0  # the one that this answers


class StreamClose(Frame, frozen=True, kw_only=True, gc=False, tag="stream-close"):
    """The sender sends no more of this stream on this link, unless it opens it again. What has come may be kept."""

    id: Name


FROM_SENDER = (StreamOpen, StreamItems, StreamClose)
#: What comes of them.
OF_SENDER = (*FROM_SENDER, UnreadItems)
FROM_RECEIVER = (StreamPosition, StreamAck, StreamRefused)


class Hole(Exception):
    """
    Items are missing before those that came.

    :param next: the number of the first that is missing
    :param again: whether the same was found before
    """

    def __init__(self, next: int, *, again: bool = False) -> None:
        super().__init__(f"number {next} is missing")
        self.next = next
        self.again = again


class _UnderWay:
    """The sizes of what is on its way to being kept: pieces of a numbered stream, in order."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, int]] = deque()  # (the number after the last, size)

    def add(self, end: int, size: int) -> None:
        """Note one more piece under way."""
        self._pieces.append((end, size))

    def arrived(self, next: int) -> int:
        """Note that everything below ``next`` is kept, and return how much that was."""
        size = 0
        while self._pieces and self._pieces[0][0] <= next:
            size += self._pieces.popleft()[1]
        return size

    def clear(self) -> None:
        """Note that nothing is under way any more."""
        self._pieces.clear()


class SendWindow:
    """
    The sender's end of a numbered stream: what it has sent, over one link after another, and what of it is under way,
    sent and not acknowledged. It spends the credit, and gives it back.

    :param credit: in whatever unit the sizes are
    """

    def __init__(self, credit: CreditWindow) -> None:
        self.next = 1  # the number that is sent next
        self._credit = credit
        self._under_way = _UnderWay()
        self._end = 1  # the number after the last that was sent on this link, or was there before it

    @property
    def free(self) -> int:
        """How much may be sent now; one item more than that is allowed, or big ones could never be sent."""
        return self._credit.free

    def begin(self, next: int, credit: CreditWindow) -> None:
        """Go on, on a new link, from ``next``: the receiver has all below it, and gives credit for what follows."""
        self.forget()
        self.next = self._end = next
        self._credit = credit

    def rewind(self, next: int, credit: CreditWindow | None = None) -> None:
        """
        Go back to ``next``, which the receiver asks for again, with what follows. What is below isn't acknowledged by
        that. Raises `RemoteProtocolError` if it was never sent.
        """
        self._check(next, "asked for again")
        self.forget()
        self.next = next
        self._credit = credit or self._credit

    def sent(self, end: int, size: int) -> None:
        """Note that everything from `next` up to ``end`` was sent, and how big that was."""
        self._credit.spend(size)
        self._under_way.add(end, size)
        self.next = end
        self._end = max(self._end, end)

    def acknowledged(self, next: int) -> None:
        """
        Note that everything below ``next`` is kept. What was acknowledged before changes nothing. Raises
        `RemoteProtocolError` if it was never sent.
        """
        self._check(next, "acknowledged")
        self._credit.give_back(self._under_way.arrived(next))

    def forget(self) -> None:
        """Note that nothing is under way any more: the link is gone, or all is sent again."""
        self._under_way.clear()
        self._credit.give_back_all()

    def _check(self, next: int, what: str) -> None:
        if not 1 <= next <= self._end:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"number {next} is {what}, and {self._end} was never sent")


class ReceiveWindow:
    """
    The receiver's end of a numbered stream: all below ``next`` has come, without holes, and all below ``kept`` is kept
    for good, which is what is acknowledged.

    :param credit: for what has come and isn't kept yet; more than the sender is given, if what it sends again is to
        have room beside what it sent before
    """

    def __init__(self, next: int, credit: CreditWindow) -> None:
        self.next = self.kept = next
        self._credit = credit
        self._waiting = _UnderWay()
        self._hole = 0  # the number that was found to be missing, and hasn't come since

    @property
    def waiting(self) -> int:
        """The size of what has come and isn't kept yet."""
        return self._credit.spent

    def position(self) -> int:
        """
        Return the number from which the sender is to go on. The caller sends it to the sender: what is missing after
        that is a hole not found before.
        """
        self._hole = 0
        return self.next

    def skip(self, first: int, end: int, *, after: int = 0) -> int:
        """
        Return how many of the items ``first`` … ``end - 1`` are here already, and to be dropped: all of them, maybe.
        Raises `Hole` if there is one before them. Nothing is taken: see `take`.

        :param after: what is below this number has come along with them
        """
        next = max(self.next, after)
        if first > next:
            again, self._hole = self._hole == self.next, self.next
            raise Hole(self.next, again=again)
        return min(next, end) - first

    def take(self, end: int, size: int) -> None:
        """
        Note that everything below ``end`` has come, and how big what is new of it is. Raises `RemoteProtocolError`, and
        nothing is taken, if more has come than was to be under way.
        """
        if end <= self.next:
            return
        if self._credit.free <= 0:
            limit = self._credit.limit
            raise RemoteProtocolError(Code.CREDIT, f"more than {limit} bytes were sent and not acknowledged")
        self._credit.spend(size)
        self._waiting.add(end, size)
        self.next = end

    def keep(self, next: int) -> None:
        """Everything below ``next`` is kept for good."""
        if next > self.kept:
            self.kept = next
            self._credit.give_back(self._waiting.arrived(next))

    def forget(self) -> None:
        """Nothing waits any more: the link is gone."""
        self._waiting.clear()
        self._credit.give_back_all()
