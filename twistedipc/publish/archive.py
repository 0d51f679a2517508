"""
A folder as one archive, and back. Used by ``pack`` (on the builder) and by ``releases`` (on the apiserver).

The archive is a tar.gz whose first member, ``manifest.json``, lists all the others: the files, under ``files/``, sorted
by path, each with its size, SHA-256 and mode. Equal folders give equal archives: no times, no owners, two modes. Empty
folders aren't kept. Links within the folder are followed; one that leaves it is an error. Names that can't be served
(``site_paths``) are an error too, and hidden ones are left out.

`unpack` believes nothing: the members must be exactly those of the manifest, in its order, of its sizes and digests.
So a hostile archive has no links, devices or surprising names to offer, and can't grow beyond what it announced.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.disk.beneath import Beneath
from twistedipc.disk.files import sync_file_system, sync_folder
from twistedipc.publish.site_paths import MAX_PATH, is_hidden, problem_of_segment
from twistedipc.publish.targets.target import CantPrepare

FORMAT = 1
MANIFEST = "manifest.json"
MAX_FILES = 100_000
MAX_BYTES = 4 << 30

#: Files below so many bytes are shown to people who look into a release.
SMALL = 1024

_MAX_MANIFEST = 64 << 20
_MAX_PAX = 64 << 10
_BLOCK = 256 * 1024
_TAR_BLOCK = 512


class BadArchive(Exception):
    """Not an archive that `create` could have made. ``str()`` of it is a sentence."""


class CantPack(CantPrepare):
    """The folder can't be an archive. ``str()`` of it is a sentence for the project's authors."""


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an archive."""

    path: str  # relative, with "/"
    size: int
    sha256: str
    mode: int  # 0o644 or 0o755


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in an archive, in the archive's order: sorted by the paths' UTF-8."""

    format: int = FORMAT
    files: list[ManifestFile]
    spa: bool | UnsetType = UNSET  # True: addresses without a file are answered with the site's page

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


# -- making one ------------------------------------------------------------------------------------------------------


def create(
    source: Path,
    archive: Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    leave_out: frozenset[str] = frozenset(),
    on_hidden: Callable[[str], None] = lambda _: None,
    on_small: Callable[[str, bytes], None] = lambda _path, _content: None,
    spa: bool = False,
) -> Manifest:
    """
    Make ``archive`` (whole or not at all, and durably) of the folder ``source``, without the names in ``leave_out`` at
    its top. ``spa`` is for the manifest. Raises `CantPack`, or OSError of the disk.

    Whatever changes the folder meanwhile: nothing is read that is outside of it.

    :param on_hidden: is called with the path of each file or folder that is left out because it is hidden
        (`site_paths.is_hidden`)
    :param on_small: is called with the path and the content of each file below `SMALL` bytes
    """
    root = source.resolve()
    folder = Beneath(root)
    try:
        return _create(root, folder, archive, _Wanted(max_files, max_bytes, leave_out, on_hidden, on_small, spa))
    finally:
        folder.close()


def _create(root: Path, folder: Beneath, archive: Path, wanted: _Wanted) -> Manifest:
    found = list(_walk(root, folder, wanted))
    found.sort(key=lambda item: item[0].encode())
    files: list[ManifestFile] = []
    left = wanted.max_bytes
    for path, where in found:
        with _open_regular(folder, where, path) as file:
            status = os.fstat(file.fileno())
            left -= status.st_size
            if left < 0:
                raise CantPack(f"the folder has more than {wanted.max_bytes} bytes in it")
            digest, size = _digest(file, status.st_size)
            if size < SMALL:
                file.seek(0)
                wanted.on_small(path, file.read(SMALL))
            mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            files.append(ManifestFile(path=path, size=size, sha256=digest, mode=mode))
    manifest = Manifest(files=files, spa=True if wanted.spa else UNSET)
    encoded = msgspec.json.encode(manifest)
    if len(encoded) > _MAX_MANIFEST:
        raise CantPack("the folder has too many files with too long names")
    temporary = archive.with_name(f".{archive.name}.new")
    try:
        with temporary.open("wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                _write_member(packed, MANIFEST, len(encoded), 0o644)
                _write_padded(packed, encoded)
                for (path, where), entry in zip(found, files, strict=True):
                    _write_member(packed, f"files/{path}", entry.size, entry.mode)
                    _write_file(packed, folder, where, entry)
                packed.write(bytes(2 * _TAR_BLOCK))
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, archive)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(archive.parent)
    return manifest


def _digest(file: BufferedReader, most: int) -> tuple[str, int]:
    """Return the SHA-256 of a file and its size. Of one that grows meanwhile, no more is read than this."""
    digest = hashlib.sha256()
    left = most
    while left and (data := file.read(min(_BLOCK, left))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest(), most - left


class _Wanted(msgspec.Struct, frozen=True):
    """What `create` was asked for."""

    max_files: int
    max_bytes: int
    leave_out: frozenset[str]
    on_hidden: Callable[[str], None]
    on_small: Callable[[str, bytes], None]
    spa: bool


#: The parts of a file's or a folder's real path, below the folder that is packed.
_Parts = tuple[str, ...]


def _walk(root: Path, top: Beneath, wanted: _Wanted) -> Iterator[tuple[str, _Parts]]:
    """The files below ``root``: the path in the archive, and the real one."""
    count = 0
    # Folders to look into, each with the real folders that led there: to see a link that goes round in a circle.
    waiting: list[tuple[str, _Parts, frozenset[_Parts]]] = [("", (), frozenset({()}))]
    folders = 0
    while waiting:
        prefix, folder, above = waiting.pop()
        folders += 1
        if folders > wanted.max_files:
            raise CantPack(f"the folder has more than {wanted.max_files} folders in it")
        for name, kind in _listed(top, folder, prefix):
            path = prefix + name
            if path in wanted.leave_out:  # "a/b" isn't
                continue
            if is_hidden(path.split("/")):
                wanted.on_hidden(path)
                continue
            try:
                _check_path(path)
            except BadArchive as error:
                raise CantPack(f"{path!a} can't be packed: {error}") from error
            real = (*folder, name)
            if stat.S_ISLNK(kind):
                real, kind = _follow(root.joinpath(*real), path, root)
            if stat.S_ISDIR(kind):
                if real in above:
                    raise CantPack(f"{path} is a link that goes round in a circle")
                waiting.append((path + "/", real, above | {real}))
            elif stat.S_ISREG(kind):
                count += 1
                if count > wanted.max_files:
                    raise CantPack(f"the folder has more than {wanted.max_files} files in it")
                yield path, real
            else:
                raise CantPack(f"{path} is neither a file nor a folder")


def _listed(top: Beneath, folder: _Parts, prefix: str) -> list[tuple[str, int]]:
    """What is in a folder: the names, each with the mode."""
    try:
        with os.scandir(top.folder(folder)) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
    except OSError as error:
        raise CantPack(f"{prefix or 'the folder'} can't be read: {error.strerror}") from error


def _follow(link: Path, path: str, root: Path) -> tuple[_Parts, int]:
    """Where a link leads, below the root, and the mode of what is there."""
    try:
        real = link.resolve(strict=True)
        kind = real.lstat().st_mode
    except FileNotFoundError as error:
        raise CantPack(f"{path} is a link to nothing") from error
    except (OSError, RuntimeError) as error:
        raise CantPack(f"{path} is a link that goes round in a circle") from error
    if not real.is_relative_to(root):
        raise CantPack(f"{path} is a link that leaves the folder")
    parts = real.relative_to(root).parts
    if parts[:1] == (".git",):
        raise CantPack(f"{path} is a link into .git, which git keeps to itself and no release may have")
    return parts, kind


def _open_regular(top: Beneath, where: _Parts, path: str) -> BufferedReader:
    try:
        descriptor = top.file(where)
    except OSError as error:
        raise CantPack(f"{path} can't be read: {error.strerror}") from error
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise CantPack(f"{path} isn't a file any more")
    return file


def _write_member(packed: gzip.GzipFile, name: str, size: int, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = mode
    packed.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))


def _write_padded(packed: gzip.GzipFile, data: bytes) -> None:
    packed.write(data)
    packed.write(bytes(-len(data) % _TAR_BLOCK))


def _write_file(packed: gzip.GzipFile, top: Beneath, where: _Parts, entry: ManifestFile) -> None:
    digest = hashlib.sha256()
    left = entry.size
    with _open_regular(top, where, entry.path) as file:
        while data := file.read(min(_BLOCK, left + 1)):
            left -= len(data)
            if left < 0:
                break
            digest.update(data)
            packed.write(data)
    if left or digest.hexdigest() != entry.sha256:
        raise CantPack(f"{entry.path} was changed while it was packed")
    packed.write(bytes(-entry.size % _TAR_BLOCK))


# -- reading one -----------------------------------------------------------------------------------------------------


def read_manifest(archive: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Manifest:
    """The manifest of an archive, checked by itself. Raises `BadArchive`."""
    with _opened(archive) as stream:
        return _read_manifest(stream, max_files, max_bytes)


def unpack(
    archive: Path,
    target: Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    add: Callable[[Path], None] = lambda _: None,
) -> Manifest:
    """
    Unpack into the new folder ``target``: all of it, verified and durable, or nothing. ``add`` is called with the
    folder, under its temporary name, to put more into it. Raises `BadArchive`, FileExistsError, or OSError of the disk.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    try:
        temporary.chmod(0o755)
        with _opened(archive) as stream:
            manifest = _read_manifest(stream, max_files, max_bytes)
            made = {temporary}
            for entry in manifest.files:
                _check_member(stream, f"files/{entry.path}", entry.size)
                where = temporary / entry.path
                for folder in reversed(where.parents):
                    if folder not in made and folder.is_relative_to(temporary):
                        folder.mkdir(mode=0o755)
                        made.add(folder)
                _extract(stream, entry, where)
            if _exactly(stream, 2 * _TAR_BLOCK).strip(b"\0") or stream.read(1):
                raise BadArchive("there is more in it than its manifest says")
        add(temporary)
        # In one call: a call for each file would keep others' releases waiting, whose disk and threads these are too.
        sync_file_system(temporary)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)
    return manifest


@contextmanager
def _opened(archive: Path) -> Iterator[gzip.GzipFile]:
    """The unpacked stream of an archive; whatever is wrong with it becomes `BadArchive`."""
    try:
        with gzip.open(archive, "rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise BadArchive(f"it isn't a whole archive: {error}") from error


def _read_manifest(stream: _Readable, max_files: int, max_bytes: int) -> Manifest:
    size = _check_member(stream, MANIFEST, None)
    if size > _MAX_MANIFEST:
        raise BadArchive("its manifest is too large")
    try:
        manifest = msgspec.json.decode(_padded(stream, size), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArchive(f"its manifest can't be read: {error}") from error
    if manifest.format != FORMAT:
        raise BadArchive(f"its manifest has format {manifest.format}, and only {FORMAT} is known")
    if len(manifest.files) > max_files:
        raise BadArchive(f"it has more than {max_files} files")
    total = 0
    before = b""
    folders: set[str] = set()
    paths: set[str] = set()
    for entry in manifest.files:
        _check_path(entry.path)
        encoded = entry.path.encode()
        if encoded <= before:
            raise BadArchive(f"{entry.path} isn't where it belongs in the manifest, or is there twice")
        before = encoded
        parent = entry.path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in folders:
                break
            folders.add(parent)
        paths.add(entry.path)
        if entry.size < 0 or entry.mode not in (0o644, 0o755):
            raise BadArchive(f"{entry.path} has an impossible size or mode")
        total += entry.size
        if total > max_bytes:
            raise BadArchive(f"it has more than {max_bytes} bytes of files")
    if clash := folders & paths:
        raise BadArchive(f"{min(clash)} is a file and a folder")
    return manifest


def _check_path(path: str) -> None:
    """Raise `BadArchive` if no file of a site can have this path."""
    for segment in path.split("/"):
        if problem := problem_of_segment(segment):
            raise BadArchive(f"its name {problem}")
    if len(path.encode()) > MAX_PATH:
        raise BadArchive(f"its path has more than {MAX_PATH} bytes")


def _check_member(stream: _Readable, name: str, size: int | None) -> int:
    """Read the next member's header: its size. It must be a file of that name (and size)."""
    header = _exactly(stream, _TAR_BLOCK)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    found = info.name
    if info.type == tarfile.XHDTYPE:
        if info.size > _MAX_PAX:
            raise BadArchive("it has a header that is too large")
        values = _pax(_padded(stream, info.size))
        info = tarfile.TarInfo.frombuf(_exactly(stream, _TAR_BLOCK), "utf-8", "surrogateescape")
        found = values.pop("path", info.name)
        if values:
            raise BadArchive(f"it has an unexpected header: {min(values)[:100]}")
    if info.type != tarfile.REGTYPE or found != name or (size is not None and info.size != size):
        raise BadArchive(f"{found[:100]!a} is there where {name} must be, or isn't the same file")
    return info.size


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header: "LENGTH KEY=VALUE\\n"."""
    values: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or int(length) <= len(length) + 1 or int(length) > len(data):
            raise BadArchive("it has a header that can't be read")
        record = rest[: int(length) - len(length) - 1]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise BadArchive("it has a header that can't be read")
        values[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "replace")
        data = data[int(length) :]
    return values


def _extract(stream: _Readable, entry: ManifestFile, where: Path) -> None:
    digest = hashlib.sha256()
    descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, entry.mode)
    with os.fdopen(descriptor, "wb") as file:
        left = entry.size
        while left:
            data = stream.read(min(_BLOCK, left))
            if not data:
                raise BadArchive("it ends too early")
            digest.update(data)
            file.write(data)
            left -= len(data)
        os.fchmod(descriptor, entry.mode)
    _exactly(stream, -entry.size % _TAR_BLOCK)
    if digest.hexdigest() != entry.sha256:
        raise BadArchive(f"{entry.path} isn't what the manifest says")


def _padded(stream: _Readable, size: int) -> bytes:
    data = _exactly(stream, size)
    _exactly(stream, -size % _TAR_BLOCK)
    return data


def _exactly(stream: _Readable, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        data = stream.read(size)
        if not data:
            raise BadArchive("it ends too early")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
