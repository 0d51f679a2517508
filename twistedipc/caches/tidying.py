"""
What is done beside the builds for all caches of a builder: spares are made, what is old or too much goes.

It runs in a process of its own (``__main__``) at a low priority, started by the builder after attempts have ended; one
at a time, by a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from twistedipc.caches import moving
from twistedipc.caches.checking import CantKeep
from twistedipc.caches.store import About, ProjectCaches, check_entry, cleared_of, read_about
from twistedipc.disk.files import remove_tree

_DAY = 86_400_000  # milliseconds


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept, and for how long."""

    project: int  # bytes of one project's entries and spares
    total: int  # bytes of all
    days: float  # since it was last used; a project may keep to less, by a rule of its own or of the apiserver's
    free: int = 0  # bytes of the disk that spares leave free


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, for people and for `tidy`."""

    project: str  # the folder's name
    name: str
    size: int  # bytes on the disk, spares included
    saved: int  # milliseconds since the epoch
    used: int
    rule: int | None  # days since then after which it goes by the project's rule; None: there is none


def tidy(folder: Path, limits: Limits, now: Callable[[], int], free: Callable[[Path], int]) -> None:
    """
    Bring all caches into their limits, and make spares where they are missing. It does nothing while another does it.

    :param free: how many bytes the disk of a folder has
    """
    with _alone(folder) as alone:
        if not alone:
            return
        for path in _outdated(folder):
            _clear(ProjectCaches(path, now))
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                _tidy_project(ProjectCaches(path, now), limits, now)
        _keep_within(folder, limits.total, now)
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                _make_spares(ProjectCaches(path, now), limits.free, free)


def anything(folder: Path) -> bool:
    """Return whether there is something that `tidy` would look at: no project may keep anything yet."""
    return next(folder.glob("*/*/*"), None) is not None


def kept(folder: Path, now: Callable[[], int]) -> list[Kept]:
    """Return what there is, by project and then by name."""
    found: list[Kept] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            caches = ProjectCaches(path, now)
            found += [_kept(caches, entry, about) for entry, about in _entries(caches)]
    return sorted(found, key=lambda one: (one.project, one.name))


def clear(folder: Path, project: str, now: Callable[[], int]) -> int:
    """Remove what there is of one project, or with "" of all: how many entries there were."""
    count = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and project in ("", path.name):
            count += _clear(ProjectCaches(path, now))
    return count


def _clear(caches: ProjectCaches) -> int:
    found = _entries(caches)
    for entry, _about in found:
        _drop(caches, entry)
    _remove_going(caches)
    return len(found)


def _outdated(folder: Path) -> list[Path]:
    """Return the folders of projects that have another one since their caches were cleared."""
    newest: dict[str, int] = {}
    known = [(path, *cleared_of(path.name)) for path in sorted(folder.iterdir()) if path.is_dir()]
    for _path, project, cleared in known:
        newest[project] = max(cleared, newest.get(project, 0))
    return [path for path, project, cleared in known if cleared < newest[project]]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "tidying.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def _entries(caches: ProjectCaches) -> list[tuple[Path, About]]:
    found = [(entry, read_about(entry)) for entry in sorted(caches.entries.iterdir())]
    return [(entry, about) for entry, about in found if about is not None]


def _tidy_project(caches: ProjectCaches, limits: Limits, now: Callable[[], int]) -> None:
    rule = caches.rule()
    days = limits.days if rule is None else min(limits.days, rule)
    with caches.locked():
        stamps = {}
        for entry in sorted(caches.entries.iterdir()):
            about = read_about(entry)
            if about is None or _used(entry) < now() - days * _DAY:
                _drop(caches, entry)
            else:
                stamps[about.stamp] = entry
        for spare in sorted(caches.spares.iterdir()):
            known = read_about(spare)
            # One that is being made or taken now is so under the lock: this one was left by a process that was killed.
            left = spare.name.startswith(".")
            if left or known is None or known.stamp not in stamps:
                caches.discard(spare)
    _remove_going(caches)
    _drop_to(limits.project, [(caches, entry, about) for entry, about in _entries(caches)])
    _remove_going(caches)


def _keep_within(folder: Path, total: int, now: Callable[[], int]) -> None:
    everything = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            caches = ProjectCaches(path, now)
            everything += [(caches, entry, about) for entry, about in _entries(caches)]
    _drop_to(total, everything)
    for caches in {caches.folder: caches for caches, _entry, _about in everything}.values():
        _remove_going(caches)


def _drop_to(limit: int, entries: list[tuple[ProjectCaches, Path, About]]) -> None:
    """Drop those of these entries that haven't been used for longest, until the rest is below the limit."""
    measured = [(_kept(caches, entry, about), caches, entry) for caches, entry, about in entries]
    total = sum(one.size for one, _caches, _entry in measured)
    for one, caches, entry in sorted(measured, key=lambda each: each[0].used):
        if total <= limit:
            return
        _drop(caches, entry)
        total -= one.size


def _drop(caches: ProjectCaches, entry: Path) -> None:
    for path in (*caches.spares.glob(f"{entry.name}.*"), entry):
        with contextlib.suppress(FileNotFoundError):  # a build took it
            caches.discard(path)


def _remove_going(caches: ProjectCaches) -> None:
    for path in caches.going.iterdir():
        remove_tree(path)


def _make_spares(caches: ProjectCaches, reserve: int, free: Callable[[Path], int]) -> None:
    for entry, about in _entries(caches):
        with caches.locked():
            there = caches.spare_of(entry, about)
        if there is not None or free(caches.folder) - moving.size(entry) < reserve:
            continue
        new = caches.spares / f".new-{secrets.token_hex(8)}"
        try:
            moving.copy(entry, new)
            check_entry(new, about)
        except (moving.CantCopy, CantKeep):
            # The entry went meanwhile, the disk is full, or there is something in it that nobody must get: the next
            # build makes its own copy, or does without.
            remove_tree(new)
            continue
        with caches.locked():
            now = read_about(entry)
            if now is not None and now.stamp == about.stamp:
                new.rename(caches.spares / f"{entry.name}.{secrets.token_hex(4)}")
            else:
                caches.discard(new)  # another was saved meanwhile, and this may have parts of both


def _kept(caches: ProjectCaches, entry: Path, about: About) -> Kept:
    spares = sum(moving.size(spare) for spare in caches.spares.glob(f"{entry.name}.*"))
    return Kept(
        project=caches.folder.name,
        name=about.cache.name,
        size=moving.size(entry) + spares,
        saved=about.saved,
        used=_used(entry),
        rule=caches.rule(),
    )


def _used(entry: Path) -> int:
    """Return when an entry was last saved or restored, in milliseconds since the epoch; 0 if it has gone."""
    try:
        return (entry / "about.json").stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
