"""
Packages that are published from what was stored: one row each, from the permit on, written before and after each thing
that is done. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

A file in the artifact store is named by its SHA-256, so two attempts may have the same one: it is deleted when no row
needs it any more (`no_longer_needed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select, update

from twistedipc.builds import names
from twistedipc.builds.attempt import Package
from twistedipc.builds.states import DELIVERS, TERMINAL, AttemptState, PublicationState, check_publication
from twistedipc.publish.record import Facts, Outcome, Progress, Step
from twistedipc.storage.columns import attempt_name, split_attempt, text
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import PublicationRow
from twistedipc.storage.tables import (
    artifacts,
    attempts,
    builds,
    package_locks,
    projects,
    publication_steps,
    publications,
)

_S = PublicationState

#: Stored, and neither published nor given up.
_UNDER_WAY = (_S.STORED, _S.CHECKED, _S.STAGED, _S.APPROVED, _S.PRESENT)

#: Of an attempt that has ended: what is to be taken back in the registry.
TAKEN_BACK = frozenset({_S.STAGED, _S.APPROVED, _S.PRESENT})


def add(connection: Connection, attempt: str, target: str, packages: Sequence[Package], now: int) -> None:
    """Note what an attempt has its permit for: its files are to be uploaded."""
    build, number = split_attempt(attempt)
    for position, package in enumerate(packages):
        connection.execute(
            insert(publications).values(
                build_id=build,
                number=number,
                target=target,
                position=position,
                name=text(package.name),
                version=text(package.version),
                integrity=text(package.integrity),
                tag=text(package.tag),
                settled=package.settled,
                size=0,
                sha256="",
                state=_S.PACKED,
                reason="",
                created=now,
                updated=now,
            )
        )


def of_attempt(connection: Connection, attempt: str) -> list[PublicationRow]:
    """Return all publications of an attempt, by target, in the order of the permits."""
    query = select(publications).where(_of(attempt)).order_by(publications.c.target, publications.c.position)
    return [publication_row(row) for row in connection.execute(query)]


def begin_upload(
    connection: Connection, attempt: str, target: str, position: int, size: int, now: int
) -> PublicationRow:
    """
    Note that a package's file of this size will be uploaded; asked again, the same row. Raises `NotFound` if the
    attempt has no permit for it, and `NotPossible` if a file of another size was announced before.
    """
    which = _one(attempt, target, position)
    connection.execute(update(publications).where(which, publications.c.size == 0).values(size=size, updated=now))
    row = _get(connection, which)
    if row is None:
        raise NotFound(f"attempt {attempt} has no permit to store package {position} for {target[:100]}")
    if row.size != size:
        raise NotPossible(f"attempt {attempt} has announced another file of {row.name} before")
    return row


def note_stored(connection: Connection, attempt: str, target: str, position: int, sha256: str, now: int) -> None:
    """packed → stored: its file is in the artifact store under this name, verified. Asked again, nothing changes."""
    _change(connection, _one(attempt, target, position), _S.PACKED, _S.STORED, now, sha256=sha256)


def end(connection: Connection, attempt: str, target: str, published: Iterable[str], reason: str, now: int) -> None:
    """→ published, those of these names that aren't yet; the others, if they haven't ended, → failed, for a reason."""
    which = _of_target(attempt, target)
    named = publications.c.name.in_(sorted(published))
    _change(connection, and_(which, named), _S.STORED, _S.CHECKED, now)
    for before in (_S.CHECKED, _S.PRESENT):
        _change(connection, and_(which, named), before, _S.PUBLISHED, now)
    for before in _UNDER_WAY:
        _change(connection, which, before, _S.FAILED, now, reason=text(reason))


def begin_step(
    connection: Connection, attempt: str, target: str, position: int, step: Step, detail: str, now: int
) -> int:
    """Note that a step of a publication begins. Return its number. Raises `NotFound` if there is no publication."""
    if _get(connection, _one(attempt, target, position)) is None:
        raise NotFound(f"attempt {attempt} publishes no package {position} to {target[:100]}")
    build, number = split_attempt(attempt)
    open_ = connection.execute(select(func.max(publication_steps.c.seq)).where(_open(attempt, target, position, step)))
    if (begun := open_.scalar()) is not None:
        return int(begun)  # an earlier try was committed, and its answer was lost
    last = select(func.max(publication_steps.c.seq)).where(_steps_of(attempt, target))
    seq = connection.execute(last).scalar()
    seq = 0 if seq is None else seq + 1
    connection.execute(
        insert(publication_steps).values(
            build_id=build,
            number=number,
            target=target,
            seq=seq,
            position=position,
            step=step,
            detail=text(detail),
            began=now,
            ended=0,
            outcome="",
            reason="",
        )
    )
    return seq


def end_step(
    connection: Connection,
    attempt: str,
    target: str,
    position: int,
    step: Step,
    outcome: Outcome,
    now: int,
    *,
    reached: PublicationState | None = None,
    reason: str = "",
    facts: Facts | None = None,
) -> PublicationRow:
    """
    Note how the step that has begun last for a publication has ended, the state that it has reached by it, and what is
    known of it. Return its row. Raises `NotFound` if no such step is under way, and `IllegalTransition`.
    """
    open_ = _open(attempt, target, position, step)
    seq = connection.execute(select(func.max(publication_steps.c.seq)).where(open_)).scalar()
    if seq is None:
        return _ended(connection, attempt, target, position, step, outcome)
    ended = update(publication_steps).where(_steps_of(attempt, target), publication_steps.c.seq == seq)
    connection.execute(ended.values(ended=now, outcome=outcome, reason=text(reason)))
    which = _one(attempt, target, position)
    known = {} if facts is None else {name: text(value) for name, value in _known(facts)}
    if known:
        connection.execute(update(publications).where(which).values(**known))
    row = _get(connection, which)
    assert row is not None  # `begin_step` has found it
    if reached is not None and reached is not row.state:
        _change(connection, which, row.state, reached, now, reason=text(reason))
        row = _get(connection, which)
        assert row is not None
    return row


def _open(attempt: str, target: str, position: int, step: Step) -> ColumnElement[bool]:
    return and_(
        _steps_of(attempt, target),
        publication_steps.c.position == position,
        publication_steps.c.step == step,
        publication_steps.c.ended == 0,
    )


def _ended(
    connection: Connection, attempt: str, target: str, position: int, step: Step, outcome: Outcome
) -> PublicationRow:
    """Return the row of a publication whose step has ended so already: the answer to that was lost. Else `NotFound`."""
    query = (
        select(publication_steps.c.outcome)
        .where(
            _steps_of(attempt, target),
            publication_steps.c.position == position,
            publication_steps.c.step == step,
        )
        .order_by(publication_steps.c.seq.desc())
        .limit(1)
    )
    row = _get(connection, _one(attempt, target, position))
    if row is None or connection.execute(query).scalar() != outcome:
        raise NotFound(f"no {step} of package {position} of attempt {attempt} is under way")
    return row


def note_approved(connection: Connection, attempt: str, target: str, position: int, by: str, now: int) -> None:
    """Note who has approved what was staged of a package."""
    which = _one(attempt, target, position)
    connection.execute(update(publications).where(which).values(approved_by=text(by), approved=now))


def to_reject(connection: Connection, limit: int) -> list[str]:
    """
    Return attempts that have ended, and of which something may still be staged, or in the registry with some of their
    tags moved; oldest first.
    """
    ended = attempts.c.state.in_(sorted(TERMINAL))
    joined = publications.join(
        attempts, and_(attempts.c.build_id == publications.c.build_id, attempts.c.number == publications.c.number)
    )
    query = (
        select(publications.c.build_id, publications.c.number)
        .select_from(joined)
        .where(ended, publications.c.state.in_(sorted(TAKEN_BACK)))
        .distinct()
        .order_by(publications.c.build_id, publications.c.number)
        .limit(limit)
    )
    return [attempt_name(row.build_id, row.number) for row in connection.execute(query)]


def drop_superseded(connection: Connection, attempt: str, target: str, now: int) -> None:
    """
    approved, present → dropped: versions of a refused attempt that a newer one has published, so that their tags stay.
    """
    build, number = split_attempt(attempt)
    newer = publications.alias()
    is_newer = or_(newer.c.build_id > build, and_(newer.c.build_id == build, newer.c.number > number))
    published = (
        select(newer.c.name)
        .where(newer.c.name == publications.c.name, newer.c.version == publications.c.version)
        .where(newer.c.target == target, newer.c.state == _S.PUBLISHED, is_newer)
        .exists()
    )
    reason = "a newer build has published it"
    for before in (_S.APPROVED, _S.PRESENT):
        _change(connection, and_(_of_target(attempt, target), published), before, _S.DROPPED, now, reason=reason)


def free_locks_of_ended(connection: Connection) -> None:
    """Unlock what attempts have locked that aren't being published: a crash has left that."""
    for holder in set(connection.execute(select(package_locks.c.holder)).scalars()):
        if not re.fullmatch(names.ATTEMPT, holder):
            continue  # a request's: see `package_requests.free_locks_of_ended`
        build, number = split_attempt(holder)
        of = select(attempts.c.state).where(attempts.c.build_id == build, attempts.c.number == number)
        if connection.execute(of).scalar() not in DELIVERS:
            free_locks(connection, holder)


def steps_of(connection: Connection, attempt: str, target: str) -> list[Progress]:
    """Return the steps of an attempt's publications to a target, in their order."""
    query = select(publication_steps).where(_steps_of(attempt, target)).order_by(publication_steps.c.seq)
    return [
        Progress(
            position=row.position,
            step=Step(row.step),
            detail=row.detail,
            outcome=Outcome(row.outcome) if row.outcome else None,
            reason=row.reason,
        )
        for row in connection.execute(query)
    ]


def take_locks(connection: Connection, registry: str, names: Iterable[str], holder: str, now: int) -> str:
    """
    Lock packages of a registry for a holder: all of them, or none. Return who has one of them; "" if they are locked
    now. Asked again by the same holder, they are.
    """
    return take_locks_at(connection, {registry: list(names)}, holder, now)


def take_locks_at(connection: Connection, wanted: Mapping[str, Sequence[str]], holder: str, now: int) -> str:
    """`take_locks`, of several registries: all of their packages, or none."""
    free: list[tuple[str, str]] = []
    others: set[str] = set()
    for registry, packages in sorted(wanted.items()):
        taken = select(package_locks.c.name, package_locks.c.holder).where(
            package_locks.c.registry == registry, package_locks.c.name.in_(sorted(set(packages)))
        )
        held = {row.name: row.holder for row in connection.execute(taken)}
        others |= {each for each in held.values() if each != holder}
        free += [(registry, name) for name in sorted(set(packages)) if name not in held]
    if others:
        return str(min(others))
    for registry, name in free:
        row = {"registry": registry, "name": name, "holder": holder, "taken": now}
        connection.execute(insert(package_locks).values(**row))
    return ""


def free_locks(connection: Connection, holder: str) -> None:
    """Unlock what a holder has locked."""
    connection.execute(delete(package_locks).where(package_locks.c.holder == holder))


def drop(connection: Connection, attempt: str, reason: str, now: int) -> None:
    """→ dropped: what hasn't been published of an attempt never will be."""
    for before in (_S.PACKED, _S.STORED, _S.CHECKED):  # what is staged has yet to be taken back
        _change(connection, _of(attempt), before, _S.DROPPED, now, reason=text(reason))


def stored(connection: Connection, attempt: str) -> bool:
    """Return whether an attempt has stored packages that are still to be published."""
    which = and_(_of(attempt), publications.c.state.in_(_UNDER_WAY))
    return connection.execute(select(publications.c.name).where(which).limit(1)).first() is not None


def waiting_stages(connection: Connection) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    """
    Return the attempts that wait for a person and have staged packages, each with its project, the target, and the
    packages with their stages. Those that wait longest come first.
    """
    query = (
        select(publications, projects.c.name.label("project"))
        .join(
            attempts, and_(attempts.c.build_id == publications.c.build_id, attempts.c.number == publications.c.number)
        )
        .join(builds, builds.c.id == publications.c.build_id)
        .join(projects, and_(projects.c.id == builds.c.project_id, projects.c.deleted.is_(None)))
        .where(attempts.c.state == AttemptState.WAITING_APPROVAL, publications.c.state == _S.STAGED)
        .where(publications.c.stage != "")
        .order_by(publications.c.build_id, publications.c.number, publications.c.target, publications.c.position)
    )
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for row in connection.execute(query):
        key = attempt_name(row.build_id, row.number), row.project, row.target
        found.setdefault(key, []).append((row.name, row.stage))
    return [(*key, stages) for key, stages in found.items()]


def no_longer_needed(connection: Connection, limit: int) -> list[str]:
    """
    Return the names of up to ``limit`` files in the artifact store that were stored by attempts that have ended, and by
    no other; nor is one with the same content on its way.
    """
    ended = attempts.c.state.in_(sorted(TERMINAL))
    joined = publications.join(
        attempts, and_(attempts.c.build_id == publications.c.build_id, attempts.c.number == publications.c.number)
    )
    others = select(publications.c.integrity).select_from(joined).where(~ended)
    query = (
        select(publications.c.sha256)
        .select_from(joined)
        .where(ended, publications.c.sha256 != "")
        .where(publications.c.integrity.not_in(others))
        .where(publications.c.sha256.not_in(select(artifacts.c.sha256)))
        .distinct()
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def forget_file(connection: Connection, sha256: str) -> None:
    """Note that this file isn't needed in the artifact store any more."""
    connection.execute(update(publications).where(publications.c.sha256 == sha256).values(sha256=""))


def _change(
    connection: Connection,
    which: ColumnElement[bool],
    before: PublicationState,
    after: PublicationState,
    now: int,
    **values: Any,
) -> int:
    """Change the state of those that are in ``before``. Return how many these were."""
    check_publication(before, after)
    changed = connection.execute(
        update(publications).where(which, publications.c.state == before).values(state=after, updated=now, **values)
    )
    return changed.rowcount


def _of(attempt: str) -> ColumnElement[bool]:
    build, number = split_attempt(attempt)
    return and_(publications.c.build_id == build, publications.c.number == number)


def _of_target(attempt: str, target: str) -> ColumnElement[bool]:
    return and_(_of(attempt), publications.c.target == target)


def _one(attempt: str, target: str, position: int) -> ColumnElement[bool]:
    return and_(_of_target(attempt, target), publications.c.position == position)


def _steps_of(attempt: str, target: str) -> ColumnElement[bool]:
    build, number = split_attempt(attempt)
    return and_(
        publication_steps.c.build_id == build,
        publication_steps.c.number == number,
        publication_steps.c.target == target,
    )


def _known(facts: Facts) -> Iterable[tuple[str, str]]:
    """Return the facts that are known, by the names of their columns."""
    return [(name, value) for name in facts.__struct_fields__ if (value := getattr(facts, name))]


def _get(connection: Connection, which: ColumnElement[bool]) -> PublicationRow | None:
    row = connection.execute(select(publications).where(which)).first()
    return None if row is None else publication_row(row)


def publication_row(row: Row[Any]) -> PublicationRow:
    """Return what a row of the table says."""
    return PublicationRow(
        attempt=attempt_name(row.build_id, row.number),
        target=row.target,
        position=row.position,
        name=row.name,
        version=row.version,
        integrity=row.integrity,
        tag=row.tag,
        settled=row.settled,
        size=row.size,
        sha256=row.sha256,
        state=PublicationState(row.state),
        reason=row.reason,
        updated=row.updated,
        registry=row.registry or "",
        mode=row.mode or "",
        stage=row.stage or "",
        set_tag=row.set_tag or "",
        tag_before=row.tag_before or "",
        status=row.status or "",
        notice=row.notice or "",
        approved_by=row.approved_by or "",
        approved=row.approved,
    )
