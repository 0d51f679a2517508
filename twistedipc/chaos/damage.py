"""
Damage to the journals of builds, as a bad disk does it: a byte that is another, a segment that is cut, one that is
gone. Blocking, for a thread; called by ``injections`` while the builder is dead.

Only what no builder has read yet is damaged: of that it is known to the record what must be missing in the end. The
runner is stopped meanwhile, so that it writes nothing between the look and the deed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from twistedipc.attempts.journal import JOURNAL, segments
from twistedipc.attempts.journal_format import BadJournalLine, parse_journal_line
from twistedipc.attempts.liveness import lock_held, lock_owner
from twistedipc.builds.attempt import Result
from twistedipc.chaos.oracle import Damage
from twistedipc.disk.files import read_file

#: How many lines no builder has read before one of them is damaged: the first isn't, so that two damages never touch.
_FRESH = 3

#: Seconds for a runner to stop.
_STOP_DEADLINE = 2.0


class Way(Enum):
    """The ways to damage a journal."""

    FLIP = "a byte is another"
    CUT = "a segment is cut"
    REMOVE = "a segment is gone"  # of a build that has ended


@dataclass(frozen=True)
class _Line:
    """One line of a journal."""

    path: Path
    offset: int
    size: int
    first: int  # its first record
    last: int


def written(attempts: Path) -> dict[Path, int]:
    """Return how many records each attempt's journal has by now."""
    return {folder: _count(folder) for folder in attempts.glob("[0-9]*")}


def writing(attempts: Path) -> bool:
    """Return whether some build has begun to write, and goes on."""
    return any(lock_held(folder) and _count(folder) > 0 for folder in attempts.glob("[0-9]*"))


def damage(before: dict[Path, int], way: Way, chance: random.Random) -> tuple[str, Damage] | None:
    """
    Damage one of the journals behind the records that it had ``before``. The attempt's name, and what must be missing;
    None if there is none with enough in it, or, to remove a segment, none whose build has ended since.
    """
    folders = sorted(before)
    chance.shuffle(folders)
    for folder in folders:
        with _stopped(folder):
            done = _remove(folder, before[folder]) if way is Way.REMOVE else _spoil(folder, before[folder], way, chance)
        if done is not None:
            return folder.name.rsplit("-", 1)[0], done
    return None


def _spoil(folder: Path, had: int, way: Way, chance: random.Random) -> Damage | None:
    fresh = [line for line in _lines(folder) if line.first > had]
    # All of them in one file: whatever else it is, a cut isn't one of two segments.
    fresh = [line for line in fresh if line.path == fresh[-1].path]
    if len(fresh) < _FRESH:
        return None
    line = fresh[chance.randrange(1, len(fresh) - 1)]
    if way is Way.CUT:
        os.truncate(line.path, line.offset + line.size // 2)
        return Damage(line.first, line.first, fresh[-1].last)
    descriptor = os.open(line.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        at = line.offset + chance.randrange(line.size - 1)  # not its end
        (byte,) = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes((byte ^ 1,)), at)
    finally:
        os.close(descriptor)
    return Damage(line.first, line.first, line.last)


def _remove(folder: Path, had: int) -> Damage | None:
    found = segments(folder / JOURNAL)
    with suppress(OSError, msgspec.DecodeError):
        result = read_file(folder / "result.json", Result)
        if result is not None and result.lines > had and found and not lock_held(folder):
            first, path = found[-1]
            path.unlink()
            return Damage(first, max(first, had + 1), result.lines)
    return None


def _count(folder: Path) -> int:
    return max((line.last for line in _lines(folder)), default=0)


def _lines(folder: Path) -> list[_Line]:
    """The good lines of a journal, in their order."""
    found = []
    for _first, path in segments(folder / JOURNAL):
        offset = 0
        for text in path.read_bytes().splitlines(keepends=True):
            with suppress(BadJournalLine):
                if text.endswith(b"\n"):
                    batch = parse_journal_line(text[:-1])
                    found.append(_Line(path, offset, len(text), batch.first, batch.end - 1))
            offset += len(text)
    return found


@contextmanager
def _stopped(folder: Path) -> Iterator[None]:
    """Stop a runner, which writes nothing meanwhile."""
    pid = lock_owner(folder) if lock_held(folder) else None
    try:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            until = time.monotonic() + _STOP_DEADLINE
            while _runs(pid) and time.monotonic() < until:
                time.sleep(0.001)
        yield
    finally:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _runs(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
        return state not in (b"T", b"Z", b"X")
    return False
