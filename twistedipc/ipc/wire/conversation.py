"""
What the formats without a session share: the events of a `Conversation`, and the calls of this side's that wait. The
formats are ``plain`` and ``jsonrpc``. Sans-IO; used by ``connections/plain.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import msgspec

from twistedipc.ipc.wire.errors import (
    BadReply,
    CallFailed,
    CallTimedOut,
    Code,
    LocalProtocolError,
    TooManyCalls,
)
from twistedipc.ipc.wire.finite import check_finite, is_exact, one_line
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import encoder, is_struct, name_of, unsendable
from twistedipc.ipc.wire.outgoing import OutgoingCalls
from twistedipc.ipc.wire.settings import MAX_CALLS

#: Bytes of a frame, either way.
FRAME_LIMIT = 1 << 20

#: Messages of ours are cut to this length, since they may quote the peer.
MESSAGE_LIMIT = 512

#: Characters of a trace context. Of this side's, more are cut off; a peer's that is longer is none.
TRACE_LIMIT = 512

#: What decoding raises for what is not JSON, or not of the right shape.
BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Asked(msgspec.Struct, frozen=True):
    """A request that wants an answer with this id; without one, if it has none."""

    id: Any
    request: msgspec.Struct
    batch: Any = None  # what was asked together with it, for the format
    trace: str = ""  # its trace context


class Dropped(msgspec.Struct, frozen=True):
    """The peer doesn't wait for the answer to this request any longer."""

    asked: Asked


class Replied(msgspec.Struct):
    """The reply to a call of this side's."""

    id: int
    reply: Any


class Failed(msgspec.Struct, frozen=True):
    """A call of this side's that was answered by an error, or not in time."""

    id: int
    error: CallFailed | CallTimedOut


class Refused(msgspec.Struct, frozen=True):
    """What came wasn't understood. ``line`` is the answer to it."""

    line: bytes


class Misunderstood(msgspec.Struct, frozen=True):
    """What came wasn't understood, on one of the two sides, and isn't answered. ``what`` is for this side's log."""

    what: str


class Ended(msgspec.Struct, frozen=True):
    """Nothing that follows can be understood: the connection is to be closed, and the peer told why."""

    code: str
    reason: str
    refused: bool = False  # whether only people can change that


#: A message of an interface, or one of the above.
Event = msgspec.Struct


class Conversation(ABC):
    """
    One connection's conversation in a format without a session: bytes in, events out; and what goes out, as bytes.

    :param answered: what this side answers, or None
    :param asked: what this side asks by, or None
    :param limit: bytes of a frame, either way
    :param max_calls: the calls of this side's that may wait
    """

    #: whether requests without an id are answered by their place, one after the other
    answers_in_turn = True

    def __init__(
        self,
        answered: Interface | None,
        asked: Interface | None,
        *,
        limit: int = FRAME_LIMIT,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.limit = limit
        #: whether `receive` was given the end of a frame when it was called last
        self.has_completed = False
        self.outgoing = OutgoingCalls()
        self.max_calls = max_calls
        #: whether this side makes calls: then it is always read, or two sides could wait for one another
        self.makes_calls = asked is not None
        #: whether calls have a member for their trace context
        self.traces = False
        #: the peer's requests that may be at work
        self.max_asked = max_calls
        #: whether more than those are refused, as what comes behind them must get through; else they wait
        self.refuses_more = asked is not None
        self._answers = {} if answered is None else answered.calls
        self._calls = {} if asked is None else asked.calls
        self._reply_decoders = {kind: msgspec.json.Decoder(reply).decode for kind, reply in self._calls.items()}
        self._reply_checks = {kind: msgspec.json.Decoder(reply).decode for kind, reply in self._answers.items()}
        self._raw_replies = frozenset(kind for kind, reply in self._answers.items() if not is_exact(reply))

    @property
    @abstractmethod
    def pending(self) -> int:
        """How many bytes of an unfinished frame are kept."""

    # -- receiving

    @abstractmethod
    def receive(self, data: bytes) -> Iterator[Event]:
        """
        Return the events of the peer's bytes. Each frame is decoded when the iteration comes to it, which may be later,
        but in the order of the calls. Nothing comes behind an `Ended`. Never raises for anything that a peer can send.
        """

    # -- sending

    @abstractmethod
    def message(self, message: msgspec.Struct) -> bytes:
        """Return the frame of a one-way message. Raises `LocalProtocolError`."""

    @abstractmethod
    def request(self, id_: int, request: msgspec.Struct, trace: str) -> bytes:
        """Return the frame of a call of this side's. Raises `LocalProtocolError`."""

    @abstractmethod
    def cancellation(self, id_: int) -> bytes:
        """Return what tells the peer that this side doesn't wait any longer; nothing, if there is no such word."""

    @abstractmethod
    def reply(self, asked: Asked, reply: object) -> bytes:
        """Return what answers a request. `BadReply` if the reply isn't what was declared, or can't be sent."""

    @abstractmethod
    def refusal(self, asked: Asked, code: str, message: str, data: Any = None) -> bytes:
        """Return what answers a request by an error. `LocalProtocolError` if its data can't be sent."""

    @abstractmethod
    def complaint(self, code: str, message: str) -> bytes:
        """Return what tells the peer that something wasn't taken that has no other answer."""

    @abstractmethod
    def bye(self, code: str, reason: str) -> bytes:
        """Return the last that is sent."""

    # -- the calls of this side's

    def call(self, request: msgspec.Struct, deadline: float, trace: str = "") -> tuple[int, bytes]:
        """
        Make a call. Return its id, which comes back in one `Replied` or `Failed`, and its frame.

        :param trace: its trace context, which goes with it if `traces`
        :raises TooManyCalls: too many calls wait
        :raises LocalProtocolError: it is no call of this side's, or can't be sent
        """
        kind, outgoing = type(request), self.outgoing
        if kind not in self._calls:
            raise LocalProtocolError(f"{kind.__qualname__} is not declared as a call of this side")
        if len(outgoing.waiting) >= self.max_calls:
            raise TooManyCalls(f"{self.max_calls} calls of this side are in flight, its own limit (max_calls)")
        id_ = outgoing.last_id + 1
        frame = self.request(id_, request, trace)
        outgoing.last_id = id_
        outgoing.waiting[id_] = (kind, deadline)
        if deadline < outgoing.earliest:
            outgoing.earliest = deadline
        return id_, frame

    def drop(self, id_: int) -> bytes:
        """Forget a call that waits, and return what tells the peer."""
        return b"" if self.outgoing.waiting.pop(id_, None) is None else self.cancellation(id_)

    def expired(self, now: float) -> list[Failed]:
        """Return the calls whose time is up. They are to be dropped."""
        return [
            Failed(id_, CallTimedOut(f"no reply to {name_of(request)} in time"))
            for id_, request in self.outgoing.expired(now)
        ]

    def _replied(self, id_: int, request: type[msgspec.Struct], content: bytes | msgspec.Raw) -> Replied | Failed:
        """Return what becomes of a call of this side's that was answered by this."""
        try:
            return Replied(id_, self._reply_decoders[request](content))
        except BAD as error:
            said = f"the reply to {name_of(request)}: {in_words(error)}"
            return Failed(id_, CallFailed(Code.BAD_REPLY, said[:MESSAGE_LIMIT]))

    def _content(self, asked: Asked, reply: object) -> bytes:
        """Return a reply as JSON. `BadReply` if it isn't what was declared, or can't be sent."""
        request = type(asked.request)
        expected = self._answers[request]
        try:
            if type(reply) is not expected and is_struct(expected) and not isinstance(reply, expected):
                raise LocalProtocolError(f"it must be {expected.__qualname__}, not {type(reply).__qualname__}")
            content = encoder.encode(reply)
            # As `Session.answer` does it: if something else comes out, it may be because JSON doesn't have it.
            if self._reply_checks[request](content) != reply:
                check_finite(reply)
            if request in self._raw_replies:
                content = one_line(content)
        except Exception as error:
            name = name_of(request)
            said = f"the reply to {name} isn't what was declared; see the log there"
            raise BadReply(f"the reply to {name}: {unsendable(error, reply)}", Code.INTERNAL, said) from error
        return content

    def _fitting(self, asked: Asked, frame: bytes, size: int) -> bytes:
        """Return the frame of a reply; `BadReply` if its ``size`` is over the limit."""
        if size > self.limit:
            said = f"the reply to {name_of(type(asked.request))} has {size} bytes, over the limit of {self.limit}"
            raise BadReply(said, Code.TOO_LARGE, said)
        return frame


def trace_of(value: object) -> str:
    """Return the trace context that a member of a call is; "" if it can't be one."""
    return value if isinstance(value, str) and len(value) <= TRACE_LIMIT else ""


def in_words(error: Exception) -> str:
    """Return what decoding has raised, in words."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def quoted(text: str) -> str:
    """Return the peer's words, or what may quote them: short, on one line, and without control characters."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:MESSAGE_LIMIT])
