"""
The format of Node's `process.send()` channel: bytes in, messages out, and the other way round. Used by
``connections/node.py``.

The format is that of Node's ``child_process`` module in its default mode, ``serialization: 'json'``: one
``JSON.stringify(message)`` and a newline for each message, both ways. There is no handshake and no limit in it. An
object whose ``cmd`` is a string that begins with ``NODE_`` is Node's own and no message; of those only ``NODE_HANDLE``
matters here, which comes along with a descriptor and must be answered, since its sender queues everything else until
then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from twistedipc.ipc.wire.errors import LocalProtocolError
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter

#: Bytes of a message, either way. Node itself knows no limit.
MESSAGE_LIMIT = 64 << 20

_INTERNAL = "NODE_"

_ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'
_NACK = b'{"cmd":"NODE_HANDLE_NACK"}\n'

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Received:
    """A message: whatever JSON can hold, as `json.loads` would give it."""

    message: Any
    handle_refused: bool = False  # a socket or server came with it, which was closed: Python can't take Node's handles


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that isn't Node's. The channel goes on after it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line over the limit: what follows can't be told apart any more, so the channel must be closed."""

    reason: str


Event = Received | BadLine | Overlong


class NodeChannel:
    """
    One end of a channel; both ends are alike.

    :param message_limit: the most bytes of a message, either way
    """

    def __init__(self, *, message_limit: int = MESSAGE_LIMIT) -> None:
        self._limit = message_limit
        self._lines = LineSplitter(message_limit)
        self._handles = 0  # that came, and whose message hasn't
        self._answers: list[bytes] = []
        self._over = False

    def handle_received(self) -> None:
        """Note that a descriptor has come, with the first byte of the message that it belongs to."""
        self._handles += 1

    def receive(self, data: bytes) -> list[Event]:
        """Return the events of the peer's bytes. Never raises for anything that a peer can send."""
        if self._over:
            return []
        events: list[Event] = []
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            self._over = True
            block = error.complete
        if block:
            for line in block[:-1].split(b"\n"):
                self._take(line, events)
        if self._over:
            events.append(Overlong(f"a message is longer than {self._limit} bytes"))
        return events

    def answers(self) -> bytes:
        """Return the bytes to be sent in answer to what was received, once."""
        data = b"".join(self._answers)
        self._answers.clear()
        return data

    def encode(self, message: Any) -> bytes:
        """
        Encode a message as a line: anything that `json.dumps` takes, and msgspec's structs and dataclasses. NaN and the
        infinities become null, as in Node; lone surrogates are escaped.

        :raises LocalProtocolError: the message can't be JSON, is too long, or is one that Node would take for its own
        """
        try:
            line = _encoder.encode(message)
        except UnicodeEncodeError:
            line = _escaped(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise LocalProtocolError(f"this can't be sent as JSON: {error}") from None
        if len(line) > self._limit:
            raise LocalProtocolError(f"a message of {len(line)} bytes is over the limit of {self._limit}")
        if line.startswith(b"{") and _is_internal(_decode(line)):
            raise LocalProtocolError(f"Node keeps objects whose `cmd` begins with {_INTERNAL} for itself")
        return line + b"\n"

    def _take(self, line: bytes, events: list[Event]) -> None:
        try:
            message = _decode(line)
        except ValueError as error:
            events.append(BadLine(str(error)))
            return
        if not _is_internal(message):
            events.append(Received(message))
        elif message["cmd"] == "NODE_HANDLE":
            if self._handles:
                self._handles -= 1
                self._answers.append(_ACK)
                events.append(Received(message.get("msg"), handle_refused=True))
            else:
                # Its descriptor got lost on the way, for want of room for one more. Node sends it again a few times.
                self._answers.append(_NACK)


def _escaped(message: Any) -> bytes:
    """The JSON of a message with lone surrogates, which UTF-8 hasn't, but JavaScript has: as escapes they survive."""
    text = json.dumps(msgspec.to_builtins(message, str_keys=True))
    # Once more, so that what isn't a number becomes null here too.
    return json.dumps(json.loads(text, parse_constant=lambda _: None), separators=(",", ":")).encode("ascii")


def _decode(line: bytes) -> Any:
    """The value of a line. Raises ValueError."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        complaint = str(error)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Only one thing is missing in msgspec that JSON.stringify may write: the escape of a lone surrogate.
    if b"\\u" in line:
        try:
            return json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            pass
    raise ValueError(f"it isn't JSON: {complaint}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't JSON")


def _is_internal(message: Any) -> bool:
    command = message.get("cmd") if isinstance(message, dict) else None
    return isinstance(command, str) and len(command) > len(_INTERNAL) and command.startswith(_INTERNAL)
