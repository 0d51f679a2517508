"""
A package's archive -> a folder, with a bound on everything. Used by ``store``.

The archive was checked by its hash, but its author is a stranger: it has files and folders below one folder, and
nothing else. Links, devices, names that lead out, names that are there twice, and more than the bounds are refused.
Files are made for reading only.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path
from typing import Protocol

from twistedipc.toolchains.problems import BadPackage

#: The most that a package may have in it. Node has 2400 files of 180 MB.
MAX_FILES = 50_000
MAX_BYTES = 1 << 30

#: The most bytes of a path in it.
MAX_PATH = 1024

_BLOCK = 512
_CHUNK = 256 * 1024
_MAX_HEADER = 64 * 1024

#: How many headers of their own there may be for each file, on average. (They are packed to almost nothing.)
_HEADERS_EACH = 3


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack(archive: Path, target: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> int:
    """
    Unpack into the new folder ``target``, without the one folder that all of it is in: how many bytes of files there
    are. Raises `BadPackage`, or OSError of the disk; what is in the folder then is to be deleted.
    """
    target.mkdir()
    try:
        with gzip.open(archive, "rb") as stream:
            return _Unpacking(stream, target, max_files, max_bytes).run()
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise BadPackage(f"it isn't a whole archive: {error}") from error


class _Unpacking:
    def __init__(self, stream: _Readable, target: Path, max_files: int, max_bytes: int) -> None:
        self._stream = stream
        self._target = target
        self._most_files = self._files_left = max_files
        self._bytes_left = max_bytes
        self._folders = {target}
        self._size = 0

    def run(self) -> int:
        name: str | None = None  # of the next member, where a header of its own has it
        headers = 0
        while (info := self._header()) is not None:
            if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                headers += 1
                if headers > _HEADERS_EACH * self._most_files:
                    raise BadPackage("it has too many headers in it")
                data = self._small(info)
                if info.type == tarfile.XHDTYPE:
                    name = _pax_path(data) or name
                elif info.type == tarfile.GNUTYPE_LONGNAME:
                    name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
                continue
            self._take(info, name if name is not None else info.name)
            name = None
        return self._size

    def _header(self) -> tarfile.TarInfo | None:
        """The next member's; None at the end."""
        block = self._stream.read(_BLOCK)
        if not block:
            return None  # some archives have no blocks of zeros at their end
        block += self._exactly(_BLOCK - len(block))
        if not block.strip(b"\0"):
            return None
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.size < 0:
            raise BadPackage("it has a file of a size below 0")
        return info

    def _take(self, info: tarfile.TarInfo, name: str) -> None:
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise BadPackage(f"{name[:200]!a} in it is neither a file nor a folder")
        self._files_left -= 1
        if self._files_left < 0:
            raise BadPackage("it has too many files in it")
        parts = _parts(name)
        if info.type == tarfile.DIRTYPE or name.endswith("/"):
            self._folder(parts)
            self._skip(info.size)
            return
        if not parts:
            raise BadPackage(f"{name[:200]!a} in it is beside the folder of the package")
        self._bytes_left -= info.size
        if self._bytes_left < 0:
            raise BadPackage("it is too large when it is unpacked")
        self._folder(parts[:-1])
        self._file(self._target.joinpath(*parts), info)
        self._size += info.size

    def _folder(self, parts: list[str]) -> None:
        path = self._target
        for part in parts:
            path = path / part
            if path not in self._folders:
                try:
                    path.mkdir(mode=0o755)
                except FileExistsError as error:
                    raise BadPackage(f"{part[:200]!a} in it is a file and a folder") from error
                self._folders.add(path)

    def _file(self, path: Path, info: tarfile.TarInfo) -> None:
        mode = 0o555 if info.mode & 0o111 else 0o444
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, mode)
        except FileExistsError as error:
            raise BadPackage(f"{path.name[:200]!a} is in it twice") from error
        with os.fdopen(descriptor, "wb") as file:
            left = info.size
            while left:
                data = self._stream.read(min(_CHUNK, left))
                if not data:
                    raise BadPackage("it ends too early")
                file.write(data)
                left -= len(data)
            os.fchmod(descriptor, mode)
        self._skip(-info.size % _BLOCK)

    def _small(self, info: tarfile.TarInfo) -> bytes:
        if info.size > _MAX_HEADER:
            raise BadPackage("it has a header that is too large")
        data = self._exactly(info.size)
        self._skip(-info.size % _BLOCK)
        return data

    def _skip(self, size: int) -> None:
        if size > _MAX_HEADER:
            raise BadPackage("it has a folder with something in its place")
        self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            data = self._stream.read(size)
            if not data:
                raise BadPackage("it ends too early")
            parts.append(data)
            size -= len(data)
        return b"".join(parts)


def _parts(name: str) -> list[str]:
    """The path below the package's folder, whatever that is called."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise BadPackage(f"{name[:200]!a} in it isn't UTF-8") from error
    if name.startswith("/") or ".." in parts or "\0" in name or len(encoded) > MAX_PATH:
        raise BadPackage(f"{name[:200]!a} in it is a name that leads out of its folder, or no name at all")
    return parts[1:]


def _pax_path(data: bytes) -> str | None:
    """The path in a pax header, whose records are "LENGTH KEY=VALUE\\n"; None if there is none."""
    found: str | None = None
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(data):
            raise BadPackage("it has a header that can't be read")
        key, equals, value = data[len(length) + 1 : int(length)].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise BadPackage("it has a header that can't be read")
        if key == b"path":
            found = value[:-1].decode("utf-8", "surrogateescape")
        elif key == b"size":
            raise BadPackage("it has a file whose size stands beside it")
        data = data[int(length) :]
    return found
