"""
What a build says on its channel: bytes -> messages -> records of its log. No I/O; used by ``channel`` and ``steps``.

A message is one JSON object on a line, of at most `MESSAGE_LIMIT` bytes: one of `builds.logs.Said`, or `Mask`. That is
also what Node's ``process.send()`` writes, whose own messages (an object with a ``cmd`` that begins with ``NODE_``) are
kept apart; of those only ``NODE_HANDLE`` matters, which comes with a socket and must be answered, since its sender
queues everything else until then.

Whatever else comes is reported in the log, `MAX_REPORTS` times in each step, and does no harm. Of progress and
summaries only the last one matters: so many a second go into the log as can be looked at, and always the last. Of
annotations and groups all go in, up to `MAX_REMARKS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from twistedipc.builds.logs import PROGRESS_DIGITS, Annotation, Event, Group, Notice, Progress, Said, Summary

#: The most bytes of a message.
MESSAGE_LIMIT = 64 * 1024

#: How many complaints of a step are in its log one by one.
MAX_REPORTS = 10

#: How many annotations and groups of a step are in its log.
MAX_REMARKS = 10_000

#: Seconds between two records of a step's progress, and between two summaries.
PROGRESS_EVERY = 0.1
SUMMARY_EVERY = 1.0

#: The answer to each of `MessageReader.handles`.
HANDLE_ANSWER = b'{"cmd":"NODE_HANDLE_ACK"}\n'

# How a message begins in Node's JSON that comes with a handle.
_HANDLE = b'{"cmd":"NODE_HANDLE",'

_T = TypeVar("_T")

_IGNORED = "a message on the channel was ignored: "


class Mask(msgspec.Struct, tag="mask", tag_field="type", frozen=True, gc=False):
    """Hide this value from now on, everywhere in the log. Never a record."""

    value: str


class _Progress(msgspec.Struct, tag="progress", tag_field="type", frozen=True, gc=False):
    """As programs say it: any number in the range, however it is written."""

    value: Annotated[float, msgspec.Meta(ge=0, le=1)]
    label: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Complaint(msgspec.Struct, frozen=True, gc=False):
    """Something came that can't be used. ``text`` is a sentence for the build's authors."""

    text: str


Message = Said | Mask | Complaint

_Known = _Progress | Annotation | Summary | Group | Mask
_decoder: msgspec.json.Decoder[_Known] = msgspec.json.Decoder(_Known)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

# An escape in JSON, and whether it is one of a surrogate: a pair of them is a character, a single one is none.
_ESCAPE = re.compile(rb"\\(?:u(?:[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<single>[dD][89a-fA-F]..))|.)", re.S)


class MessageReader:
    """The bytes of one connection: its messages."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False  # the rest of a line that is too long
        #: how many of Node's handles came that are to be answered; whoever answers sets it back
        self.handles = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Never raises for anything that a program can send."""
        found: list[Message] = []
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

    def finish(self) -> list[Message]:
        """The connection has ended. A last line may lack its end, if it is whole."""
        found: list[Message] = []
        self._take(bytes(self._partial), found)
        self._partial.clear()
        return [_CUT if isinstance(message, Complaint) else message for message in found]

    def _too_long(self, line: bytes | bytearray, found: list[Message]) -> None:
        self.handles += line.startswith(_HANDLE)
        found.append(Complaint(f"{_IGNORED}it has more than {MESSAGE_LIMIT} bytes"))

    def _take(self, line: bytes, found: list[Message]) -> None:
        if not line or line.isspace():
            return
        if b'"NODE_' in line and (internal := _internal(line)) is not None:
            if internal["cmd"] == "NODE_HANDLE":
                # The system has closed what came along, since we didn't ask for it.
                self.handles += 1
                found.append(Complaint("a socket that came with a message on the channel was closed"))
                found.append(_checked(lambda: msgspec.convert(internal.get("msg"), _Known)))
            return
        found.append(_checked(lambda: _decode(line, _decoder)))


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
    """Node's own message that a line is, if it is one."""
    try:
        message = _decode(line, _any_decoder)
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
    """msgspec's "Expected `float`, got `str` - at `$.value`", with the field first."""
    what, _, place = error.partition(" - at `$")
    field = place.strip(".`")
    if field == "type" and what.startswith("Invalid value"):
        kind = what.removeprefix("Invalid value ")[:50]
        return f"its type is {kind}, and can be progress, annotation, mask, summary or group"
    what = what[:1].lower() + what[1:]
    return f"{field}: {what}" if field else what


class _Latest:
    """Records of which only the last matters: one goes out now and then, and in the end the last."""

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
        """When there is something to take; None if nothing is held."""
        return self._next if self._held is not None else None


class Speech:
    """
    What one step says. ``mask`` hides what can be hidden, and says why the rest can't be; ``hide`` takes what is hidden
    out of a text.

    Messages wait for one turn (`take`) before they become records, so that output which was written before them can
    come first. What they want hidden is hidden at once.
    """

    def __init__(self, *, mask: Callable[[Iterable[str]], list[str]], hide: Callable[[str], str]) -> None:
        self._mask = mask
        self._hide = hide
        self._heard: list[Said | Complaint] = []
        self._ready: list[Said | Complaint] = []
        self._progress = _Latest(PROGRESS_EVERY)
        self._summary = _Latest(SUMMARY_EVERY)
        self._remarks = 0
        self._complaints = 0

    @property
    def waiting(self) -> bool:
        """Whether the next turn has something to say."""
        return bool(self._ready)

    @property
    def due(self) -> float | None:
        """When `held` will have something to say; None if it won't."""
        return min((due for due in (self._progress.due, self._summary.due) if due is not None), default=None)

    def hear(self, messages: Sequence[Message]) -> bool:
        """What has come: whether any of it could be used."""
        values: list[str] = []
        used = False
        for message in messages:
            if isinstance(message, Mask):
                values.append(message.value)
            elif isinstance(message, Complaint):
                self._complaints += 1
                if self._complaints <= MAX_REPORTS:
                    self._heard.append(message)
            else:
                used = True
                self._add(message)
        if values:
            refused = self._mask(values)
            used = used or len(refused) < len(values)
            self._heard += [Complaint(text) for text in refused[: max(0, MAX_REPORTS - self._complaints)]]
            self._complaints += len(refused)
        return used

    def _add(self, message: Said) -> None:
        if isinstance(message, (Annotation, Group)):
            self._remarks += 1
            if self._remarks > MAX_REMARKS:
                if self._remarks == MAX_REMARKS + 1:
                    self._heard.append(Complaint(f"annotations and groups beyond {MAX_REMARKS} in a step are dropped"))
                return
        elif self._heard and type(self._heard[-1]) is type(message):
            self._heard.pop()  # only the last one matters
        self._heard.append(message)

    def take(self, now: float) -> list[Event]:
        """The records of what was heard before the last turn; what was heard since then is for the next."""
        events: list[Event] = []
        for message in self._ready:
            match message:
                case Complaint():
                    events.append(Notice("warning", _printable(self._hide(message.text))))
                case Progress():
                    events += self._progress.put(Progress(message.value, self._hide(message.label)), now)
                case Summary():
                    events += self._summary.put(Summary(self._hide(message.markdown)), now)
                case Annotation(level, text, file, line):
                    events.append(Annotation(level, self._hide(text), self._hide(file), line))
                case Group():
                    events.append(Group(self._hide(message.name)))
        self._ready, self._heard = self._heard, []
        return events + self.held(now)

    def held(self, now: float) -> list[Event]:
        """What was held back, and is due."""
        return [*self._progress.take(now), *self._summary.take(now)]

    def end(self) -> list[Event]:
        """All that is left."""
        events = [*self.take(math.inf), *self.take(math.inf)]
        if self._complaints > MAX_REPORTS:
            more = self._complaints - MAX_REPORTS
            events.append(Notice("warning", f"{more} more messages on the channel were ignored"))
        return events


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:300])
