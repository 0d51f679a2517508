"""
The queue: which builds are to begin next, where a build is in it, and what projects say of theirs. Functions for
`Ledger.read` and `Ledger.write`; ``storage`` layer. The order is that of `builds.priorities`.

**A look costs as much as there are projects, and not as much as there are builds.** It reads the beginning of each
project's queue from an index of what is queued, and more of it only of projects whose turn comes.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import Connection, TextClause, and_, bindparam, func, not_, or_, select, text

from twistedipc.builds.needs import lacked
from twistedipc.builds.states import LEASED, AttemptState, states_where
from twistedipc.storage.columns import integer, queue_rules, runs_on, split_attempt
from twistedipc.storage.rows import Passed, Place
from twistedipc.storage.tables import GOES_ON, builders, builds, projects

_OFFERABLE: Final = states_where(lambda info: info.offerable)


def _is_queued() -> TextClause:
    """Return the condition in the words of the index of what is queued, without parameters: else it isn't used."""
    names = ", ".join(f"'{state}'" for state in sorted(_OFFERABLE))
    return text(f"builds.state = {names}" if len(_OFFERABLE) == 1 else f"builds.state IN ({names})")


QUEUED: Final = _is_queued()

#: What a builder can do, as `builds.needs` compares it.
Features = frozenset[str]


def next_builds(
    connection: Connection, limit: int, *, can: Collection[Features] | None = None, passed: Collection[Passed] = ()
) -> list[int]:
    """
    Return the numbers of up to ``limit`` builds that may be offered, in the order in which they are to begin.

    :param can: what each of the builders can do that have a free slot: what is queued of projects that are bound to
        others isn't looked at. None: everything.
    :param passed: builds up to these places aren't looked at.
    """
    running = _running(connection)
    places = {each.project: (each.due, each.build) for each in passed}
    heap: list[tuple[int, int, int, int]] = []  # how many run, when it is due, its number, its project
    left: dict[int, Iterator[tuple[int, int]]] = {}
    room: dict[int, int] = {}  # how many more may begin
    for row in connection.execute(_WAITING):
        if row.due is None:
            continue
        rules, needs = queue_rules(row.queue), runs_on(row.runs_on).needs
        mine = running.get(row.id, 0)
        if rules.paused is not None or (rules.at_once is not None and mine >= rules.at_once):
            continue
        if can is not None and needs and all(lacked(features, needs) for features in can):
            continue
        if rules.at_once is not None:
            room[row.id] = rules.at_once - mine
        due, build = max((row.due, 0), places.get(row.id, (row.due, 0)))
        heap.append((mine, due, build, row.id))
    heapq.heapify(heap)
    found: list[int] = []
    while heap and len(found) < limit:
        mine, _due, build, project = heapq.heappop(heap)
        mine_of = left.get(project)
        if mine_of is None:  # the first time it is only known when the first of its builds is due, if it may begin
            mine_of = left[project] = _of_project(connection, project, limit, places.get(project, (-1 << 62, 0)))
        else:
            found.append(build)
            mine += 1
        following = next(mine_of, None)
        if following is not None and mine - running.get(project, 0) < room.get(project, limit):
            heapq.heappush(heap, (mine, *following, project))
    return found


def admits(connection: Connection, attempt: str, builder: str) -> bool:
    """
    Return whether an attempt may be offered to this builder, by what its project says of its queue and by whether the
    builder takes anything new. It holds until the transaction ends: several apiservers may look at once.
    """
    drained = select(builders.c.drained).where(builders.c.name == builder)
    if connection.execute(drained).scalar() is not None:
        return False
    build, _number = split_attempt(attempt)
    which = select(projects.c.id, projects.c.queue).join(builds, builds.c.project_id == projects.c.id)
    row = connection.execute(which.where(builds.c.id == build)).first()
    if row is None or row.queue is None:
        return True
    # PostgreSQL lets two transactions count at the same time, and each would find room for one. (New builds of the
    # project don't wait for this lock. SQLite has one writer.)
    locked = select(projects.c.queue).where(projects.c.id == row.id).with_for_update(key_share=True)
    rules = queue_rules(connection.execute(locked).scalar())
    if rules.paused is not None:
        return False
    return rules.at_once is None or _running(connection, row.id).get(row.id, 0) < rules.at_once


def places(connection: Connection, chosen: Collection[int]) -> dict[int, Place]:
    """Return where each of these builds is in the queue; those that aren't queued are left out."""
    query = (
        select(builds.c.id, builds.c.state, builds.c.project_id, builds.c.due, projects.c.queue, projects.c.runs_on)
        .join(projects, projects.c.id == builds.c.project_id)
        .where(builds.c.id.in_(list(map(integer, chosen))))
    )
    # Chosen and sorted here: a database would rather walk along the index of all that is queued.
    queued = [row for row in connection.execute(query) if row.state in _OFFERABLE]
    rows = sorted(queued, key=lambda row: (row.project_id, row.due, row.id))
    running = _running(connection) if rows else {}
    found: dict[int, Place] = {}
    before, last = 0, None
    for row in rows:
        if last is None or last.project_id != row.project_id:
            before, last = 0, None
        # Counted from one to the next: a page of builds costs one walk along the index, and not one for each.
        before += _between(connection, row, last)
        last = row
        found[row.id] = Place(
            before=before,
            rules=queue_rules(row.queue),
            needs=runs_on(row.runs_on).needs,
            running=running.get(row.project_id, 0),
        )
    return found


def queued_of(connection: Connection, project: str) -> list[int]:
    """Return the numbers of all builds that are queued of a project, the last ones of the queue first."""
    its = select(projects.c.id).where(projects.c.name == project, projects.c.deleted.is_(None)).scalar_subquery()
    query = select(builds.c.id).where(QUEUED, builds.c.project_id == its)
    return list(connection.execute(query.order_by(builds.c.due.desc(), builds.c.id.desc())).scalars())


def drained(connection: Connection) -> frozenset[str]:
    """Return the builders that are to be offered nothing more."""
    return frozenset(connection.execute(select(builders.c.name).where(builders.c.drained.is_not(None))).scalars())


def goes_on(table: str = "builds") -> TextClause:
    """Return the condition that a build hasn't ended, in the words of the index of these."""
    return text(f"{table}.{GOES_ON}")


def lane_is_free() -> Any:
    """Return the condition that no earlier build goes on of a build's lane, if it is to wait for these."""
    earlier = builds.alias("earlier")
    before = (
        select(earlier.c.id)
        .where(earlier.c.project_id == builds.c.project_id, earlier.c.lane == builds.c.lane)
        .where(earlier.c.id < builds.c.id, goes_on("earlier"), earlier.c.state != AttemptState.WAITING_APPROVAL)
        .exists()
    )
    return or_(not_(builds.c.in_turn), not_(before))


def _running(connection: Connection, project: int | None = None) -> dict[int, int]:
    """Return how many builds of each project, or of this one, a builder has the lease of, or is asked to take."""
    # Counted here: to group them, a database would walk through all builds that there are, in the order of projects.
    query = select(builds.c.project_id).where(builds.c.state.in_(sorted(LEASED)))
    if project is not None:
        query = query.where(builds.c.project_id == project)
    return Counter(connection.execute(query).scalars())


def _of_project(connection: Connection, project: int, limit: int, after: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Return when each of the project's builds is due that may begin, and its number; ``limit`` of them at most."""
    rows = connection.execute(_OF_PROJECT, {"project": project, "limit": limit, "due": after[0], "build": after[1]})
    return ((row.due, row.id) for row in rows.all())


def _between(connection: Connection, row: Any, last: Any) -> int:
    """Return how many builds of a project are queued before ``row``, and not before ``last``."""
    query = select(func.count()).where(QUEUED, builds.c.project_id == row.project_id, _before(row.due, row.id))
    if last is not None:
        query = query.where(builds.c.due >= last.due, not_(_before(last.due, last.id)))
    return int(connection.execute(query).scalar_one())


def _before(due: Any, build: Any) -> Any:
    """Return the condition that a build comes before this place. The first half of it searches an index."""
    return and_(builds.c.due <= due, or_(builds.c.due < due, builds.c.id < build))


def _waiting() -> Any:
    """
    Return the query for all projects, and when the first is due of what is queued of each; null where nothing is. (If
    it asked for those alone where something is, PostgreSQL would walk through all that is queued.)
    """
    queued = select(builds.c.due).where(QUEUED, builds.c.project_id == projects.c.id).correlate(projects)
    first = queued.order_by(builds.c.due, builds.c.id).limit(1).scalar_subquery()
    return select(projects.c.id, projects.c.queue, projects.c.runs_on, first.label("due")).where(
        projects.c.deleted.is_(None)
    )


# Made once: what SQLAlchemy does to make a statement takes longer than the database takes for it.
_WAITING = _waiting()
_OF_PROJECT = (
    select(builds.c.due, builds.c.id)
    .where(QUEUED, builds.c.project_id == bindparam("project"), lane_is_free())
    .where(builds.c.due >= bindparam("due"), or_(builds.c.due > bindparam("due"), builds.c.id > bindparam("build")))
    .order_by(builds.c.due, builds.c.id)
    .limit(bindparam("limit"))
)
