"""
What is made of messages of repository hosts, and written down with it. Functions for `Ledger.write`; ``storage`` layer.
On top of ``hooks``, ``builds`` and ``refs_gone``.

**A message is taken once**: its id is unique. Should a host (or a stranger who has seen one) send it with another id,
nothing bad follows, since a build of a branch builds the commit to which the branch leads when it is checked out.

**Messages come in any order.** Where a ref is by the newest message is kept (``hook_refs``). A push follows on it if
that is where it comes from. If what it brings is where a later push has come from, it is older, and builds nothing. In
doubt it builds: then there is one build more of the newest commit, and never one of an older.

**A push and its pull request make one build**, whichever message comes first.

**Where the repository is polled as well**, no doubt is left to a build: a message that doesn't follow on what is known
builds nothing, and has the repository looked at (``moved``), which tells where the ref is. A program that names a
branch alone wants a build, and gets it.

**Builds of one ref replace one another**, as the project's settings say (`hooks.settings.Concurrency`). Builds that
people asked for are left alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from twistedipc.builds import environments, protection
from twistedipc.builds.hooks.deciding import About, decide, lane_of
from twistedipc.builds.hooks.events import Came, HookEvent
from twistedipc.builds.hooks.kinds import LABELS
from twistedipc.builds.hooks.settings import Concurrency, HookSettings
from twistedipc.builds.states import AttemptState
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.storage import attempts, builds, hooks, outbox, polls, projects, refs_gone
from twistedipc.storage.builds import Lane
from twistedipc.storage.columns import attempt_name, integer, text, to_json
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import Actor, AttemptRow, BuildRow, HookDeliveryRow, HookRow, ProjectRow
from twistedipc.storage.tables import hook_deliveries, hook_refs

_S = AttemptState

#: States in which a build of an older commit can be given up: nothing of it is published yet, and nobody is asked.
_GIVEN_UP = frozenset({_S.QUEUED, _S.OFFERED, _S.ACCEPTED, _S.RUNNING, _S.DISCONNECTED})


#: How the ids begin of what looks have seen.
_LOOKED = "poll:"

#: Settings with which everything builds.
_NO_FILTER = HookRow(settings=HookSettings(tags=["**"]))


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a message."""

    row: HookDeliveryRow
    again: bool = False  # it was taken before, and nothing was done now
    made: BuildRow | None = None  # the build that it has made
    cancelled: list[AttemptRow] = []  # attempts whose cancellation it has caused
    asked: bool = False  # it has caused requests about packages
    noted: AttemptRow | None = None  # of the build that there was, of which more is known now
    look: bool = False  # the repository is to be looked at


class _Came(msgspec.Struct, frozen=True, kw_only=True):
    """The same before it is written down."""

    outcome: Came
    reason: str = ""
    build: int | None = None
    made: BuildRow | None = None
    cancelled: list[AttemptRow] = []
    asked: bool = False
    noted: AttemptRow | None = None
    look: bool = False


def take(connection: Connection, project: str, event: HookEvent, now: int) -> Taken:
    """Take a message that was proven to come from the project's host. Raises `NotFound`."""
    about = _project(connection, project)
    delivery = text(f"{event.kind}:{event.delivery}", 300)
    known = connection.execute(
        hooks.SELECT.where(hook_deliveries.c.project_id == about.id, hook_deliveries.c.delivery == delivery)
    ).first()
    if known is not None:
        return Taken(row=hooks.delivery_row(known), again=True)
    came = _follow(connection, about, event, now)
    return _write_down(connection, about, event, delivery, came, now)


def take_seen(connection: Connection, about: ProjectRow, event: HookEvent, now: int) -> Taken:
    """Take what was seen at the repository itself (``moved``): nothing that is known is newer."""
    came = _follow(connection, about, event, now, seen=True)
    asks = None if came.made is None else _pull_request_of(connection, about.id, event)
    if asks is not None and came.made is not None:
        came = msgspec.structs.replace(came, noted=_same(connection, asks, came.made.id).noted)
    return _write_down(connection, about, event, f"{event.kind}:{event.delivery}", came, now)


def pass_over(connection: Connection, about: ProjectRow, event: HookEvent, reason: str, now: int) -> None:
    """Write down where a pull request is that nothing follows on, and that no older commit of it waits any more."""
    _close_waiting(connection, about.id, event.number, reason)
    _note(connection, about.id, lane_of(event), event.commit, None, now)


def would_build(connection: Connection, about: ProjectRow, event: HookEvent) -> bool:
    """Return whether an event builds, at once or with a member's leave, as far as its project's settings say it."""
    return decide(event, _about(about, hooks.get(connection, about.id))).do in ("build", "wait")


def _write_down(
    connection: Connection, about: ProjectRow, event: HookEvent, delivery: str, came: _Came, now: int
) -> Taken:
    number = connection.execute(
        insert(hook_deliveries)
        .values(
            project_id=about.id,
            delivery=delivery,
            event=to_json(msgspec.structs.replace(event, changed=None)),
            lane=lane_of(event) if event.ref else "",
            before=event.before,
            number=integer(event.number),
            received=now,
            **_written(came),
        )
        .returning(hook_deliveries.c.id)
    ).scalar_one()
    _forget(connection, about.id, came.outcome, delivery)
    return _taken(connection, number, came)


def allow(connection: Connection, project: str, number: int, by: Actor, now: int) -> Taken:
    """
    Build what a message of a stranger's pull request brings, of the very commit that it tells of. Raises `NotFound`,
    `NotPossible`.
    """
    about, row = _existing(connection, project, number)
    if row.outcome != "waits":
        raise NotPossible(f"message {number} of {project} doesn't wait for leave: {row.reason or row.outcome}")
    return _decided(connection, number, _strangers(connection, about, row.event, by, now), by, now)


def again(connection: Connection, project: str, number: int, by: Actor, now: int) -> Taken:
    """
    Do once more what a message asks for, whatever the project's filters say: a person wants it. Raises `NotFound`,
    `NotPossible`.
    """
    about, row = _existing(connection, project, number)
    event = row.event
    if event.what in ("ping", "other"):
        raise NotPossible(f"message {number} of {project} asks for nothing: {row.reason}")
    if event.fork and event.what == "pull_request":
        if row.build is None:
            raise NotPossible(f"message {number} is of a stranger's pull request: `twistedipc hook allow` builds it")
        came = _strangers(connection, about, event, by, now)
    elif event.what == "gone":
        came = _gone(connection, about, event, now)
    else:
        verdict = decide(msgspec.structs.replace(event, skip=False), _about(about, _NO_FILTER))
        if verdict.do != "build":
            raise NotPossible(f"message {number} of {project} builds nothing: {verdict.why}")
        came = _build(connection, about, event, verdict.ref, by, now)
    return _decided(connection, number, came, by, now)


# -- what follows ----------------------------------------------------------------------------------------------------


def _follow(connection: Connection, about: ProjectRow, event: HookEvent, now: int, *, seen: bool = False) -> _Came:
    """``seen``: it was seen at the repository itself."""
    verdict = decide(event, _about(about, hooks.get(connection, about.id)))
    if event.what in ("ping", "other"):
        return _Came(outcome="ignored", reason=verdict.why)
    if not seen and (why := _older(connection, about.id, event)):
        return _Came(outcome="ignored", reason=why)
    if not seen and _is_in_doubt(connection, about, event):
        polls.look_soon(connection, about.id, now)
        return _Came(
            outcome="ignored",
            reason="it doesn't follow on what is known: polling finds out where the ref is",
            look=True,
        )
    match verdict.do:
        case "gone":
            return _gone(connection, about, event, now)
        case "nothing":
            _note(connection, about.id, lane_of(event), event.commit, None, now)
            return _Came(outcome="ignored", reason=verdict.why)
        case _:
            pass
    known = ref_of(connection, about.id, lane_of(event))
    is_known = known is not None and not known.gone and known.commit_id == event.commit != ""
    if verdict.do == "wait" and not (is_known and known.build_id is not None):
        _close_waiting(connection, about.id, event.number, "a newer commit of the pull request has come")
        _note(connection, about.id, lane_of(event), event.commit, None, now)
        return _Came(outcome="waits", reason=verdict.why)
    if is_known:
        return _same(connection, event, known.build_id)
    return _build(connection, about, event, verdict.ref, _actor(event), now)


def _older(connection: Connection, project_id: int, event: HookEvent) -> str:
    """Return why a message tells of something that is over; "" if it doesn't, as far as can be seen."""
    lane = lane_of(event)
    known = ref_of(connection, project_id, lane)
    if known is None:
        return ""
    if event.before and event.before == known.commit_id:
        return ""  # it follows on the newest one
    told = event.before if event.what == "gone" else event.commit
    if not told:
        return ""
    if known.gone and event.before and event.what != "gone" and known.commit_id == told:
        return "the branch is gone since"
    if told == known.commit_id:
        return ""
    later = connection.execute(
        select(hook_deliveries.c.id)
        .where(
            hook_deliveries.c.project_id == project_id,
            hook_deliveries.c.lane == lane,
            hook_deliveries.c.before == told,
        )
        .limit(1)
    ).first()
    return "a newer push to it was told of before" if later is not None else ""


def _is_in_doubt(connection: Connection, about: ProjectRow, event: HookEvent) -> bool:
    """Return whether a look at the repository is to tell if a message is of something newer than what is known."""
    if event.fork or not polls.is_relied_on(connection, about):
        return False
    told = event.before if event.what == "gone" else event.commit
    if event.kind == "plain" and event.what != "gone" and not told:
        return False  # a program wants what is there to be built, moved or not: content may be somewhere else
    if not told:
        return not event.number  # a look may have told of it already. That a pull request is closed, none can see
    known = ref_of(connection, about.id, lane_of(event))
    if known is not None:
        return known.gone or known.commit_id not in ("", told, event.before)
    there = polls.seen(connection, about.id, lane_of(event))
    return bool(there) and there not in (told, event.before)


def _same(connection: Connection, event: HookEvent, number: int | None) -> _Came:
    """The commit is known: another message has told of it. A pull request is written down with its build."""
    if number is None:
        return _Came(outcome="ignored", reason="another message told of this commit, and it wasn't to be built")
    row, attempt = builds.get(connection, number), None
    if row is not None and row.origin is not None and event.number and not row.origin.number:
        told = msgspec.structs.replace(
            row.origin, number=event.number, base=event.base, title=event.title, url=event.url or row.origin.url
        )
        builds.retell(connection, number, told)
        attempt = attempts.get(connection, attempt_name(number, row.attempt))
        if attempt is not None:
            outbox.note_number(connection, attempt)
    return _Came(outcome="built", reason=f"build {number} is of this commit", build=number, noted=attempt)


def _build(connection: Connection, about: ProjectRow, event: HookEvent, ref: str, by: Actor, now: int) -> _Came:
    """Build a ref of the repository itself."""
    settings = hooks.get(connection, about.id).settings
    targets = TARGETS.active(about.targets)
    of = environments.decide(
        project=about.name,
        ref=ref,
        default_ref=about.default_ref,
        patterns=about.protected,
        head=about.head,
        environments=about.environments,
        publish=True,
        may_publish=True,
        live=False,
        delivers=bool(TARGETS.delivered_by_runner(targets)),
    )
    how: Concurrency = settings.production if of.is_production else settings.previews
    return _made(connection, about, event, ref, how, by, now, may_publish=True)


def _strangers(connection: Connection, about: ProjectRow, event: HookEvent, by: Actor, now: int) -> _Came:
    how = hooks.get(connection, about.id).settings.previews
    return _made(connection, about, event, lane_of(event), how, by, now, may_publish=False)


def _made(
    connection: Connection,
    about: ProjectRow,
    event: HookEvent,
    ref: str,
    how: Concurrency,
    by: Actor,
    now: int,
    *,
    may_publish: bool,
) -> _Came:
    lane = lane_of(event)
    others = builds.going_on(connection, about.id, lane)
    if how == "skip" and others:
        _note(connection, about.id, lane, event.commit, None, now)
        return _Came(outcome="ignored", reason=f"build {others[-1].id} of {event.branch} goes on")
    made, _new = builds.create(
        connection,
        project=about.name,
        ref=ref,
        publish=True,
        may_publish=may_publish,
        parameters={},
        by=by,
        now=now,
        idempotency=None,
        origin=event.origin,
        lane=Lane(lane, in_turn=how == "queue"),
    )
    _note(connection, about.id, lane, event.commit, made.id, now)
    given_up = _GIVEN_UP if how == "cancel-older" else frozenset({_S.QUEUED})
    reason = f"build {made.id} is of a newer commit of {event.branch}"
    cancelled = [builds.request_cancel(connection, each.id, reason, now) for each in others if each.state in given_up]
    return _Came(outcome="built", build=made.id, made=made, cancelled=cancelled)


def _gone(connection: Connection, about: ProjectRow, event: HookEvent, now: int) -> _Came:
    """A branch was deleted, or a pull request was closed."""
    lane = lane_of(event)
    if event.number:
        _close_waiting(connection, about.id, event.number, "the pull request is closed")
        if not event.fork and _is_kept(about, event.ref):
            return _Came(outcome="ignored", reason=f"{event.branch} isn't the pull request's alone")
    else:
        known = ref_of(connection, about.id, lane)
        if known is not None and known.gone:
            return _Came(outcome="ignored", reason=f"another message told that {event.branch} is gone")
        was = event.before or (known.commit_id if known is not None else "")
        _note(connection, about.id, lane, was, None, now, gone=True)
    followed = refs_gone.gone(connection, about.name, lane, event.number, now)
    reason = f"build of {event.branch}, which is gone"
    cancelled = [
        builds.request_cancel(connection, each.id, reason, now)
        for each in builds.going_on(connection, about.id, lane)
        if each.state in _GIVEN_UP
    ]
    return _Came(outcome="gone", reason="; ".join(followed), cancelled=cancelled, asked=bool(followed))


def _is_kept(about: ProjectRow, ref: str) -> bool:
    """Return whether a branch stays what it is when a pull request of it is closed: it is for more than that."""
    patterns = [*about.protected, *(pattern for each in about.environments for pattern in each.refs)]
    return protection.may_be_protected(patterns, ref, about.head)


def _pull_request_of(connection: Connection, project_id: int, event: HookEvent) -> HookEvent | None:
    """Return the pull request of which a message told that was left to a look at the repository: of this commit."""
    query = hooks.SELECT.where(
        hook_deliveries.c.project_id == project_id,
        hook_deliveries.c.lane == lane_of(event),
        hook_deliveries.c.number != 0,
        hook_deliveries.c.build_id.is_(None),
    )
    row = connection.execute(query.order_by(hook_deliveries.c.id.desc()).limit(1)).first()
    told = None if row is None else hooks.delivery_row(row).event
    return told if told is not None and told.what == "pull_request" and told.commit == event.commit else None


def _close_waiting(connection: Connection, project_id: int, number: int, reason: str) -> None:
    connection.execute(
        update(hook_deliveries)
        .where(
            hook_deliveries.c.project_id == project_id,
            hook_deliveries.c.number == number,
            hook_deliveries.c.outcome == "waits",
        )
        .values(outcome="ignored", reason=reason)
    )


# -- rows ------------------------------------------------------------------------------------------------------------


def _project(connection: Connection, name: str) -> ProjectRow:
    about = projects.get(connection, name)
    if about is None:
        raise NotFound(f"there is no project {name}")
    return about


def _about(project: ProjectRow, hook: HookRow) -> About:
    return About(
        default_ref=project.default_ref,
        head=project.head,
        protected=project.protected,
        watch=project.settings.watch,
        settings=hook.settings,
    )


def _actor(event: HookEvent) -> Actor:
    label = LABELS.get(event.kind, event.kind)
    return Actor(who=f"{event.sender} at {label}" if event.sender else label, kind="hook")


def ref_of(connection: Connection, project_id: int, lane: str) -> Any:
    """Return the row of `hook_refs` with where a ref is by the newest message; None: there was none."""
    return connection.execute(
        select(hook_refs).where(hook_refs.c.project_id == project_id, hook_refs.c.lane == lane)
    ).first()


def _note(
    connection: Connection, project_id: int, lane: str, commit: str, build: int | None, now: int, *, gone: bool = False
) -> None:
    """Write down where a ref is by the newest message."""
    values: dict[str, Any] = {"commit_id": commit, "gone": gone, "build_id": build, "updated": now}
    which = (hook_refs.c.project_id == project_id) & (hook_refs.c.lane == lane)
    if not connection.execute(update(hook_refs).where(which).values(**values)).rowcount:
        connection.execute(insert(hook_refs).values(project_id=project_id, lane=lane, **values))


def _existing(connection: Connection, project: str, number: int) -> tuple[ProjectRow, HookDeliveryRow]:
    about = _project(connection, project)
    found = connection.execute(
        hooks.SELECT.where(hook_deliveries.c.project_id == about.id, hook_deliveries.c.id == integer(number))
    ).first()
    if found is None:
        raise NotFound(f"{project} has no message {number} of its hook")
    return about, hooks.delivery_row(found)


def _written(came: _Came) -> dict[str, Any]:
    return {"outcome": came.outcome, "reason": text(came.reason), "build_id": came.build}


def _decided(connection: Connection, number: int, came: _Came, by: Actor, now: int) -> Taken:
    connection.execute(
        update(hook_deliveries)
        .where(hook_deliveries.c.id == number)
        .values(decided_by=text(by.name), decided=now, **_written(came))
    )
    return _taken(connection, number, came)


def _taken(connection: Connection, number: int, came: _Came) -> Taken:
    row = connection.execute(hooks.SELECT.where(hook_deliveries.c.id == number)).one()
    return Taken(
        row=hooks.delivery_row(row),
        made=came.made,
        cancelled=came.cancelled,
        asked=came.asked,
        noted=came.noted,
        look=came.look,
    )


def _forget(connection: Connection, project_id: int, outcome: Came, delivery: str) -> None:
    """
    Remove the messages beyond those that are remembered, of the sort of the one that has just come. What waits for
    somebody, what looks have seen, and all else are counted apart: much of one doesn't push out the others.
    """
    d = hook_deliveries.c
    waits, looked = d.outcome == "waits", d.delivery.startswith(_LOOKED)
    if outcome == "waits":
        sort = [d.project_id == project_id, waits]
    else:
        sort = [d.project_id == project_id, ~waits, looked if delivery.startswith(_LOOKED) else ~looked]
    oldest = select(d.id).where(*sort).order_by(d.id.desc()).offset(hooks.REMEMBERED).limit(1)
    last = connection.execute(oldest).scalar()
    if last is not None:
        connection.execute(delete(hook_deliveries).where(*sort, d.id <= last))
