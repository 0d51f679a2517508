"""
The ledger's releases: which there are of a project, and which one is live. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer. What is on disk is ``publish.releases``; the ledger is right where they differ.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select, update

from twistedipc.builds.states import ReleaseState, check_release
from twistedipc.storage.columns import attempt_name, integer, split_attempt
from twistedipc.storage.errors import NotFound
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import ReleaseRow
from twistedipc.storage.tables import projects, releases

#: What a release that isn't live yet goes through on its way there.
_TO_LIVE: dict[ReleaseState, tuple[ReleaseState, ...]] = {
    ReleaseState.PACKED: (ReleaseState.UPLOADING, ReleaseState.LIVE),
    ReleaseState.UPLOADING: (ReleaseState.LIVE,),
    ReleaseState.SUPERSEDED: (ReleaseState.LIVE,),
    ReleaseState.ROLLED_BACK: (ReleaseState.LIVE,),
}


def create(
    connection: Connection,
    *,
    attempt: str,
    project: str,
    sha256: str,
    files: int,
    size: int,
    commit: str,
    now: int,
) -> ReleaseRow:
    """A new release, packed; or the one that this attempt has already. Raises `NotFound` (the project)."""
    build, number = split_attempt(attempt)
    project_id = live_id(connection, project)
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    which = (releases.c.build_id == build) & (releases.c.number == number)
    earlier = connection.execute(_SELECT.where(which)).first()
    if earlier is not None:
        return _row(earlier)
    connection.execute(
        insert(releases).values(
            project_id=project_id,
            build_id=build,
            number=number,
            sha256=sha256,
            files=integer(files),
            size=integer(size),
            commit_id=commit,
            state=ReleaseState.PACKED,
            created=now,
        )
    )
    return _row(connection.execute(_SELECT.where(which)).one())


def activate(connection: Connection, project: str, release_id: int, now: int) -> ReleaseRow:
    """
    Make the release live. The one that was live becomes superseded or, if it is the newer one, rolled back.
    Nothing changes if it is live already. Raises `NotFound`.
    """
    wanted = get(connection, project, release_id)
    if wanted is None:
        raise NotFound(f"project {project} has no release {release_id}")
    if wanted.state is ReleaseState.LIVE:
        return wanted
    former = live(connection, project)
    if former is not None:
        newer = wanted.id > former.id
        _step(connection, former.id, former.state, ReleaseState.SUPERSEDED if newer else ReleaseState.ROLLED_BACK)
    state: ReleaseState = wanted.state
    for following in _TO_LIVE[state]:
        _step(connection, wanted.id, state, following)
        state = following
    connection.execute(update(releases).where(releases.c.id == wanted.id).values(activated=now))
    return _existing(connection, project, release_id)


def list_all(connection: Connection, project: str) -> list[ReleaseRow]:
    """The project's releases, newest first."""
    query = _SELECT.where(projects.c.name == project).order_by(releases.c.id.desc())
    return [_row(row) for row in connection.execute(query)]


def get(connection: Connection, project: str, release_id: int) -> ReleaseRow | None:
    """The project's release of this number."""
    found = connection.execute(_SELECT.where(projects.c.name == project, releases.c.id == integer(release_id))).first()
    return None if found is None else _row(found)


def live(connection: Connection, project: str) -> ReleaseRow | None:
    """The project's live release."""
    found = connection.execute(_SELECT.where(projects.c.name == project, releases.c.state == ReleaseState.LIVE)).first()
    return None if found is None else _row(found)


def _existing(connection: Connection, project: str, release_id: int) -> ReleaseRow:
    release = get(connection, project, release_id)
    if release is None:
        raise NotFound(f"project {project} has no release {release_id}")
    return release


def _step(connection: Connection, release_id: int, before: ReleaseState, after: ReleaseState) -> None:
    check_release(before, after)
    connection.execute(
        update(releases).where(releases.c.id == release_id, releases.c.state == before).values(state=after)
    )


_SELECT = select(releases, projects.c.name.label("project")).join(
    projects, and_(projects.c.id == releases.c.project_id, projects.c.deleted.is_(None))
)


def _row(row: Row[Any]) -> ReleaseRow:
    return ReleaseRow(
        id=row.id,
        project=row.project,
        build=row.build_id,
        attempt=attempt_name(row.build_id, row.number),
        sha256=row.sha256,
        files=row.files,
        size=row.size,
        commit=row.commit_id,
        state=ReleaseState(row.state),
        created=row.created,
        activated=row.activated,
    )
