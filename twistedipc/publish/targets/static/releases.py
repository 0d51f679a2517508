"""
Static releases on disk: unpacked beside one another, one of them live, switched atomically. ``publish`` layer; used
by ``server`` (which unpacks and switches) and ``web`` (which serves what is live).

::

    FOLDER/PROJECT/releases/ID/…    a release: there completely or not at all; how it is served is in `serving`'s file
    FOLDER/PROJECT/current          a symbolic link to releases/ID: what is live
    FOLDER/PROJECT/history.json     what is remembered of them: see ``history``

The ledger says which release is live; the link follows it, and `ReleaseStore.reconcile` brings it level after a
crash. Earlier releases stay for a while, to roll back to, and because pages that are open still load their assets.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import msgspec

from twistedipc.builds import names
from twistedipc.disk.files import sync_folder
from twistedipc.publish.archive import BadArchive, Manifest, read_manifest, unpack
from twistedipc.publish.targets.static.history import History, HistoryFile, changed_paths
from twistedipc.publish.targets.static.serving import Serving, write_serving
from twistedipc.publish.targets.target import NotUnpacked

_ID = re.compile(r"[1-9][0-9]{0,17}\Z")

_PROJECT = re.compile(names.PROJECT)

_LINK = "current"

#: Begins the name of a release that is being deleted. (`archive.unpack` has such names for what isn't whole yet.)
_DOOMED = ".removed-"


class ReleaseStore:
    """
    The releases in ``folder``. All methods do disk work at once; `unpack`, `retire` and `remove_project` much
    of it, so that they belong in a thread. One thread at a time may change one project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._histories: dict[str, HistoryFile] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def unpack(self, project: str, release_id: int, archive: Path) -> Manifest:
        """
        Unpack a release beside the others, unless it is there already, and compare it with them. Raises what
        `archive.unpack` does, and `BadArchive` for a release with nothing in it, whatever the builder has said of it:
        it would replace a good one.
        """
        target = self._release(project, release_id)
        manifest = read_manifest(archive)
        if not manifest.size:
            raise BadArchive("there is nothing in it, or only empty files")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._begin_history(project)
        if not target.is_dir():
            unpack(archive, target, add=lambda folder: write_serving(folder, Serving(spa=manifest.spa is True)))
            for parent in (target.parent, target.parent.parent, self._folder):
                sync_folder(parent)
        self._compare(project, release_id)
        return manifest

    def has(self, project: str, release_id: int) -> bool:
        """Return whether this release is on disk."""
        return self._release(project, release_id).is_dir()

    def activate(self, project: str, release_id: int) -> None:
        """Make this release the live one, by one atomic and durable switch. Raises `NotUnpacked`."""
        if not self.has(project, release_id):
            raise NotUnpacked(f"release {release_id} of {project} is not on disk")
        self._begin_history(project)
        folder = self._project(project)
        history = self.history(project)
        if release_id not in history.live:
            # Before the switch: of what has been live, a page may be open.
            self._remember(project, msgspec.structs.replace(history, live=history.live | {release_id}))
        temporary = folder / f".{_LINK}.new"
        temporary.unlink(missing_ok=True)
        os.symlink(f"releases/{release_id}", temporary)
        os.replace(temporary, folder / _LINK)
        sync_folder(folder)

    def live_id(self, project: str) -> int | None:
        """The id of the live release, or None."""
        try:
            target = os.readlink(self._project(project) / _LINK)
        except FileNotFoundError:
            return None
        name = target.removeprefix("releases/")
        return int(name) if _ID.match(name) else None

    def live(self, project: str) -> Path | None:
        """The folder of the live release: not through the link, so that it stays the same while it is read."""
        release_id = self.live_id(project)
        if release_id is None:
            return None
        folder = self._release(project, release_id)
        return folder if folder.is_dir() else None

    def kept(self, project: str) -> list[Path]:
        """The folders of all releases on disk, newest first."""
        return [self._release(project, release_id) for release_id in self._ids(project)]

    def once_live(self, project: str) -> list[Path]:
        """The folders of the releases on disk that were live and aren't any more, newest first."""
        live = self.live_id(project)
        known = self.history(project).live
        return [self._release(project, each) for each in self._ids(project) if each in known and each != live]

    def history(self, project: str) -> History:
        """Return what is remembered of a project's releases."""
        file = self._histories.setdefault(project, HistoryFile(self._project(project)))
        return file.read() or History(live=frozenset(self._ids(project)))

    def retire(self, project: str, keep: Collection[int]) -> list[int]:
        """Delete all releases but those of ``keep``; never the live one. The ids of those deleted."""
        live = self.live_id(project)
        old = [release_id for release_id in self._ids(project) if release_id != live and release_id not in keep]
        for release_id in old:
            release = self._release(project, release_id)
            release.rename(release.with_name(f"{_DOOMED}{release_id}"))
        self._sweep(project, _DOOMED)
        return old

    def remove_project(self, project: str) -> None:
        """Delete all releases of a project that is no more: its name may become another's."""
        folder = self._project(project)
        (folder / _LINK).unlink(missing_ok=True)
        self.retire(project, keep=())
        shutil.rmtree(folder, ignore_errors=True)
        self._histories.pop(project, None)

    def projects(self) -> list[str]:
        """The projects that have anything here."""
        return sorted(name for name in os.listdir(self._folder) if _PROJECT.fullmatch(name))

    def reconcile(self, project: str, live_id: int | None) -> None:
        """
        Make the disk agree with the ledger, and delete what a crash had left half unpacked: nothing of this project
        may be being unpacked meanwhile. Raises `NotUnpacked`; then what was live stays live.
        """
        self._sweep(project, "")
        self._begin_history(project)
        if live_id is None:
            (self._project(project) / _LINK).unlink(missing_ok=True)
        elif self.live_id(project) != live_id:
            self.activate(project, live_id)

    def _begin_history(self, project: str) -> None:
        """
        Make the history of releases that were unpacked by a version that kept none. They all may have been live. They
        are compared by size only: this is done while the service starts, and there may be many gigabytes of them.
        """
        ids = self._ids(project)
        folders = self.kept(project)
        if not self._project(project).is_dir() or HistoryFile(self._project(project)).read() is not None:
            return
        changed: frozenset[str] = frozenset()
        for number, folder in enumerate(folders):
            changed |= changed_paths(folder, folders[number + 1 :], by_content=False)
        self._remember(project, History(compared=frozenset(ids), live=frozenset(ids)).with_changed(changed))

    def _compare(self, project: str, release_id: int) -> None:
        """Learn which names of a new release have another content than in the releases before it."""
        history = self.history(project)
        if release_id not in history.compared:
            others = [folder for folder in self.kept(project) if folder != self._release(project, release_id)]
            changed = changed_paths(self._release(project, release_id), others, by_content=True)
            compared = history.compared | {release_id}
            self._remember(project, msgspec.structs.replace(history, compared=compared).with_changed(changed))

    def _remember(self, project: str, history: History) -> None:
        """Write the history, without the releases that are gone."""
        there = frozenset(self._ids(project))
        self._histories.setdefault(project, HistoryFile(self._project(project))).write(
            msgspec.structs.replace(history, compared=history.compared & there, live=history.live & there)
        )

    def _sweep(self, project: str, prefix: str) -> None:
        """Delete what is no release and begins with ``prefix``."""
        folder = self._project(project) / "releases"
        for name in self._names(project):
            if not _ID.match(name) and name.startswith(prefix):
                shutil.rmtree(folder / name, ignore_errors=True)

    def _ids(self, project: str) -> list[int]:
        return sorted((int(name) for name in self._names(project) if _ID.match(name)), reverse=True)

    def _names(self, project: str) -> list[str]:
        try:
            return os.listdir(self._project(project) / "releases")
        except FileNotFoundError:
            return []

    def _project(self, project: str) -> Path:
        return self._folder / names.project(project)

    def _release(self, project: str, release_id: int) -> Path:
        return self._project(project) / "releases" / str(release_id)
