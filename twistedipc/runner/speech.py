"""
The messages on a build's channel: bytes -> messages -> records of its log. No I/O; used by ``channel`` and
``interleaving``.

A message is one JSON object on a line, of at most `MESSAGE_LIMIT` bytes: one of `builds.logs.Said`, or `Mask`. It may
have the name of its mark in the output (``order``), and ask for an answer (`Heard`). One JSON object on a line is also
what Node's ``process.send()`` writes. Node's own messages (their ``cmd`` begins with ``NODE_``) are kept
apart; of those only ``NODE_HANDLE`` matters, which comes with a socket and must be answered, since its sender queues
everything else until then.

Whatever else comes is reported in the log, `MAX_REPORTS` times in each step, and does no harm. Of progress and
summaries only the last one matters: a few a second go into the log, and always the last. All annotations and groups go
in, up to `MAX_REMARKS`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from twistedipc.builds.counts import counted
from twistedipc.builds.logs import PROGRESS_DIGITS, Annotation, Event, Group, Notice, Progress, Said, Summary
from twistedipc.runner.order import MAX_NAME

#: The most bytes of a message.
MESSAGE_LIMIT = 64 * 1024

#: How many complaints of a step are in its log one by one.
MAX_REPORTS = 10

#: How many annotations and groups of a step are in its log.
MAX_REMARKS = 10_000

#: Seconds between two records of a step's progress, and between two summaries.
PROGRESS_EVERY = 0.1
SUMMARY_EVERY = 1.0


def answer(ack: int | str) -> bytes:
    """Return the answer to a message that asks for one."""
    return msgspec.json.encode({"type": "ack", "ack": ack}) + b"\n"


#: The answer to each of `MessageReader.handles`.
HANDLE_ANSWER = b'{"cmd":"NODE_HANDLE_ACK"}\n'

# How a message begins in Node's JSON that comes with a handle.
_HANDLE = b'{"cmd":"NODE_HANDLE",'

_T = TypeVar("_T")

_IGNORED = "a message on the channel was ignored: "


class Mask(msgspec.Struct, tag="mask", tag_field="type", frozen=True, gc=False):
    """Hides this value from now on, everywhere in the log. Never a record."""

    value: str


class _Progress(msgspec.Struct, tag="progress", tag_field="type", frozen=True, gc=False):
    """Progress as programs send it: any number in the range, however it is written."""

    value: Annotated[float, msgspec.Meta(ge=0, le=1)]
    label: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Complaint(msgspec.Struct, frozen=True, gc=False):
    """Something came that can't be used. ``text`` is a sentence for the build's authors."""

    text: str


Message = Said | Mask | Complaint


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A message as it came. If ``message`` is None, it only gets its answer."""

    message: Message | None
    mark: str = ""  # the name of its mark
    ack: int | str | None = None  # what its answer is to say


class _Wishes(msgspec.Struct, frozen=True, gc=False):
    """What a message may have beside its content."""

    mark: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    ack: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | Annotated[str, msgspec.Meta(max_length=64)] | None = None


_Known = _Progress | Annotation | Summary | Group | Mask


class _Decoders:
    """Made for the first message: it takes some milliseconds, and most builds send none."""

    def __init__(self) -> None:
        self.known: msgspec.json.Decoder[_Known] = msgspec.json.Decoder(_Known)
        self.wishes: msgspec.json.Decoder[_Wishes] = msgspec.json.Decoder(_Wishes)
        self.any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


_decoders = functools.cache(_Decoders)

# An escape in JSON, and whether it is one of a surrogate: a pair of them is a character, a single one is none.
_ESCAPE = re.compile(rb"\\(?:u(?:[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<single>[dD][89a-fA-F]..))|.)", re.S)


class MessageReader:
    """Reads the messages of one connection."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False  # the rest of a line that is too long
        #: how many of Node's handles came that are to be answered; the caller sets it back
        self.handles = 0

    def feed(self, data: bytes) -> list[Heard]:
        """Return the messages that ``data`` completes. Nothing that a program can send raises an error."""
        found: list[Heard] = []
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            whole = bytes(self._partial) + line if self._partial else line
            self._partial.clear()
            if self._skipping:
                self._skipping = False
            elif len(whole) > MESSAGE_LIMIT:
                self._too_long(whole, found)
            else:
                self._take(whole, found)
        if not self._skipping:
            self._partial += rest
            if len(self._partial) > MESSAGE_LIMIT:
                self._too_long(self._partial, found)
                self._partial.clear()
                self._skipping = True
        return found

    def finish(self) -> list[Heard]:
        """Return the message of a last line without a newline: the connection has ended."""
        found: list[Heard] = []
        self._take(bytes(self._partial), found)
        self._partial.clear()
        return [Heard(_CUT) if isinstance(heard.message, Complaint) else heard for heard in found]

    def _too_long(self, line: bytes | bytearray, found: list[Heard]) -> None:
        self.handles += line.startswith(_HANDLE)
        found.append(Heard(Complaint(f"{_IGNORED}it has more than {MESSAGE_LIMIT} bytes")))

    def _take(self, line: bytes, found: list[Heard]) -> None:
        if not line or line.isspace():
            return
        if b'"NODE_' in line and (internal := _internal(line)) is not None:
            if internal["cmd"] == "NODE_HANDLE":
                # The system has closed what came along, since we didn't ask for it.
                self.handles += 1
                found.append(Heard(Complaint("a socket that came with a message on the channel was closed")))
                found.append(Heard(_checked(lambda: msgspec.convert(internal.get("msg"), _Known))))
            return
        message = _checked(lambda: _decode(line, _decoders().known))
        if b'"mark"' not in line and b'"ack"' not in line:
            found.append(Heard(message))
            return
        try:
            wishes = _decode(line, _decoders().wishes)
        except msgspec.DecodeError as error:
            wishes = _Wishes()
            if not isinstance(message, Complaint):
                found.append(Heard(Complaint(f"{_IGNORED[:-2]} in part: {_for_people(str(error))}")))
        found.append(Heard(message, wishes.mark, wishes.ack))


_CUT = Complaint(f"{_IGNORED}its end is missing")


def _decode(line: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # JavaScript has strings with lone surrogates in them, which are escaped in its JSON, and nowhere allowed.
        if b"\\u" not in line:
            raise
        return decoder.decode(_ESCAPE.sub(lambda match: rb"\ufffd" if match["single"] else match[0], line))


def _internal(line: bytes) -> dict[str, Any] | None:
    """Return the line as one of Node's own messages; None if it isn't one."""
    try:
        message = _decode(line, _decoders().any)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    command = message.get("cmd") if isinstance(message, dict) else None
    return message if isinstance(command, str) and command.startswith("NODE_") and len(command) > 5 else None


def _checked(decode: Callable[[], _Known]) -> Message:
    try:
        message = decode()
    except msgspec.ValidationError as error:
        return Complaint(_IGNORED + _for_people(str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Complaint(_IGNORED + "it isn't JSON")
    if isinstance(message, _Progress):
        value = round(message.value, PROGRESS_DIGITS)
        return Progress(int(value) if value in (0, 1) else value, message.label)
    return message


def _for_people(error: str) -> str:
    """Return msgspec's "Expected `float`, got `str` - at `$.value`" with the field first."""
    what, _, place = error.partition(" - at `$")
    field = place.strip(".`")
    if field == "type" and what.startswith("Invalid value"):
        kind = what.removeprefix("Invalid value ")[:50]
        return f"its type is {kind}, and can be progress, annotation, mask, summary or group"
    what = what[:1].lower() + what[1:]
    return f"{field}: {what}" if field else what


class _Latest:
    """Records of which only the last matters: one is written now and then, and at the end the last."""

    def __init__(self, every: float) -> None:
        self._every = every  # seconds
        self._last: Said | None = None  # that went out
        self._held: Said | None = None
        self._next = 0.0  # when the next may go out

    def put(self, record: Said, now: float) -> list[Said]:
        if record == self._last:
            self._held = None
            return []
        self._held = record
        return self.take(now)

    def take(self, now: float) -> list[Said]:
        if self._held is None or now < self._next:
            return []
        self._last, self._held = self._held, None
        self._next = now + self._every
        return [self._last]

    @property
    def due(self) -> float | None:
        """The time at which there is something to take; None if nothing is held."""
        return self._next if self._held is not None else None


class Speech:
    """
    The messages of one step, on their way to records. ``mask`` hides values, and returns sentences that say why the
    others can't be hidden; the records themselves are masked where all records are written.

    Values are hidden when the message comes that asks for it (`hear`). Messages become records when they have their
    place (`say`).
    """

    def __init__(self, *, mask: Callable[[Iterable[str]], list[str]]) -> None:
        self._mask = mask
        self._progress = _Latest(PROGRESS_EVERY)
        self._summary = _Latest(SUMMARY_EVERY)
        self._remarks = 0
        self._complaints = 0

    @property
    def due(self) -> float | None:
        """When `held` will return something; None if nothing is held back."""
        return min((due for due in (self._progress.due, self._summary.due) if due is not None), default=None)

    def hear(self, heard: Sequence[Heard]) -> tuple[list[Heard], bool]:
        """Take messages. Return those that need a place, and whether any of them was of use."""
        found: list[Heard] = []
        used = False
        for one in heard:
            message = one.message
            if isinstance(message, Mask):
                refused = self._mask([message.value])
                used = used or not refused
                message = self._counted(Complaint(refused[0])) if refused else None
            elif isinstance(message, Complaint):
                message = self._counted(message)
            elif message is not None:
                used = True
                if isinstance(message, (Annotation, Group)):
                    message = self._remark(message)
                elif found and found[-1] == Heard(found[-1].message) and type(found[-1].message) is type(message):
                    found.pop()  # only the last one matters
            if message is not None or one.ack is not None:
                found.append(Heard(message, one.mark, one.ack) if message is not one.message else one)
        return found, used

    def _counted(self, complaint: Complaint) -> Complaint | None:
        self._complaints += 1
        return complaint if self._complaints <= MAX_REPORTS else None

    def _remark(self, message: Annotation | Group) -> Message | None:
        self._remarks += 1
        if self._remarks == MAX_REMARKS + 1:
            return Complaint(f"annotations and groups beyond {MAX_REMARKS} in a step are dropped")
        return message if self._remarks <= MAX_REMARKS else None

    def say(self, heard: Iterable[Heard], now: float) -> list[Event]:
        """Return the records of messages that have their place here."""
        events: list[Event] = []
        for one in heard:
            match one.message:
                case Complaint(text):
                    events.append(Notice("warning", _printable(text)))
                case Progress() as progress:
                    events += self._progress.put(progress, now)
                case Summary() as summary:
                    events += self._summary.put(summary, now)
                case Annotation() | Group() as remark:
                    events.append(remark)
                case _:
                    pass  # nothing but its answer is left of it
        return events

    def held(self, now: float) -> list[Event]:
        """Return the records that were held back and are due."""
        return [*self._progress.take(now), *self._summary.take(now)]

    def end(self) -> list[Event]:
        """Return all records that are left."""
        events = self.held(math.inf)
        if self._complaints > MAX_REPORTS:
            more = self._complaints - MAX_REPORTS
            events.append(
                Notice(
                    "warning",
                    f"{counted(more, 'more message')} on the channel {'was' if more == 1 else 'were'} ignored",
                )
            )
        return events


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:300])
