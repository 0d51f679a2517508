"""The target ``static``: what it is for the rest of the platform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from twistedipc.builds import names
from twistedipc.publish.targets.static.headers import check_headers
from twistedipc.publish.targets.target import Releases, Settings, Target, option

#: `StaticSettings.access` of releases that aren't for everybody.
TEAM: Final = "team"


class StaticSettings(Settings, frozen=True, kw_only=True, tag="static"):
    """A static release of the output folder, served by the apiserver."""

    access: Annotated[
        str,
        option(
            "Who may see the releases: public, or team, who are those that may see the project, signed in.",
            flag="--access",
            metavar="public|team",
            unset="for everybody",
        ),
    ] = ""
    headers: Annotated[
        list[str],
        option(
            "A header of the releases' answers (NAME: VALUE); without a value the platform's own is left out.",
            flag="--header",
            metavar="HEADER",
            unset="for the platform's own",
        ),
    ] = msgspec.field(default_factory=list)

    @property
    def for_team(self) -> bool:
        """Whether the releases are for the team alone."""
        return self.access == TEAM


class Static(Target[StaticSettings]):
    """The output folder, as a release that the apiserver serves. It is delivered by the upload of the archive."""

    name = "static"
    what = "static release"
    settings = StaticSettings
    default = True
    needs_site = True
    delivered_by = "apiserver"
    folder = "releases"

    def check(self, settings: StaticSettings) -> None:
        """Raise `names.BadValue` for another access or header than there can be."""
        if settings.access not in ("", "public", TEAM):
            raise names.BadValue(f"access is public or {TEAM}, not {settings.access[:100]!r}")
        check_headers(settings.headers)

    def address(self, settings: StaticSettings, project: str, site: Callable[[str], str]) -> str:
        """The project's address on the site of releases."""
        return site(project)

    def releases(self, folder: Path) -> Releases:
        """Return the store of the releases on disk."""
        from twistedipc.publish.targets.static.releases import ReleaseStore  # the apiserver's alone

        return ReleaseStore(folder)
