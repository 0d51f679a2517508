"""
The versions that an attempt gives its packages, between the step that installs and those that build. Used by
``course``.

What is to be changed the targets say (`Target.versions`); it is written here, into the working copy, which is the
build's: no link in it is followed. What the project's own tool has made is found by comparing files before and after:
only those that such a tool changes are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.attempts.folder import VERSIONS
from twistedipc.builds.attempt import Release, Spec
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.builds.recognition.tree import CantRead
from twistedipc.builds.versions import Chosen, ChosenVersions, Versioning
from twistedipc.disk.beneath import replace_file
from twistedipc.disk.files import PASSING_ERRORS
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets
from twistedipc.publish.targets.target import Settings, Versioned
from twistedipc.runner.networking import Notes
from twistedipc.trees.folder import FolderTree

#: The most bytes of a file that is changed, such as a lock file, and of all files that are looked at.
MAX_FILE = 32 << 20
MAX_FILES = 128 << 20


class Versions:
    """
    The versions of one attempt's packages.

    :param folder: the attempt's
    :param write: writes a file of the attempt's folder, whole, as soon as the disk has room
    :param persist: calls a function that writes until the disk has had room
    """

    def __init__(
        self,
        folder: Path,
        spec: Spec,
        log: Notes,
        write: Callable[[Path, msgspec.Struct], None],
        persist: Callable[[Callable[[], bool]], None],
    ) -> None:
        self._work = folder / "work"
        self._file = folder / VERSIONS
        self._spec = spec
        self._log = log
        self._write = write
        self._persist = persist
        self._settled = False
        self._chosen: dict[str, dict[str, Chosen]] = {}
        #: what has changed of the repository's files: path -> its content; None: the file is gone
        self.changed: dict[str, bytes | None] = {}

    @property
    def chosen(self) -> list[tuple[str, Chosen]]:
        """All packages that have got a version, with it."""
        return [(name, each) for of_target in self._chosen.values() for name, each in of_target.items()]

    def settle(self, targets: ProjectTargets, plan: Plan, run: Callable[[PlannedStep], None]) -> None:
        """
        Give the packages of the targets their versions, unless they have them. Raises `BadPlan` if that can't be done.

        :param run: runs a step without secrets
        """
        if not self._settled:
            self._settled = True
            for settings in targets:
                self._settle(settings, plan, run)

    def _settle(self, settings: Settings, plan: Plan, run: Callable[[PlannedStep], None]) -> None:
        target: Any = TARGETS.of(settings)
        wanted = self._spec.versioning or Versioning()
        found = target.versions(settings, self._tree(), plan, wanted, production=self._spec.context == "production")
        if found is None:
            return
        self._say(found)
        before = self._read([*found.files, *found.edits])
        for path, data in found.edits.items():
            self._replace(path, data)
        chosen = found.chosen
        if found.tool is not None:
            run(found.tool)
            made = target.versions_made(settings, self._tree(), plan, found.before)
            self._say(made)
            chosen = made.chosen
        after = self._read([*found.files, *found.edits])
        self.changed |= {path: after.get(path) for path in before.keys() | after if before.get(path) != after.get(path)}
        self._chosen[target.name] = dict(chosen)
        self._write(self._file, ChosenVersions(targets=self._chosen))

    def release(self, author: str) -> Release:
        """Return the commit that has these versions. ``author``: "NAME <EMAIL>"."""
        raised = [f"{name}@{each.version}" for name, each in self.chosen if not each.settled]
        shown = ", ".join(raised[:3]) + (f" and {len(raised) - 3} more" if len(raised) > 3 else "")
        listed = "".join(f"- {each}\n" for each in raised) if len(raised) > 3 else ""
        versioning = self._spec.versioning or Versioning()
        return Release(
            # Services that build each push leave out a commit that says so; and it has nothing to publish.
            message=f"Release {shown}\n\n{listed}\n[skip ci]\n\nTwistedipc-Build: {self._spec.build}\n",
            author=author,
            time=versioning.asked,
            files=self.changed,
        )

    def _tree(self) -> FolderTree:
        return FolderTree(self._work, MAX_FILE)

    def _say(self, found: Versioned) -> None:
        for sentence in found.said:
            self._log.note("info", sentence)
        for sentence in found.warnings:
            self._log.note("warning", sentence)

    def _read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return what these files hold, those that are there. Raises `BadPlan`."""
        tree = self._tree()
        found: dict[str, bytes] = {}
        for path in dict.fromkeys(paths):
            try:
                data = tree.read(path)
            except CantRead as error:
                raise BadPlan(str(error)) from error
            if data is not None:
                found[path] = data
        if sum(map(len, found.values())) > MAX_FILES:
            raise BadPlan(f"the files that say which versions packages have are more than {MAX_FILES} bytes")
        return found

    def _replace(self, path: str, data: bytes) -> None:
        def write() -> bool:
            try:
                replace_file(self._work, path, data)
            except OSError as error:
                if error.errno not in PASSING_ERRORS:
                    raise BadPlan(f"{path} can't be changed: {error.strerror}") from error
                return False
            return True

        self._persist(write)
