"""
A folder as one archive, and back. Used by ``pack`` (on the builder) and by ``releases`` (on the apiserver).

The archive is a tar.gz whose first member, ``manifest.json``, lists all the others: the files, under ``files/``, sorted
by path, each with its size, SHA-256 and mode. Equal folders give equal archives: no times, no owners, two modes. Empty
folders aren't kept. Links within the folder are followed; one that leaves it is an error. Names that can't be served
(``site_paths``) are an error too, and hidden ones are left out.

`extract` and `unpack` believe nothing: the files must be exactly those of the manifest, each once, of its sizes and
digests. So a hostile archive has no links, devices or surprising names to offer, and can't grow beyond what it
announced. Any tar can have made it, though (`members`): their order, times and owners don't matter.

An archive for a project that has stored some of the contents already can leave them out (`PART`): its manifest lists
all files with their SHA-256 all the same, and says which of them are in it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.builds.site.rules import BadRules, Serving
from twistedipc.builds.site.said import check_serving
from twistedipc.disk.beneath import Beneath
from twistedipc.disk.files import sync_file_system, sync_folder
from twistedipc.publish.members import BLOCK, BadArchive, Member, Members, Readable, exactly, padded
from twistedipc.publish.site.answers import Site
from twistedipc.publish.site.checking import check_costs
from twistedipc.publish.site_paths import MAX_PATH, is_hidden, problem_of_segment
from twistedipc.publish.targets.target import CantPrepare

FORMAT = 1
PART = 2  # the format of a manifest of which some files aren't in the archive
MANIFEST = "manifest.json"
MAX_FILES = 100_000
MAX_BYTES = 4 << 30

#: Files below so many bytes are shown to people who look into a release.
SMALL = 1024

_MAX_MANIFEST = 64 << 20
_CHUNK = 256 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


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
    serving: Serving | UnsetType = UNSET  # how the site is served, if it says anything of that
    spa: bool | UnsetType = UNSET  # True: the same of ``serving``, for an apiserver that doesn't know that
    packed: list[str] | UnsetType = UNSET  # the paths of the files that are in the archive; unset: all

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def served(self) -> Serving:
        """How the site is served."""
        return Serving(spa=self.spa is True) if self.serving is UNSET else self.serving


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
    on_file: Callable[[str, int, int], None] = lambda _path, _descriptor, _size: None,
    serving: Serving = Serving(),  # noqa: B008 - it is frozen
    stored: Container[bytes] = frozenset(),
) -> Manifest:
    """
    Make ``archive`` (whole or not at all, and durably) of the folder ``source``, without the names in ``leave_out`` at
    its top. ``serving`` is for the manifest. Raises `CantPack`, or OSError of the disk.

    Whatever changes the folder meanwhile: nothing is read that is outside of it.

    :param on_hidden: is called with the path of each file or folder that is left out because it is hidden
        (`site_paths.is_hidden`)
    :param on_small: is called with the path and the content of each file below `SMALL` bytes
    :param on_file: is called with the path of each file, a descriptor from which it can be read meanwhile
        (``os.pread``), and its size
    :param stored: the contents that are left out, by their `short` SHA-256
    """
    root = source.resolve()
    folder = Beneath(root)
    try:
        return _create(
            root,
            folder,
            archive,
            _Wanted(max_files, max_bytes, leave_out, on_hidden, on_small, on_file, serving, stored),
        )
    finally:
        folder.close()


def _create(root: Path, folder: Beneath, archive: Path, wanted: _Wanted) -> Manifest:
    found = list(_walk(root, folder, wanted))
    found.sort(key=lambda item: item[0].encode())
    files: list[ManifestFile] = []
    left = wanted.max_bytes
    for path, where in found:
        descriptor, status = _open_regular(folder, where, path)
        try:
            left -= status.st_size
            if left < 0:
                raise CantPack(f"the folder has more than {wanted.max_bytes} bytes in it")
            digest, size = _digest(descriptor, status.st_size)
            if size < SMALL:
                wanted.on_small(path, os.pread(descriptor, SMALL, 0))
            wanted.on_file(path, descriptor, size)
        finally:
            os.close(descriptor)
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        files.append(ManifestFile(path=path, size=size, sha256=digest, mode=mode))
    packed_too = [bytes.fromhex(short(file.sha256)) not in wanted.stored for file in files]
    serving: Serving | UnsetType = UNSET if wanted.serving == Serving() else wanted.serving
    spa: bool | UnsetType = True if wanted.serving.spa else UNSET
    if all(packed_too):
        manifest = Manifest(files=files, serving=serving, spa=spa)
    else:
        there = [file.path for file, is_packed in zip(files, packed_too, strict=True) if is_packed]
        manifest = Manifest(format=PART, files=files, serving=serving, spa=spa, packed=there)
    encoded = msgspec.json.encode(manifest)
    if len(encoded) > _MAX_MANIFEST:
        raise CantPack("the folder has too many files with too long names")
    temporary = archive.with_name(f".{archive.name}.new")
    try:
        with temporary.open("wb") as raw:
            level = 6 if all(packed_too) else 1  # what is left is the manifest: hardly smaller, but four times as slow
            with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=raw, mtime=0) as packed:
                _write_member(packed, MANIFEST, len(encoded), 0o644)
                _write_padded(packed, encoded)
                for (path, where), entry in compress(zip(found, files, strict=True), packed_too):
                    _write_member(packed, f"files/{path}", entry.size, entry.mode)
                    _write_file(packed, folder, where, entry)
                packed.write(bytes(2 * BLOCK))
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, archive)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(archive.parent)
    return manifest


def short(sha256: str) -> str:
    """
    Return the part of a SHA-256 by which contents are told apart that are stored. It needn't be safe: what is wrongly
    left out is missed when the archive arrives.
    """
    return sha256[:16]


def _digest(descriptor: int, most: int) -> tuple[str, int]:
    """Return the SHA-256 of a file and its size. Of one that grows meanwhile, no more is read than this."""
    digest = hashlib.sha256()
    left = most
    while left and (data := os.read(descriptor, min(_CHUNK, left))):
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
    on_file: Callable[[str, int, int], None]
    serving: Serving
    stored: Container[bytes]


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
            if name.startswith(".") and is_hidden(path.split("/")):  # what is above it was looked at before
                wanted.on_hidden(path)
                continue
            try:
                _check_path(name, len(path.encode(errors="surrogateescape")))
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
            return [(entry.name, _kind(entry)) for entry in entries]
    except OSError as error:
        raise CantPack(f"{prefix or 'the folder'} can't be read: {error.strerror}") from error


def _kind(entry: os.DirEntry[str]) -> int:
    """Return the type of a file as a mode has it. For files and folders the file system says it with the name."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_mode


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


def _open_regular(top: Beneath, where: _Parts, path: str) -> tuple[int, os.stat_result]:
    """Return a descriptor of a file, and what it is; the caller closes it."""
    try:
        descriptor = top.file(where)
    except OSError as error:
        raise CantPack(f"{path} can't be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CantPack(f"{path} isn't a file any more")
    return descriptor, status


def _write_member(packed: gzip.GzipFile, name: str, size: int, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = mode
    packed.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))


def _write_padded(packed: gzip.GzipFile, data: bytes) -> None:
    packed.write(data)
    packed.write(bytes(-len(data) % BLOCK))


def _write_file(packed: gzip.GzipFile, top: Beneath, where: _Parts, entry: ManifestFile) -> None:
    digest = hashlib.sha256()
    left = entry.size
    with os.fdopen(_open_regular(top, where, entry.path)[0], "rb") as file:
        while data := file.read(min(_CHUNK, left + 1)):
            left -= len(data)
            if left < 0:
                break
            digest.update(data)
            packed.write(data)
    if left or digest.hexdigest() != entry.sha256:
        raise CantPack(f"{entry.path} was changed while it was packed")
    packed.write(bytes(-entry.size % BLOCK))


# -- reading one -----------------------------------------------------------------------------------------------------


def read_manifest(archive: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Manifest:
    """The manifest of an archive, checked by itself. Raises `BadArchive`."""
    with _opened(archive) as stream:
        return _read_manifest(stream, Members(stream, max_files), max_files, max_bytes)


def count(archive: Path) -> tuple[int, int]:
    """Return how many files an archive says that it stands for, and their bytes; not checked. Raises `BadArchive`."""
    with _opened(archive) as stream:
        manifest = _decode_manifest(stream, Members(stream, MAX_FILES))
        return len(manifest.files), manifest.size


def extract(
    archive: Path,
    take: Callable[[ManifestFile, Iterator[bytes]], None],
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Manifest:
    """
    Call ``take`` with each file of the archive and its content in blocks, which end by `BadArchive` if they aren't what
    the manifest says. Return the manifest. Raises `BadArchive`, also after the last file, and what ``take`` raises.
    """
    with _opened(archive) as stream:
        members = Members(stream, max_files)
        manifest = _read_manifest(stream, members, max_files, max_bytes)
        missing = {f"files/{entry.path}": entry for entry in files_in(manifest)}
        while (member := members.next()) is not None:
            entry = _entry_of(member, missing)
            blocks = _blocks(stream, entry)
            take(entry, blocks)
            for _ in blocks:  # what was not taken is verified too
                pass
        if missing:
            raise BadArchive(f"{next(iter(missing))!a} is in its manifest, and isn't in it")
    return manifest


def _entry_of(member: Member, missing: dict[str, ManifestFile]) -> ManifestFile:
    """Return what the manifest says of this file, which isn't missing then. Raises `BadArchive`."""
    entry = missing.pop(member.name, None)
    if entry is None:
        raise BadArchive(f"{member.name[:100]!a} is in it twice, or isn't in its manifest")
    if member.size != entry.size:
        raise BadArchive(f"{entry.path} has {member.size} bytes in it, and {entry.size} in its manifest")
    return entry


def files_in(manifest: Manifest) -> list[ManifestFile]:
    """Return the files that are in the archive, in its order."""
    if manifest.packed is UNSET:
        return manifest.files
    there = frozenset(manifest.packed)
    return [file for file in manifest.files if file.path in there]


def unpack(archive: Path, target: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Manifest:
    """
    Unpack into the new folder ``target``: all of it, verified and durable, or nothing. Raises `BadArchive`, also if
    some of its files are left out, FileExistsError, or OSError of the disk.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
    import tempfile  # not above: the pack step imports this module, and needs none of it

    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    made = {temporary}

    def take(entry: ManifestFile, blocks: Iterator[bytes]) -> None:
        where = temporary / entry.path
        for folder in reversed(where.parents):
            if folder not in made and folder.is_relative_to(temporary):
                folder.mkdir(mode=0o755)
                made.add(folder)
        descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, entry.mode)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(blocks)
            os.fchmod(descriptor, entry.mode)

    try:
        temporary.chmod(0o755)
        manifest = extract(archive, take, max_files=max_files, max_bytes=max_bytes)
        if manifest.packed is not UNSET:
            raise BadArchive("some of its files are left out")
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


def _decode_manifest(stream: Readable, members: Members) -> Manifest:
    member = members.next()
    if member is None or member.name != MANIFEST:
        found = "nothing" if member is None else f"{member.name[:100]!a}"
        raise BadArchive(f"{found} is there where {MANIFEST} must be: it comes first")
    if member.size > _MAX_MANIFEST:
        raise BadArchive("its manifest is too large")
    try:
        return msgspec.json.decode(padded(stream, member.size), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArchive(f"its manifest can't be read: {error}") from error


def _read_manifest(stream: Readable, members: Members, max_files: int, max_bytes: int) -> Manifest:
    manifest = _decode_manifest(stream, members)
    if manifest.format not in (FORMAT, PART):
        raise BadArchive(f"its manifest has format {manifest.format}, and only {FORMAT} and {PART} are known")
    try:
        check_serving(manifest.served)
        check_costs(Site(manifest.served))
    except BadRules as error:
        raise BadArchive(f"its manifest has rules that can't be used: {error}") from error
    if len(manifest.files) > max_files:
        raise BadArchive(f"it has more than {max_files} files")
    paths = _check_files(manifest, max_bytes)
    if (manifest.format == PART) != (manifest.packed is not UNSET):
        raise BadArchive("it has another format than it says")
    if manifest.packed is not UNSET and not paths.issuperset(manifest.packed):
        raise BadArchive("it has files that aren't in its manifest")
    return manifest


def _check_files(manifest: Manifest, max_bytes: int) -> set[str]:
    """Return the paths of a manifest. Raises `BadArchive` if these can't be the files of a folder."""
    total = 0
    before = b""
    folders: set[str] = set()
    paths: set[str] = set()
    for entry in manifest.files:
        encoded = entry.path.encode(errors="surrogatepass")
        _check_path(entry.path, len(encoded))
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
        if not _SHA256.match(entry.sha256):
            raise BadArchive(f"{entry.path} has an impossible SHA-256")
        total += entry.size
        if total > max_bytes:
            raise BadArchive(f"it has more than {max_bytes} bytes of files")
    if clash := folders & paths:
        raise BadArchive(f"{min(clash)} is a file and a folder")
    return paths


def _check_path(path: str, length: int) -> None:
    """Raise `BadArchive` if no file of a site can have these names in a path of this length, in bytes."""
    for segment in path.split("/"):
        if problem := problem_of_segment(segment):
            raise BadArchive(f"its name {problem}")
    if length > MAX_PATH:
        raise BadArchive(f"its path has more than {MAX_PATH} bytes")


def _blocks(stream: Readable, entry: ManifestFile) -> Iterator[bytes]:
    """The content of the file whose header was read, verified at its end."""
    digest = hashlib.sha256()
    left = entry.size
    while left:
        data = stream.read(min(_CHUNK, left))
        if not data:
            raise BadArchive("it ends too early")
        digest.update(data)
        left -= len(data)
        yield data
    exactly(stream, -entry.size % BLOCK)
    if digest.hexdigest() != entry.sha256:
        raise BadArchive(f"{entry.path} isn't what the manifest says")
