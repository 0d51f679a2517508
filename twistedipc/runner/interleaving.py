"""
The output of one step and the messages of its channel, in their order. Used by ``steps``, which reads the output.

What is read of either goes through ``order``, and comes out as output and records. A message that asks for an answer
gets it when it has its place: what its sender writes after the answer comes after the message.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence

from twistedipc.builds.logs import Event
from twistedipc.runner.order import OutputOrder, Part
from twistedipc.runner.ports import Channel, Received
from twistedipc.runner.printed import Part as PrintedPart
from twistedipc.runner.printed import Printed
from twistedipc.runner.speech import Heard, Speech

#: The environment variable that says how a mark in the output is made: ``TOKEN:DEVICE:INODE``, a token for the step,
#: and which pipe is its output.
MARKS = "TWISTEDIPC_MARKS"

# Channels on which something was said that asks for no answer are looked at again so many seconds later, so that a
# flood of messages costs a few hundred looks a second.
_GATHER = 0.005


class Interleaving:
    """
    The interleaving of one step's output and messages. ``feed`` takes the next bytes of output, ``say`` the next
    records. ``token`` is what the step's marks are known by. ``printed`` finds the messages that are in the output
    itself; None: there aren't any.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        token: str,
        mask: Callable[[Iterable[str]], list[str]],
        feed: Callable[[bytes], None],
        say: Callable[[Sequence[Event]], None],
        clock: Callable[[], float],
        printed: Printed | None = None,
    ) -> None:
        self._channel = channel
        self._printed = printed
        self._speech = Speech(mask=mask)
        self._token = token
        self._order: OutputOrder[tuple[int, Heard]] = OutputOrder(token)
        self._feed = feed
        self._say = say
        self._clock = clock
        self._urgent = False  # what was heard is to get its place at once
        self._listen_at = 0.0

    def environment(self, pipe: int) -> dict[str, str]:
        """Return the variables for the step's programs. ``pipe`` is an end of the output's pipe."""
        if not self._channel.address:
            return {}
        status = os.fstat(pipe)
        return {
            "TWISTEDIPC_CHANNEL": self._channel.address,
            MARKS: f"{self._token}:{status.st_dev}:{status.st_ino}",
        }

    @property
    def owed(self) -> int:
        """How many bytes of output may be read before the next `listen`."""
        return self._order.owed

    @property
    def holds(self) -> bool:
        """Whether `release` would show something."""
        return self._order.holds or (self._printed is not None and self._printed.holds)

    def descriptors(self, now: float) -> Sequence[int]:
        """Return what becomes readable when it is time to `listen`."""
        return self._channel.descriptors if now >= self._listen_at else ()

    def wants(self, now: float) -> bool:
        """Return whether it is time to `listen`, although nothing became readable."""
        return self._order.waiting and (self._urgent or now >= self._listen_at)

    def listen_at(self, now: float) -> float:
        """Return when it is time to `listen`, although nothing may have become readable; infinite if never."""
        if self._order.waiting and self._urgent:
            return now
        return self._listen_at if now < self._listen_at else math.inf

    @property
    def catch_up_at(self) -> float:
        """When it is time to `catch_up`; infinite if nothing was held back."""
        spoken, ordered = self._speech.due, self._order.due
        return min(math.inf if spoken is None else spoken, math.inf if ordered is None else ordered)

    def catch_up(self, now: float) -> None:
        """Write the records that were held back, and give up the marks that have been waited for long enough."""
        self._order.expire(now)
        self._urgent = self._urgent or self._order.waiting
        self._say(self._speech.held(now))

    def listen(self, size: int, now: float) -> bool:
        """Take all messages, while ``size`` bytes of output can be read. Return whether a message was of use."""
        self._put(self._order.count(size))
        found = self._channel.receive()
        used, wants_answer = self._hear(found, now)
        rested = now >= self._listen_at
        self._urgent = self._order.waiting and (wants_answer or rested)
        if wants_answer:
            self._listen_at = now
        elif found and rested:
            self._listen_at = now + _GATHER
        return used

    def read(self, data: bytes) -> None:
        """Take the next bytes of output."""
        self._put(self._order.feed(data))

    def vanished(self) -> None:
        """Forget the output that could be read and can't any more: a build can read its own."""
        self._put(self._order.vanished())

    def release(self) -> None:
        """Show what was held back: nothing has come for a while."""
        self._print(self._order.release())
        if self._printed is not None:
            self._put_printed(self._printed.release())

    def end_output(self) -> Callable[[], None]:
        """
        Take the last messages that hide something in the output, and then the end of the output. Return a function that
        writes the messages that come after the output; it is to be called when all output is in the log.
        """
        self._hear(self._channel.receive(), self._clock())
        tail, rest = self._order.finish()
        self._print(tail)
        if self._printed is not None:
            self._put_printed(self._printed.finish())
        return lambda: self._put([rest])

    def rest(self, persist: Callable[[], None]) -> None:
        """Write all that was sent before the step's end into the log, however long that takes."""
        for words in self._channel.rest():
            self._hear(words, self._clock())
            _tail, rest = self._order.finish()
            self._put([rest])
            persist()
        self._say(self._speech.end())

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _hear(self, found: Sequence[Received], now: float) -> tuple[bool, bool]:
        used = wants_answer = False
        for words in found:
            heard, of_use = self._speech.hear(words.heard)
            used = used or of_use
            wants_answer = wants_answer or any(one.ack is not None for one in heard)
            self._order.hear(words.source, (((words.source, one), one.mark) for one in heard), now)
            if words.ended:
                self._order.ended(words.source)
        return used, wants_answer

    def _put(self, parts: Sequence[Part[tuple[int, Heard]]]) -> None:
        for part in parts:
            if isinstance(part, bytes):
                self._print(part)
                continue
            self._say(self._speech.say((one for _source, one in part), self._clock()))
            for source, one in part:
                if one.ack is not None:
                    self._channel.answer(source, one.ack)

    def _print(self, data: bytes) -> None:
        if self._printed is None:
            self._feed(data)
        elif data:
            self._put_printed(self._printed.feed(data))

    def _put_printed(self, parts: Sequence[PrintedPart]) -> None:
        """Put output and the messages that were found in it into the log. A value to hide is hidden in what follows."""
        for part in parts:
            if isinstance(part, bytes):
                self._feed(part)
            else:
                heard, _of_use = self._speech.hear([Heard(message) for message in part])
                self._say(self._speech.say(heard, self._clock()))
