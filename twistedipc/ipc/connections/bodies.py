"""
The bodies of one connection, both ways: `Bodies`. It gives the blobs of what is sent their numbers, and those of what
is received their readers, and brings each frame of a body to the one that it is for. Used by ``link``.

``body_sender`` and ``body_reader`` are the two ends of one body.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc.connections.body_reader import Arriving, BodyReader
from twistedipc.ipc.connections.body_sender import Sending, close_pieces
from twistedipc.ipc.connections.gate import start
from twistedipc.ipc.wire.blob import MOST_BODIES, Blob, blobs_in, may_hold_undeclared, numbered_for_size
from twistedipc.ipc.wire.bodies import BodyChunk, BodyDone, BodyEnded, BodyFailed, BodyWanted
from twistedipc.ipc.wire.errors import BadReply, CallFailed, Code, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.messages import Frame, tag_of, to_json
from twistedipc.ipc.wire.session import Session


class BodyLink(Protocol):
    """What the bodies need of their connection."""

    writing_is_paused: bool

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def send_limit(self) -> int: ...

    @property
    def takes_bodies(self) -> bool: ...

    def check_thread(self) -> None: ...

    def say(self, frame: Frame) -> None: ...


class Bodies:
    """
    The bodies of one connection.

    :param kinds: the requests in which there may be blobs, or in whose replies
    """

    def __init__(self, link: BodyLink, kinds: frozenset[type[msgspec.Struct]]) -> None:
        self._link = link
        self._kinds = kinds
        self._last = 0  # the number of the body that was sent last
        self._sending: dict[int, Sending] = {}  # the one that has sent last is the last one
        self._arriving: dict[int, Arriving] = {}
        self._of_calls: dict[int, list[Arriving]] = {}  # those of the peer's requests, by the ids of its calls

    # -- this side's calls

    def open(self, request: msgspec.Struct) -> list[Blob] | None:
        """
        Number the blobs of a request that is to be sent. None if there can't be any in it or its reply.

        :raises CallFailed: the peer takes no bodies, or too many are open
        :raises LocalProtocolError: one can't be sent
        """
        return self._number(request, type(request)) if type(request) in self._kinds else None

    def called(self, id_: int, blobs: list[Blob], reply: Deferred[Any]) -> None:
        """Send what is in the blobs of a request, which was sent, until the call has ended."""
        self._begin(blobs, id_, is_kept=False)
        reply.addBoth(self._call_over, id_)
        reply.addCallback(self._replied)

    def _call_over(self, result: Any, id_: int) -> Any:
        self._stop(lambda each: each.call == id_ and not each.is_kept)
        return result

    def _replied(self, reply: Any) -> Any:
        try:
            self._bind(blobs_in(reply), Code.BAD_REPLY)
        except CallFailed:
            self.unwanted(reply)
            raise
        return reply

    def unwanted(self, reply: Any) -> None:
        """Tell the peer that nothing is wanted of what is in the blobs of a reply."""
        for blob in blobs_in(reply):
            if blob.body and blob.body not in self._arriving:
                self._link.say(BodyDone(body=blob.body))

    def unsent(self, message: Any) -> None:
        """Close what would have been in the blobs of a message that isn't sent."""
        for blob in blobs_in(message):
            if blob._source is not None and not blob._source.is_spent:
                start(self.clock, close_pieces(blob._source.begin()))

    # -- the peer's calls

    def asked(self, id_: int, request: msgspec.Struct) -> None:
        """Give the blobs of a request of the peer's what they are read by. `CallFailed` if the call is refused."""
        if type(request) in self._kinds and (blobs := blobs_in(request)):
            self._of_calls[id_] = self._bind(blobs, Code.BAD_REQUEST)

    def answer(self, id_: int, request: msgspec.Struct, reply: Any, session: Session) -> None:
        """
        Send a reply by the link's session, and then what is in its blobs. The bodies of the request end.

        :raises CallFailed: the peer takes no bodies, or too many are open: its own affair
        :raises BadReply: the reply can't be sent
        """
        request_type = type(request)
        may_have_blobs = request_type in self._kinds
        is_waited_for = session.is_waited_for(id_)
        try:
            declared = session.settings.vocabulary.answers[request_type]
            blobs = self._number(reply, declared) if may_have_blobs and is_waited_for else []
            with numbered_for_size(reply) if may_have_blobs and not is_waited_for else nullcontext():
                session.answer(id_, reply)  # nothing is sent of one that isn't waited for
        except LocalProtocolError as error:
            self.unsent(reply)
            if isinstance(error, BadReply):
                raise
            name = tag_of(type(request))
            said = f"the reply to {name} can't be sent; see the log there"
            raise BadReply(f"the reply to {name}: {error}", Code.INTERNAL, said) from error
        except CallFailed:
            self.unsent(reply)
            raise
        if is_waited_for:
            self._begin(blobs, id_, is_kept=True)
        elif may_have_blobs:
            self.unsent(reply)
        self.answered(id_)

    def answered(self, id_: int) -> None:
        """End the bodies of a request of the peer's: it has its answer."""
        for each in self._of_calls.pop(id_, ()):
            each.end(CallFailed(Code.CLOSED, "the body has ended with its call, which was answered"))
            self.forget(each.number)

    def dropped(self, id_: int) -> None:
        """End the bodies of a call of the peer's, and of the reply to it: the peer doesn't want it any longer."""
        for each in self._of_calls.pop(id_, ()):
            each.end(CallFailed(Code.CLOSED, "the body has ended with its call, which the caller has dropped"))
            self.forget(each.number)
        self._stop(lambda each: each.call == id_ and each.is_kept)

    # -- frames

    def received(self, frame: Frame) -> None:
        """Take a frame. One for a body that isn't known is for one that has ended, and is ignored."""
        match frame:
            case BodyWanted():
                if (sending := self._sending.get(frame.body)) is not None:
                    sending.wanted(frame.credit)
            case BodyDone():
                if (sending := self._sending.pop(frame.body, None)) is not None:
                    sending.stop()
            case BodyChunk():
                if (arriving := self._arriving.get(frame.body)) is not None:
                    arriving.came(frame)
            case BodyEnded():
                if (arriving := self._arriving.get(frame.body)) is not None:
                    arriving.ended(frame)
            case BodyFailed():
                if (arriving := self._arriving.get(frame.body)) is not None:
                    arriving.failed(frame)

    def go_on(self) -> None:
        """Send on: the peer keeps up again. Those come first that haven't sent for the longest time."""
        for each in list(self._sending.values()):
            if self.is_full:
                break
            each.go_on()

    def end(self, reason: str) -> None:
        """End all bodies: the link has ended."""
        arriving, self._arriving = self._arriving, {}
        self._of_calls.clear()
        self._stop(lambda each: True)
        for each in arriving.values():
            each.end(NotConnected(reason))

    # -- for one body

    @property
    def clock(self) -> IReactorTime:
        """The link's clock."""
        return self._link.clock

    @property
    def is_full(self) -> bool:
        """Whether the peer doesn't keep up."""
        return self._link.writing_is_paused

    @property
    def send_limit(self) -> int:
        """Bytes of a frame that the peer takes."""
        return self._link.send_limit

    def check_thread(self) -> None:
        """Raise `LocalProtocolError` unless this is the link's thread."""
        self._link.check_thread()

    def say(self, frame: Frame) -> None:
        """Send a frame; nothing if the link has ended."""
        self._link.say(frame)

    def say_chunk(self, chunk: BodyChunk) -> None:
        """Send bytes of a body. It is behind the others then, when there is room again."""
        self._link.say(chunk)
        if (sending := self._sending.pop(chunk.body, None)) is not None:
            self._sending[chunk.body] = sending

    def sent(self, number: int) -> None:
        """Forget a body that is sent."""
        self._sending.pop(number, None)

    def forget(self, number: int) -> None:
        """Forget a body that is received."""
        self._arriving.pop(number, None)

    # -- blobs

    def _number(self, message: Any, declared: Any) -> list[Blob]:
        blobs = blobs_in(message)
        if not blobs:
            return blobs
        if not self._link.takes_bodies:
            raise CallFailed(
                Code.NO_BODIES,
                "the peer takes no bodies, and there is a Blob in this: it has an older version of this library, or "
                "another one, or an interface without blobs",
            )
        if len(self._sending) + len(blobs) > MOST_BODIES:
            raise CallFailed(Code.BUSY, f"more than {MOST_BODIES} bodies would be open that the peer hasn't read")
        if len(set(map(id, blobs))) < len(blobs):
            raise LocalProtocolError("a Blob is in this twice: make one for each place")
        for blob in blobs:
            if blob._source is None:
                how = "made by its fields: use Blob.of" if blob._reader is None else f"received: use {_AGAIN}"
                raise LocalProtocolError(f"a Blob in this can't be sent, as it was {how}")
            if blob._source.is_spent:
                raise LocalProtocolError("the chunks of a Blob in this were sent already: make one for each call")
        for blob in blobs:
            self._last += 1
            blob.body = self._last
        if may_hold_undeclared(declared) or type(message) is not declared:
            _check_declared(message, declared, blobs)
        return blobs

    def _begin(self, blobs: list[Blob], call: int, *, is_kept: bool) -> None:
        for blob in blobs:
            assert blob._source is not None, "it was numbered"
            number = blob.body
            self._sending[number] = Sending(self, number, blob._source, call, is_kept=is_kept)
            blob.has_no_number()

    def _bind(self, blobs: list[Blob], code: str) -> list[Arriving]:
        if len(self._arriving) + len(blobs) > MOST_BODIES:
            raise CallFailed(Code.BUSY, f"more than {MOST_BODIES} bodies would be open that weren't read")
        numbers = {blob.body for blob in blobs}
        if len(numbers) < len(blobs) or 0 in numbers or not numbers.isdisjoint(self._arriving):
            raise CallFailed(code, "a blob in it has no number of its own")
        found = []
        for blob in blobs:
            arriving = self._arriving[blob.body] = Arriving(self, blob.body, blob.size)
            blob._reader = BodyReader(arriving, self.clock)
            blob.has_no_number()
            found.append(arriving)
        return found

    def _stop(self, is_meant: Callable[[Sending], bool]) -> None:
        for number, each in list(self._sending.items()):
            if is_meant(each):
                self._sending.pop(number, None)
                each.stop()


def _check_declared(message: Any, declared: Any, blobs: list[Blob]) -> None:
    """Raise `LocalProtocolError` if the peer, which goes by what is declared, wouldn't find one of the blobs."""
    try:
        found = len(blobs_in(msgspec.json.decode(to_json(message), type=declared)))
    except msgspec.ValidationError:
        return  # what is wrong is said where the message is encoded
    if found < len(blobs):
        for blob in blobs:
            blob.has_no_number()
        raise LocalProtocolError("a Blob in this is in a field that isn't declared as one, and the peer can't find it")


#: How a blob that was received is sent on.
_AGAIN = "Blob.from_chunks(blob, blob.size)"
