"""
Static releases on disk: beside one another, one of them live, switched atomically. ``publish`` layer; used by
``server`` (which takes them in and switches) and ``web`` (which serves what is live).

::

    FOLDER/PROJECT/pool/            the contents of the files, each once: see ``pool``
    FOLDER/PROJECT/releases/ID.json         the index of a release, see ``release``: it is there when all its contents
                                            are
    FOLDER/PROJECT/releases/ID.assets.json  the index of what is left of one that is too old to be rolled back to
    FOLDER/PROJECT/current                  a symbolic link to releases/ID.json: what is live
    FOLDER/PROJECT/claims/ATTEMPT.json      the release of which an attempt's archive may leave out what it has
    FOLDER/PROJECT/history.json             what is remembered of them: see ``history``

The ledger says which release is live; the link follows it, and `ReleaseStore.reconcile` brings it level after a
crash. Earlier releases stay for a while, to roll back to.

Pages that are open go on loading the assets of their release. So the assets of each release that was live stay for some
days after it, whatever number of releases came since (`ReleaseStore.old_assets`). Its documents don't.

A content goes when no index has it: by `unused`, which may take long and changes nothing, and `remove_unused`, which
looks again at what came meanwhile. Both can be broken off at any moment, and begun again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from twistedipc.builds import names
from twistedipc.builds.attempt import LiveFiles
from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import (
    beside,
    put_in_place,
    read_file,
    remove_tree,
    sync_file_system,
    sync_folder,
    write_beside,
    write_file,
)
from twistedipc.publish.archive import Manifest, ManifestFile, extract
from twistedipc.publish.members import BadArchive
from twistedipc.publish.targets.differences import Difference
from twistedipc.publish.targets.static.comparing import compare, files_of
from twistedipc.publish.targets.static.folders import take_in
from twistedipc.publish.targets.static.history import History, HistoryFile, changed_paths
from twistedipc.publish.targets.static.pool import MADE, Adding, Pool
from twistedipc.publish.targets.static.release import FORMAT, Content, Entry, Index, Release, contents_of
from twistedipc.publish.targets.static.variants import ENDINGS, is_variant, is_worth, variants_of
from twistedipc.publish.targets.target import Compressed, DiskUse, IndexFile, NotUnpacked, Unused

_ID = re.compile(r"[1-9][0-9]{0,17}\Z")

_PROJECT = re.compile(names.PROJECT)

_LINK = "current"

_INDEX = ".json"

_ASSETS = ".assets.json"

#: For so many days after a release pages of it that are open find their assets, unless the operator says otherwise.
ASSETS_DAYS = 30

_DAY = 24 * 60 * 60 * 1000

#: For so long the contents stay that an attempt was told of.
_CLAIMED = 7 * _DAY

#: With so many of the newest releases a new one is compared, beside those that were live.
_COMPARED = 5

#: The releases that are kept in memory have at most so many files together; each file takes some 300 bytes.
MAX_FILES_IN_MEMORY = 400_000


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt's archive may leave out."""

    release: int  # all contents of this one
    since: int  # milliseconds since the epoch


def _milliseconds() -> int:
    return int(time.time() * 1000)


class ReleaseStore:
    """
    The releases in ``folder``. All methods do disk work at once; `unpack`, `retire`, `reconcile` and `remove_project`
    much of it, so that they belong in a thread. One thread at a time may change one project.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], int] = _milliseconds,
        assets_days: int = ASSETS_DAYS,
        disk: DiskCalls = os,
        sync_all: Callable[[Path], None] = sync_file_system,
    ) -> None:
        """
        :param now: milliseconds since the epoch
        :param assets_days: how long the assets of a release stay after it
        :param disk: by which contents and indexes are made durable, and take their places
        :param sync_all: as `Pool` has it
        """
        self._folder = folder
        self._disk, self._sync_all = disk, sync_all
        self._now = now
        self._assets_for = assets_days * _DAY
        self._old: dict[str, _Old] = {}
        # Of releases that are being compressed, the contents that don't become smaller.
        self._fruitless: dict[tuple[str, int], frozenset[str]] = {}
        # By project. The lock: no variant is counted on while it is removed.
        self._made: dict[str, _Made] = {}
        self._removing = Lock()
        self._histories: dict[str, HistoryFile] = {}
        self._read = _Read()
        folder.mkdir(parents=True, exist_ok=True)

    def unpack(self, project: str, release_id: int, archive: Path) -> None:
        """
        Take a release in beside the others, unless it is there already, and compare it with them. Raises what
        `archive.extract` does, OSError, and `BadArchive` for a release with nothing in it, whatever the builder has
        said of it: it would replace a good one.
        """
        self._releases(project).mkdir(parents=True, exist_ok=True)
        self._begin_history(project)
        if self.has(project, release_id):
            self._sync_indexes(project)  # the process that wrote it may have been killed before
        else:
            with self._pool(project).adding() as adding:

                def take(file: ManifestFile, blocks: Iterator[bytes]) -> None:
                    adding.write(file.sha256, blocks)

                manifest = extract(archive, take)
                if not manifest.size:
                    raise BadArchive("there is nothing in it, or only empty files")
                self._check_whole(project, manifest)
            live = self.live(project)
            entries = [] if live is None else live.files.values()
            made = {each.sha256: each.variants for each in entries if each.variants}
            files = {
                file.path: _with_variants(file.path, Entry(file.sha256, file.size), made) for file in manifest.files
            }
            try:
                self._write(project, release_id, Index(files=files, serving=manifest.served))
            except OSError:
                # It may have its name already, but not durably: the next attempt is to write it again.
                self._index(project, release_id).unlink(missing_ok=True)
                raise
        self._compare(project, release_id)

    def count_on(self, project: str, attempt: str) -> Collection[str]:
        """Return the contents of the live release, which stays for a week or until `count_off`. Raises OSError."""
        live = self.live(project)
        if live is None:
            return ()
        claims = self._claims(project)
        claims.mkdir(exist_ok=True)
        write_file(claims / f"{names.attempt(attempt)}{_INDEX}", _Claim(release=live.id, since=self._now()))
        return {entry.sha256 for entry in live.files.values()}

    def count_off(self, project: str, attempt: str) -> None:
        """The release of this attempt is made: what was told of to leave out needn't stay for it. Raises OSError."""
        (self._claims(project) / f"{names.attempt(attempt)}{_INDEX}").unlink(missing_ok=True)

    def _check_whole(self, project: str, manifest: Manifest) -> None:
        """Raise `BadArchive` if a content is neither in the archive nor in the pool, or has another size there."""
        if manifest.packed is UNSET:
            return
        live = self.live(project)
        known = set(manifest.packed)
        pool, stored = self._pool(project), {} if live is None else {e.sha256: e.size for e in live.files.values()}
        for file in manifest.files:
            if file.path in known:
                continue
            size = stored.get(file.sha256)
            if size is None and (size := pool.size(file.sha256)) is None:
                raise BadArchive(f"{file.path} was left out of it, and isn't stored any more: build it again")
            if size != file.size:
                raise BadArchive(f"{file.path} has {file.size} bytes in its manifest, and {size} where it is stored")

    def has(self, project: str, release_id: int) -> bool:
        """Return whether this release is on disk."""
        return self._index(project, release_id).exists()

    def activate(self, project: str, release_id: int) -> None:
        """Make this release the live one, by one atomic and durable switch. Raises `NotUnpacked`, OSError."""
        if not self.has(project, release_id):
            raise NotUnpacked(f"release {release_id} of {project} is not on disk")
        self._find_out(project, release_id)
        self._begin_history(project)
        folder = self._project(project)
        self._note_switch(project, release_id)
        temporary = folder / f".{_LINK}.new"
        temporary.unlink(missing_ok=True)
        os.symlink(f"releases/{release_id}{_INDEX}", temporary)
        self._disk.replace(temporary, folder / _LINK)
        sync_folder(folder, disk=self._disk)

    def live_id(self, project: str) -> int | None:
        """The id of the live release, or None."""
        try:
            target = os.readlink(_names_of(self._folder, project)[0])
        except FileNotFoundError:
            return None
        name = target.removeprefix("releases/").removesuffix(_INDEX)
        return int(name) if _ID.match(name) else None

    def live(self, project: str) -> Release | None:
        """Return the live release. Raises OSError if it can't be read."""
        release_id = self.live_id(project)
        return None if release_id is None else self.release(project, release_id)

    def release(self, project: str, release_id: int) -> Release | None:
        """Return a release that is on disk. Raises OSError if it can't be read."""
        return self._load(project, release_id, _INDEX)

    def _load(self, project: str, release_id: int, ending: str) -> Release | None:
        key = (project, release_id, ending)
        found = self._read.get(key)
        if found is None:
            path = self._releases(project) / f"{release_id}{ending}"
            index = _read_index(path)
            if index is None:
                return None
            found = Release(release_id, index)
            self._read.put(key, found)
        return found

    def drop_removed(self) -> None:
        """Forget the releases that another program has deleted from the disk."""
        for project, release_id, ending in self._read.known():
            if not (self._releases(project) / f"{release_id}{ending}").exists():
                self._read.drop(project, release_id)

    def file(self, project: str, sha256: str) -> Path:
        """Return the file that has a content of one of the project's releases."""
        return _content_of(_names_of(self._folder, project)[1], sha256)

    def kept(self, project: str) -> list[int]:
        """The ids of all releases on disk, newest first."""
        return self._ids(project, _INDEX)

    def old_assets(self, project: str) -> Release:
        """
        Return the assets of all releases that were live and aren't any more, for as long as open pages may ask for
        them, as if they were of one release: each path with what the release had that was live last.
        """
        history, live_id = self.history(project), self.live_id(project)
        known = self._old.get(project)
        if known is None or history not in known.histories or live_id not in known.live_ids:
            self._old[project] = known = self._gather(project, history, live_id)
        return known.assets

    def assets_of(self, project: str, release_id: int) -> Release | None:
        """
        Return the assets of one release, with the other files if they are still there: of the live one, or of one
        whose pages may still be open. Raises OSError if it can't be read.
        """
        if release_id != self.live_id(project) and not self._may_be_open(release_id, self.history(project)):
            return None
        return self.release(project, release_id) or self._load(project, release_id, _ASSETS)

    def history(self, project: str) -> History:
        """Return what is remembered of a project's releases."""
        return self._history_file(project).read() or History(live=frozenset(self.kept(project)))

    def retire(self, project: str, keep: Collection[int]) -> list[int]:
        """
        Delete all releases but those of ``keep``, never the live one. Of those whose pages may still be open, the
        assets stay. The ids of those of which anything was deleted. See `unused` for the contents.
        """
        live, history = self.live_id(project), self.history(project)
        keep = {*keep, *self._claimed(project)}
        old = [release_id for release_id in self.kept(project) if release_id != live and release_id not in keep]
        for release_id in old:
            if self._may_be_open(release_id, history):
                release = self.release(project, release_id)
                assets = {} if release is None else release.assets
                write_file(self._releases(project) / f"{release_id}{_ASSETS}", Index(files=assets))
            self._index(project, release_id).unlink()
            beside(self._index(project, release_id)).unlink(missing_ok=True)
            self._read.drop(project, release_id)
        over = [each for each in self._ids(project, _ASSETS) if not self._may_be_open(each, history)]
        for release_id in over:
            (self._releases(project) / f"{release_id}{_ASSETS}").unlink()
            self._read.drop(project, release_id)
        if old or over:
            sync_folder(self._releases(project))
        known = self._old.get(project)
        if known is not None and known.since is not None and self._now() - known.since >= self._assets_for:
            del self._old[project]
            self.old_assets(project)
        return sorted({*old, *over}, reverse=True)

    def unused(self, project: str) -> Unused:
        """
        Find the contents that no release has. Other threads may change the project meanwhile. Raises OSError: then an
        index can't be read, and nothing is known to be unused.
        """
        indexes = self._indexes(project)  # before the contents: what is added from now on isn't looked at
        there = list(self._pool(project).contents())
        used: set[str] = set()
        for each in indexes:
            used.update(self._contents_of(project, each.name))
        return Unused([sha256 for sha256 in there if sha256 not in used], indexes)

    def remove_unused(self, project: str, unused: Unused, most: int) -> Unused:
        """
        Delete up to ``most`` of these contents, unless a release has them that came since, or was compressed since.
        Return what is left.
        """
        came = self._indexes(project) - unused.indexes
        used = {sha256 for each in came for sha256 in self._contents_of(project, each.name)}
        with self._removing:
            if project in self._made:
                used |= self._made[project].contents
            left = [sha256 for sha256 in unused.contents if sha256 not in used]
            self._pool(project).remove(left[:most])
        return Unused(left[most:], unused.indexes | came)

    def compress(
        self, project: str, release_id: int, most: int, go_on: Callable[[], bool] = lambda: True
    ) -> Compressed | None:
        """
        Compress contents of a release that have no variants yet, until they have ``most`` bytes, and store the variants
        durably, with an index that has them. None if all have been compressed, or the release is gone. Before, it is
        found out how hashed names look in the folders: of the release, and of what was live. Others may change the
        project meanwhile, but only one may compress. Raises OSError. ``go_on``: see `target.Pooled`.
        """
        release = self.release(project, release_id)
        if release is None:
            return None
        for each in (release, self.old_assets(project)):
            each.find_out_of_folders(go_on)
        if release.compressed:
            return None
        self._made[project] = _Made()
        try:
            compressed = self._compress(project, release, most, go_on)
            self._made[project].release = self._write_compressed(project, release, compressed)
            return compressed
        except FileNotFoundError:
            if self.has(project, release_id):
                raise
            return None  # it was removed meanwhile

    def _compress(self, project: str, release: Release, most: int, go_on: Callable[[], bool]) -> Compressed:
        known = self._fruitless.get((project, release.id), frozenset())
        found: dict[str, dict[str, tuple[str, int]]] = {}
        size = 0
        with self._pool(project).adding(MADE) as adding:
            for path, entry in release.files.items():
                if entry.variants or entry.sha256 in known or entry.sha256 in found or not is_worth(path, entry.size):
                    continue
                if size >= most or not go_on():
                    break
                data = self.file(project, entry.sha256).read_bytes()
                made = self._of_build(project, release, path, data) or variants_of(data)
                found[entry.sha256] = {coding: self._add_made(project, adding, each) for coding, each in made.items()}
                size += entry.size
            else:
                return Compressed(release.id, found, complete=True)
        return Compressed(release.id, found, complete=False)

    def _add_made(self, project: str, adding: Adding, data: bytes) -> tuple[str, int]:
        sha256 = hashlib.sha256(data).hexdigest()
        with self._removing:
            self._made[project].contents.add(sha256)
            adding.write(sha256, [data])
        return sha256, len(data)

    def _write_compressed(self, project: str, release: Release, compressed: Compressed) -> Release:
        """Write the index of a release with new variants beside the one that it has, and return the release."""
        made = {
            sha256: {coding: Content(*content) for coding, content in variants.items()}
            for sha256, variants in compressed.variants.items()
        }
        files = {
            path: entry if entry.variants else _with_variants(path, entry, made)
            for path, entry in release.files.items()
        }
        index = Index(files=files, serving=release.serving, compressed=compressed.complete)
        write_beside(self._index(project, release.id), index, disk=self._disk)
        return release.with_variants(index)

    def take_compressed(self, project: str, compressed: Compressed) -> None:
        """
        Let the index that `compress` has written take the place of the release's, durably, if that is still there.
        Raises OSError.
        """
        key = project, compressed.release
        index, release = self._index(*key), self._made[project].release
        if release is None or not index.exists():
            self._fruitless.pop(key, None)
            beside(index).unlink(missing_ok=True)
        else:
            put_in_place(index, disk=self._disk)
            self._read.put((*key, _INDEX), release)
            if compressed.complete:
                self._fruitless.pop(key, None)
            else:
                fruitless = {sha256 for sha256, variants in compressed.variants.items() if not variants}
                self._fruitless[key] = self._fruitless.get(key, frozenset()) | fruitless
        with self._removing:
            del self._made[project]

    def _of_build(self, project: str, release: Release, path: str, data: bytes) -> dict[str, bytes]:
        """Return what the build itself has compressed of a file; nothing unless it did so in all codings."""
        found: dict[str, bytes] = {}
        for coding, ending in ENDINGS.items():
            beside = release.files.get(f"{path}{ending}")
            if beside is None or beside.size >= len(data):
                return {}
            compressed = self.file(project, beside.sha256).read_bytes()
            if not is_variant(coding, compressed, data):
                return {}
            found[coding] = compressed
        return found

    def live_files(self, project: str) -> LiveFiles:
        """Return what is known of the live release's files, as far as that is short. Raises OSError."""
        live = self.live(project)
        return LiveFiles() if live is None else files_of(live)

    def compare(self, project: str, before: int | None, after: int, most: int) -> Difference:
        """
        Return what a release has other than an older one, or than none, with up to ``most`` files. Raises `NotUnpacked`
        if one of them isn't on disk, OSError.
        """
        old = None if before is None else self._on_disk(project, before)
        return compare(old, self._on_disk(project, after), most)

    def _on_disk(self, project: str, release_id: int) -> Release:
        """Return a release. Raises `NotUnpacked`, OSError."""
        release = self.release(project, release_id)
        if release is None:
            raise NotUnpacked(f"the files of release {release_id} of {project} have been removed")
        return release

    def disk_use(self, project: str) -> DiskUse:
        """Return how much of the disk the contents of a project's releases take. Raises OSError."""
        sizes: dict[str, int] = {}
        for each in self._indexes(project):
            sizes.update(self._contents_of(project, each.name))
        return DiskUse(releases=len(self.kept(project)), contents=len(sizes), size=sum(sizes.values()))

    def remove_project(self, project: str) -> None:
        """Delete all releases of a project that is no more: its name may become another's."""
        folder = self._project(project)
        (folder / _LINK).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._histories.pop(project, None)
        self._old.pop(project, None)
        self._read.drop(project)

    def projects(self) -> list[str]:
        """The projects that have anything here."""
        return sorted(name for name in os.listdir(self._folder) if _PROJECT.fullmatch(name))

    def reconcile(self, project: str, live_id: int | None) -> None:
        """
        Make the disk agree with the ledger, and take releases in that an older version has left as folders. Raises
        `NotUnpacked`, OSError; then what was live stays live.
        """
        self._take_folders_in(project)
        self._begin_history(project)
        if live_id is None and self.live_id(project) is not None:
            self._note_switch(project, None)
            (self._project(project) / _LINK).unlink()
        elif live_id is not None and self.live_id(project) != live_id:
            self.activate(project, live_id)
        self.old_assets(project)  # so that no request waits for them
        if live_id is not None:
            with contextlib.suppress(OSError):  # a damaged index is the requests' own matter
                self._find_out(project, live_id)

    def _find_out(self, project: str, release_id: int) -> None:
        """Have a release in memory, with what requests need to know of it, so that none waits. Raises OSError."""
        release = self.release(project, release_id)
        if release is not None:
            release.find_out()

    def _take_folders_in(self, project: str) -> None:
        """Take in what older versions have left: releases as folders, and folders that aren't whole or half deleted."""
        releases = self._releases(project)
        for release_id in self._ids(project, ""):
            if self.has(project, release_id):
                self._sync_indexes(project)  # before the folder is removed
            else:
                self._write(project, release_id, take_in(releases / str(release_id), self._pool(project)))
            remove_tree(releases / str(release_id))
        for each in releases.glob(".*"):
            if each.is_dir():
                remove_tree(each)

    def _write(self, project: str, release_id: int, index: Index) -> None:
        """Write an index, durably, whose contents are in the pool."""
        write_file(self._index(project, release_id), index, disk=self._disk)
        for parent in (self._project(project), self._folder):
            sync_folder(parent, disk=self._disk)

    def _sync_indexes(self, project: str) -> None:
        """Make durable which indexes there are."""
        for folder in (self._releases(project), self._project(project), self._folder):
            sync_folder(folder, disk=self._disk)

    def _claimed(self, project: str) -> Iterator[int]:
        """The releases whose contents an attempt counts on. Claims that are too old, or damaged, are deleted."""
        for path in self._claims(project).glob(f"*{_INDEX}"):
            try:
                claim = read_file(path, _Claim)
            except msgspec.DecodeError:
                claim = None
            if claim is None or self._now() - claim.since >= _CLAIMED:
                path.unlink(missing_ok=True)
            else:
                yield claim.release

    def _indexes(self, project: str) -> frozenset[IndexFile]:
        """All files that are indexes."""
        found = set()
        for ending in (_INDEX, _ASSETS):
            for name in [f"{each}{ending}" for each in self._ids(project, ending)]:
                with contextlib.suppress(FileNotFoundError):
                    status = (self._releases(project) / name).stat()
                    found.add(IndexFile(name, status.st_ino, status.st_mtime_ns, status.st_size))
        return frozenset(found)

    def _contents_of(self, project: str, name: str) -> dict[str, int]:
        """The contents that an index has, with their sizes; none if it is gone. Raises OSError."""
        index = _read_index(self._releases(project) / name)
        return {} if index is None else contents_of(index)

    # -- what pages that are open may ask for

    def _may_be_open(self, release_id: int, history: History) -> bool:
        """Return whether pages of a release that isn't live any more may still be open."""
        left = history.left.get(release_id)
        return left is not None and self._now() - left < self._assets_for

    def _gather(self, project: str, history: History, live_id: int | None) -> _Old:
        """Find what `old_assets` returns. Of a release that can't be read, nothing is found."""
        files: dict[str, Entry] = {}
        since = None
        for release_id in sorted(history.left, key=history.left.__getitem__):
            if release_id == live_id or not self._may_be_open(release_id, history):
                continue
            with contextlib.suppress(OSError):
                release = self.assets_of(project, release_id)
                if release is not None:
                    files |= release.assets
                    since = history.left[release_id] if since is None else since
        return _Old((history,), (live_id,), Release(0, Index(files=files)), since)

    def _note_switch(self, project: str, release_id: int | None) -> None:
        """
        Remember that another release, or none, is about to be live. Before the switch: of what has been live, a page
        may be open, and what it asks for must be there at the switch. For the same reason, when a release that becomes
        live again ceased to be live before is forgotten only when it does so once more.
        """
        before, history = self.live_id(project), self.history(project)
        if before == release_id and release_id in history.live:
            return
        assets = self.old_assets(project)
        since = self._old[project].since
        left = {**history.left, **({} if before is None else {before: self._now()})}
        live = history.live | ({release_id} if release_id is not None else set())
        former = None if before is None else self.release(project, before)
        if former is not None:
            assets = Release(0, Index(files={**assets.files, **former.assets}))
            since = self._now() if since is None else since
        assets.folder("")  # so that no request waits for what is found out about the folders
        new = self._to_remember(project, msgspec.structs.replace(history, left=left, live=live))
        self._old[project] = _Old((new, history), (release_id, before), assets, since)
        self._history_file(project).write(new)

    def _begin_history(self, project: str) -> None:
        """
        Make the history of releases that were there before there was one. They all may have been live. Those of which
        it isn't known when they ceased to be live did so now.
        """
        ids = self.kept(project)
        if not self._project(project).is_dir():
            return
        history = HistoryFile(self._project(project)).read()
        if history is not None:
            unknown = history.live - history.left.keys() - {self.live_id(project)}
            if unknown:
                left = {**history.left, **dict.fromkeys(unknown, self._now())}
                self._remember(project, msgspec.structs.replace(history, left=left))
            return
        releases = [release for each in ids if (release := self.release(project, each)) is not None]
        changed: frozenset[str] = frozenset()
        for number, release in enumerate(releases):
            changed |= changed_paths(release, releases[number + 1 :])
        left = {each: self._now() for each in ids if each != self.live_id(project)}
        self._remember(project, History(compared=frozenset(ids), live=frozenset(ids), left=left).with_changed(changed))

    def _compare(self, project: str, release_id: int) -> None:
        """Learn which names of a new release have another content than in the releases before it."""
        history = self.history(project)
        new = self.release(project, release_id)
        if new is not None and release_id not in history.compared:
            ids = [each for each in self.kept(project) if each != release_id][:_COMPARED]
            others = [release for each in ids if (release := self.release(project, each)) is not None]
            live = self.live(project)
            compared = history.compared | {release_id}
            changed = changed_paths(new, [*others, *([] if live is None else [live]), self.old_assets(project)])
            self._remember(project, msgspec.structs.replace(history, compared=compared).with_changed(changed))

    def _remember(self, project: str, history: History) -> None:
        """Write the history, without the releases that are gone."""
        self._history_file(project).write(self._to_remember(project, history))

    def _to_remember(self, project: str, history: History) -> History:
        """Return the history without the releases that are gone."""
        there = frozenset([*self.kept(project), *self._ids(project, _ASSETS)])
        return msgspec.structs.replace(
            history,
            compared=history.compared & there,
            live=history.live & there,
            left={each: when for each, when in history.left.items() if each in there},
        )

    def _history_file(self, project: str) -> HistoryFile:
        file = self._histories.get(project)
        return file or self._histories.setdefault(project, HistoryFile(self._project(project)))

    def _ids(self, project: str, ending: str) -> list[int]:
        """The numbers of what is on disk as a release, with this ending of its name; the newest first."""
        try:
            listed = os.listdir(self._releases(project))
        except FileNotFoundError:
            return []
        there = [name.removesuffix(ending) for name in listed if name.endswith(ending)]
        return sorted((int(name) for name in there if _ID.match(name)), reverse=True)

    def _project(self, project: str) -> Path:
        return self._folder / names.project(project)

    def _pool(self, project: str) -> Pool:
        return Pool(self._project(project) / "pool", disk=self._disk, sync_all=self._sync_all)

    def _claims(self, project: str) -> Path:
        return self._project(project) / "claims"

    def _releases(self, project: str) -> Path:
        return self._project(project) / "releases"

    def _index(self, project: str, release_id: int) -> Path:
        return self._releases(project) / f"{release_id}{_INDEX}"


def _with_variants(path: str, entry: Entry, made: Mapping[str, dict[str, Content]]) -> Entry:
    """Return an entry with the variants that were made of its content, if it is of a kind that is compressed."""
    variants = made.get(entry.sha256)
    return Entry(entry.sha256, entry.size, variants) if variants and is_worth(path, entry.size) else entry


@lru_cache(maxsize=8192)
def _content_of(pool: str, sha256: str) -> Path:
    """The file of a content in a pool. A path that is kept has its text and its form for the system, too."""
    return Path(f"{pool}/{sha256[:2]}/{sha256}")


@lru_cache(maxsize=1024)
def _names_of(folder: Path, project: str) -> tuple[str, str]:
    """The paths of a project's link and of its pool, which each request needs."""
    return str(folder / names.project(project) / _LINK), str(folder / project / "pool")


def _read_index(path: Path) -> Index | None:
    """Return the index in a file; None if there is none. Raises OSError."""
    try:
        index = read_file(path, Index)
    except msgspec.DecodeError as error:
        raise OSError(errno.EIO, f"a damaged index: {error}", str(path)) from error
    if index is not None and index.format != FORMAT:
        raise OSError(errno.EIO, f"an index of format {index.format}, and only {FORMAT} is known", str(path))
    return index


class _Old(NamedTuple):
    """What `ReleaseStore.old_assets` has found, and what it holds for: of a switch, before it and after it."""

    histories: Sequence[History]
    live_ids: Sequence[int | None]
    assets: Release
    since: int | None  # when the first of those releases ceased to be live; None: there is none


class _Made:
    """What `ReleaseStore.compress` has made, until the release's index is another."""

    def __init__(self) -> None:
        self.contents: set[str] = set()  # the variants, of which no index knows yet
        self.release: Release | None = None  # with them; None: its index isn't written yet


#: The project, the number, and the ending of the index's name.
_Key = tuple[str, int, str]


class _Read:
    """The releases that were read last, for all threads: as many as `MAX_FILES_IN_MEMORY` lets, and at least one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._releases: OrderedDict[_Key, Release] = OrderedDict()
        self._files = 0

    def get(self, key: _Key) -> Release | None:
        """Return the release, if it is here."""
        with self._lock:
            found = self._releases.get(key)
            if found is not None:
                self._releases.move_to_end(key)
            return found

    def put(self, key: _Key, release: Release) -> None:
        """Keep a release, in the place of those that were used longest ago."""
        with self._lock:
            self._forget(key)
            self._releases[key] = release
            self._files += len(release.files)
            while self._files > MAX_FILES_IN_MEMORY and len(self._releases) > 1:
                self._forget(next(iter(self._releases)))

    def known(self) -> list[_Key]:
        """Return which releases are here."""
        with self._lock:
            return list(self._releases)

    def drop(self, project: str, release_id: int | None = None) -> None:
        """Forget a release, or all of the project."""
        with self._lock:
            for key in [key for key in self._releases if key[0] == project and release_id in (None, key[1])]:
                self._forget(key)

    def _forget(self, key: _Key) -> None:
        forgotten = self._releases.pop(key, None)
        if forgotten is not None:
            self._files -= len(forgotten.files)
