"""
Polling: which projects' repositories are looked at since their hosts can't send hooks, when, and what was seen there.
Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer. What follows from what was seen is in ``moved``.

A look is due until it is over, so a restart in between repeats it. What has moved is written down ref by ref, each in
the transaction that makes its build: so a restart neither loses nor doubles one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds.names import HEAD, shown
from twistedipc.builds.remotes import DEFAULT_EVERY, MAX_FAILED, RefsQuestion
from twistedipc.storage import access, hooks, projects
from twistedipc.storage.access import SealedAccess
from twistedipc.storage.columns import columns_of, from_json, integer, row_as, text, to_json
from twistedipc.storage.rows import PollRow, PollScope, ProjectRow, RunsOn
from twistedipc.storage.tables import poll_refs, polls
from twistedipc.storage.tables import projects as projects_table

#: How many that are due are returned at a time.
MOST = 50

#: The most milliseconds between two looks of which one has failed after another, if they aren't farther apart anyway.
LONGEST = 3_600_000

MINUTE = 60_000

#: The least milliseconds from the end of one look to the next, however many people and messages want one.
PAUSE = 10_000

#: How many names of refs are deleted by one statement.
_AT_A_TIME = 500


class PollQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """All that a look at a repository needs."""

    repository: str
    hosts: list[str]
    access: SealedAccess | None
    refs: RefsQuestion
    watch: list[str]
    runs_on: RunsOn

    @property
    def needs(self) -> frozenset[str]:
        """What a builder must have that looks, as `builds.needs` has it: it is given what a build there would get."""
        return frozenset({"remotes", *self.runs_on.needs})


# -- what people say of it -------------------------------------------------------------------------------------------


def get(connection: Connection, project_id: int) -> PollRow | None:
    """Return how a project is polled; None: it isn't."""
    row = connection.execute(_SELECT.where(polls.c.project_id == project_id)).first()
    return None if row is None else _row(row)


def put(connection: Connection, project_id: int, every: int | None, now: int) -> PollRow:
    """
    Look at the project's repository every so many minutes, the first time now. None: as it was, or `DEFAULT_EVERY`.
    """
    before = get(connection, project_id)
    every = every or (DEFAULT_EVERY if before is None else before.every)
    if before is None:
        connection.execute(
            insert(polls).values(
                project_id=project_id,
                every=every,
                due=now,
                since=now,
                repository="",
                scope="{}",
                digest="",
                refs=0,
                failures=0,
                reason="",
                builder="",
            )
        )
    else:
        due = min(before.due, integer(now + every * MINUTE))
        _set(connection, project_id, every=every, due=due)
    row = get(connection, project_id)
    assert row is not None
    return row


def remove(connection: Connection, project_id: int) -> bool:
    """Look no more, and forget what was seen. Return False if it wasn't looked at."""
    connection.execute(delete_rows(poll_refs).where(poll_refs.c.project_id == project_id))
    return connection.execute(delete_rows(polls).where(polls.c.project_id == project_id)).rowcount > 0


def look_soon(connection: Connection, project_id: int, now: int) -> PollRow | None:
    """Have the repository looked at now, or `PAUSE` after it was last. None: the project isn't polled."""
    row = get(connection, project_id)
    if row is not None:
        _set(connection, project_id, due=max(now, integer((row.tried or 0) + PAUSE)))
    return get(connection, project_id)


# -- what is due -----------------------------------------------------------------------------------------------------


def next_due(connection: Connection) -> int | None:
    """Return when the next repository is to be looked at; None if none is polled."""
    found: int | None = connection.execute(select(func.min(polls.c.due))).scalar()
    return found


def due(connection: Connection, now: int) -> list[PollRow]:
    """Return what is due, the longest first; at most `MOST`."""
    query = _SELECT.where(polls.c.due <= integer(now)).order_by(polls.c.due, polls.c.project_id)
    return [_row(row) for row in connection.execute(query.limit(MOST))]


def in_trouble(connection: Connection) -> list[PollRow]:
    """Return the projects whose last look has failed or has to wait; at most `MOST`."""
    query = _SELECT.where(polls.c.reason != "").order_by(projects_table.c.name)
    return [_row(row) for row in connection.execute(query.limit(MOST))]


def question(connection: Connection, poll: PollRow) -> PollQuestion | None:
    """Return what is to be asked; None if the project isn't polled any more."""
    about = projects.get(connection, poll.project)
    if about is None or about.id != poll.project_id or get(connection, poll.project_id) is None:
        return None
    return PollQuestion(
        repository=about.repository,
        hosts=about.settings.hosts,
        access=access.sealed(connection, about.id, about.repository),
        refs=refs_of(connection, about),
        watch=about.settings.watch,
        runs_on=about.runs_on,
    )


def refs_of(connection: Connection, about: ProjectRow) -> RefsQuestion:
    """Return which refs of a project's repository matter, by its filters for pushes."""
    settings = hooks.get(connection, about.id).settings
    named = [each if each.startswith(("tags/", "refs/tags/")) else f"tags/{each}" for each in settings.tags]
    return RefsQuestion(
        branches=settings.branches,
        tags=[*named, *about.protected],
        known_head=about.head,
        head=about.default_ref == HEAD,
        pulls=settings.pull_requests and settings.poll_pull_requests,
    )


# -- what came of a look ---------------------------------------------------------------------------------------------


def looked(
    connection: Connection,
    poll: PollRow,
    *,
    builder: str,
    digest: str,
    refs: int,
    asked: int,
    now: int,
    due: int,
    reason: str = "",
) -> None:
    """
    Note that a repository was looked at.

    :param digest: of what was seen; "": not all has followed yet that follows from it
    :param now: when the look was over
    :param due: when it is looked at next, unless somebody wants it sooner
    :param reason: why something that was seen has to wait
    """
    values = {"builder": text(builder), "digest": digest, "refs": refs, "looked": asked}
    _over(connection, poll, now, due, failures=0, reason=text(shown(reason, MAX_FAILED)), **values)


def failed(connection: Connection, poll: PollRow, reason: str, now: int, jitter: float) -> None:
    """
    Note that a look has failed. The next one is farther away each time.

    :param jitter: as in `after`
    """
    wait = min(poll.every * MINUTE << min(poll.failures, 20), max(poll.every * MINUTE, LONGEST))
    due = now + spread(wait, jitter)
    _over(connection, poll, now, due, failures=poll.failures + 1, reason=text(shown(reason, MAX_FAILED)))


def waits(connection: Connection, poll: PollRow, reason: str, now: int, due: int) -> None:
    """Note why a repository can't be looked at now, through no fault of its own."""
    _over(connection, poll, now, due, reason=text(shown(reason, MAX_FAILED)))


def spread(wait: int, jitter: float) -> int:
    """Return a time within a tenth of ``wait``, so that projects don't all come at once. ``jitter``: 0 to 1."""
    return round(wait * (0.9 + 0.2 * jitter))


def _over(connection: Connection, poll: PollRow, now: int, due: int, **values: Any) -> None:
    """Write down what came of a look. If somebody wanted another one meanwhile, that comes after `PAUSE`."""
    same, soonest = polls.c.since == poll.since, integer(now + PAUSE)
    _set(connection, poll.project_id, same, tried=now, **values)
    _set(connection, poll.project_id, same, polls.c.due == poll.due, due=max(integer(due), soonest))
    _set(connection, poll.project_id, same, polls.c.due < soonest, due=soonest)


def _set(connection: Connection, project_id: int, *which: Any, **values: Any) -> None:
    connection.execute(update_rows(polls).where(polls.c.project_id == project_id, *which).values(**values))


# -- refs ------------------------------------------------------------------------------------------------------------


def is_relied_on(connection: Connection, about: ProjectRow) -> bool:
    """Return whether looks at a project's repository tell what a host's messages leave in doubt."""
    poll = get(connection, about.id)
    return poll is not None and poll.repository == about.repository and poll.failures == 0


def seen(connection: Connection, project_id: int, name: str) -> str:
    """Return where a ref was when it was looked at; "": it wasn't there, or the project isn't polled."""
    query = select(poll_refs.c.commit_id).where(poll_refs.c.project_id == project_id, poll_refs.c.name == name)
    return connection.execute(query).scalar() or ""


def all_seen(connection: Connection, project_id: int) -> dict[str, str]:
    """Return where all refs were."""
    query = select(poll_refs.c.name, poll_refs.c.commit_id).where(poll_refs.c.project_id == project_id)
    return {row.name: row.commit_id for row in connection.execute(query)}


def note(connection: Connection, project_id: int, refs: Mapping[str, str]) -> None:
    """Write down where refs are; "": it is gone, or isn't looked after any more."""
    names = list(refs)
    for first in range(0, len(names), _AT_A_TIME):  # few statements: nothing else is written meanwhile
        some = names[first : first + _AT_A_TIME]
        which = (poll_refs.c.project_id == project_id) & poll_refs.c.name.in_(some)
        connection.execute(delete_rows(poll_refs).where(which))
    _add(connection, project_id, {name: commit for name, commit in refs.items() if commit})


def begin(connection: Connection, poll: PollRow, repository: str, refs: Mapping[str, str]) -> None:
    """Write down what is there at the first look at a repository."""
    connection.execute(delete_rows(poll_refs).where(poll_refs.c.project_id == poll.project_id))
    _add(connection, poll.project_id, refs)
    _set(connection, poll.project_id, polls.c.since == poll.since, repository=repository)


def _add(connection: Connection, project_id: int, refs: Mapping[str, str]) -> None:
    rows = [{"project_id": project_id, "name": name, "commit_id": commit} for name, commit in refs.items()]
    if rows:
        connection.execute(insert(poll_refs), rows)


def set_scope(connection: Connection, poll: PollRow, scope: PollScope) -> None:
    """Write down which refs the last look has seen."""
    _set(connection, poll.project_id, polls.c.since == poll.since, scope=to_json(scope))


_SELECT = (
    select(*columns_of(PollRow, polls), projects_table.c.name.label("project"))
    .join(projects_table, projects_table.c.id == polls.c.project_id)
    .where(projects_table.c.deleted.is_(None))
)


def _row(row: Any) -> PollRow:
    return row_as(PollRow, row, scope=from_json(row.scope, PollScope))
