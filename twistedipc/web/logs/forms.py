"""
The forms in which HTTP gives out a log: as messages, or as text with and without colours. ``web.logs``; pure, used by
``stream`` and ``web.api.logs``.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from twistedipc.builds.logs import (
    Annotation,
    Batch,
    End,
    Gap,
    Group,
    Lines,
    Notice,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
    event_of,
)
from twistedipc.terminal import escapes, wording
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.logs.messages import Alive, Closed

_ALIVE: Final = encoder.encode(Alive()) + b"\n"

_decoder: msgspec.json.Decoder[Batch | End] = msgspec.json.Decoder(Batch | End)


class Entry(Protocol):
    """One message of a stream, as JSON; see `boundaries.LogEntry`, which is one."""

    @property
    def first(self) -> int:
        """The number of its first record."""

    @property
    def end(self) -> int:
        """The number after its last record."""

    @property
    def message(self) -> bytes:
        """The message, without a newline."""

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""


def message_part(entry: Entry, count: int) -> tuple[bytes, int]:
    """
    Return the entry's message cut to its first ``count`` records (only lines can be cut), and the number after the
    last.
    """
    if entry.final or entry.end - entry.first <= count:
        return entry.message, entry.end
    message = _decoder.decode(entry.message)
    if not isinstance(message, Lines):
        return entry.message, entry.end
    part = Lines(
        first=message.first,
        time=message.time,
        step=message.step,
        lines=message.lines[:count],
        more=[index for index in message.more if index < count],
    )
    return encoder.encode(part), part.end


class LogForm(Protocol):
    """Turns messages of a log into the bytes of one response."""

    @property
    def content_type(self) -> str:
        """The response's Content-Type."""

    def render(self, message: bytes) -> bytes:
        """Return the bytes of the next message."""

    def alive(self) -> bytes:
        """
        Return bytes (at least one) which show the reader, and proxies on the way, that the log goes on though nothing
        comes.
        """

    def closed(self, reason: str) -> bytes:
        """Return the last bytes of a response that is broken off because the reader's token is over."""

    def finish(self) -> bytes:
        """Return the bytes after the last message."""


class MessagesForm:
    """One message on each line: `lines`, `gap`, `end`, as on the WebSocket."""

    content_type = "application/x-ndjson"

    def render(self, message: bytes) -> bytes:
        """See `LogForm`."""
        return message + b"\n"

    def alive(self) -> bytes:
        """See `LogForm`."""
        return _ALIVE

    def closed(self, reason: str) -> bytes:
        """See `LogForm`."""
        return encoder.encode(Closed(code=CloseCode.UNAUTHORISED, reason=reason)) + b"\n"

    def finish(self) -> bytes:
        """See `LogForm`."""
        return b""


class TextForm:
    """
    Lines for people, safe for their terminals (`terminal.escapes`). Steps, gaps, the end and the build's own messages
    are headings: progress by quarters, the summary once, at the end. Fragments of a long line are joined again.
    ``numbers``: before each line is the number of its (first) record, and a colon; only what is no record has none.
    """

    content_type = "text/plain; charset=utf-8"

    def __init__(self, colour: bool, *, numbers: bool = False) -> None:
        self._clean = escapes.colours if colour else escapes.plain
        self._colour = colour
        self._numbers = numbers
        self._names: dict[int, str] = {}
        self._open = False  # whether the last line goes on
        self._progress = wording.Quarters()
        self._summary = ""

    def render(self, message: bytes) -> bytes:
        """See `LogForm`."""
        match _decoder.decode(message):
            case Lines() as batch:
                return self._lines(batch).encode("utf-8", "replace")
            case Gap() as gap:
                text = self._heading(f"records {gap.first} to {gap.to} are missing: {gap.reason}", gap.first)
            case End() as end:
                verified = "complete" if end.complete else "NOT complete"
                text = self._last_words()
                text += self._heading(f"{end.state}: {end.lines} records, {verified}, sha256 {end.sha256 or 'unknown'}")
        return text.encode("utf-8", "replace")

    def alive(self) -> bytes:
        """See `LogForm`. It is a heading, since no byte of a text is ignored by every reader."""
        return self._heading("nothing new yet; the log goes on").encode()

    def closed(self, reason: str) -> bytes:
        """See `LogForm`."""
        return self._heading(f"{reason}: the log breaks off here, and this is not all of it").encode()

    def finish(self) -> bytes:
        """See `LogForm`."""
        end = self._last_words() + (escapes.RESET if self._colour else "")
        if self._open:
            end += "\n"
        self._open = False
        return end.encode("utf-8", "replace")

    def _lines(self, batch: Lines) -> str:
        lines = batch.lines
        if not batch.more and not self._numbers and all(type(record) is str for record in lines):
            self._open = False
            return self._clean("\n".join(lines)) + "\n"  # type: ignore[arg-type]  # all are strings
        more = set(batch.more)
        parts = []
        for index, record in enumerate(lines):
            number = batch.first + index
            if isinstance(record, str):
                before = "" if self._open else self._number(number)
                self._open = index in more
                parts.append(before + self._clean(record) + ("" if self._open else "\n"))
            else:
                parts.append(self._event(record, number))
        return "".join(parts)

    def _number(self, record: int) -> str:
        return f"{record}:" if self._numbers else ""

    def _event(self, record: Record, number: int) -> str:
        match event_of(record):
            case StepStarted() as event:
                self._names[event.index] = event.name
                self._progress.reset()
                return self._heading(f"{event.name}: {event.command}" if event.command else event.name, number)
            case StepEnded() as event:
                name = self._names.get(event.index, f"step {event.index + 1}")
                code = "" if event.exit_code in (None, 0) else f" (exit code {event.exit_code})"
                return self._heading(f"{name} {event.outcome}{code} after {event.milliseconds / 1000:.1f} s", number)
            case Notice() as event:
                return self._heading(f"{event.level}: {event.message}", number)
            case Annotation() as event:
                return "" if event.repeats else self._heading(wording.remark(event), number)
            case Progress() as event:
                # An unfinished line isn't broken for it: more progress will come.
                news = "" if self._open else self._progress.news(event)
                return self._heading(news, number) if news else ""
            case Group() as event:
                return self._heading(event.name, number) if event.name else ""
            case Summary() as event:
                self._summary = event.markdown
                return ""
            case None:
                return ""  # an event of a newer version

    def _last_words(self) -> str:
        """Return the summary, if there is one. It is about the whole build, however early it came."""
        text, self._summary = wording.summary(self._summary), ""
        return self._heading("summary") + text + "\n" if text else ""

    def _heading(self, text: str, record: int | None = None) -> str:
        before = "\n" if self._open else ""
        self._open = False
        number = "" if record is None else self._number(record)
        text = "==> " + escapes.plain(text).replace("\n", " ")
        if self._colour:
            text = f"{escapes.RESET}\x1b[1m{text}{escapes.RESET}"
        return f"{before}{number}{text}\n"


def form_of(name: str, *, numbers: bool = False) -> LogForm:
    """Return the form for the query's ``format``: json, text or ansi."""
    return MessagesForm() if name == "json" else TextForm(colour=name == "ansi", numbers=numbers)
