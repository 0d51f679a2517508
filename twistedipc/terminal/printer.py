"""
Shows a log in a terminal or a file: steps are headings, colours are kept or removed, and everything else that a
terminal would obey is removed. ``terminal``; used by `twistedipc logs`, ``--follow`` and the demo.

Of a build's own messages, annotations are lines and groups are headings. In a terminal that follows a log,
progress is a bar below the text that leaves nothing behind; everywhere else it is told by quarters. The summary comes
at the end: formatted in a terminal, as the Markdown that it is everywhere else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.markdown import Markdown

from twistedipc.builds.counts import counted
from twistedipc.builds.logs import (
    Annotation,
    End,
    Event,
    Gap,
    Group,
    Lines,
    Message,
    Notice,
    Progress,
    StepEnded,
    StepStarted,
    Summary,
    event_of,
)
from twistedipc.terminal import escapes, wording
from twistedipc.terminal.amounts import duration
from twistedipc.terminal.bar import ERASE, draw

_SUCCEEDED = "succeeded"

# The width of a terminal that doesn't tell its own, and the widest paragraph.
_COLUMNS = 80
_WIDEST = 100

_LEVELS = {"info": "36", "notice": "36", "warning": "33", "error": "31"}


def columns_of(out: TextIO) -> Callable[[], int] | None:
    """
    Return a function that tells the width of the terminal that ``out`` goes to; None if that is no terminal that can
    move its cursor.
    """
    if not out.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return None
    descriptor = out.fileno()

    def columns() -> int:
        try:
            return os.get_terminal_size(descriptor).columns or _COLUMNS
        except OSError:
            return _COLUMNS  # it has been closed, which shows when it is written to

    return columns


class LogPrinter:
    """
    Writes a log's messages to ``out`` as they come. A context manager: at its end it shows what is left, and removes
    the bar. ``columns`` tells the width of the terminal (None: there is none); ``live``: the messages come as they are
    made, so that a bar may show progress. ``numbers``: before each line is the number of its (first) record, and a
    colon.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        colour: bool,
        columns: Callable[[], int] | None = None,
        live: bool = False,
        numbers: bool = False,
    ) -> None:
        self._out = out
        self._numbers = numbers
        self._colour = colour
        self._columns = columns
        self._bar = columns is not None and live
        self._clean = escapes.colours if colour else escapes.plain
        self._names: dict[int, str] = {}  # the steps', by index
        self._unfinished = False  # the last thing written is a line that goes on
        self._text: list[str] = []  # what is to be written next
        self._quarters = wording.Quarters()
        self._progress: Progress | None = None  # what the bar is to show
        self._drawn = ""  # what has drawn the bar that is seen now
        self._summary = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress = None
        if kind is None:
            self._last_words()
        elif self._columns is not None:
            self._finish_line()  # in a terminal, the error's message begins on a new line
        self._flush()

    def show(self, message: Message) -> None:
        """Write a message and flush, so that it is seen at once."""
        match message:
            case Lines():
                self._lines(message)
            case Gap():
                count = message.end - message.first
                lost = counted(count, "line is", "lines are")
                text = f"… {lost} missing here: {wording.one_line(message.reason)}"
                self._say("33", text, message.first)
            case End():
                self._progress = None
                self._last_words()
        self._flush()

    def aside(self, say: Callable[[], None]) -> None:
        """Have ``say`` write a line that isn't the log's, maybe to the same terminal, without a bar in its way."""
        progress, self._progress = self._progress, None
        if self._columns is not None:
            self._finish_line()
        self._flush()
        say()
        self._progress = progress

    def _flush(self) -> None:
        """Write everything at once, with the bar, so that a terminal never shows a state in between."""
        text = "".join(self._text)
        self._text.clear()
        bar = ""
        if self._progress is not None and self._columns is not None:
            bar = draw(self._progress, self._columns(), colour=self._colour, below=self._unfinished)
        if text or bar != self._drawn:
            # A bar is drawn over the one before. Before text, or when the bar goes, it must be erased.
            erase = ERASE if self._drawn and (text or not bar) else ""
            self._drawn = bar
            self._out.write(erase + text + bar)
        self._out.flush()

    def _lines(self, batch: Lines) -> None:
        more = set(batch.more)
        text: list[str] = []
        for number, record in enumerate(batch.lines, batch.first):
            if isinstance(record, str):
                if self._numbers:
                    self._output(text)  # by itself: what a line's \r removes isn't its number
                    text = []
                    self._number(number)
                text.append(record if number - batch.first in more else record + "\n")
                continue
            self._output(text)
            text = []
            event = event_of(record)
            if event is not None:  # else it is an event of a newer version
                self._event(event, number)
        self._output(text)

    def _number(self, record: int) -> None:
        if self._numbers and not self._unfinished:
            self._text.append(f"{record}:")
            self._unfinished = True

    def _output(self, pieces: list[str]) -> None:
        """
        Add output of the build. It is cleaned as one piece; then colours are ended, so that none leak into headings.
        """
        text = self._clean("".join(pieces))
        if not text:
            return
        if "\x1b" in text:
            text = text[:-1] + escapes.RESET + "\n" if text.endswith("\n") else text + escapes.RESET
        self._text.append(text)
        self._unfinished = not text.endswith("\n")

    def _event(self, event: Event, record: int) -> None:
        match event:
            case StepStarted():
                self._step_over()
                self._names[event.index] = event.name
                # On one line each: a command may have several lines, and both are a stranger's text.
                name, command = wording.one_line(event.name), wording.one_line(event.command)
                self._say("1;36", f"── {name}" + (f" $ {command}" if command and command != name else ""), record)
            case StepEnded():
                self._step_over()
                name = wording.one_line(self._names.get(event.index, f"step {event.index + 1}"))
                took = duration(event.milliseconds / 1000)
                if event.outcome == _SUCCEEDED:
                    self._say("32", f"✓ {name} {took}", record)
                else:
                    code = "" if event.exit_code is None else f", exit code {event.exit_code}"
                    self._say("31", f"✗ {name} {event.outcome.replace('_', ' ')} after {took}{code}", record)
            case Notice():
                self._say(_LEVELS.get(event.level, "0"), f"{event.level}: {wording.one_line(event.message)}", record)
            case Annotation(repeats=False):  # else the line before it has been seen
                self._say(_LEVELS[event.level], wording.remark(event), record)
            case Group():
                if event.name:
                    self._say("1", f"▸ {wording.one_line(event.name)}", record)
            case Progress():
                if self._bar:
                    self._progress = event
                # Else an unfinished line isn't broken for it: more progress will come.
                elif not self._unfinished and (news := self._quarters.news(event)):
                    self._say("36", news, record)
            case Summary():
                self._summary = event.markdown

    def _step_over(self) -> None:
        """Forget the progress of the step that has ended."""
        self._progress = None
        self._quarters.reset()

    def _last_words(self) -> None:
        self._finish_line()
        text, self._summary = wording.summary(self._summary), ""
        if not text:
            return
        self._say("1;36", "── summary")
        if self._columns is None:
            self._text.append(f"{text}\n")
            return
        shown = io.StringIO()
        console = Console(
            file=shown,
            force_terminal=True,
            width=min(self._columns(), _WIDEST),
            color_system="auto" if self._colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # Without hyperlinks, so that a link's address is seen and not hidden behind its text.
        console.print(Markdown(text, hyperlinks=False))
        self._text.append(shown.getvalue())

    def _finish_line(self) -> None:
        if self._unfinished:
            self._text.append("\n")
            self._unfinished = False

    def _say(self, style: str, text: str, record: int | None = None) -> None:
        self._finish_line()
        if self._numbers and record is not None:
            self._text.append(f"{record}:")
        self._text.append(f"\x1b[{style}m{text}{escapes.RESET}\n" if self._colour else f"{text}\n")
