"""
What is remembered of a project's releases beside their files: which of them were ever live, and which names that look
hashed have had two contents. ``publish`` layer; used by ``releases``.

Two questions are answered by it. Whether a name's hash can be believed: not if the name's content has ever changed, so
each new release is compared with those that are kept. And which other releases may answer for an asset: those of which
a page can still be open, so only those that were live.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.targets.static.hashed_names import could_be_hashed

_FILE = "history.json"

#: How many changed names are remembered. A project with more has names that only look hashed: none is believed.
MAX_CHANGED = 10_000


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about the files of one project's releases."""

    compared: frozenset[int] = frozenset()  # the releases whose files have been compared
    live: frozenset[int] = frozenset()  # those that are live, or were
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
            status = self._path.stat()
        except FileNotFoundError:
            return None
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
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


def changed_paths(new: Path, others: list[Path], *, by_content: bool) -> frozenset[str]:
    """
    The paths below the release ``new`` that look hashed and have another content in the first of the ``others`` that
    has them. Not ``by_content``: by the files' sizes only, which costs no reading.
    """
    return frozenset(
        path for path in _files(new) if could_be_hashed(path) and _differs(new / path, others, path, by_content)
    )


def _files(release: Path) -> Iterator[str]:
    for folder, _, files in os.walk(release):
        prefix = os.path.relpath(folder, release)
        yield from (name if prefix == "." else f"{prefix}/{name}" for name in files)


def _differs(file: Path, others: list[Path], path: str, by_content: bool) -> bool:
    for other in others:
        old = other / path
        try:
            if not old.is_file():
                continue
            if by_content:
                return not filecmp.cmp(file, old, shallow=False)
            return file.stat().st_size != old.stat().st_size
        except OSError:
            return True  # unknown: so it isn't believed
    return False
