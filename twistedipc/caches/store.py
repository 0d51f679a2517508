"""
The caches of one project, in a folder of their own on the builder's disk::

    lock            held (flock) while anything here is moved
    entries/ID/     what was saved: about.json, and a folder for each path, named 0, 1 …
    spares/ID.N/    a copy of an entry, which the next build takes whole; its about.json is the entry's
    going/          what is to be removed
    kept.json       for how long the project has kept what no build uses, if it has a rule for that

Used by the runner (restore, save) and by ``tidying``. Each folder comes to its place by a rename, so that a process
that is killed leaves nothing half; what it leaves in ``going`` or under ``.new`` is removed later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from twistedipc.attempts.sha256 import sha256  # a runner does without OpenSSL
from twistedipc.builds.caches import Cache
from twistedipc.caches import moving
from twistedipc.caches.checking import CantKeep, Names, check_folder
from twistedipc.disk.files import read_file, remove_tree, write_file

#: Seconds to wait for another process that moves or copies something: as long as a copy takes at most. Two looks
#: whether it still does are so many seconds apart.
PATIENCE = moving.COPYING
_LOOK = 0.02


def _nothing(_text: str) -> None:
    """Do nothing."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry is."""

    cache: Cache
    paths: list[str]  # those of the cache's paths that were there, in the order of the folders 0, 1 …
    stamp: str  # another for each saving
    saved: int  # milliseconds since the epoch


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a project's rule of retention says of its caches."""

    days: int  # since a build last used them


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What `ProjectCaches.restore` did."""

    cache: Cache
    whole: bool  # all that was saved is there: none of it was in the way
    copied: bool  # it had to be copied first, since there was no spare


class ProjectCaches:
    """
    The caches of one project.

    :param folder: where they are; it is made if need be
    :param now: milliseconds since the epoch
    :param refused: is told which cache isn't kept, and why
    """

    def __init__(self, folder: Path, now: Callable[[], int], refused: Callable[[str], None] = _nothing) -> None:
        self.folder = folder
        self._now = now
        self._refused = refused
        self._names = Names()  # of all that is saved: an attempt's caches may be linked with one another
        self.entries = folder / "entries"
        self.spares = folder / "spares"
        self.going = folder / "going"
        for place in (self.entries, self.spares, self.going):
            place.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others from moving anything here. Raises OSError."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _lock(lock):
                if time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "another process has been busy with them for too long")
                time.sleep(_LOOK)
            yield
        finally:
            os.close(lock)

    def rule(self) -> int | None:
        """Return for how many days the project keeps what no build uses; None: it has no rule that can be read."""
        try:
            known = read_file(self.folder / "kept.json", Rule)
        except (OSError, msgspec.DecodeError):
            return None
        return None if known is None else known.days

    def set_rule(self, days: int | None) -> None:
        """Note the project's rule, which the tidying reads when it comes: see `rule`. Raises OSError."""
        if days == self.rule():
            return
        with self.locked():
            if days is None:
                (self.folder / "kept.json").unlink(missing_ok=True)
            else:
                write_file(self.folder / "kept.json", Rule(days=days))

    def restore(self, wanted: Sequence[Cache], attempt: Path) -> list[Restored]:
        """Put into an attempt's folder what there is of these caches: what was put there. Raises OSError."""
        found = []
        for cache in wanted:
            with self.locked():
                one = self._restore(cache, attempt)
            if one is not None:
                found.append(one)
        return found

    def _restore(self, cache: Cache, attempt: Path) -> Restored | None:
        entry = self.entries / identity(cache)
        about = read_about(entry)
        if about is None or about.cache.key != cache.key:
            return None
        spare, source = self.spare_of(entry, about), self._new(self.spares)
        copied = spare is None
        if spare is not None:
            spare.rename(source)  # at once: should this process be killed, there is no spare that lacks something
        else:
            try:
                moving.copy(entry, source)
            except moving.CantCopy:
                return None  # the build does without, as it would with no cache at all
        try:
            check_entry(source, about)
        except CantKeep:
            self.discard(source)
            self.discard(entry)  # what it was copied from is no better
            return None
        os.utime(entry / "about.json")
        moved = [
            moving.move_in(source / str(number), attempt, path)
            for number, path in enumerate(about.paths)
            if path in cache.paths
        ]
        self.discard(source)
        return Restored(cache=cache, whole=bool(moved) and all(moved), copied=copied) if any(moved) else None

    def save(self, made: Sequence[Cache], attempt: Path) -> list[Cache]:
        """
        Move what there is of these caches out of an attempt's folder, which is of no more use then: what was saved.
        Raises OSError.
        """
        saved = []
        # What is in another's folder is saved first, and isn't in that any more then.
        for cache in reversed(made):
            with self.locked():
                try:
                    if self._save(cache, attempt):
                        saved.append(cache)
                except CantKeep as error:
                    self._refused(f"{cache.name} isn't kept: {error}")
        return saved[::-1]

    def _save(self, cache: Cache, attempt: Path) -> bool:
        entry = self.entries / identity(cache)
        if cache.key and read_about(entry) is not None:
            os.utime(entry / "about.json")
            return False
        new = self._new(self.entries)
        new.mkdir()
        paths: list[str] = []
        for path in cache.paths:
            if moving.move_out(attempt, path, new / str(len(paths))):
                paths.append(path)
        if not paths:
            remove_tree(new)
            return False
        try:
            for number, path in enumerate(paths):
                check_folder(new / str(number), path, self._names)
            self._names.check(attempt)
        except CantKeep:
            remove_tree(new)
            raise
        about = About(cache=cache, paths=paths, stamp=os.urandom(8).hex(), saved=self._now())
        write_file(new / "about.json", about)
        if entry.exists():
            self.discard(entry)
        new.rename(entry)
        return True

    def spare_of(self, entry: Path, about: About) -> Path | None:
        """Return a spare of an entry as it is now; None if there is none. It is asked for under the lock."""
        for spare in self.spares.glob(f"{entry.name}.*"):
            known = read_about(spare)
            if known is not None and known.stamp == about.stamp:
                return spare
        return None

    def discard(self, folder: Path) -> None:
        """Move a folder away; tidying removes it."""
        folder.rename(self.going / os.urandom(8).hex())

    def _new(self, place: Path) -> Path:
        return place / f".new-{os.urandom(8).hex()}"


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_entry(folder: Path, about: About) -> None:
    """Check an entry, or a copy of it, that nothing moves meanwhile. Raises `CantKeep`."""
    names = Names()
    for number, path in enumerate(about.paths):
        check_folder(folder / str(number), path, names)
    names.check()


def folder_of(project: str, cleared: int) -> str:
    """Return the name of the folder of a project's caches, after they were cleared so many times."""
    return f"{project}.{cleared}" if cleared else project


def cleared_of(folder: str) -> tuple[str, int]:
    """Return the project and the number of times in the name of a folder."""
    project, dot, cleared = folder.rpartition(".")
    return (project, int(cleared)) if dot and cleared.isdecimal() else (folder, 0)


def identity(cache: Cache) -> str:
    """Return the name of a cache's entry."""
    digest = sha256()
    digest.update(f"{cache.name}\0{cache.key}".encode())
    return digest.hexdigest()[:24]


def read_about(entry: Path) -> About | None:
    """Return what an entry or a spare is; None if it isn't whole, or can't be read."""
    try:
        return read_file(entry / "about.json", About)
    except (OSError, msgspec.DecodeError):
        return None
