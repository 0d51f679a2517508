"""
Showing a log in a terminal or a file: steps as headings, colours kept or taken out, everything else that a terminal
would obey removed. Used by `twistedipc logs`, ``--follow`` and the demo.
"""

from __future__ import annotations

from typing import TextIO

from twistedipc.builds.logs import Event, Gap, Lines, Notice, StepEnded, StepStarted
from twistedipc.cli.logs import Message
from twistedipc.cli.output import duration
from twistedipc.web import terminal
from twistedipc.web.schemas import End

_SUCCEEDED = "succeeded"


class LogPrinter:
    """Writes a log's messages to ``out`` as they come."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self._out = out
        self._colour = colour
        self._clean = terminal.colours if colour else terminal.plain
        self._names: dict[int, str] = {}  # the steps', by index
        self._unfinished = False  # the last thing written is a line that goes on

    def show(self, message: Message) -> None:
        """Write a message and flush, so that it is seen at once."""
        match message:
            case Lines():
                self._lines(message)
            case Gap():
                count = message.end - message.first
                lost = "1 line is" if count == 1 else f"{count} lines are"
                self._say("33", f"… {lost} missing here: {self._one_line(message.reason)}")
            case End():
                self._finish_line()
        self._out.flush()

    def _lines(self, batch: Lines) -> None:
        more = set(batch.more)
        text: list[str] = []
        for index, record in enumerate(batch.lines):
            if isinstance(record, str):
                text.append(record if index in more else record + "\n")
                continue
            self._text(text)
            text = []
            self._event(record)
        self._text(text)

    def _text(self, pieces: list[str]) -> None:
        """Output of the build. It is cleaned in one piece, then colours are ended, so that none leak into headings."""
        text = self._clean("".join(pieces))
        if not text:
            return
        if "\x1b" in text:
            text = text[:-1] + terminal.RESET + "\n" if text.endswith("\n") else text + terminal.RESET
        self._out.write(text)
        self._unfinished = not text.endswith("\n")

    def _event(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._names[event.index] = event.name
                # One line each: a command may have several, and both may hold whatever a project's author likes.
                name, command = self._one_line(event.name), self._one_line(event.command)
                self._say("1;36", f"── {name}" + (f" $ {command}" if command and command != name else ""))
            case StepEnded():
                name = self._one_line(self._names.get(event.index, f"step {event.index + 1}"))
                took = duration(event.milliseconds / 1000)
                if event.outcome == _SUCCEEDED:
                    self._say("32", f"✓ {name} {took}")
                else:
                    code = "" if event.exit_code is None else f", exit code {event.exit_code}"
                    self._say("31", f"✗ {name} {event.outcome.replace('_', ' ')} after {took}{code}")
            case Notice():
                level = {"info": "36", "warning": "33", "error": "31"}.get(event.level, "0")
                self._say(level, f"{event.level}: {self._one_line(event.message)}")

    @staticmethod
    def _one_line(text: str) -> str:
        return " ".join(terminal.plain(text).split("\n"))

    def _finish_line(self) -> None:
        if self._unfinished:
            self._out.write("\n")
            self._unfinished = False

    def _say(self, style: str, text: str) -> None:
        self._finish_line()
        self._out.write(f"\x1b[{style}m{text}{terminal.RESET}\n" if self._colour else f"{text}\n")
