"""
The members of a tar stream, one after the other, as a stranger has written them. ``publish`` layer; `archive` reads
with it. Files and folders are all that there may be: what is no file of the archive's manifest isn't unpacked, so a
member's owner, times, mode and extended attributes mean nothing, and no link or device has a place.

What is taken is in docs/protocol.md ("The archive"): the formats ustar, v7, pax and GNU, with a long name in a header
of its own, and as many empty blocks at the end as a tar's record size makes.
"""

from __future__ import annotations

import tarfile
from typing import Protocol

BLOCK = 512

#: The largest header that holds a long name, or pax records.
_MAX_HEADER = 64 << 10

#: All such headers of one archive: with many, small ones would keep a reader busy for hours.
_MAX_HEADERS = 128 << 20

#: What may follow the last member: GNU tar fills its last record (10,240 bytes, and 1 MiB at most).
_MAX_END = 1 << 20

#: What a pax header may say beside the path and the size: nothing of it is used.
_IGNORED = frozenset({"atime", "comment", "ctime", "gid", "gname", "mtime", "uid", "uname"})
_IGNORED_VENDORS = ("SCHILY.", "LIBARCHIVE.")


class BadArchive(Exception):
    """Not an archive that can be unpacked. ``str()`` of it is a sentence."""


class Readable(Protocol):
    """What a tar stream is read from."""

    def read(self, size: int, /) -> bytes: ...


class Member:
    """A file of the stream, whose content comes next."""

    __slots__ = ("name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size


class Members:
    """
    The headers of a tar stream. The caller reads a member's content, and what fills its last block, before it asks for
    the next one.
    """

    def __init__(self, stream: Readable, max_folders: int) -> None:
        self._stream = stream
        self._folders = max_folders
        self._headers = _MAX_HEADERS

    def next(self) -> Member | None:
        """Return the next file; None when the archive ends here, in which case all of it was read."""
        while True:
            block = exactly(self._stream, BLOCK)
            if not block.strip(b"\0"):
                self._end()
                return None
            info = _header(block)
            longer: str | None = None
            if info.type == tarfile.XHDTYPE:
                values = _pax(self._long(info))
                info = _header(exactly(self._stream, BLOCK))
                _check_pax(values, info.size)
                longer = values.get("path")
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                longer = self._long(info).rstrip(b"\0").decode("utf-8", "surrogateescape")
                info = _header(exactly(self._stream, BLOCK))
            name = info.name if longer is None else longer
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                return Member(name, info.size)
            if info.type != tarfile.DIRTYPE or info.size:
                raise BadArchive(f"{name[:100]!a} is in it, and is neither a file nor a folder")
            self._folders -= 1
            if self._folders < 0:
                raise BadArchive("it has too many folders")

    def _long(self, info: tarfile.TarInfo) -> bytes:
        if info.size > _MAX_HEADER:
            raise BadArchive("it has a header that is too large")
        self._headers -= info.size
        if self._headers < 0:
            raise BadArchive("its headers are too large together")
        return padded(self._stream, info.size)

    def _end(self) -> None:
        """Read what follows the first empty block: another, and no more than a tar makes."""
        left = _MAX_END
        rest = exactly(self._stream, BLOCK)
        while rest:
            left -= len(rest)
            if rest.strip(b"\0") or left < 0:
                raise BadArchive("there is more in it than its manifest says")
            rest = self._stream.read(BLOCK)


def padded(stream: Readable, size: int) -> bytes:
    """Return a content of this size, with what fills its last block read too. Raises `BadArchive`."""
    data = exactly(stream, size)
    exactly(stream, -size % BLOCK)
    return data


def exactly(stream: Readable, size: int) -> bytes:
    """Return as many bytes as this. Raises `BadArchive` if there are fewer."""
    parts: list[bytes] = []
    while size:
        data = stream.read(size)
        if not data:
            raise BadArchive("it ends too early")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _header(block: bytes) -> tarfile.TarInfo:
    """Read a header. Raises `BadArchive` or ``tarfile.TarError``."""
    info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if info.size < 0:  # a binary number can be negative: then "as many bytes as this" would be all that there are
        raise BadArchive(f"{info.name[:100]!a} has an impossible size")
    return info


def _check_pax(values: dict[str, str], size: int) -> None:
    """Raise `BadArchive` if a header says what would change the member's content."""
    for key, value in values.items():
        if key == "path" or key in _IGNORED or key.startswith(_IGNORED_VENDORS):
            continue
        if key != "size" or value != str(size):
            raise BadArchive(f"it has an unexpected header: {key[:100]}")


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header: "LENGTH KEY=VALUE\\n"."""
    values: dict[str, str] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 7)
        length = data[at : max(at, space)]
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(data) - at:
            raise BadArchive("it has a header that can't be read")
        end = at + int(length)
        key, equals, value = data[space + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise BadArchive("it has a header that can't be read")
        values[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        at = end
    return values
