"""
Why a release isn't live, as a sentence for people. Used by ``server`` (at a build's end) and by ``web``. On top of
``projects``, ``releases`` and ``attempts``; ``storage`` layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection

from twistedipc.builds.names import own_ref
from twistedipc.builds.protection import listing
from twistedipc.builds.states import TERMINAL, AttemptState, ReleaseState
from twistedipc.storage import attempts, projects, releases
from twistedipc.storage.rows import ProjectRow, ReleaseRow

_ENDS = {AttemptState.TIMED_OUT: "timed out", AttemptState.CANCELLED: "was cancelled", AttemptState.LOST: "was lost"}


class Standing(msgspec.Struct, frozen=True):
    """What decides about a project's releases now."""

    project: ProjectRow
    live: list[ReleaseRow]  # one of a target at most

    def why_not_live(self, release: ReleaseRow, now: int) -> str:
        """Return why this release isn't live, without a full stop; "" if the release is live."""
        make_live = f"`twistedipc rollback {release.project} {release.id}` makes it live"
        match release.state:
            case ReleaseState.LIVE:
                return ""
            case ReleaseState.ROLLED_BACK:
                return "somebody made an older release live in its place"
            case ReleaseState.SUPERSEDED if release.activated is not None:
                return "a newer release has replaced it"
            case ReleaseState.SUPERSEDED:
                live = next((each for each in self.live if each.target == release.target), None)
                if live is not None and not releases.newer(release, live, now):
                    return f"release {live.id} of build {live.build} is newer; {make_live} all the same"
                return f"a newer release was live when its build ended; {make_live} all the same"
        if release.made_by is AttemptState.WAITING_APPROVAL:
            return f"it waits for an approval: `twistedipc approve {release.build}`, by another person than who asked"
        if release.made_by is not AttemptState.SUCCEEDED:
            return f"its build {self._how(release.made_by)}"
        if release.is_elsewhere:
            return f"it was built for the environment {release.environment}, and only production goes live"
        if not releases.is_protected(release, self.project):
            return (
                f"it is a preview: it is of {release.ref}, and its commit was not on "
                f"{listing(self.project.protected)} of {release.project}"
            )
        if release.preview:
            return f"it is a preview: {release.preview}; {make_live}"
        if not (release.may_go_live or releases.is_own(release, self.project)):
            own = own_ref(self.project.default_ref, self.project.head)
            return (
                f"it is of {release.ref}, and only builds of {own}, the project's own ref, "
                f"go live by themselves; {make_live}"
            )
        hold = self.project.hold
        if hold is None:
            return f"it could not go live by itself when its build ended; {make_live}"
        return (
            f"it waits: {hold.who} rolled {release.project} back to release {hold.release}; "
            f"`twistedipc release resume {release.project}` makes the newest one that waits live"
        )

    @staticmethod
    def _how(state: AttemptState) -> str:
        return _ENDS.get(state, "failed") if state in TERMINAL else "hasn't ended"


def standing(connection: Connection, project: str) -> Standing | None:
    """What decides about the project's releases; None if there is no such project. For `Ledger.read` and others."""
    about = projects.get(connection, project)
    return None if about is None else Standing(about, releases.all_live(connection, project))


def note_standing(connection: Connection, changed: Iterable[ReleaseRow], now: int) -> Mapping[str, Standing]:
    """
    Have the attempts of these releases say why theirs aren't live now; nothing, once they are. Return what decides now
    about the releases of their projects, by the project's name.
    """
    decides: dict[str, Standing] = {}
    for attempt, project, build in dict.fromkeys((each.attempt, each.project, each.build) for each in changed):
        about = decides.get(project) or standing(connection, project)
        if about is None:
            continue
        decides[project] = about
        made = [each for each in releases.of_build(connection, build) if each.attempt == attempt]
        reasons = [
            f"release {release.id} didn't go live: {why}"
            for release in made
            if (why := about.why_not_live(release, now))
        ]
        attempts.note_release(connection, attempt, "; ".join(reasons))
    return decides
