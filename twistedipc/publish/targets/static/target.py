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

#: `StaticSettings.previews` of a project whose previews have no addresses.
OFF: Final = "off"

#: For how many days a preview of a branch stays to which nothing new comes, and the most that can be said.
PREVIEW_DAYS: Final = 30
MAX_PREVIEW_DAYS: Final = 3650


class StaticSettings(Settings, frozen=True, kw_only=True, tag="static"):
    """A static release of the output folder, served by the apiserver."""

    access: Annotated[
        str,
        option(
            "Who may see the releases: public, or team, who are those that may see the project, signed in.",
            flag="--access",
            label="Who may see releases",
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

    previews: Annotated[
        str,
        option(
            "Who may see previews, which are releases that aren't live: public, team, or off: they have no addresses.",
            flag="--previews",
            label="Who may see previews",
            metavar="public|team|off",
            unset="for those who may see the releases",
        ),
    ] = ""
    preview_days: Annotated[
        int,
        option(
            "For how many days the preview of a branch stays to which nothing new comes. 0: until the branch is gone.",
            flag="--preview-days",
            label="Days that previews stay",
            metavar="DAYS",
        ),
    ] = PREVIEW_DAYS

    @property
    def for_team(self) -> bool:
        """Whether the releases are for the team alone."""
        return self.access == TEAM

    @property
    def previews_for_team(self) -> bool:
        """Whether the previews are for the team alone."""
        return (self.previews or self.access) == TEAM


class Static(Target[StaticSettings]):
    """The output folder, as a release that the apiserver serves. It is delivered by the upload of the archive."""

    name = "static"
    what = "static release"
    settings = StaticSettings
    default = True
    needs_site = True
    delivered_by = "apiserver"
    takes_parts = True
    folder = "releases"

    def check(self, settings: StaticSettings) -> None:
        """Raise `names.BadValue` for another access or header than there can be."""
        if settings.access not in ("", "public", TEAM):
            raise names.BadValue(f"access is public or {TEAM}, not {settings.access[:100]!r}")
        if settings.previews not in ("", "public", TEAM, OFF):
            raise names.BadValue(f"previews are public, {TEAM} or {OFF}, not {settings.previews[:100]!r}")
        if not 0 <= settings.preview_days <= MAX_PREVIEW_DAYS:
            raise names.BadValue(f"previews stay for 0 to {MAX_PREVIEW_DAYS} days, not {settings.preview_days}")
        check_headers(settings.headers)

    def address(self, settings: StaticSettings, project: str, site: Callable[[str], str]) -> str:
        """The project's address on the site of releases."""
        return site(project)

    def releases(self, folder: Path) -> Releases:
        """Return the store of the releases on disk."""
        from twistedipc.publish.targets.static.releases import ReleaseStore  # the apiserver's alone

        return ReleaseStore(folder)
