"""
The bytes that a folder has on the disk, counted bit by bit: a count of some hundred thousand files takes seconds, and
the runner has its builds' output to read meanwhile. Used by ``guard``.

Between two counts the file system's own number says how much the folder can have grown at most. So a folder is counted
again when that could be too much, and now and then, since others may have deleted something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

#: Seconds that one turn of a count takes at most, and those until the next turn.
TURN = 0.01
PAUSE = 0.1

#: Seconds from one count to the next at least, and how many times as long as the count took.
EVERY = 30.0
REST = 100

#: The same, when there could be too much.
HURRIED_EVERY = 1.0
HURRIED_REST = 10

#: Files that are looked at between two looks at the clock.
_STRIDE = 64

#: Folders that are known and not looked at yet, at most; more aren't counted. They take memory.
_MOST_FOLDERS = 50_000

_BLOCK = 512  # stat(2): the unit of st_blocks


class FolderSize:
    """
    How large a folder is.

    :param filled: how many bytes of the folder's file system are used
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float], filled: Callable[[Path], int]) -> None:
        #: the bytes that the last count has found, or the one under way so far
        self.bytes = 0
        #: the most bytes that were found
        self.most = 0
        self._folder = folder
        self._clock = clock
        self._filled = filled
        self._filled_then = 0
        self._filled_then = self._filled_now()
        self._grown = 0  # how much the file system has grown since the last count began
        self._count: Iterator[int] | None = None
        self._took = 0.0
        self._rest_from = clock()

    def look(self, limit: int) -> float:
        """Count, if it is time to. Return the seconds until the next look."""
        now = self._clock()
        could_be = self._could_be()
        if self._count is None:
            since = now - self._rest_from
            hurried = could_be >= limit and since >= max(HURRIED_EVERY, HURRIED_REST * self._took)
            if not hurried and since < max(EVERY, REST * self._took):
                return HURRIED_EVERY
            self._begin()
        return self._turn(now)

    def finish(self, limit: int, seconds: float) -> None:
        """Count all of it now if there could be too much, for so many seconds at most."""
        until = self._clock() + seconds
        if self._could_be() < limit:
            return
        self._begin()
        while self._count is not None and self.most < limit and self._clock() < until:
            self._turn(self._clock())

    def _could_be(self) -> int:
        """
        Return how large the folder can be at most. What others have deleted at the same time isn't known, but mostly
        they don't in the same second.
        """
        filled = self._filled_now()
        self._grown += max(0, filled - self._filled_then)
        self._filled_then = filled
        return self.bytes + self._grown

    def _filled_now(self) -> int:
        try:
            return self._filled(self._folder)
        except OSError:  # the disk doesn't answer
            return self._filled_then

    def _begin(self) -> None:
        self._count = _count(self._folder)
        self._grown = 0
        self._took = 0.0

    def _turn(self, began: float) -> float:
        """Go on counting for a moment. Return the seconds until the next look."""
        assert self._count is not None
        for total in self._count:
            self.bytes = total
            self.most = max(self.most, total)  # what is counted is there, even if the count never ends
            now = self._clock()
            if now - began >= TURN:
                self._took += now - began
                return PAUSE
        self._rest_from = self._clock()
        self._took += self._rest_from - began
        self._count = None
        return HURRIED_EVERY


def filled(folder: Path) -> int:
    """Return how many bytes of a folder's file system are used. Raises OSError."""
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def _count(folder: Path) -> Iterator[int]:
    """Yield the bytes that were found so far, again and again, and all in the end. Links aren't followed."""
    waiting = [os.fspath(folder)]
    total = 0.0
    seen = 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen % _STRIDE == 0:
                        yield round(total)
                    try:
                        found = entry.stat(follow_symlinks=False)
                        is_folder = entry.is_dir(follow_symlinks=False)
                    except OSError:
                        continue  # it was deleted meanwhile
                    # A file of several names is met under each of them.
                    total += found.st_blocks * _BLOCK / (1 if is_folder else max(1, found.st_nlink))
                    if is_folder and len(waiting) < _MOST_FOLDERS:
                        waiting.append(entry.path)
        except OSError:
            continue  # it was deleted meanwhile, or can't be read
    yield round(total)
