"""
The ledger's releases: which there are of a project, and which one of each target is live. Functions for
`Ledger.read` and `Ledger.write`; ``storage`` layer. What is on disk is the targets' (`target.Releases`); the ledger is
right where they differ.

**What goes live at all** was built for the project's users, of a commit that a protected ref has (`is_protected`); or
it was live before.

**What goes live by itself** (`settle`): a release of the project's own ref, or one that was asked for to go live; if it
is newer than the live one; and unless the project is held. What is newer is decided by *when the ref led to the
commit*, not by when a build was asked for or ended: a slow build of an old commit never replaces a newer one, a build
that is tried again counts as when it was first tried, and after a force push the commit that the ref leads to now is
the newest, whatever its ancestors are.

**A project is held** (`activate`) when a person makes an older release live: something may be wrong with the newer one.
From then on its releases wait, those of all its targets, until a person lifts the hold (`resume`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from twistedipc.builds import names
from twistedipc.builds.protection import listing, may_be_protected
from twistedipc.builds.states import TERMINAL, AttemptState, ReleaseState, check_release
from twistedipc.storage import outbox
from twistedipc.storage.columns import (
    attempt_name,
    columns_of,
    from_json,
    integer,
    is_strangers,
    row_as,
    split_attempt,
    text,
    to_json,
)
from twistedipc.storage.errors import NotFound, NotProtected
from twistedipc.storage.projects import get as get_project
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import Decision, Hold, ProjectRow, ReleaseRow
from twistedipc.storage.tables import attempts, builds, projects, releases


def create(
    connection: Connection,
    *,
    attempt: str,
    target: str,
    project: str,
    sha256: str,
    files: int,
    size: int,
    commit: str,
    now: int,
) -> ReleaseRow:
    """A new release, packed; or the one that this attempt has already made. Raises `NotFound` (the project)."""
    build, number = split_attempt(attempt)
    project_id = live_id(connection, project)
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    which = (releases.c.build_id == build) & (releases.c.number == number) & (releases.c.target == target)
    earlier = connection.execute(_SELECT.where(which)).first()
    if earlier is not None:
        return _row(earlier)
    connection.execute(
        insert(releases).values(
            project_id=project_id,
            build_id=build,
            number=number,
            target=target,
            sha256=sha256,
            files=integer(files),
            size=integer(size),
            commit_id=text(commit),
            state=ReleaseState.PACKED,
            created=now,
        )
    )
    return _row(connection.execute(_SELECT.where(which)).one())


# -- which one is live -----------------------------------------------------------------------------------------------


def newer(one: ReleaseRow, other: ReleaseRow, now: int) -> bool:
    """
    Whether ``one`` is newer than ``other``: its ref led to its commit later. Of two attempts that repeat the same, the
    later one is newer.
    """
    if other.resolved is not None and other.resolved > now:
        # The clock has been set back since: then only the order in which builds were asked for is left.
        return (one.build, one.number) > (other.build, other.number)
    return _order(one) > _order(other)


def _order(release: ReleaseRow) -> tuple[int, int, int]:
    resolved = release.created if release.resolved is None else release.resolved
    return resolved, release.build, release.number


def is_own(release: ReleaseRow, project: ProjectRow) -> bool:
    """Return whether the release is of the project's own ref, however that is written."""
    return release.ref in names.own_refs(project.default_ref, project.head)


def is_protected(release: ReleaseRow, project: ProjectRow) -> bool:
    """
    Return whether the commit of a release is on one of the project's protected refs: as its checkout has found; where
    an older builder has not looked, as the ref's name says.
    """
    if release.protected is None:
        return release.may_go_live or may_be_protected(project.protected, release.ref, project.head)
    return bool(release.protected)


def is_of_stranger(connection: Connection, release: ReleaseRow) -> bool:
    """Return whether a release is of a pull request from a fork."""
    return is_strangers(connection.execute(select(builds.c.origin).where(builds.c.id == release.build)).scalar())


def goes_live_by_itself(release: ReleaseRow, project: ProjectRow) -> bool:
    """Return whether a release may go live without a person who says so, unless the project is held."""
    wanted = release.may_go_live or is_own(release, project)
    return wanted and not release.preview and not release.is_elsewhere and is_protected(release, project)


def settle(connection: Connection, project: str, release_id: int, now: int) -> ReleaseRow:
    """
    The build of a packed release has ended, and well: it becomes live, or superseded if a newer one of its target is
    live, or stays packed if it may not go live by itself. Raises `NotFound`.
    """
    release, about = _existing(connection, project, release_id), _project(connection, project)
    if release.state is not ReleaseState.PACKED or not goes_live_by_itself(release, about):
        return release
    former = live(connection, project, release.target)
    if former is not None and not newer(release, former, now):
        _step(connection, release.id, release.state, ReleaseState.SUPERSEDED)
        return _existing(connection, project, release_id)
    if about.hold is not None:
        return release
    return _go_live(connection, about, release, former, now)


def activate(connection: Connection, project: str, release_id: int, now: int, *, who: str) -> ReleaseRow:
    """
    Make the release live, for a person. The one of its target that was live becomes superseded or, if it is newer,
    rolled back: then the project is held from now on, in the name of ``who``. Nothing changes if it is live already.
    Raises `NotFound`; `NotProtected` if it was never live, and its commit is on no protected ref, or it isn't approved,
    or is a stranger's.
    """
    wanted, about = _existing(connection, project, release_id), _project(connection, project)
    if wanted.state is ReleaseState.LIVE:
        return wanted
    if wanted.activated is None and wanted.is_elsewhere:
        raise NotProtected(
            f"release {wanted.id} was built for the environment {wanted.environment}, with its variables and secrets: "
            f"it can't be made live. Build its ref for production: `twistedipc build {project} --live`"
        )
    if wanted.activated is None and is_of_stranger(connection, wanted):
        raise NotProtected(
            f"release {wanted.id} is of a stranger's pull request, and was built without the project's secrets and "
            f"submodules: it can't be made live. Build its commit: `twistedipc build {project} --ref {wanted.commit} "
            "--live`"
        )
    if wanted.activated is None and not is_protected(wanted, about):
        raise NotProtected(
            f"release {wanted.id} is of {wanted.ref}, and its commit was not on {listing(about.protected)} of "
            f"{project}: it can't be made live. Merge it there, or have an admin protect its ref, and build it again"
        )
    if wanted.activated is None and about.approval and not wanted.approved:
        raise NotProtected(
            f"release {wanted.id} was never live, and nobody has approved it: in {project} another person than the one "
            f"who asked for a build approves it first. Ask for it again with `twistedipc build {project} --live`"
        )
    former = live(connection, project, wanted.target)
    if former is not None and not newer(wanted, former, now) and about.hold is None:
        _set_hold(connection, project, Hold(who=text(who), time=now, release=wanted.id))
    return _go_live(connection, about, wanted, former, now)


def resume(
    connection: Connection, project: str, now: int, gone: frozenset[int] = frozenset()
) -> tuple[Hold | None, list[ReleaseRow]]:
    """
    Lift the hold, and make the newest release of each target live that waits for it: the hold that there was, and the
    releases that are live by this. ``gone``: those whose files are gone. Raises `NotFound`.
    """
    about = _project(connection, project)
    if about.hold is None:
        return None, []
    _set_hold(connection, project, None)
    newest: dict[str, ReleaseRow] = {}
    for release in _waiting(connection, about):
        if release.id not in gone:
            newest.setdefault(release.target, release)
    return about.hold, [
        _go_live(connection, about, release, live(connection, project, target), now)
        for target, release in newest.items()
    ]


def waiting(connection: Connection, project: str) -> list[ReleaseRow]:
    """The project's releases that would be live if they had come while it wasn't held, newest first."""
    about = get_project(connection, project)
    return [] if about is None else _waiting(connection, about)


def _waiting(connection: Connection, about: ProjectRow) -> list[ReleaseRow]:
    own = sorted(names.own_refs(about.default_ref, about.head))
    found = (_row(row) for row in connection.execute(_THAT_MAY_WAIT, {"project": about.id, "own": own}))
    return sorted((row for row in found if goes_live_by_itself(row, about)), key=_order, reverse=True)


def _go_live(
    connection: Connection, about: ProjectRow, wanted: ReleaseRow, former: ReleaseRow | None, now: int
) -> ReleaseRow:
    if former is not None:
        replaced = newer(wanted, former, now)
        _step(connection, former.id, former.state, ReleaseState.SUPERSEDED if replaced else ReleaseState.ROLLED_BACK)
    _step(connection, wanted.id, wanted.state, ReleaseState.LIVE, activated=now)
    for other in _waiting(connection, about):
        if other.target == wanted.target and not newer(other, wanted, now):
            _step(connection, other.id, other.state, ReleaseState.SUPERSEDED)
    row = msgspec.structs.replace(wanted, state=ReleaseState.LIVE, activated=now)
    outbox.note_live(connection, row)
    return row


def _set_hold(connection: Connection, project: str, hold: Hold | None) -> None:
    connection.execute(
        update(projects)
        .where(projects.c.name == project, projects.c.deleted.is_(None))
        .values(hold=None if hold is None else to_json(hold))
    )


# -- looking ---------------------------------------------------------------------------------------------------------


def list_page(connection: Connection, project: str, *, before: int | None = None, limit: int = 200) -> list[ReleaseRow]:
    """Return up to ``limit`` of the project's releases, newest first: those with a number below ``before``."""
    query = _SELECT.where(projects.c.name == project).order_by(releases.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(releases.c.id < integer(before))
    return [_row(row) for row in connection.execute(query)]


def latest(connection: Connection, project: str, target: str) -> ReleaseRow | None:
    """Return the newest release of a target that an attempt has made which succeeded."""
    made = (releases.c.target == target, attempts.c.state == AttemptState.SUCCEEDED)
    query = _SELECT.where(projects.c.name == project, *made).order_by(releases.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _row(row)


def of_build(connection: Connection, build: int) -> list[ReleaseRow]:
    """The releases that a build's attempts have made, oldest first."""
    return [_row(row) for row in connection.execute(_OF_BUILD, {"build": integer(build)})]


def get(connection: Connection, project: str, release_id: int) -> ReleaseRow | None:
    """The project's release of this number."""
    found = connection.execute(_BY_ID, {"project": project, "release": integer(release_id)}).first()
    return None if found is None else _row(found)


def live(connection: Connection, project: str, target: str) -> ReleaseRow | None:
    """Return the project's live release of this target, or None."""
    return next((release for release in all_live(connection, project) if release.target == target), None)


def live_of_all(connection: Connection) -> dict[str, dict[str, int]]:
    """Return the ids of all live releases, by target and project."""
    query = select(releases.c.target, projects.c.name, releases.c.id).join(
        projects, projects.c.id == releases.c.project_id
    )
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(query.where(releases.c.state == ReleaseState.LIVE, projects.c.deleted.is_(None))):
        found.setdefault(row.target, {})[row.name] = row.id
    return found


def all_live(connection: Connection, project: str) -> list[ReleaseRow]:
    """The project's live releases, at most one of each target."""
    return [_row(row) for row in connection.execute(_LIVE, {"project": project})]


def to_keep(connection: Connection, project: str, target: str, count: int) -> frozenset[int]:
    """
    Whose files the target keeps: the live release, those whose attempt goes on, and those that are pinned; and the
    newest ``count`` each of those that were live once (to roll back to), that wait to go live, and of all others. So
    what is built often, of other refs say, takes no place from what a person may roll back to.
    """
    about = get_project(connection, project)
    if about is None:
        return frozenset()
    mine = _SELECT.where(releases.c.project_id == about.id, releases.c.target == target)
    once_live = releases.c.activated.is_not(None)
    queries = (
        mine.where(releases.c.state == ReleaseState.LIVE),
        mine.where(attempts.c.state.not_in(sorted(TERMINAL))),
        mine.where(builds.c.pinned.is_not(None)),
        mine.where(once_live).order_by(releases.c.activated.desc(), releases.c.id.desc()).limit(count),
        mine.where(releases.c.activated.is_(None)).order_by(releases.c.id.desc()).limit(count),
    )
    found: Iterable[int] = (row.id for query in queries for row in connection.execute(query))
    waits = [release.id for release in waiting(connection, project) if release.target == target]
    return frozenset(found) | frozenset(waits[:count])


def _existing(connection: Connection, project: str, release_id: int) -> ReleaseRow:
    release = get(connection, project, release_id)
    if release is None:
        raise NotFound(f"project {project} has no release {release_id}")
    return release


def _project(connection: Connection, name: str) -> ProjectRow:
    project = get_project(connection, name)
    if project is None:
        raise NotFound(f"there is no project {name}")
    return project


def _step(
    connection: Connection, release_id: int, before: ReleaseState, after: ReleaseState, activated: int | None = None
) -> None:
    check_release(before, after)
    if activated is None:
        connection.execute(_STEP, {"release": release_id, "before": before, "after": after})
    else:
        connection.execute(
            _STEP_LIVE, {"release": release_id, "before": before, "after": after, "activated": activated}
        )


_SELECT = (
    select(
        *columns_of(ReleaseRow, releases),
        projects.c.name.label("project"),
        releases.c.build_id.label("build"),
        releases.c.commit_id.label("commit"),
        builds.c.ref,
        attempts.c.live.label("may_go_live"),
        attempts.c.preview,
        attempts.c.environment,
        attempts.c.protected,
        attempts.c.decision,
        attempts.c.state.label("made_by"),
        attempts.c.resolved,
    )
    .join(projects, and_(projects.c.id == releases.c.project_id, projects.c.deleted.is_(None)))
    .join(builds, builds.c.id == releases.c.build_id)
    .join(attempts, and_(attempts.c.build_id == releases.c.build_id, attempts.c.number == releases.c.number))
)

# Made once: what SQLAlchemy does to make a statement takes longer than SQLite takes for it, and people wait for a
# rollback.
_STEP = (
    update(releases)
    .where(releases.c.id == bindparam("release"), releases.c.state == bindparam("before"))
    .values(state=bindparam("after"))
)
_STEP_LIVE = _STEP.values(activated=bindparam("activated"))
_BY_ID = _SELECT.where(projects.c.name == bindparam("project"), releases.c.id == bindparam("release"))
_LIVE = _SELECT.where(projects.c.name == bindparam("project"), releases.c.state == ReleaseState.LIVE)
_OF_BUILD = _SELECT.where(releases.c.build_id == bindparam("build")).order_by(releases.c.number, releases.c.id)
_THAT_MAY_WAIT = _SELECT.where(
    releases.c.project_id == bindparam("project"),
    releases.c.state == ReleaseState.PACKED,
    attempts.c.state == AttemptState.SUCCEEDED,
    or_(builds.c.ref.in_(bindparam("own", expanding=True)), attempts.c.live),
)


def _row(row: Any) -> ReleaseRow:
    return row_as(
        ReleaseRow,
        row,
        attempt=attempt_name(row.build, row.number),
        made_by=AttemptState(row.made_by),
        approved=row.decision is not None and from_json(row.decision, Decision).approved,
        state=ReleaseState(row.state),
    )
