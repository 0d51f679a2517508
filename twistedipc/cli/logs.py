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

from twistedipc.builds.logs import End, Gap, Lines, LogDigest, Message, trim, with_events
from twistedipc.cli.client import Client, Query, Silent, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.web.api.schemas import LogPage
from twistedipc.web.logs.messages import Alive, Closed

#: How many records a page of a log is asked to have.
PAGE = 10_000

#: The pauses between two attempts at a followed log that has broken off, and how often that is said: seconds.
PAUSE, LONGEST_PAUSE = 0.25, 5.0
SAY_EVERY = 60.0

#: How long an interruption may last without being worth a word: seconds. A restart of the server takes one or two.
HARMLESS = 3.0


class _AnyMessage(msgspec.Struct):
    """A message of any type, as far as it says which."""

    type: str


#: The types of messages that are known here.
_TYPES = frozenset({"lines", "gap", "end", "alive", "closed"})

_decoder: msgspec.json.Decoder[Message | Alive | Closed] = msgspec.json.Decoder(Message | Alive | Closed)
_any_decoder: msgspec.json.Decoder[_AnyMessage] = msgspec.json.Decoder(_AnyMessage)


def _decode(data: bytes) -> Message | None:
    """A message of a followed log; None if it says nothing of the log, or is of a type that came after this program."""
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
    """Whether it is a message of a type that isn't known here: docs/protocol.md has clients skip those."""
    try:
        return _any_decoder.decode(data).type not in _TYPES
    except msgspec.DecodeError:
        return False


class _Interruption:
    """
    How long a followed log has been broken off, and what there is to say of it: soon after it has begun, every
    `SAY_EVERY` seconds while it lasts, and when it is over, if it was said to be there.
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
        """Wait for the next attempt, after the server broke off, or couldn't be reached."""
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
        """The server says something."""
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
    The messages of an attempt's log behind record ``after``, live, until its `End`. Each record comes once, in
    order, however often the connection breaks, and however long the build is silent or the server is away: ``say`` is
    called with a sentence about that. Raises `Failure` for what no waiting helps against.
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
            continue  # the server did answer: only the way to it may be dead, and the next attempt shows that
        except Unreachable as error:
            broken = error
        interruption.wait(broken)


def read(client: Client, build: int, attempt: int, after: int) -> Iterator[Message]:
    """The messages behind record ``after`` that there are now; with its `End` if the log has ended."""
    where = path("builds", build, "log")
    while True:
        query: Query = {"format": "json", "attempt": attempt, "after": after, "limit": PAGE}
        page = client.get(where, query).decode(LogPage)
        yield from map(with_events, page.batches)
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
