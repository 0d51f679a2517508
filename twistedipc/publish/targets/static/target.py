"""The target ``static``: what it is for the rest of the platform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twistedipc.publish.targets.target import Releases, Settings, Target


class StaticSettings(Settings, frozen=True, kw_only=True, tag="static"):
    """A static release of the output folder, served by the apiserver."""


class Static(Target[StaticSettings]):
    """The output folder, as a release that the apiserver serves. It is delivered by the upload of the archive."""

    name = "static"
    what = "static release"
    settings = StaticSettings
    default = True
    needs_site = True
    delivered_by = "apiserver"
    folder = "releases"

    def address(self, settings: StaticSettings, project: str, site: Callable[[str], str]) -> str:
        """The project's address on the site of releases."""
        return site(project)

    def releases(self, folder: Path) -> Releases:
        """Return the store of the releases on disk."""
        from twistedipc.publish.targets.static.releases import ReleaseStore  # the apiserver's alone

        return ReleaseStore(folder)
