"""
The end of a journal, read backwards: a step's last lines, without reading all that it has printed. Used by the runner,
which wrote it, and after that is on disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from twistedipc.attempts.journal import JOURNAL, segments
from twistedipc.attempts.journal_format import BadJournalLine, parse_journal_line
from twistedipc.builds.logs import Lines, trim

#: The most bytes of a journal that are read. A batch is shorter, even if each of its characters is escaped.
MAX_BYTES = 512 * 1024


def last_lines(folder: Path, first: int) -> list[str]:
    """
    Return the output from record ``first`` on, in lines, that is in the last `MAX_BYTES` of the journal in an attempt's
    ``folder``. Events aren't in it, and neither is what doesn't verify. Raises OSError.
    """
    left = MAX_BYTES
    batches: list[Lines] = []
    for begin, path in reversed(segments(folder / JOURNAL)):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - left, 0))
            batches[:0] = _batches(file.read(left), first)
        left -= size
        if left <= 0 or begin <= first:
            break
    return _joined(batches)


def _batches(data: bytes, first: int) -> list[Lines]:
    """Return the batches in a part of a segment, from record ``first`` on. The part may begin within a line."""
    found: list[Lines] = []
    for line in data.split(b"\n"):
        try:
            batch = trim(parse_journal_line(line), first)
        except BadJournalLine:
            continue
        if batch is not None:
            found.append(batch)
    return found


def _joined(batches: list[Lines]) -> list[str]:
    """Return the lines of output in these batches, those that were cut into fragments in one piece."""
    lines: list[str] = []
    goes_on = False
    for batch in batches:
        more = frozenset(batch.more)
        for index, record in enumerate(batch.lines):
            if not isinstance(record, str):
                continue
            if goes_on:
                lines[-1] += record
            else:
                lines.append(record)
            goes_on = index in more
    return lines
