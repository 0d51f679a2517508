"""
What happens when a person wants what a build has made to be what a project's users get. Functions for `Ledger.read`;
``storage`` layer, on top of ``releases``.

A preview goes live as it is, without another build, if its commit is on a protected ref, and production would be built
with the same variables and secrets. Else its commit is built for production.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, select

from twistedipc.builds.environments import PRODUCTION
from twistedipc.builds.inputs import inputs_of
from twistedipc.builds.protection import listing
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.builds.variables import of_context
from twistedipc.publish.targets.static.target import Static
from twistedipc.storage import build_secrets, projects, releases
from twistedipc.storage.errors import NotFound, NotPossible, NotProtected
from twistedipc.storage.rows import ProjectRow, ReleaseRow
from twistedipc.storage.tables import attempts


class Promotion(NamedTuple):
    """What is to be done."""

    release: ReleaseRow
    rebuild: str  # why its commit is built for production, in words after "since"; "": the release goes live


def decide(connection: Connection, build: int) -> Promotion:
    """
    Return what is to be done so that users get what a build has made. Raises `NotFound`; `NotPossible` if it has made
    nothing that could go live; `NotProtected` if its commit may not.
    """
    made = [
        each
        for each in releases.of_build(connection, build)
        if each.target == Static.name and each.made_by is AttemptState.SUCCEEDED
    ]
    if not made:
        raise NotPossible(f"build {build} has made no release that could go live")
    release = made[-1]
    project = projects.get(connection, release.project)
    if project is None:
        raise NotFound(f"there is no project {release.project}")
    if release.state is ReleaseState.LIVE or release.activated is not None:
        return Promotion(release, "")
    if not releases.is_protected(release, project):
        raise NotProtected(
            f"build {build} is of {release.ref}, and its commit was not on {listing(project.protected)} of "
            f"{project.name}: it can't go live. Merge it there first"
        )
    if project.approval and not release.approved:
        return Promotion(release, "another person approves what goes live, and nobody has approved this")
    if releases.is_of_stranger(connection, release):
        return Promotion(release, "it was built as a stranger's pull request is")
    if release.is_elsewhere:
        return Promotion(release, f"it was built for the environment {release.environment}")
    if release.environment == PRODUCTION:
        return Promotion(release, "")
    return Promotion(release, _why_other(connection, project, release))


def _why_other(connection: Connection, project: ProjectRow, release: ReleaseRow) -> str:
    """Return why production isn't what this release is; "" if it is."""
    which = (attempts.c.build_id == release.build) & (attempts.c.number == release.number)
    inputs = connection.execute(select(attempts.c.inputs).where(which)).scalar()
    if inputs is None:
        return "it isn't known with which variables it was built"
    secrets = build_secrets.of_projects(connection, [project.id]).get(project.id, [])
    variables = of_context(project.environment, project.of_contexts, PRODUCTION)
    if inputs != inputs_of(variables, {}, build_secrets.given(secrets, PRODUCTION)):
        return "it was built with other variables or secrets than production is"
    return ""
