"""
Where in a step's output a message has its place. No I/O, no clock; used by ``interleaving``.

Output and messages come by two ways, a pipe and sockets, and two ways have no common order. Three facts give them one:

1. What was written before a message was sent is in the pipe, or was read from it, when the message is read. So a
   message that says nothing of its place comes after the bytes that are counted in the pipe once the message has been
   read (`OutputOrder.count`).
2. A sender that waits for the answer before it writes anything more makes this exact.
3. A sender that can write to the pipe itself puts a *mark* there right after it has sent the message. That is the
   message's place.

The caller counts the bytes in the pipe, then reads all that was sent, then reads no more than those bytes. So a message
(one that hides a value, say) is read before every byte that was written after it was sent, and before its mark. The
states of a message, each left only to the right::

    heard ──► counted ──► placed      it says nothing of its place; after the bytes that were in the pipe
      ▲
      │ lost
    marked ─────────────► placed      it waits for its mark

A mark is *lost* for a message when the message's connection has ended (its sender writes nothing more), when it hasn't
come for `PATIENCE` seconds, or when more than `MAX_MARKED` messages wait: a lost mark holds up its own message, for a
while, and nothing else, since output never waits. One that is still found before the bytes are read that were counted
counts. Marks are taken out of the output, also those that belong to no message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

#: Seconds after which a message no longer waits for its mark.
PATIENCE = 10.0

#: How many messages may wait for their marks.
MAX_MARKED = 1000

#: The most characters of a mark's name.
MAX_NAME = 64

# How many marks are remembered that came before their messages, which a sender of another kind may have done.
_MAX_PASSED = 1000

_END = b"\x1b\\"

_T = TypeVar("_T")

Part = bytes | list[_T]


def mark(token: str, name: str) -> bytes:
    """Return the mark of this name for the output of the step with this token. Terminals show nothing of it."""
    return f"\x1b_twistedipc;{token};{name}".encode() + _END


class _Entry(Generic[_T]):
    __slots__ = ("deadline", "message", "name", "place", "placed", "source")

    def __init__(self, message: _T, source: int, name: str, deadline: float) -> None:
        self.message = message
        self.source = source
        self.name = name
        self.deadline = deadline
        self.place = 0  # how many bytes come before it, once they are counted
        self.placed = False


class OutputOrder(Generic[_T]):
    """The order of one step's output and messages."""

    def __init__(self, token: str) -> None:
        self._prefix = mark(token, "")[: -len(_END)]
        self._tail = b""  # what may be the beginning of a mark
        self._read = 0  # bytes of the pipe
        self._heard: list[_Entry[_T]] = []
        self._counted: deque[_Entry[_T]] = deque()
        self._marked: dict[_Entry[_T], None] = {}  # in the order in which they came
        self._by_name: dict[str, list[_Entry[_T]]] = {}  # of all that aren't placed
        self._passed: dict[str, None] = {}  # marks that came before their messages
        #: bytes that were counted and aren't read yet: no more than these may be read
        self.owed = 0

    @property
    def waiting(self) -> bool:
        """Whether there is something whose place another `count` would give."""
        return bool(self._heard)

    @property
    def holds(self) -> bool:
        """Whether `release` would give something."""
        return bool(self._tail)

    @property
    def due(self) -> float | None:
        """The time at which the next mark is given up."""
        return next(iter(self._marked)).deadline if self._marked else None

    def count(self, size: int) -> list[Part[_T]]:
        """Note how many bytes are in the pipe, when all counted before are read. Return what has its place by now."""
        self.owed = size
        for entry in self._heard:
            entry.place = self._read + size
        self._counted.extend(self._heard)
        self._heard.clear()
        return self._until(b"", 0, 0, self._read) if size == 0 else []

    def hear(self, source: int, messages: Iterable[tuple[_T, str]], now: float) -> None:
        """Take the messages that a connection has brought, each with the name of its mark, or ""."""
        for message, name in messages:
            entry = _Entry(message, source, name, now + PATIENCE)
            if not name or name in self._passed:
                self._passed.pop(name, None)
                self._heard.append(entry)
            else:
                self._marked[entry] = None
                self._by_name.setdefault(name, []).append(entry)
        while len(self._marked) > MAX_MARKED:
            self._lose(next(iter(self._marked)))

    def ended(self, source: int) -> None:
        """Give up the marks of a connection that has ended."""
        for entry in [entry for entry in self._marked if entry.source == source]:
            self._lose(entry)

    def expire(self, now: float) -> None:
        """Give up the marks that are lost by now."""
        while self._marked and (entry := next(iter(self._marked))).deadline <= now:
            self._lose(entry)

    def feed(self, data: bytes) -> list[Part[_T]]:
        """Take the next bytes of the pipe. Return output and messages in their order, the output without marks."""
        self.owed = max(0, self.owed - len(data))
        base = self._read - len(self._tail)
        self._read += len(data)
        data = self._tail + data
        parts: list[Part[_T]] = []
        shown = at = 0
        while (start := data.find(self._prefix, at)) >= 0:
            name_at = start + len(self._prefix)
            end = data.find(_END, name_at, name_at + MAX_NAME + len(_END))
            if end < 0:
                if len(data) < name_at + MAX_NAME + len(_END):
                    break  # it may go on
                at = name_at
                continue
            parts += self._until(data, shown, start, base)
            shown = at = end + len(_END)
            if found := self._found(data[name_at:end].decode("ascii", "replace")):
                parts.append(found)
        whole = start if start >= 0 else self._whole(data, at)
        self._tail = data[whole:]
        return parts + self._until(data, shown, whole, base)

    def release(self) -> bytes:
        """Return what was held back as the possible beginning of a mark: nothing has followed it."""
        tail, self._tail = self._tail, b""
        return tail

    def vanished(self) -> list[Part[_T]]:
        """Note that another process has read what was counted. Return what has its place by now."""
        self._read += self.owed
        self.owed = 0
        return self._until(b"", 0, 0, self._read)

    def finish(self) -> tuple[bytes, list[_T]]:
        """Return the output that was held back, and the messages with no place before its end: nothing more is read."""
        rest = [*self._counted, *self._marked, *self._heard]
        self._counted.clear()
        self._marked.clear()
        self._heard.clear()
        self._by_name.clear()
        return self.release(), [entry.message for entry in rest if not entry.placed]

    def _lose(self, entry: _Entry[_T]) -> None:
        del self._marked[entry]
        self._heard.append(entry)

    def _found(self, name: str) -> list[_T]:
        entries = self._by_name.pop(name, None)
        if entries is None:
            self._passed[name] = None
            if len(self._passed) > _MAX_PASSED:
                del self._passed[next(iter(self._passed))]
            return []
        for entry in entries:
            entry.placed = True
            self._marked.pop(entry, None)
        self._heard = [entry for entry in self._heard if not entry.placed]
        return [entry.message for entry in entries]

    def _whole(self, data: bytes, at: int) -> int:
        """Return where a mark begins that may go on after the data; the data's length if there is none."""
        start = data.rfind(b"\x1b", max(at, len(data) - len(self._prefix) + 1))
        return start if start >= 0 and self._prefix.startswith(data[start:]) else len(data)

    def _until(self, data: bytes, start: int, end: int, base: int) -> list[Part[_T]]:
        """Return ``data[start:end]`` and the messages placed in or before it. ``base`` is the place of ``data[0]``."""
        parts: list[Part[_T]] = []
        while self._counted and self._counted[0].place <= base + end:
            entry = self._counted.popleft()
            if entry.placed:
                continue
            place = entry.place - base
            if place > start:
                parts.append(data[start:place])
                start = place
            self._by_name.pop(entry.name, None)
            if parts and isinstance(parts[-1], list):
                parts[-1].append(entry.message)
            else:
                parts.append([entry.message])
        if end > start:
            parts.append(data[start:end])
        return parts
