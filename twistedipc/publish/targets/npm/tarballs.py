"""
A package's tarball, read with a bound on everything: its author may be a stranger, and some kilobytes can be packed
that become gigabytes. Used by ``package`` and ``compare``. Nothing is unpacked to the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.builds.names import shown
from twistedipc.publish.compared import File
from twistedipc.publish.targets.target import CantPrepare

#: The most bytes of a tarball. (The public registry takes less; base64 makes a third more of them.)
MAX_TARBALL = 512 << 20

#: The most members, and the most bytes that are unpacked.
MAX_MEMBERS = 100_000
MAX_UNPACKED = 2 << 30

#: The most characters of a path in it.
MAX_PATH = 1024

#: The most bytes of its package.json, and how deep lists and objects may be in one another there.
MAX_PACKAGE_JSON = 1 << 20
MAX_DEPTH = 60

#: The most bytes of a text that is kept. What a README has beyond them is cut off: no registry shows more.
MAX_TEXT = 1 << 20

#: The most that is read at a time. The headers for long names are read whole, so it is the most of them too.
_READ_BYTES = 1 << 20


class BadPackage(CantPrepare):
    """The package can't be published as it is. ``str()`` of it is a sentence for its authors."""


def check_size(tarball: Path, limit: int = MAX_TARBALL) -> int:
    """Return how many bytes a tarball has. Raises `BadPackage` if it has more than can be published, or OSError."""
    size = tarball.stat().st_size
    if size > limit:
        raise BadPackage(
            f"the package's tarball has {size} bytes, and {limit} is the most that can be published: leave out of "
            "`files` in package.json what needn't be in it"
        )
    return size


class Contents(msgspec.Struct, frozen=True):
    """What is in a package."""

    files: dict[str, File]  # path below the package's folder -> the file
    manifest: dict[str, Any]  # all of package.json
    package_json: bytes
    twice: list[str] = []  # the paths that are there more than once: the last one counts
    links: list[str] = []  # what is neither a file nor a folder: npm leaves it out
    outside: list[str] = []  # the paths that would lead out of the package's folder
    texts: dict[str, bytes] = {}  # the files that were asked for


class _Unpacked:
    """The unpacked bytes as a file of which no more can be read than the bounds say. It goes forward only."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._at = 0
        self.last = b""  # what was read the last time

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._at

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises `BadPackage` beyond the bounds."""
        if not 0 <= size <= _READ_BYTES:
            raise BadPackage(f"the package's tarball has a header of {size} bytes")
        data = self.last = self._stream.read(size)
        self._at += len(data)
        if self._at > MAX_UNPACKED:
            raise BadPackage(f"the package has more than {MAX_UNPACKED} bytes in it")
        return data

    def seek(self, position: int) -> int:
        """Go forward to this position."""
        while self._at < position and self.read(min(position - self._at, _READ_BYTES)):
            pass
        return self._at


def read_contents(tarball: Path, *, keep: Callable[[str, int], bool] = lambda path, size: False) -> Contents:
    """
    Look into a package. Raises `BadPackage`.

    :param keep: whether the text of a file is wanted, by its path and how many bytes it has
    """
    try:
        with gzip.open(tarball, "rb") as stream:
            return _Reading(_Unpacked(stream), keep).run()
    except (tarfile.TarError, EOFError, OSError, zlib.error, RecursionError, MemoryError, ValueError) as error:
        raise BadPackage(f"the package's tarball can't be read: {error}") from error


class _Reading:
    def __init__(self, unpacked: _Unpacked, keep: Callable[[str, int], bool]) -> None:
        self._unpacked = unpacked
        self._keep = keep
        self._texts: dict[str, bytes] = {}
        self._files: dict[str, File] = {}
        self._twice: dict[str, None] = {}
        self._links: list[str] = []
        self._outside: list[str] = []
        self._package_json: bytes | None = None

    def run(self) -> Contents:
        # What isn't UTF-8 in a name is replaced: it couldn't be said in JSON.
        archive = tarfile.TarFile(fileobj=self._unpacked, mode="r", encoding="utf-8", errors="replace")  # type: ignore[arg-type]
        members = 0
        with archive:
            while (member := archive.next()) is not None:
                members += 1
                if members > MAX_MEMBERS:
                    raise BadPackage(f"the package has more than {MAX_MEMBERS} files")
                self._take(member)
                archive.members.clear()  # type: ignore[attr-defined]  # else all of them are kept
        # Python ends at a header that isn't one, and npm goes on: what comes then would be installed unseen.
        if any(self._unpacked.last):
            raise BadPackage("the package's tarball has something in it that is neither a file nor its end")
        while self._unpacked.read(_READ_BYTES):
            if any(self._unpacked.last):
                raise BadPackage("the package's tarball has something behind its end")
        if self._package_json is None:
            raise BadPackage("the package's tarball has no package.json")
        return Contents(
            self._files,
            parse_manifest(self._package_json),
            self._package_json,
            list(self._twice),
            self._links,
            self._outside,
            self._texts,
        )

    def _take(self, member: tarfile.TarInfo) -> None:
        if len(member.name) > MAX_PATH:
            raise BadPackage(f"the package has a file whose path is longer than {MAX_PATH} characters")
        # The first folder is "package" by custom; npm takes it off whatever its name is.
        path = member.name.partition("/")[2] or member.name
        if not member.isfile():
            if not member.isdir():
                self._links.append(path)
            return
        if member.issparse() or member.size < 0:
            raise BadPackage(f"the package's tarball has a file without a plain size, {shown(path, 100)}")
        if member.name.startswith("/") or not {"..", ""}.isdisjoint(path.replace("\\", "/").split("/")):
            self._outside.append(path)
        if path in self._files:
            self._twice[path] = None
        is_manifest = path == "package.json"
        if is_manifest and member.size > MAX_PACKAGE_JSON:
            raise BadPackage("the package's package.json is too large")
        keep = is_manifest or self._keep(path, member.size)
        digest, kept = self._content(member.size, MAX_TEXT if keep else 0)
        if is_manifest:
            self._package_json = kept.removeprefix(b"\xef\xbb\xbf")
        elif keep:
            self._texts[path] = kept
        self._files[path] = File(size=member.size, sha256=digest)

    def _content(self, left: int, keep: int) -> tuple[str, bytes]:
        """Read a file. Return its hash, and so many bytes of its beginning."""
        digest, kept = hashlib.sha256(), b""
        while left:
            block = self._unpacked.read(min(left, _READ_BYTES))
            if not block:
                raise BadPackage("the package's tarball can't be read: it ends too early")
            left -= len(block)
            digest.update(block)
            if len(kept) < keep:
                kept += block
        return digest.hexdigest(), kept[:keep]


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Return what a package.json says. Raises `BadPackage`."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPackage(f"the package's package.json can't be read: {error}") from error
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [value for each in level for value in (each.values() if isinstance(each, dict) else each)
                 if isinstance(value, dict | list)]  # fmt: skip
        if not level:
            return found
    raise BadPackage(f"the package's package.json has more than {MAX_DEPTH} lists and objects in one another")
