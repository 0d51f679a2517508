"""
How all projects stand, in short: what a list of them shows, and no more of each. Functions for `Ledger.read`;
``storage`` layer.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, bindparam, func, literal_column, select

from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.storage.rows import Row
from twistedipc.storage.tables import attempts, builds, projects, releases


class Newest(Row, frozen=True, kw_only=True):
    """A project's newest build, in short."""

    id: int
    ref: str
    state: AttemptState
    commit: str  # "": not known yet
    subject: str
    requested_by: str
    created: int
    ended: int | None


class Listed(Row, frozen=True, kw_only=True):
    """A project in a list of all."""

    name: str
    repository: str
    released: bool  # whether a release of it is live at the target that was asked for
    newest: Newest | None  # None: nothing was built yet


# Each of a thousand projects costs its row and two looks into an index; one statement for each of them, or whole rows
# of builds and projects with all that is stored as JSON, took ten times as long.
_newest = (
    select(func.max(builds.c.id)).where(builds.c.project_id == projects.c.id).correlate(projects).scalar_subquery()
)
_released = (
    select(releases.c.id)
    .where(
        releases.c.project_id == projects.c.id,
        releases.c.target == bindparam("target"),
        releases.c.state == literal_column(f"'{ReleaseState.LIVE}'"),  # in full, so that the index of live ones is used
    )
    .correlate(projects)
    .exists()
)
_ALL = (
    select(
        projects.c.name,
        projects.c.repository,
        _released.label("released"),
        builds.c.id,
        builds.c.ref,
        builds.c.state,
        builds.c.requested_by,
        builds.c.created,
        attempts.c.commit_id,
        attempts.c.subject,
        attempts.c.ended,
    )
    .select_from(projects)
    .outerjoin(builds, builds.c.id == _newest)
    .outerjoin(attempts, and_(attempts.c.build_id == builds.c.id, attempts.c.number == builds.c.attempt))
    .where(projects.c.deleted.is_(None))
    .order_by(projects.c.name)
)
_ONE = _ALL.where(projects.c.name == bindparam("name"))


def overview(connection: Connection, target: str, wanted: frozenset[str] | None, name: str | None) -> list[Listed]:
    """
    Return how projects stand, by their names: the one of this ``name``, if it isn't None, or else all; and of these
    only the ``wanted``, if that isn't None.
    """
    if name is None:
        found = connection.execute(_ALL, {"target": target})
    else:
        found = connection.execute(_ONE, {"target": target, "name": name})
    return [
        Listed(
            name=row.name,
            repository=row.repository,
            released=row.released,
            newest=None
            if row.id is None
            else Newest(
                id=row.id,
                ref=row.ref,
                state=AttemptState(row.state),
                commit=row.commit_id,
                subject=row.subject,
                requested_by=row.requested_by,
                created=row.created,
                ended=row.ended,
            ),
        )
        for row in found
        if wanted is None or row.name in wanted
    ]
