"""
A target of somebody's own that can be rolled back, whole in this file: what was built stays on the apiserver, as it was
uploaded, and a file says which of a project's archives is the one to take.

``test_own_target`` installs it beside the platform, into whose registry it puts itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import NotUnpacked, Settings, Target, option


class CopiesSettings(Settings, frozen=True, kw_only=True, tag="copies"):
    """The archives of what was built."""

    base: Annotated[str, option("Where people fetch them.", flag="--copies-base", metavar="ADDRESS")] = ""


class Archives:
    """``PROJECT/ID.tar.gz``, and the name of the live one in ``PROJECT/LIVE``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def unpack(self, project: str, release_id: int, archive: Path) -> None:
        """Keep the archive."""
        kept = self._archive(project, release_id)
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(archive, kept.with_suffix(".new"))
        os.replace(kept.with_suffix(".new"), kept)

    def has(self, project: str, release_id: int) -> bool:
        """Whether the archive is there."""
        return self._archive(project, release_id).exists()

    def live_id(self, project: str) -> int | None:
        """The one that the file names."""
        live = self._live(project)
        return int(live.read_text()) if live.exists() else None

    def activate(self, project: str, release_id: int) -> None:
        """Name it in the file."""
        if not self.has(project, release_id):
            raise NotUnpacked(f"{project} has no archive {release_id}")
        new = self._live(project).with_suffix(".new")
        new.write_text(str(release_id))
        os.replace(new, self._live(project))

    def retire(self, project: str, keep: Collection[int]) -> list[int]:
        """Delete the others."""
        ids = [int(each.name.removesuffix(".tar.gz")) for each in (self._folder / project).glob("*.tar.gz")]
        old = [each for each in ids if each not in keep and each != self.live_id(project)]
        for each in old:
            self._archive(project, each).unlink()
        return old

    def reconcile(self, project: str, live_id: int | None) -> None:
        """As the ledger has it."""
        if live_id is None:
            self._live(project).unlink(missing_ok=True)
        elif self.live_id(project) != live_id:
            self.activate(project, live_id)

    def projects(self) -> list[str]:
        """All folders."""
        return os.listdir(self._folder)

    def remove_project(self, project: str) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder / project, ignore_errors=True)

    def _archive(self, project: str, release_id: int) -> Path:
        return self._folder / project / f"{release_id}.tar.gz"

    def _live(self, project: str) -> Path:
        return self._folder / project / "LIVE"


class Copies(Target[CopiesSettings]):
    """The archives, on the apiserver."""

    name = "copies"
    what = "archive to fetch"
    settings = CopiesSettings
    needs_site = True
    delivered_by = "apiserver"

    def address(self, settings: CopiesSettings, project: str, site: Callable[[str], str]) -> str:
        """Below the address that the project names."""
        return f"{settings.base}/{project}" if settings.base else ""

    def releases(self, folder: Path) -> Archives:
        """The archives in this folder."""
        return Archives(folder)


TARGETS.add(Copies())
