"""
What is remembered of a project's releases beside their files: which of them were ever live, and which names that look
hashed have had two contents. ``publish`` layer; used by ``releases``.

Two questions are answered by it. Whether a name's hash can be believed: not if the name's content has ever changed, so
each new release is compared with those that are kept. And which other releases may answer for an asset: those of which
a page can still be open, so only those that were live.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.targets.static.hashed_names import could_be_hashed
from twistedipc.publish.targets.static.release import Entry, Release

_FILE = "history.json"

#: How many changed names are remembered. A project with more has names that only look hashed: none is believed.
MAX_CHANGED = 10_000


class History(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """What was found out about the files of one project's releases."""

    compared: frozenset[int] = frozenset()  # the releases whose files have been compared
    live: frozenset[int] = frozenset()  # those that are live, or were
    left: dict[int, int] = {}  # those that were: when they ceased to be live, in milliseconds since the epoch
    changed: frozenset[str] = frozenset()  # paths that look hashed and have had two contents
    none_believed: bool = False  # too many of them

    def has_changed(self, path: str) -> bool:
        """Return whether this path can't be believed to have one content for ever."""
        return self.none_believed or path in self.changed

    def with_changed(self, paths: frozenset[str]) -> History:
        """This history, and these paths have changed too."""
        changed = self.changed | paths
        if len(changed) > MAX_CHANGED:
            return msgspec.structs.replace(self, changed=frozenset(), none_believed=True)
        return msgspec.structs.replace(self, changed=changed)


class HistoryFile:
    """The history of the project with this folder, on disk; what was read last is kept while the file is the same."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._read: tuple[tuple[int, int, int], History] | None = None

    def read(self) -> History | None:
        """The history. None if a version that kept none has unpacked the releases, or if it can't be read."""
        try:
            stamp = self._stamp()
        except FileNotFoundError:
            return None
        before = self._read
        if before is not None and before[0] == stamp:
            return before[1]
        try:
            history = read_file(self._path, History)
        except msgspec.DecodeError:
            return None
        if history is not None:
            self._read = (stamp, history)
        return history

    def write(self, history: History) -> None:
        """Replace the history on disk, durably. Its folder must be there."""
        write_file(self._path, history)
        self._read = (self._stamp(), history)

    def _stamp(self) -> tuple[int, int, int]:
        """Return what tells this file from any that was in its place before. Raises `FileNotFoundError`."""
        status = self._path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def changed_paths(new: Release, others: list[Release]) -> frozenset[str]:
    """
    The paths of the release ``new`` that look hashed and have another content in the first of the ``others`` that has
    them.
    """
    return frozenset(
        path for path, entry in new.files.items() if _differs(path, entry, others) and could_be_hashed(path)
    )


def _differs(path: str, entry: Entry, others: list[Release]) -> bool:
    for other in others:
        old = other.files.get(path)
        if old is not None:
            return old.sha256 != entry.sha256
    return False
