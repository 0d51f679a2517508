"""
Output into records: bytes as they come from a pipe -> numbered lines in batches. No I/O, no clock; used by ``steps``.

Lines end at ``\\n`` only (a ``\\r`` stays: progress is kept as it came). What isn't UTF-8 becomes U+FFFD, the same
however the bytes were cut. A line of more than `max_line` bytes comes in fragments that never cut a character. A
partial line that nothing follows for a while may be shown as a fragment (`flush_partial`). Fragments that are joined
give the line back.

All work is by the block, in C: on the common path no Python statement runs per line.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

import msgspec

from twistedipc.builds.logs import MAX_BATCH_BYTES, MAX_LINE_BYTES, Event, Lines, Record, encoder
from twistedipc.runner.masking import Masking

#: As much as may be fed at once so that it fits one batch together with a waiting partial line.
BLOCK_BYTES = MAX_BATCH_BYTES - MAX_LINE_BYTES

# Fields of events that hold one of a few fixed words.
_WORDS = frozenset({"level", "outcome"})


class Capture:
    """The capture of one attempt's whole log: gives each record its number, once."""

    def __init__(self, secrets: Iterable[str] = (), *, max_line: int = MAX_LINE_BYTES, first: int = 1) -> None:
        if max_line < 4:
            raise ValueError("a line must have room for one character")
        self._masking = Masking(secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._max_line = max_line
        #: the number that the next record will have
        self.next = first
        self._parts: list[str] = []  # the line that has no end yet
        self._size = 0  # its bytes
        self._open = False  # whether the last record was a fragment of the same line

    def mask(self, secrets: Iterable[str]) -> None:
        """Hide these secrets too, from now on."""
        self._masking.add(secrets)

    def mask_within_bounds(self, secrets: Iterable[str]) -> list[str]:
        """Hide those of these secrets that can be hidden. Return a sentence for each of the others: why not."""
        return self._masking.add_within_bounds(secrets)

    def hide(self, text: str) -> str:
        """Return a text that isn't of the output, without the secrets."""
        return self._masking.hide(text)

    def first_with_secret(self, texts: Sequence[str]) -> str | None:
        """Return the first of these texts that has a secret in it; None if none has."""
        return self._masking.first_with_secret(texts)

    @property
    def pending(self) -> bool:
        """Whether there is a partial line that `flush_partial` would show."""
        return self._size > 0 or self._masking.pending

    def feed(self, data: bytes, time_ms: int, step: int) -> list[Lines]:
        """Take output; return the batches that it completes: none, as long as there is no end of a line in it."""
        return self._take(self._decoder.decode(self._masking.feed(data)), time_ms, step)

    def flush_partial(self, time_ms: int, step: int) -> list[Lines]:
        """Show the partial line as a fragment, since nothing has come for a while (a prompt, a progress bar)."""
        batches = self._take(self._decoder.decode(self._masking.flush()), time_ms, step)
        if not self._size:
            return batches
        self._open = True
        return batches + self._batches([self._partial()], [0], time_ms, step)

    def end_output(self, time_ms: int, step: int) -> list[Lines]:
        """Return what is left as a line: the output has ended."""
        text = self._decoder.decode(self._masking.finish(), final=True)
        self._decoder.reset()
        return self._take(text, time_ms, step) + self._close_line(time_ms, step)

    def event(self, event: Event, time_ms: int, step: int) -> list[Lines]:
        """
        Return an event as a batch of its own. It comes before a partial line of which nothing is shown yet. A line
        that is shown in part ends here, so that fragments stay together.
        """
        return self.events([event], time_ms, step)

    def events(self, events: Sequence[Event], time_ms: int, step: int) -> list[Lines]:
        """Return several events in the same way."""
        before = self._close_line(time_ms, step) if self._open and events else []
        return before + self._batches([self._hidden(event) for event in events], [], time_ms, step)

    def _hidden(self, event: Event) -> Event:
        """Return an event without the secrets in any of its texts."""
        changed: dict[str, str] = {}
        for field in event.__struct_fields__:
            value = getattr(event, field)
            if isinstance(value, str) and field not in _WORDS and (hidden := self.hide(value)) != value:
                changed[field] = hidden
        return msgspec.structs.replace(event, **changed) if changed else event

    def _take(self, text: str, time_ms: int, step: int) -> list[Lines]:
        if not text:
            return []
        whole, newline, rest = text.rpartition("\n")
        if not newline:
            self._parts.append(rest)
            self._size += _size(rest)
            if self._size <= self._max_line:
                return []
            records, more = self._cut([self._partial()])
        else:
            self._parts.append(whole)
            lines = self._partial().split("\n")
            lines.append(rest)
            if len(text) > self._max_line // 4 or len(lines[0]) > self._max_line // 4:
                records, more = self._cut(lines)
            else:
                records, more = lines, []  # even of the longest characters no line is too long
        # The last of them is the new partial line.
        last = records.pop()
        self._open = bool(more) and more[-1] == len(records) - 1
        if last:
            self._parts = [last]
            self._size = _size(last)
        return self._batches(records, more, time_ms, step)

    def _cut(self, lines: list[str]) -> tuple[list[str], list[int]]:
        """
        Return the lines, those that are too long in fragments, and the indexes of the fragments that go on. A last
        fragment may be as long as a line may be, and is never empty.
        """
        limit = self._max_line
        if max(map(len, lines)) * 4 <= limit:
            return lines, []
        records: list[str] = []
        more: list[int] = []
        for line in lines:
            if _size(line) <= limit:
                records.append(line)
                continue
            data = line.encode()
            start = 0
            while len(data) - start > limit:
                end = start + limit
                while data[end] & 0xC0 == 0x80:  # in the middle of a character
                    end -= 1
                more.append(len(records))
                records.append(data[start:end].decode())
                start = end
            records.append(data[start:].decode())
        return records, more

    def _partial(self) -> str:
        text = "".join(self._parts)
        self._parts = []
        self._size = 0
        return text

    def _close_line(self, time_ms: int, step: int) -> list[Lines]:
        if not self._size and not self._open:
            return []
        self._open = False
        return self._batches([self._partial()], [], time_ms, step)

    def _batches(self, records: Sequence[Record], more: list[int], time_ms: int, step: int) -> list[Lines]:
        """Number the records, in batches of at most `MAX_BATCH_BYTES` bytes of output, or of events' JSON."""
        if not records:
            return []
        batches: list[Lines] = []
        for start, end in _groups(records):
            group = list(records[start:end])
            marked = [index - start for index in more if start <= index < end] if more else []
            batches.append(Lines(first=self.next, time=time_ms, step=step, lines=group, more=marked))
            self.next += len(group)
        return batches


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _groups(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Cut the records into runs that each fit a batch."""
    try:
        joined = "".join(records)  # type: ignore[arg-type]  # all strings, unless it raises
    except TypeError:
        sizes = [_size(record) if isinstance(record, str) else len(encoder.encode(record)) for record in records]
    else:
        if _size(joined) <= MAX_BATCH_BYTES:
            return [(0, len(records))]
        sizes = [_size(record) for record in records]  # type: ignore[arg-type]  # as above
    groups: list[tuple[int, int]] = []
    start = size = 0
    for index, length in enumerate(sizes):
        if size + length > MAX_BATCH_BYTES and index > start:
            groups.append((start, index))
            start, size = index, 0
        size += length
    groups.append((start, len(records)))
    return groups
