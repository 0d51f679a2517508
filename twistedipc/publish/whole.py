"""
What a build has made, as one archive for people: its files under their own names, with those that the stored archive
leaves out. Called by ``server.releasing``, in a thread.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from msgspec import UNSET

from twistedipc.publish.archive import ManifestFile, extract
from twistedipc.publish.members import BadArchive

_BLOCK = 256 * 1024

#: Little compression is enough: this is made for one reader, who waits.
_LEVEL = 1


class _Reader:
    """Blocks, as a file to be read from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = b""

    def read(self, size: int = _BLOCK, /) -> bytes:
        """Return the next bytes: so many, but at the end."""
        while len(self._left) < size and (block := next(self._blocks, b"")):
            self._left += block
        data, self._left = self._left[:size], self._left[size:]
        return data


def write_whole(archive: Path, stored: Callable[[str], Path | None], into: IO[bytes]) -> int:
    """
    Write a tar.gz of all files of a build, and return its size. The same archive gives the same bytes. Blocks, as long
    as there is to be read. Raises `BadArchive`, also if a content is stored no more; OSError.

    :param archive: as builders upload it
    :param stored: by its SHA-256, the file with a content that was left out of it
    """
    with (
        gzip.GzipFile("", "wb", _LEVEL, into, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):

        def put(file: ManifestFile, blocks: Iterator[bytes]) -> None:
            about = tarfile.TarInfo(file.path)
            about.size, about.mode = file.size, file.mode
            tar.addfile(about, _Reader(blocks))

        manifest = extract(archive, put)
        there = None if manifest.packed is UNSET else frozenset(manifest.packed)
        for file in manifest.files:
            if there is not None and file.path not in there:
                put(file, _content(file, stored(file.sha256)))
    return into.tell()


def _content(file: ManifestFile, path: Path | None) -> Iterator[bytes]:
    """Yield a content that is stored elsewhere, verified at its end."""
    gone = BadArchive(f"{file.path} was left out of it, and isn't stored any more: build it again")
    if path is None:
        raise gone
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise gone from None
    digest, left = hashlib.sha256(), file.size
    with open(descriptor, "rb") as opened:
        while left and (data := opened.read(min(_BLOCK, left))):
            digest.update(data)
            left -= len(data)
            if not left and digest.hexdigest() != file.sha256:
                raise BadArchive(f"{file.path} isn't what the manifest says")
            yield data
    if left:
        raise BadArchive(f"{file.path} isn't what the manifest says")
