"""
What is still to be told to others, and what became of it. Functions for `Ledger.read` and `Ledger.write`; ``storage``
layer.

A row is written in the transaction of what it tells (`note`, `note_live`), so that neither is there without the other.
It is leased before it is told, and marked after it: what a crash comes between is told again. Of one receiver's subject
one row at a time is told, the oldest first, so the last one is told last.

**Nothing grows without an end.** What couldn't be told gives way to something newer of its subject, if only the newest
counts. Of one receiver at most `MAX_WAITING` rows wait, each for at most `PATIENCE`; then they are given up, which
people see. Of those that have ended the newest `KEPT` of each receiver are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, insert, select, update
from sqlalchemy import delete as delete_rows

from twistedipc.builds import names
from twistedipc.builds.attempt import Package
from twistedipc.builds.names import shown
from twistedipc.builds.origin import Origin
from twistedipc.builds.states import STATES, AttemptState, Phase, ReleaseState, TellingState, check_telling
from twistedipc.builds.word import MAX_REASON
from twistedipc.outgoing.kinds import KINDS
from twistedipc.outgoing.told import ONLY_THE_NEWEST, Event, Part, Told, can_be_told, subject_of
from twistedipc.storage.columns import from_json, integer, text, to_json
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import AttemptRow, DueRow, ReleaseRow, TellingRow
from twistedipc.storage.tables import attempts, builds, deliveries, outbox, projects, receivers, releases

_S = TellingState

#: The most rows of a receiver that wait, and how many that have ended are kept.
MAX_WAITING = 1000
KEPT = 200

#: For how long something is tried, in milliseconds from when it was first due.
PATIENCE = 24 * 3600 * 1000

#: How many things are told to one receiver at a time.
AT_A_TIME = 2

#: What is told of a commit, and can't be before it is known.
_OF_COMMIT: Final[tuple[Part, ...]] = ("status", "deployment")

_FAILURES = frozenset({Phase.FAILED, Phase.TIMED_OUT, Phase.LOST})


# -- something happens -------------------------------------------------------------------------------------------------


def note(connection: Connection, row: AttemptRow) -> None:
    """Have told that an attempt has come into its state, to those who want to know, if that is news to them."""
    phase = STATES[row.state].told
    wanting = () if phase is None else _receivers_of(connection, row.build)
    if phase is None or not wanting:
        return
    told = _told(connection, row, phase)
    _put_each(connection, wanting, told)
    announced = _origin(connection, row.build)
    if STATES[row.state].ended and announced is not None and announced.commit not in ("", told.commit):
        # The branch led to a newer commit by then: the one that was announced mustn't wait for ever.
        _put_each(connection, wanting, msgspec.structs.replace(told, commit=announced.commit), only="status")
    if phase is Phase.SUCCEEDED:
        for package in _tagged(connection, row):
            _put_each(connection, wanting, msgspec.structs.replace(told, event=None, tag=package.git_tag,
                                                                   notes=package.notes), only="tag")  # fmt: skip


def note_commit(connection: Connection, row: AttemptRow) -> None:
    """Have the host told how an attempt goes whose commit is known now: its build may have been asked for by a ref."""
    phase = STATES[row.state].told
    if phase is None:
        return
    told = _told(connection, row, phase)
    for part in _OF_COMMIT:
        _put_each(connection, _receivers_of(connection, row.build), told, only=part)


def note_number(connection: Connection, row: AttemptRow) -> None:
    """Have the pull request told how an attempt goes, whose build turns out to be of it."""
    phase = STATES[row.state].told
    if phase is not None:
        _put_each(connection, _receivers_of(connection, row.build), _told(connection, row, phase), only="comment")


def note_live(connection: Connection, release: ReleaseRow) -> None:
    """Have told that a release has gone live."""
    wanting = _receivers_of(connection, release.build)
    if not wanting:
        return
    attempt = connection.execute(
        select(attempts.c.subject, attempts.c.author, attempts.c.environment, attempts.c.requested_by,
               attempts.c.created, attempts.c.started, attempts.c.ended)
        .where(attempts.c.build_id == release.build, attempts.c.number == release.number)
    ).one()  # fmt: skip
    told = Told(
        project=release.project,
        build=release.build,
        attempt=release.number,
        phase=Phase.SUCCEEDED,
        event="live",
        ref=release.ref,
        commit=release.commit,
        title=attempt.subject,
        author=attempt.author,
        by=attempt.requested_by,
        environment=attempt.environment or "",
        created=attempt.created,
        started=attempt.started or 0,
        ended=attempt.ended or 0,
        release=release.id,
    )
    _put_each(connection, wanting, told, only="event")


def _receivers_of(connection: Connection, build: int) -> list[Any]:
    query = (
        select(receivers.c.id, receivers.c.kind, receivers.c.events)
        .join(builds, builds.c.project_id == receivers.c.project_id)
        .where(builds.c.id == build)
    )
    return list(connection.execute(query))


def _told(connection: Connection, row: AttemptRow, phase: Phase) -> Told:
    ref = connection.execute(select(builds.c.ref).where(builds.c.id == row.build)).scalar_one()
    origin = _origin(connection, row.build)
    # A deployment is told of what is built for the project's users alone.
    environment = row.environment or "" if row.preview == "" else ""
    return Told(
        project=row.project,
        build=row.build,
        attempt=row.number,
        phase=phase,
        event=_event(connection, row, phase, ref),
        reason=row.reason,
        ref=ref,
        commit=row.commit or ("" if origin is None else origin.commit),
        title=row.subject,
        author=row.author,
        by=row.requested_by,
        number=0 if origin is None else origin.number,
        environment=environment,
        created=row.created,
        started=row.started or 0,
        ended=row.ended or 0,
    )


def _origin(connection: Connection, build: int) -> Origin | None:
    origin = connection.execute(select(builds.c.origin).where(builds.c.id == build)).scalar()
    return None if origin is None else from_json(origin, Origin)


def _event(connection: Connection, row: AttemptRow, phase: Phase, ref: str) -> Event | None:
    if phase is Phase.WAITING:
        return "waiting"
    if phase in _FAILURES:
        return "failed"
    if phase is Phase.SUCCEEDED and _phase_before(connection, row, ref) in _FAILURES:
        return "fixed"
    return None


def _phase_before(connection: Connection, row: AttemptRow, ref: str) -> Phase | None:
    """Return how the attempt before this one has ended, of this build or of the last one of its ref."""
    ends = [state for state, info in STATES.items() if info.ended and state is not AttemptState.CANCELLED]
    query = (
        select(attempts.c.state)
        .join(builds, builds.c.id == attempts.c.build_id)
        .where(builds.c.project_id == select(builds.c.project_id).where(builds.c.id == row.build).scalar_subquery())
        .where(builds.c.ref == ref, builds.c.id <= row.build, attempts.c.state.in_(ends))
        .where(~and_(attempts.c.build_id == row.build, attempts.c.number >= row.number))
        .order_by(builds.c.id.desc(), attempts.c.number.desc())
        .limit(1)
    )
    state = connection.execute(query).scalar()
    return None if state is None else STATES[AttemptState(state)].told


def _tagged(connection: Connection, row: AttemptRow) -> list[Package]:
    """Return the packages of an attempt that are published, and whose commit is to be tagged."""
    published = {(each.target, each.name, each.version) for each in row.published}
    if not published:
        return []
    query = select(deliveries.c.target, deliveries.c.package).where(
        deliveries.c.build_id == row.build, deliveries.c.number == row.number, deliveries.c.package.is_not(None)
    )
    found: dict[str, Package] = {}
    for target, written in connection.execute(query):
        packages = from_json(written, list[Package]) if written.startswith("[") else [from_json(written, Package)]
        for each in packages:
            if each.git_tag and (target, each.name, each.version) in published:
                found.setdefault(each.git_tag, each)
    return list(found.values())


def _put_each(connection: Connection, wanting: Iterable[Any], told: Told, *, only: Part | None = None) -> None:
    for receiver in wanting:
        kind = KINDS.get(receiver.kind)
        events = frozenset(from_json(receiver.events, list[str]))
        for part in () if kind is None else kind.parts:
            if only in (None, part) and (only == "tag" or part != "tag") and can_be_told(part, told, events):
                _put(connection, receiver.id, part, told)


def _put(connection: Connection, receiver: int, part: Part, told: Told) -> None:
    subject = text(subject_of(part, told))
    mine = (outbox.c.receiver_id == receiver, outbox.c.subject == subject, outbox.c.part == part)
    due, tries = 0, 0
    if part == "tag" and connection.execute(select(outbox.c.id).where(*mine).limit(1)).first() is not None:
        return  # another attempt of the same version was there first
    if part in ONLY_THE_NEWEST:
        last = connection.execute(select(outbox).where(*mine).order_by(outbox.c.id.desc()).limit(1)).first()
        if last is not None:
            if last.build_id > told.build:
                return  # the newest build speaks for the commit, and for the pull request
            if (last.build_id, last.number, last.phase) == (told.build, told.attempt, told.phase):
                return
            if last.state == _S.WAITING and last.reason and last.leased is None:
                due, tries = last.due, last.tries
                _end(connection, last.id, _S.REPLACED, last.reason, None)
    _make_room(connection, receiver)
    connection.execute(
        insert(outbox).values(
            receiver_id=receiver,
            subject=subject,
            part=part,
            phase=told.phase,
            build_id=told.build,
            number=told.attempt,
            told=to_json(told),
            state=_S.WAITING,
            reason="",
            tries=tries,
            due=due,
        )
    )


def _make_room(connection: Connection, receiver: int) -> None:
    waiting = outbox.c.receiver_id == receiver, outbox.c.state == _S.WAITING
    if connection.execute(select(func.count()).select_from(outbox).where(*waiting)).scalar_one() < MAX_WAITING:
        return
    query = select(outbox.c.id).where(*waiting, outbox.c.leased.is_(None)).order_by(outbox.c.id).limit(1)
    oldest = connection.execute(query).scalar()
    if oldest is not None:
        _end(connection, oldest, _S.GIVEN_UP, f"more than {MAX_WAITING} others waited to be told", None)


# -- it is told --------------------------------------------------------------------------------------------------------


#: When something is tried next that waits.
_WHEN = case((receivers.c.rests > outbox.c.due, receivers.c.rests), else_=outbox.c.due)


def void_leases(connection: Connection) -> None:
    """At start, when nothing is being told: what a crash or a stop has left is told again."""
    connection.execute(update(outbox).where(outbox.c.leased.is_not(None)).values(leased=None))


def anything_due(connection: Connection, now: int) -> bool:
    """Return whether there is something that could be told now."""
    which = (outbox.c.state == _S.WAITING, outbox.c.leased.is_(None), now >= _WHEN)
    query = select(outbox.c.id).join(receivers, receivers.c.id == outbox.c.receiver_id).where(*which).limit(1)
    return connection.execute(query).first() is not None


def next_due(connection: Connection, now: int) -> int | None:
    """Return when the next thing is due, after now; None if nothing waits for its time."""
    which = (outbox.c.state == _S.WAITING, outbox.c.leased.is_(None), now < _WHEN)
    query = select(func.min(_WHEN)).select_from(outbox).join(receivers, receivers.c.id == outbox.c.receiver_id)
    return connection.execute(query.where(*which)).scalar()


def lease(connection: Connection, now: int, most: int) -> list[DueRow]:
    """
    Take up to ``most`` things that are to be told next, at most `AT_A_TIME` of each receiver. ``served`` says of them
    only what is live: previews are known on top of this.
    """
    waiting = outbox.c.state == _S.WAITING
    connection.execute(update(outbox).where(waiting, outbox.c.noticed.is_(None)).values(noticed=now))
    _expire(connection, now)
    taken: list[int] = []
    query = (
        select(outbox.c.receiver_id)
        .join(receivers, receivers.c.id == outbox.c.receiver_id)
        .where(waiting, outbox.c.leased.is_(None), now >= _WHEN)
        .group_by(outbox.c.receiver_id)
        .order_by(func.min(outbox.c.id))
    )
    for receiver in list(connection.execute(query).scalars()):
        mine = (waiting, outbox.c.receiver_id == receiver)
        held = select(func.count()).select_from(outbox).where(*mine, outbox.c.leased.is_not(None))
        free = min(AT_A_TIME - connection.execute(held).scalar_one(), most - len(taken))
        if free > 0:
            first = select(func.min(outbox.c.id)).where(*mine).group_by(outbox.c.subject)
            heads = select(outbox.c.id).where(outbox.c.id.in_(first), outbox.c.leased.is_(None), outbox.c.due <= now)
            taken += connection.execute(heads.order_by(outbox.c.due, outbox.c.id).limit(free)).scalars()
    which = outbox.c.id.in_(taken)
    connection.execute(update(outbox).where(which).values(leased=now, tries=outbox.c.tries + 1))
    return [_due(row) for row in connection.execute(_DUE.where(which).order_by(outbox.c.id))]


def _expire(connection: Connection, now: int) -> None:
    old = (outbox.c.state == _S.WAITING, outbox.c.leased.is_(None), outbox.c.noticed < now - PATIENCE)
    for row in connection.execute(select(outbox.c.id, outbox.c.reason).where(*old)).all():
        _end(connection, row.id, _S.GIVEN_UP, f"it couldn't be told within a day: {row.reason or 'others waited'}", now)


def note_told(connection: Connection, telling: int, said: str, now: int) -> None:
    """waiting → told. ``said``: for people, about how."""
    _end(connection, telling, _S.TOLD, said, now)


def give_up(connection: Connection, telling: int, reason: str, now: int) -> None:
    """waiting → given up, for a ``reason`` for people."""
    _end(connection, telling, _S.GIVEN_UP, reason, now)


def postpone(connection: Connection, telling: int, reason: str, due: int, now: int, *, all_of_it: bool) -> None:
    """
    It couldn't be told, and is tried again when it is ``due``. If something newer takes its place, that is.

    :param all_of_it: nothing is told to its receiver until then
    """
    row = connection.execute(select(outbox).where(outbox.c.id == telling, outbox.c.state == _S.WAITING)).first()
    if row is None:
        return
    waiting = (outbox.c.receiver_id == row.receiver_id, outbox.c.state == _S.WAITING)
    same = (*waiting, outbox.c.subject == row.subject, outbox.c.part == row.part, outbox.c.id >= row.id)
    later = list(connection.execute(select(outbox.c.id).where(*same).order_by(outbox.c.id)).scalars())
    newest = later[-1] if row.part in ONLY_THE_NEWEST else row.id
    for each in later:
        if each < newest:
            _end(connection, each, _S.REPLACED, reason, now)
    values = {"reason": shown(reason, MAX_REASON), "due": due, "tries": row.tries, "leased": None}
    connection.execute(update(outbox).where(outbox.c.id == newest).values(**values))
    if all_of_it:
        connection.execute(update(receivers).where(receivers.c.id == row.receiver_id).values(rests=due))


def _end(connection: Connection, telling: int, after: TellingState, reason: str, now: int | None) -> None:
    check_telling(_S.WAITING, after)
    values = {"state": after, "reason": shown(reason, MAX_REASON), "leased": None, "ended": now}
    which = (outbox.c.id == telling, outbox.c.state == _S.WAITING)
    connection.execute(update(outbox).where(*which).values(**values))
    receiver = select(outbox.c.receiver_id).where(outbox.c.id == telling).scalar_subquery()
    over = (outbox.c.receiver_id == receiver, outbox.c.state != _S.WAITING)
    ended = outbox.alias()
    mine = (ended.c.receiver_id == receiver, ended.c.state != _S.WAITING)
    limit = select(ended.c.id).where(*mine).order_by(ended.c.id.desc()).offset(KEPT).limit(1).scalar_subquery()
    connection.execute(delete_rows(outbox).where(*over, outbox.c.id <= limit))


# -- people look -------------------------------------------------------------------------------------------------------


def list_page(connection: Connection, project: str, before: int | None, limit: int) -> list[TellingRow]:
    """Return what was told and is to be told of a project, newest first."""
    query = _TELLINGS.where(projects.c.name == project, projects.c.deleted.is_(None))
    if before is not None:
        query = query.where(outbox.c.id < integer(before))
    return [_telling(row) for row in connection.execute(query.order_by(outbox.c.id.desc()).limit(limit))]


def tell_again(connection: Connection, project: str, telling: int, now: int) -> TellingRow:
    """told or given up → waiting: a person wants it told again. Raises `NotFound`, `NotPossible`."""
    row = connection.execute(
        _TELLINGS.where(projects.c.name == project, projects.c.deleted.is_(None), outbox.c.id == integer(telling))
    ).first()
    if row is None:
        raise NotFound(f"project {project} has told nothing with the number {telling}")
    if row.state == _S.WAITING:
        raise NotPossible(f"{telling} is told again by itself")
    newer = (outbox.c.receiver_id == row.receiver_id, outbox.c.subject == row.subject, outbox.c.part == row.part)
    if row.part in ONLY_THE_NEWEST and (
        connection.execute(select(outbox.c.id).where(*newer, outbox.c.id > row.id).limit(1)).first() is not None
    ):
        raise NotPossible(f"something newer of {row.subject} was told since, and would be undone")
    check_telling(TellingState(row.state), _S.WAITING)
    values: dict[str, Any] = {"state": _S.WAITING, "reason": "", "tries": 0, "due": now, "noticed": now, "ended": None}
    connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))
    return _telling(connection.execute(_TELLINGS.where(outbox.c.id == row.id)).one())


_FROM = outbox.join(receivers, receivers.c.id == outbox.c.receiver_id).join(
    projects, projects.c.id == receivers.c.project_id
)

_TELLINGS = select(outbox, receivers.c.name.label("receiver"), receivers.c.kind).select_from(_FROM)


def _is_live() -> ColumnElement[bool]:
    return exists().where(
        releases.c.build_id == outbox.c.build_id,
        releases.c.number == outbox.c.number,
        releases.c.state == ReleaseState.LIVE,
    )


_DUE = select(
    outbox.c.id,
    outbox.c.part,
    outbox.c.tries,
    outbox.c.told,
    receivers.c.kind,
    receivers.c.name,
    receivers.c.sealed,
    receivers.c.bound_to,
    projects.c.repository,
    _is_live().label("live"),
).select_from(_FROM)


def _due(row: Any) -> DueRow:
    told = from_json(row.told, Told)
    return DueRow(
        id=row.id,
        receiver=row.name,
        kind=row.kind,
        part=row.part,
        tries=row.tries,
        told=told,
        sealed=bytes(row.sealed),
        repository=row.repository,
        void=row.bound_to is not None and row.bound_to != names.place(row.repository),
        served=told.project if row.live else "",
    )


def _telling(row: Any) -> TellingRow:
    told = from_json(row.told, Told)
    return TellingRow(
        id=row.id,
        receiver=row.receiver,
        kind=row.kind,
        part=row.part,
        phase=told.phase,
        event=told.event,
        build=row.build_id,
        attempt=row.number,
        subject=row.subject,
        state=TellingState(row.state),
        reason=row.reason,
        tries=row.tries,
        due=row.due if row.state == _S.WAITING else None,
        noticed=row.noticed,
        ended=row.ended,
    )
