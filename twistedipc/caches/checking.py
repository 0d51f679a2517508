"""
Whether folders that a build has made can be kept, and given to other builds. Used by ``store`` and ``tidying``.

What package managers and build tools make are folders, files, and links within the attempt. All else is refused: links
that lead out of it, devices, pipes and sockets, files that run as their owner, files that have another name elsewhere
(a process that has that one could change what is kept), and trees that no tool would make.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

#: How many entries a cache may have, and how deep its folders may be.
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 200

#: What a file is: its device and its number there.
_File = tuple[int, int]


class CantKeep(Exception):
    """A folder isn't kept, or isn't used. ``str()`` of it is a clause that says why."""


class Names:
    """
    The names that files with several names have, over all folders that are checked together: package managers link
    files of ``node_modules`` to those of their own store.
    """

    def __init__(self) -> None:
        self._found: Counter[_File] = Counter()
        self._wanted: dict[_File, tuple[int, str]] = {}

    def add(self, status: os.stat_result, path: str) -> None:
        """Note one name of a file that has several."""
        file = status.st_dev, status.st_ino
        self._found[file] += 1
        self._wanted[file] = status.st_nlink, path

    def check(self, rest: Path | None = None) -> None:
        """
        Raise `CantKeep` if a file that was added since the last check has a name that wasn't seen.

        :param rest: a folder in which the other names may be: it will be removed
        """
        wanted, self._wanted = self._wanted, {}
        missing = {file for file, (links, _path) in wanted.items() if self._found[file] < links}
        if missing and rest is not None:
            numbers = {number for _device, number in missing}
            elsewhere: Counter[_File] = Counter()
            for _path, _depth, entry in _walk(rest):
                if entry.inode() in numbers:
                    status = entry.stat(follow_symlinks=False)
                    elsewhere[status.st_dev, status.st_ino] += 1
            missing = {file for file in missing if self._found[file] + elsewhere[file] < wanted[file][0]}
        if missing:
            path = wanted[min(missing)][1]
            raise CantKeep(f"{path[:200]!a} is a file that has another name elsewhere")


def check_folder(folder: Path, place: str, names: Names) -> None:
    """
    Check a folder that was made by a build. No process of the build is alive, or can reach it. Raises `CantKeep`.

    :param place: where it belongs, relative to the attempt's folder: links may lead to all that is in that
    :param names: is told of the files that have several names
    """
    above = len(place.split("/"))
    for count, (path, depth, entry) in enumerate(_walk(folder), 1):
        if count > MAX_ENTRIES or depth > MAX_DEPTH:
            raise CantKeep(f"it has more than {MAX_ENTRIES} entries, or folders that are more than {MAX_DEPTH} deep")
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            if not _stays(os.readlink(entry.path), above + depth - 1):
                raise CantKeep(f"{path[:200]!a} is a link that leaves the attempt")
        elif not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise CantKeep(f"{path[:200]!a} is neither a file nor a folder")
        elif stat.S_ISREG(status.st_mode):
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                raise CantKeep(f"{path[:200]!a} runs as its owner or its group")
            if status.st_nlink > 1:
                names.add(status, path)


def _stays(target: str, depth: int) -> bool:
    """
    Return whether a link stays in the attempt's folder, wherever other links lead: it is relative, goes up at its
    beginning alone, and not too far.

    :param depth: how many folders of the attempt's folder the link itself is in
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return not target.startswith("/") and up <= depth and ".." not in parts[up:]


def _walk(folder: Path) -> Iterator[tuple[str, int, os.DirEntry[str]]]:
    """
    Yield all that is in a folder: its path below the folder, how deep it is, and the entry. Raises `CantKeep` if a
    folder can't be read: it may forbid that, or its path may be too long.
    """
    pending = [("", 1, str(folder))]
    while pending:
        prefix, depth, where = pending.pop()
        try:
            with os.scandir(where) as scanned:
                entries = list(scanned)
        except OSError as error:
            raise CantKeep(f"{prefix[:200]!a} can't be read: {error.strerror}") from error
        for entry in entries:
            path = prefix + entry.name
            yield path, depth, entry
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{path}/", depth + 1, entry.path))
