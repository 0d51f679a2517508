"""
The ledger's builds, as people ask for them: made, looked at, retried, cancelled. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer. What dispatch does with their attempts is in ``attempts``.

The builds of a deleted project are not returned: its name may be another project's by now.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Any, assert_never

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from twistedipc.builds.origin import Origin
from twistedipc.builds.priorities import LEVELS, Priority, due, priority_of
from twistedipc.builds.states import STATES, TERMINAL, AttemptState, Cancellation
from twistedipc.storage import attempts as attempt_queries
from twistedipc.storage.columns import (
    GIST,
    attempt_name,
    columns_of,
    from_json,
    gist_row,
    integer,
    queue_rules,
    row_as,
    text,
    to_json,
)
from twistedipc.storage.errors import IdempotencyConflict, NotFound, NotPossible
from twistedipc.storage.queue import goes_on, places
from twistedipc.storage.rows import Actor, AttemptRow, BuildRow
from twistedipc.storage.tables import attempts as attempts_table
from twistedipc.storage.tables import builds, idempotency, projects, said

__all__ = [
    "Idempotency",
    "IdempotencyConflict",
    "NotFound",
    "NotPossible",
    "Sought",
    "attempts",
    "cancel_queued",
    "create",
    "get",
    "list_page",
    "position",
    "prioritise",
    "request_cancel",
    "retry",
    "some",
    "usual",
]

#: Joins a build with its newest attempt.
_NEWEST = and_(attempts_table.c.build_id == builds.c.id, attempts_table.c.number == builds.c.attempt)

#: Of so many builds it is found out how long one usually takes.
_USUAL = 9

#: How long an Idempotency-Key is remembered: milliseconds.
_KEEP_KEYS = 7 * 86_400_000


class Lane(msgspec.Struct, frozen=True):
    """Of which ref's builds a build is one that nobody asked for by hand."""

    ref: str  # its full name
    in_turn: bool = False  # it waits until those before it have ended


class Idempotency(msgspec.Struct, frozen=True):
    """What makes a repeated request the same request."""

    key: str
    token_id: int
    body_sha256: str


def create(
    connection: Connection,
    *,
    project: str,
    ref: str,
    publish: bool,
    live: bool = False,
    may_publish: bool = True,
    bump: str = "",
    parameters: dict[str, str],
    by: Actor,
    now: int,
    idempotency: Idempotency | None,
    origin: Origin | None = None,
    lane: Lane | None = None,
) -> tuple[BuildRow, bool]:
    """
    A new build with its first attempt queued, and True; or, if the same request was made before, the build that it
    made, and False. ``may_publish``: who asks has the scope publish. ``bump``: how the versions of its packages are
    raised, as `builds.versions.check_bump` allows it. ``origin``: where it came from; None: a person asks. A
    stranger's pull request is built of the commit that was allowed, whatever its ref leads to by then. Its priority is
    what the project's rules say. Raises `NotFound` (the project), `IdempotencyConflict`.
    """
    query = select(projects.c.id, projects.c.queue, projects.c.head)
    about = connection.execute(query.where(projects.c.name == project, projects.c.deleted.is_(None))).first()
    if about is None:
        raise NotFound(f"there is no project {project}")
    project_id = about.id
    priority = queue_rules(about.queue).priority(ref, about.head or "", by_schedule=by.kind == "schedule")
    if idempotency is not None:
        earlier = _earlier(connection, project_id, idempotency, now)
        if earlier is not None:
            return earlier, False
    build = connection.execute(
        insert(builds)
        .values(
            project_id=project_id,
            ref=ref,
            publish=publish,
            live=live,
            bump=bump or None,
            parameters=to_json(parameters),
            requested_by=by.name,
            created=now,
            attempt=1,
            state=AttemptState.QUEUED,
            origin=None if origin is None else to_json(origin),
            lane=None if lane is None else lane.ref,
            in_turn=lane is not None and lane.in_turn,
            priority=LEVELS[priority],
            due=due(priority, now),
        )
        .returning(builds.c.id)
    ).scalar_one()
    attempt_queries.queue(
        connection,
        build,
        1,
        requested_by=by.name,
        live=live,
        may_publish=may_publish,
        asker=by.token,
        asker_person=by.person,
        commit=origin.commit if origin is not None and origin.fork else "",
        now=now,
    )
    if idempotency is not None:
        _remember(connection, project_id, idempotency, build, now)
    return _existing(connection, build), True


def get(connection: Connection, build: int) -> BuildRow | None:
    """Return the build of this number."""
    found = connection.execute(_SELECT.where(builds.c.id == integer(build))).first()
    return None if found is None else _row(found)


class Sought(msgspec.Struct, frozen=True):
    """What somebody looks for among builds; what is empty finds all."""

    ref: str = ""  # the ref, as it was asked for; or a branch's or a tag's name
    by: str = ""  # who asked for the build, or its commit's author: a part of the name
    text: str = ""  # a part of the commit's subject or of the ref; or how the commit's hash begins

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what holds for the builds that are found."""
        newest = attempts_table.c
        found: list[ColumnElement[bool]] = []
        if self.ref:
            found.append(builds.c.ref.in_([self.ref, f"refs/heads/{self.ref}", f"refs/tags/{self.ref}"]))
        if self.by:
            people = (builds.c.requested_by, newest.author)
            found.append(or_(*[name.icontains(self.by, autoescape=True) for name in people]))
        if self.text:
            found.append(
                or_(
                    newest.subject.icontains(self.text, autoescape=True),
                    builds.c.ref.icontains(self.text, autoescape=True),
                    newest.commit_id.startswith(self.text.lower(), autoescape=True),
                )
            )
        return found


def list_page(
    connection: Connection,
    *,
    projects: frozenset[str] | None,
    states: frozenset[AttemptState] | None,
    before: int | None,
    limit: int,
    sought: Sought | None = None,
) -> list[BuildRow]:
    """
    Up to ``limit`` builds, newest first, that come before the build ``before`` (None: from the newest on), of the
    ``projects`` and in the ``states`` (None: all), and as they are ``sought``.
    """
    conditions = [] if sought is None else sought.conditions()
    # One look into an index for each pair, whose newest are then merged: no plan that a database may choose for an
    # IN over thousands of rows with an ORDER BY is as good.
    newest: set[int] = set()
    for project, state in product(_project_ids(connection, projects), [None] if states is None else sorted(states)):
        query = select(builds.c.id).order_by(builds.c.id.desc()).limit(limit)
        if project is not None:
            query = query.where(builds.c.project_id == project)
        else:
            query = query.where(builds.c.project_id.in_(_LIVE))
        if state is not None:
            query = query.where(builds.c.state == state)
        if before is not None:
            query = query.where(builds.c.id < integer(before))
        if conditions:
            query = query.join(attempts_table, _NEWEST).where(*conditions)
        newest.update(connection.execute(query).scalars())
    return some(connection, sorted(newest, reverse=True)[:limit])


def newest_ended(connection: Connection, project: int, refs: Collection[str] | None, limit: int) -> list[BuildRow]:
    """Return the newest builds of a project that have ended, and weren't cancelled; of these ``refs`` (None: any)."""
    states = sorted(state for state in TERMINAL if state is not AttemptState.CANCELLED)
    query = select(builds.c.id).where(builds.c.project_id == project, builds.c.state.in_(states))
    if refs is not None:
        query = query.where(builds.c.ref.in_(sorted(refs)))
    return some(connection, list(connection.execute(query.order_by(builds.c.id.desc()).limit(limit)).scalars()))


def some(connection: Connection, numbers: Collection[int]) -> list[BuildRow]:
    """Return the builds of these numbers, as far as they exist, newest first. At most some thousands."""
    found = connection.execute(_SELECT.where(builds.c.id.in_(numbers)).order_by(builds.c.id.desc())).all()
    return [_row(row) for row in found]


def attempts(connection: Connection, build: int) -> list[AttemptRow]:
    """Return all attempts of a build, oldest first."""
    return attempt_queries.of_build(connection, build)


def position(connection: Connection, build: int) -> int | None:
    """Return how many builds of the same project are queued before this one; None if it isn't to be offered."""
    place = places(connection, [build]).get(build)
    return None if place is None else place.before


def usual(connection: Connection, build: int) -> int | None:
    """
    Return how long the last `_USUAL` builds of the same project took that succeeded, before this one: the median of
    their newest attempts' milliseconds, from start to end. None if there are none.
    """
    a, this = attempts_table, builds.alias("this")
    found = connection.execute(
        select(a.c.ended - a.c.started)
        .select_from(this)
        .join(builds, builds.c.project_id == this.c.project_id)
        .join(a, and_(a.c.build_id == builds.c.id, a.c.number == builds.c.attempt))
        .where(this.c.id == integer(build), builds.c.state == AttemptState.SUCCEEDED, builds.c.id < integer(build))
        .where(a.c.started.is_not(None), a.c.ended.is_not(None))
        .order_by(builds.c.id.desc())
        .limit(_USUAL)
    ).scalars()
    took = sorted(found)
    return took[(len(took) - 1) // 2] if took else None


def going_on(connection: Connection, project_id: int, lane: str) -> list[BuildRow]:
    """Return the builds of a project's lane that haven't ended, oldest first."""
    which = _SELECT.where(builds.c.project_id == project_id, builds.c.lane == lane, goes_on())
    return [_row(row) for row in connection.execute(which.order_by(builds.c.id))]


def before_in_turn(connection: Connection, build: int) -> int | None:
    """Return the build that this one waits for, since both are of one lane; None if it waits for none."""
    return turns(connection, [build]).get(build)


def turns(connection: Connection, chosen: Collection[int]) -> dict[int, int]:
    """Return the same of each of these builds that waits for one."""
    mine = builds.alias()
    found = connection.execute(
        select(mine.c.id, func.max(builds.c.id).label("before"))
        .join(builds, and_(mine.c.project_id == builds.c.project_id, mine.c.lane == builds.c.lane))
        .where(mine.c.id.in_(list(map(integer, chosen))), mine.c.in_turn, builds.c.id < mine.c.id)
        .where(goes_on(), builds.c.state != AttemptState.WAITING_APPROVAL)
        .group_by(mine.c.id)
    )
    return {row.id: row.before for row in found}


def retell(connection: Connection, build: int, origin: Origin) -> None:
    """Write down more of where a build came from."""
    connection.execute(update(builds).where(builds.c.id == build).values(origin=to_json(origin)))


def pin(connection: Connection, build: int, since: int | None) -> BuildRow:
    """Have all of a build kept, whatever the rules of retention say, or (None) no longer. Raises `NotFound`."""
    row = _existing(connection, build)
    if (row.pinned is None) != (since is None):
        connection.execute(update(builds).where(builds.c.id == build).values(pinned=since))
    return _existing(connection, build)


def retry(
    connection: Connection,
    build: int,
    requested_by: str,
    now: int,
    *,
    may_publish: bool = True,
    asker: int | None = None,
    asker_person: int | None = None,
) -> AttemptRow:
    """
    Queue another attempt, of the commit that the newest one had found (else of the ref). Raises `NotFound`, and
    `NotPossible` while the newest goes on.

    :param may_publish: the caller has the scope publish; without it, the attempt publishes nothing for users
    """
    row = _existing(connection, build)
    if row.state not in TERMINAL:
        raise NotPossible(f"build {build} is {row.state}; only what has ended can be tried again")
    number = row.attempt + 1
    # Compare-and-set: of two retries at once, one finds that the other was first.
    changed = connection.execute(
        update(builds)
        .where(builds.c.id == build, builds.c.attempt == row.attempt)
        .values(
            attempt=number,
            state=AttemptState.QUEUED,
            has_log=True,
            has_archive=True,
            due=due(row.priority, now),
        )
    )
    if not changed.rowcount:
        raise NotPossible(f"build {build} is being tried again already")
    before = attempt_queries.get(connection, attempt_name(build, row.attempt))
    # Of a stranger's pull request a member has allowed one commit, whether or not a checkout has found it; and nothing
    # of it is published, whoever tries it again.
    commit = row.commit
    if row.origin is not None and row.origin.fork:
        commit, may_publish = row.origin.commit, False
    attempt_queries.queue(
        connection,
        build,
        number,
        requested_by=requested_by,
        live=may_publish and row.live,
        may_publish=may_publish,
        asker=asker,
        asker_person=asker_person,
        commit=commit,
        resolved=before.resolved if before is not None and commit else None,
        now=now,
    )
    attempt = attempt_queries.get(connection, attempt_name(build, number))
    if attempt is None:
        raise NotFound(f"there is no build {build}")
    return attempt


def prioritise(connection: Connection, build: int, priority: Priority) -> BuildRow:
    """Give a build this priority, also in the queue if it is in there. Raises `NotFound`."""
    row = _existing(connection, build)
    moved = due(priority, 0) - due(row.priority, 0)
    connection.execute(
        update(builds).where(builds.c.id == build).values(priority=LEVELS[priority], due=builds.c.due + moved)
    )
    return _existing(connection, build)


def cancel_queued(connection: Connection, chosen: Collection[int], reason: str, now: int) -> list[AttemptRow]:
    """Cancel those of these builds that are still queued: what was begun meanwhile goes on."""
    still = select(builds.c.id, builds.c.attempt).where(
        builds.c.id.in_(list(map(integer, chosen))), builds.c.state == AttemptState.QUEUED
    )
    rows = connection.execute(still.order_by(builds.c.id.desc())).all()
    wanted = text(reason) or "cancelled"
    done = (attempt_queries.cancel_at_once(connection, attempt_name(*row), wanted, now) for row in rows)
    return [row for row in done if row is not None]


def request_cancel(connection: Connection, build: int, reason: str, now: int) -> AttemptRow:
    """
    Note durably that the newest attempt is to be cancelled, or cancel it if nothing runs. The first reason stays.
    Raises `NotFound`, and `NotPossible` if the build has ended.
    """
    row = _existing(connection, build)
    name = attempt_name(build, row.attempt)
    wanted = text(reason) or "cancelled"
    match STATES[row.state].cancel:
        case Cancellation.AT_ONCE:
            attempt = attempt_queries.cancel_at_once(connection, name, wanted, now)
        case Cancellation.BY_BUILDER | Cancellation.BY_APISERVER:
            attempt = attempt_queries.note_cancel(connection, name, wanted)
        case Cancellation.TOO_LATE:
            attempt = None
        case never:
            assert_never(never)
    if attempt is None:
        raise NotPossible(f"build {build} has ended already: {row.state}")
    return attempt


def _project_ids(connection: Connection, names: frozenset[str] | None) -> list[int] | list[None]:
    if names is None:
        return [None]
    query = select(projects.c.id).where(projects.c.name.in_(sorted(names)), projects.c.deleted.is_(None))
    return list(connection.execute(query).scalars())


def _earlier(connection: Connection, project_id: int, request: Idempotency, now: int) -> BuildRow | None:
    connection.execute(delete(idempotency).where(idempotency.c.created < now - _KEEP_KEYS))
    found = connection.execute(
        select(idempotency.c.build_id, idempotency.c.body_sha256).where(
            idempotency.c.project_id == project_id,
            idempotency.c.token_id == request.token_id,
            idempotency.c.key == request.key,
        )
    ).first()
    if found is None:
        return None
    if found.body_sha256 != request.body_sha256:
        raise IdempotencyConflict(f"this Idempotency-Key was used for build {found.build_id}, with another body")
    return _existing(connection, found.build_id)


def _remember(connection: Connection, project_id: int, request: Idempotency, build: int, now: int) -> None:
    connection.execute(
        insert(idempotency).values(
            project_id=project_id,
            token_id=request.token_id,
            key=request.key,
            body_sha256=request.body_sha256,
            build_id=build,
            created=now,
        )
    )


def _existing(connection: Connection, build: int) -> BuildRow:
    row = get(connection, build)
    if row is None:
        raise NotFound(f"there is no build {build}")
    return row


_LIVE = select(projects.c.id).where(projects.c.deleted.is_(None)).scalar_subquery()

_SELECT = (
    select(
        *columns_of(BuildRow, builds, attempts_table),
        projects.c.name.label("project"),
        attempts_table.c.commit_id.label("commit"),
        attempts_table.c.cancel_reason,
        *GIST,
    )
    .join(projects, projects.c.id == builds.c.project_id)
    .join(attempts_table, _NEWEST)
    .outerjoin(said, and_(said.c.build_id == builds.c.id, said.c.number == builds.c.attempt))
    .where(projects.c.deleted.is_(None))
)


def _row(row: Any) -> BuildRow:
    return row_as(
        BuildRow,
        row,
        parameters=from_json(row.parameters, dict[str, str]),
        bump=row.bump or "",
        state=AttemptState(row.state),
        cancel_requested=bool(row.cancel_reason),
        gist=gist_row(row),
        priority=priority_of(row.priority),
        origin=None if row.origin is None else from_json(row.origin, Origin),
    )
