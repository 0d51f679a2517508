"""
The folder of the tools that the builder has fetched: each once, for all attempts. Used by ``choose``, ``ready`` and
``fetch``, and by the command ``twistedipc toolchains``.

::

    entries/PACKAGE@VERSION/    a tool: what is in its package, and its commands; for reading only
        entry.json              what it is (`Entry`)
        package/                its files
        bin/                    its commands, for PATH
    index/PACKAGE.json          which versions the registry has, and when it was asked
    index/PACKAGE.unanswered    its modification time is when the registry last gave no answer
    new/PACKAGE@VERSION...      what is being fetched
    locks/PACKAGE@VERSION       flock'ed by the process that fetches or deletes an entry
    used/PACKAGE@VERSION        its modification time is that of the last attempt that used the entry

An entry is there whole or not at all: it is made in ``new`` and renamed. If its maker is killed, the lock is free, and
the next one begins again. Nothing in an entry ever changes.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from twistedipc.disk.files import read_file, sync_file_system, sync_folder, write_file
from twistedipc.toolchains.machine import read_package_json
from twistedipc.toolchains.packages import Source, launchers, tool_of
from twistedipc.toolchains.problems import Busy, NoTool
from twistedipc.toolchains.versions import Version, version

#: An entry that no attempt has used for so many seconds is deleted when something is fetched.
UNUSED = 30 * 86400.0

#: The most bytes of entries; beyond, those that weren't used for the longest time are deleted.
MAX_BYTES = 8 << 30

#: An entry that was used in so many seconds may be in use: no attempt takes longer.
MAYBE_IN_USE = 2 * 86400.0

#: Seconds to wait for another process that writes what the registry has.
_WRITING = 60.0

#: Seconds between two looks whether the lock of another process is free.
_LOOK = 0.1


class Release(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version of a package in the registry."""

    tarball: str
    integrity: str = ""
    shasum: str = ""
    node: str = ""  # the range of the Node that it needs
    deprecated: bool = False


class Downloaded(NamedTuple):
    """What was downloaded for an entry."""

    digests: dict[str, str]  # of the package's archive
    hashed: dict[str, str]  # of the other package of which packageManager has the hash; none if there is none


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a package that a registry had."""

    package: str
    registry: str
    asked: int  # milliseconds since the epoch
    releases: dict[str, Release]
    tags: dict[str, str] = {}

    def versions(self) -> list[Version]:
        """Return those that are versions."""
        return [found for text in self.releases if (found := version(text)) is not None]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an entry is."""

    package: str
    version: str
    digests: dict[str, str]  # of the package's archive, in hex
    size: int  # bytes of its files
    hashed: dict[str, str] = {}  # digests of what packageManager has the hash of, if that isn't the archive
    node: str = ""  # the range of the Node that it needs

    def hashes(self, source: Source) -> dict[str, str]:
        """Return the digests of what packageManager has the hash of; none if it couldn't be had."""
        return self.hashed if source.hashed or source.hashed_package else self.digests


class Store:
    """
    The store in a folder, which is made when something is fetched.

    :param now: milliseconds since the epoch
    """

    def __init__(self, folder: Path, *, now: Callable[[], int]) -> None:
        self.folder = folder
        self._now = now

    # -- what is there

    def versions(self, package: str) -> list[Version]:
        """Return the versions of a package that are there."""
        prefix = _name(package) + "@"
        try:
            names = os.listdir(self.folder / "entries")
        except FileNotFoundError:
            return []
        found = [version(name.removeprefix(prefix)) for name in names if name.startswith(prefix)]
        return [each for each in found if each is not None]

    def tools(self) -> list[tuple[str, Version]]:
        """Return the tools that are there, as projects ask for them, by name and version. Raises OSError."""
        try:
            names = os.listdir(self.folder / "entries")
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            package, _, text = name.rpartition("@")
            if (known := version(text)) is not None and package:
                found.append((tool_of(package.replace("+", "/")), known))
        return sorted(found)

    def entry(self, package: str, version: str) -> Entry | None:
        """Return what an entry is; None if there is none."""
        try:
            return read_file(self.path(package, version) / "entry.json", Entry)
        except msgspec.DecodeError:
            return None

    def entries(self) -> list[Entry]:
        """Return all entries, by their names."""
        try:
            folders = sorted((self.folder / "entries").iterdir())
        except FileNotFoundError:
            return []
        found = []
        for folder in folders:
            try:
                entry = read_file(folder / "entry.json", Entry)
            except msgspec.DecodeError:
                entry = None
            if entry is not None:
                found.append(entry)
        return found

    def path(self, package: str, version: str) -> Path:
        """Return the folder of an entry, whether it is there or not."""
        return self.folder / "entries" / _key(package, version)

    def bin(self, package: str, version: str) -> Path:
        """Return the folder of an entry's commands."""
        return self.path(package, version) / "bin"

    def index(self, package: str) -> Index | None:
        """Return what the registry had when it was asked the last time; None if it wasn't."""
        try:
            return read_file(self.folder / "index" / f"{_name(package)}.json", Index)
        except msgspec.DecodeError:
            return None

    def used(self, package: str, version: str) -> float:
        """Return when an attempt used an entry the last time: seconds since the epoch; 0 if that isn't known."""
        try:
            return (self.folder / "used" / _key(package, version)).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    # -- what changes it

    def note_index(self, index: Index) -> None:
        """Keep what the registry has. Raises `Busy` or OSError."""
        self._make_folders()
        name = _name(index.package)
        with self._lock(name, _WRITING, lambda: None):  # two processes would have one temporary file
            write_file(self.folder / "index" / f"{name}.json", index)

    def unanswered(self, package: str) -> float:
        """Return when the registry gave no answer about a package, in milliseconds since the epoch; 0: never."""
        try:
            return (self.folder / "index" / f"{_name(package)}.unanswered").stat().st_mtime * 1000
        except FileNotFoundError:
            return 0.0

    def note_unanswered(self, package: str) -> None:
        """Note that the registry gave no answer about a package. Raises OSError."""
        self._make_folders()
        mark, now = self.folder / "index" / f"{_name(package)}.unanswered", self._now() / 1000
        mark.touch()
        os.utime(mark, (now, now))

    def use(self, package: str, version: str) -> bool:
        """Note that an attempt uses an entry now; whether the entry is there. Raises OSError."""
        mark = self.folder / "used" / _key(package, version)
        now = self._now() / 1000
        try:
            os.utime(mark, (now, now))
        except FileNotFoundError:
            try:
                mark.touch()
                os.utime(mark, (now, now))
            except FileNotFoundError:  # there is no store
                return False
        # Looked at after the mark, which keeps it from being deleted.
        return (self.path(package, version) / "entry.json").exists()

    def add(
        self,
        source: Source,
        version: str,
        download: Callable[[Path], Downloaded],
        *,
        patience: float,
        waiting: Callable[[], None] = lambda: None,
    ) -> Entry:
        """
        Return the entry, which is made if it isn't there: by one process, however many ask for it meanwhile.

        :param download: writes the package's archive, checked, to a path
        :param patience: seconds to wait for another process that makes it
        :param waiting: called when there is one

        Raises `Busy`, `BadPackage`, `NoTool`, OSError, or what ``download`` raises.
        """
        self._make_folders()
        with self._lock(_key(source.package, version), patience, waiting):
            # The caller that has just asked for it uses it: the mark comes first, so that nothing deletes it.
            if self.use(source.package, version) and (found := self.entry(source.package, version)) is not None:
                return found
            return self._make(source, version, download)

    def _make(self, source: Source, version: str, download: Callable[[Path], Downloaded]) -> Entry:
        from twistedipc.toolchains.unpack import unpack  # not above: a runner looks at the store, and stays small

        key = _key(source.package, version)
        folder, archive = self.folder / "new" / key, self.folder / "new" / f"{key}.tgz"
        delete(folder)  # what a process has left that was killed
        archive.unlink(missing_ok=True)
        try:
            downloaded = download(archive)
            folder.mkdir()
            size = unpack(archive, folder / "package")
            package = read_package_json(folder / "package" / "package.json")
            bin = package.commands() if package is not None else {}
            _write_commands(self.path(source.package, version), folder, source, bin)
            entry = Entry(
                package=source.package,
                version=version,
                digests=downloaded.digests,
                size=size,
                hashed=_digests_of(folder / "package" / source.hashed) if source.hashed else downloaded.hashed,
                node=package.node if package is not None and source.script else "",
            )
            write_file(folder / "entry.json", entry, mode=0o444)
            _make_read_only(folder)
            sync_file_system(folder)
            where = self.path(source.package, version)
            delete(where)  # one that can't be read
            os.rename(folder, where)
            where.chmod(0o555)  # only now, since a folder that can't be written can't be moved
            sync_folder(where.parent)
            return entry
        finally:
            archive.unlink(missing_ok=True)
            delete(folder)

    def clean(self, *, unused: float = UNUSED, max_bytes: int = MAX_BYTES) -> list[Entry]:
        """
        Delete what no attempt has used for so many seconds, and the entries unused for the longest time beyond
        ``max_bytes``: return what was deleted. What may be in use stays. Raises OSError.
        """
        now = self._now() / 1000
        total = 0
        deleted = []
        entries = sorted(self.entries(), key=lambda each: self.used(each.package, each.version), reverse=True)
        for entry in entries:
            total += entry.size
            age = now - self.used(entry.package, entry.version)
            if age > MAYBE_IN_USE and (age > unused or total > max_bytes) and self.remove(entry):
                deleted.append(entry)
                total -= entry.size
        return deleted

    def remove(self, entry: Entry) -> bool:
        """Delete an entry, unless a process is busy with it: whether it was deleted. Raises OSError."""
        key = _key(entry.package, entry.version)
        try:
            with self._lock(key, 0.0, lambda: None):
                # Out of everybody's sight at once; what is left of it if this process is killed goes at the next fetch.
                gone = self.folder / "new" / key
                delete(gone)
                where = self.folder / "entries" / key
                where.chmod(0o755)
                os.rename(where, gone)
                (self.folder / "used" / key).unlink(missing_ok=True)
                delete(gone)
        except (Busy, FileNotFoundError):
            return False
        return True

    def _make_folders(self) -> None:
        for name in ("entries", "index", "new", "locks", "used"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _lock(self, key: str, patience: float, waiting: Callable[[], None]) -> Iterator[None]:
        descriptor = os.open(self.folder / "locks" / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + patience
            told = False
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Busy(f"another build has been fetching {key} for more than {patience:.0f} s") from None
                    if not told:
                        waiting()
                        told = True
                    time.sleep(_LOOK)
            yield
        finally:
            os.close(descriptor)


def delete(folder: Path) -> None:
    """Delete a folder for reading only, if it is there. Raises OSError."""
    import shutil

    if not folder.is_dir():
        return
    for path, _folders, _files in os.walk(folder):
        os.chmod(path, 0o755)
    shutil.rmtree(folder)


def _name(package: str) -> str:
    """A package's name as that of a file: no "+" is in any."""
    if not re.fullmatch(r"(?:@[a-z0-9._-]+/)?[a-z0-9_-][a-z0-9._-]*", package):
        raise NoTool(f"{package[:200]!a} is no name of a package")
    return package.replace("/", "+")


def _key(package: str, text: str) -> str:
    if version(text) is None:
        raise NoTool(f"{text[:200]!a} is no version of {package}")
    return f"{_name(package)}@{text}"


def _write_commands(where: Path, folder: Path, source: Source, bin: Mapping[str, str]) -> None:
    """Make the commands of an entry that is in ``folder`` now, and will be at ``where``."""
    import shlex

    (folder / "bin").mkdir()
    package = folder / "package"
    for name, launcher in launchers(source, bin).items():
        file = package / launcher.file
        inside = os.path.normpath(file).startswith(f"{package}{os.sep}")
        if not inside or not file.is_file():
            raise NoTool(f"{source.package} has no {launcher.file} in it, which its command {name} should be")
        command = folder / "bin" / name
        if not launcher.script:
            file.chmod(0o555)  # pnpm's programs come without the right to be run
            if not launcher.first:
                command.symlink_to(Path("..") / "package" / launcher.file)
                continue
        words = ["node"] if launcher.script else []
        words += [str(where / "package" / launcher.file), *filter(None, [launcher.first])]
        quoted = " ".join(shlex.quote(word) for word in words)
        command.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        command.chmod(0o555)


def _digests_of(path: Path) -> dict[str, str]:
    from twistedipc.toolchains.integrity import Digests

    digests = Digests()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digests.update(data)
    return digests.hex()


def _make_read_only(folder: Path) -> None:
    for path, folders, _files in os.walk(folder, topdown=False):
        for name in folders:
            os.chmod(os.path.join(path, name), stat.S_IRUSR | stat.S_IXUSR | 0o055)
