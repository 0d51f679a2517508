"""
Reading a log to its end over HTTP, and checking that it is all of the log. Used by `twistedipc logs` and ``--follow``.

Whatever breaks off is taken up again behind the last record that was seen, so that each is seen once, in order. What
is missing is known by number; that what came is what the build wrote, by the SHA-256 that the log's end carries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from twistedipc.builds.logs import Batch, Gap, Lines, LogDigest, trim
from twistedipc.cli.client import Client, Query, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.web.schemas import End, LogPage

#: How many records a page of a log is asked to have.
PAGE = 10_000

#: How long a followed log may stay broken off before we give up, and the pauses between two attempts: seconds.
PATIENCE = 120.0
PAUSE, LONGEST_PAUSE = 0.25, 5.0


Message = Batch | End


_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def _decode(data: bytes) -> Message:
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Failure(ExitCode.UNAVAILABLE, f"the server's log isn't understood: {error}") from error


def follow(
    client: Client, build: int, attempt: int, after: int, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Message]:
    """
    The messages of an attempt's log behind record ``after``, live, until its `End`. Each record comes once, in
    order, however often the connection breaks. Raises `Failure` when the server is away for too long.
    """
    where = path("builds", build, "log")
    pause, heard = PAUSE, monotonic()
    while True:
        broken: Failure | None = None
        try:
            for line in client.stream(where, {"format": "json", "follow": 1, "attempt": attempt, "after": after}):
                pause, heard = PAUSE, monotonic()
                message = _decode(line)
                match message:
                    case End():
                        yield message
                        return
                    case Lines() | Gap():
                        fresh = trim(message, after + 1)
                        if fresh is not None:
                            after = fresh.end - 1
                            yield fresh
        except Unreachable as error:
            broken = error
        if monotonic() - heard > PATIENCE:
            raise broken or Unreachable(f"the server at {client.url} ends the log again and again without its end")
        client.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def read(client: Client, build: int, attempt: int, after: int) -> Iterator[Message]:
    """The messages behind record ``after`` that there are now; with its `End` if the log has ended."""
    where = path("builds", build, "log")
    while True:
        query: Query = {"format": "json", "attempt": attempt, "after": after, "limit": PAGE}
        page = client.get(where, query).decode(LogPage)
        yield from page.batches
        if page.end is not None:
            yield page.end
            return
        if page.after <= after:
            return
        after = page.after


@dataclass
class LogCheck:
    """
    Whether what was seen of a log is all of it. Give each message to `see`, in order; then ask `verdict`.
    """

    after: int = 0

    def __post_init__(self) -> None:
        self._next = self.after + 1
        self._digest = LogDigest()
        self.end: End | None = None

    def see(self, message: Message) -> None:
        """Take a message into account. Raises `Failure` if records are missing without being called missing."""
        match message:
            case Lines() | Gap():
                if message.first != self._next:
                    raise Failure(
                        ExitCode.INCOMPLETE,
                        f"the server sent record {message.first} of the log where record {self._next} is next",
                    )
                self._digest.add(message)
                self._next = message.end
            case End():
                self.end = message

    def verdict(self) -> tuple[ExitCode, str]:
        """What there is to say about the log, and whether it is good."""
        end, seen = self.end, self._next - 1
        if end is None:
            return ExitCode.OK, f"{seen} lines so far; the log goes on"
        if self._digest.missing:
            return ExitCode.INCOMPLETE, f"incomplete: {self._digest.missing} of {end.lines} lines are missing"
        if seen != end.lines and self.after <= end.lines:
            return ExitCode.INCOMPLETE, f"incomplete: {seen} of {end.lines} lines came"
        if not end.complete:
            return ExitCode.INCOMPLETE, f"incomplete: the server couldn't verify that these {end.lines} lines are all"
        if self.after:
            return ExitCode.OK, f"complete from line {self.after + 1} to {end.lines}; verified by number only"
        if self._digest.hexdigest() != end.sha256:
            return ExitCode.INCOMPLETE, f"not what the build wrote: the SHA-256 of the {end.lines} lines differs"
        return ExitCode.OK, f"complete, verified ({end.lines} lines)"
