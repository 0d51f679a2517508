"""
Reads a log to its end over HTTP, and checks that it is complete. Used by `twistedipc logs` and ``--follow``.

A log that breaks off is resumed behind the last record that was seen, so that each record is seen once, in order.
Missing records are known by their numbers, and the SHA-256 in the log's end shows that what came is what the build
wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from twistedipc.builds.logs import End, Gap, Lines, LogDigest, Message, trim, with_events
from twistedipc.cli.client import Client, Query, Silent, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.web.api.schemas import LogPage
from twistedipc.web.logs.messages import Alive, Closed

#: Records of a page of a log.
PAGE = 10_000

#: Seconds between two attempts at a followed log that has broken off, and between two sentences about it.
PAUSE, LONGEST_PAUSE = 0.25, 5.0
SAY_EVERY = 60.0

#: Seconds that an interruption may last before it is mentioned. A restart of the server takes one or two.
HARMLESS = 3.0


class _AnyMessage(msgspec.Struct):
    """A message of any type, of which only the type is decoded."""

    type: str


#: The types of messages that are known here.
_TYPES = frozenset({"lines", "gap", "end", "alive", "closed"})

_decoder: msgspec.json.Decoder[Message | Alive | Closed] = msgspec.json.Decoder(Message | Alive | Closed)
_any_decoder: msgspec.json.Decoder[_AnyMessage] = msgspec.json.Decoder(_AnyMessage)


def _decode(data: bytes) -> Message | None:
    """
    Return a message of a followed log; None if it isn't about the log, or is of a type that this program doesn't know.
    """
    try:
        message = _decoder.decode(data)
    except msgspec.DecodeError as error:
        if not _is_unknown(data):
            raise Failure(ExitCode.UNAVAILABLE, f"the server's log isn't understood: {error}") from error
        return None
    match message:
        case Closed():
            raise Failure(
                ExitCode.NOT_ALLOWED,
                f"{message.reason}: the log breaks off here, but the build goes on (`twistedipc login` keeps another)",
            )
        case Alive():
            return None
        case Lines():
            return with_events(message)
        case _:
            return message


def _is_unknown(data: bytes) -> bool:
    """Return whether it is a message of an unknown type, which clients must skip (docs/protocol.md)."""
    try:
        return _any_decoder.decode(data).type not in _TYPES
    except msgspec.DecodeError:
        return False


class _Interruption:
    """
    An interruption of a followed log, and when to tell the person about it: soon after it has begun, every `SAY_EVERY`
    seconds while it lasts, and at its end, if its beginning was told.
    """

    def __init__(self, client: Client, say: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        self._client = client
        self._say = say
        self._monotonic = monotonic
        self._since: float | None = None
        self._say_at = 0.0
        self._said = False
        self._pause = PAUSE

    def wait(self, broken: Unreachable | None) -> None:
        """Wait before the next attempt: the server broke off, or couldn't be reached."""
        now = self._monotonic()
        if self._since is None:
            self._since, self._say_at = now, now + HARMLESS
        elif now >= self._say_at:
            what = str(broken or f"the server at {self._client.url} ends the log again and again without its end")
            self._say(f"{what}; the log is asked for again until it goes on (Ctrl-C ends this, and not the build)")
            self._say_at, self._said = now + SAY_EVERY, True
        self._client.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def over(self) -> None:
        """End the interruption: the server has sent something."""
        if self._said:
            self._say("the log goes on")
        self._since, self._said, self._pause = None, False, PAUSE


def follow(
    client: Client,
    build: int,
    attempt: int,
    after: int,
    say: Callable[[str], None],
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Message]:
    """
    Yield the messages of an attempt's log behind record ``after``, live, until its `End`. Each record comes once, in
    order, however often the connection breaks, and however long the build is silent or the server is away; ``say`` is
    called with a sentence about that. Raises `Failure` for errors that waiting doesn't help against.
    """
    where = path("builds", build, "log")
    interruption = _Interruption(client, say, monotonic)
    while True:
        broken: Unreachable | None = None
        try:
            for line in client.stream(where, {"format": "json", "follow": 1, "attempt": attempt, "after": after}):
                interruption.over()
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
        except Silent:
            continue  # the server did answer: if only this connection is dead, the next attempt shows it
        except Unreachable as error:
            broken = error
        interruption.wait(broken)


def read(client: Client, build: int, attempt: int, after: int, last: int | None = None) -> Iterator[Message]:
    """
    Yield the messages behind record ``after`` that there are now: up to record ``last``, or with the log's `End` if it
    has ended.
    """
    where = path("builds", build, "log")
    while last is None or after < last:
        limit = PAGE if last is None else min(PAGE, last - after)
        query: Query = {"format": "json", "attempt": attempt, "after": after, "limit": limit}
        page = client.get(where, query).decode(LogPage)
        yield from map(with_events, page.batches)
        if page.end is not None:
            if last is None:
                yield page.end
            return
        if page.after <= after:
            return
        after = page.after


@dataclass
class LogCheck:
    """Checks whether what was seen of a log is all of it: give each message to `see`, in order, then call `verdict`."""

    after: int = 0

    def __post_init__(self) -> None:
        self._next = self.after + 1
        self._digest = LogDigest()
        self.end: End | None = None

    def see(self, message: Message) -> None:
        """Take a message into account. Raises `Failure` if records are missing without a gap."""
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

    def verdict_of_part(self) -> tuple[ExitCode, str]:
        """Return the exit code for a part that has no end of its own, and a sentence about it."""
        seen = f"lines {self.after + 1} to {self._next - 1}" if self._next > self.after + 1 else "no lines"
        if missing := self._digest.missing:
            return ExitCode.INCOMPLETE, f"{seen}, of which {missing} are missing"
        return ExitCode.OK, seen

    def verdict(self) -> tuple[ExitCode, str]:
        """Return the exit code, and a sentence about the log."""
        end, seen = self.end, self._next - 1
        if end is None:
            return ExitCode.OK, f"{seen} lines so far; the log goes on"
        if self._digest.missing:
            return ExitCode.INCOMPLETE, f"incomplete: {self._digest.missing} of {end.lines} lines are missing"
        if self.after and self.after >= end.lines:
            return ExitCode.OK, f"has {end.lines} lines: there is none after line {self.after}"
        if seen != end.lines:
            return ExitCode.INCOMPLETE, f"incomplete: {seen} of {end.lines} lines came"
        if not end.complete:
            return ExitCode.INCOMPLETE, f"incomplete: the server couldn't verify that these {end.lines} lines are all"
        if self.after:
            return ExitCode.OK, f"complete from line {self.after + 1} to {end.lines}; verified by number only"
        if self._digest.hexdigest() != end.sha256:
            return ExitCode.INCOMPLETE, f"not what the build wrote: the SHA-256 of the {end.lines} lines differs"
        return ExitCode.OK, f"complete, verified ({end.lines} lines)"
