"""
Releases as version 0.2 and older ones left them on disk: each a folder with its files. ``publish`` layer; ``releases``
takes them into the pool when the service starts.

A folder's files are linked into the pool, not copied. So it takes no room, and nothing of the folder is changed before
its index is there: a start that was killed meanwhile is repeated.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from twistedipc.builds.site.rules import Serving
from twistedipc.disk.files import read_file
from twistedipc.publish.site_paths import is_hidden, problem_of_segment
from twistedipc.publish.targets.static.pool import Pool
from twistedipc.publish.targets.static.release import Entry, Index

#: How a release is served was in this file of its folder, which was never served itself.
_SERVING = ".serving.json"


def take_in(folder: Path, pool: Pool) -> Index:
    """Take the files of a release's folder into the pool, durably. Return the release's index. Raises OSError."""
    files: dict[str, Entry] = {}
    with pool.adding() as adding:
        for path in sorted(_served(folder), key=str.encode):
            file = folder / path
            with file.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                files[path] = Entry(sha256, content.tell())
            adding.link(sha256, file)
    return Index(files=files, serving=_serving(folder))


def _served(folder: Path) -> Iterator[str]:
    """The paths of what was served: regular files, reached without a link."""
    for above, _, names in os.walk(folder):
        prefix = os.path.relpath(above, folder)
        for name in names:
            path = name if prefix == "." else f"{prefix}/{name}"
            segments = path.split("/")
            if is_hidden(segments) or any(map(problem_of_segment, segments)):
                continue
            if stat.S_ISREG(os.lstat(folder / path).st_mode):
                yield path


def _serving(folder: Path) -> Serving:
    try:
        return read_file(folder / _SERVING, Serving) or Serving()
    except msgspec.DecodeError:  # a damaged disk: then as if nothing were said
        return Serving()
