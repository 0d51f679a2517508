"""
The ledger's permits to publish: what an attempt was offered to publish to which targets, and what it got a permit for.
Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer. The rules are in `publish.permits`.

A permit, what it may change in its project, the state `publishing` and the line in the audit are one write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from twistedipc.builds.attempt import Package
from twistedipc.builds.environments import Decided
from twistedipc.builds.word import Permitted
from twistedipc.publish.permits import Decision, Granted, Record, Refused, Void, decide, decide_stored
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, find, name_of, replaced
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.storage import attempts, audit, projects, provenance, publications
from twistedipc.storage.columns import from_json, split_attempt, to_json
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import APISERVER, Actor, AttemptRow, Holder, builder_actor
from twistedipc.storage.tables import builds, deliveries


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was decided; if it was granted, the sealed secrets of the target by name, and the attempt's row if its state
    changed.
    """

    decision: Decision
    row: AttemptRow | None = None
    sealed: dict[str, bytes] = {}
    settings: Settings | None = None  # of the target, now, if it may be published


def offer(
    connection: Connection,
    attempt: str,
    lease: str,
    builder: str,
    now: int,
    targets: ProjectTargets,
    repository: str,
    of: Decided | None = None,
) -> AttemptRow | None:
    """
    `attempts.offer`, and what the attempt is offered to publish under this lease: to these ``targets``, built from this
    ``repository``, even if the project changes meanwhile. ``of``: of which environment it is.
    """
    row = attempts.offer(connection, attempt, lease, builder, now, of)
    if row is not None:
        build, number = split_attempt(attempt)
        connection.execute(delete(deliveries).where(deliveries.c.build_id == build, deliveries.c.number == number))
        provenance.note_repository(connection, attempt, repository)
        for settings in TARGETS.delivered_by_runner(targets):
            connection.execute(
                insert(deliveries).values(
                    build_id=build,
                    number=number,
                    target=name_of(settings),
                    lease=lease,
                    settings=to_json(TARGETS.write((settings,))[0]),
                    bound_to=projects.binding_of(settings, repository),
                )
            )
    return row


def look(
    connection: Connection, attempt: str, lease: str, target: str, packages: Sequence[Package], builder: str
) -> Decision:
    """Return what `give` would decide, without writing it down."""
    asked = TARGETS.get(target)
    if asked is None:
        return Refused(f"there is no target {target[:100]}")
    record, _sealed = _record(connection, attempt, asked)
    return Void() if record is None else decide(asked, record, lease=lease, builder=builder, packages=packages)


def give(
    connection: Connection, attempt: str, lease: str, target: str, packages: Sequence[Package], builder: str, now: int
) -> Answer:
    """Decide about a request for a permit, and write down what was granted."""
    asked = TARGETS.get(target)
    decision = look(connection, attempt, lease, target, packages, builder)
    if asked is None or not isinstance(decision, Granted):
        return Answer(decision=decision)
    record, sealed = _record(connection, attempt, asked)
    row = attempts.publishing(connection, attempt, Holder(lease, builder))
    if record is None or record.offered is None or row is None:
        return Answer(decision=Void())
    if decision.pin is not None:
        _pin(connection, record, decision.pin, now)
    if decision.new:
        by = builder_actor(builder)
        _audit_new_names(connection, row, packages, by, now)
        written = to_json(packages[0] if len(packages) == 1 else packages)
        connection.execute(update(deliveries).where(_is(row, asked)).values(package=written, given=now))
        if decision.store:
            publications.add(connection, attempt, asked.name, packages, now)
        action = "permit.store" if decision.store else "permit.give"
        _audit_each(connection, row, action, asked, record.offered, packages, by, now)
    return Answer(
        decision=decision,
        row=None if row.state is record.state else row,
        sealed={} if decision.store else sealed,  # no builder is given what the apiserver keeps to itself
    )


def open_stored(connection: Connection, attempt: str, target: str, now: int) -> Answer:
    """
    Decide whether the apiserver may publish now what an attempt has stored for a target, and write that down. Asked
    again after a crash, the answer is of what the project says by then.
    """
    asked = TARGETS.get(target)
    row = attempts.get(connection, attempt)
    record, sealed = (None, {}) if asked is None else _record(connection, attempt, asked)
    if asked is None or record is None or row is None:
        return Answer(decision=Refused(f"there is no target {target[:100]} any more, or no project"))
    decision = decide_stored(asked, record)
    if isinstance(decision, Refused):
        return Answer(decision=decision)
    if decision.pin is not None:
        _pin(connection, record, decision.pin, now)
    if publications.begin(connection, attempt, target, now) and record.offered is not None:
        _audit_each(connection, row, "permit.give", asked, record.offered, record.given, APISERVER, now)
    return Answer(decision=decision, sealed=sealed, settings=record.settings)


def look_stored(connection: Connection, attempt: str, target: str) -> Answer:
    """Return what `open_stored` would answer now, without writing anything down."""
    asked = TARGETS.get(target)
    record, sealed = (None, {}) if asked is None else _record(connection, attempt, asked)
    if asked is None or record is None:
        return Answer(decision=Refused(f"there is no target {target[:100]} any more, or no project"))
    decision = decide_stored(asked, record)
    return Answer(decision=decision, sealed=sealed, settings=record.settings)


def _audit_each(
    connection: Connection,
    row: AttemptRow,
    action: str,
    target: Target[Any],
    offered: Settings,
    packages: Sequence[Package],
    by: Actor,
    now: int,
) -> None:
    """Write down what an attempt may do with each of these packages."""
    for package in packages:
        detail = {
            "attempt": row.name,
            "target": target.name,
            "package": package.name,
            "version": package.version,
            "integrity": package.integrity,
            "tag": package.tag or "latest",
            **_shown(offered),
        }
        audit.record(connection, by=by, action=action, subject=row.project, project=row.project, detail=detail, now=now)


def _audit_new_names(connection: Connection, row: AttemptRow, packages: Sequence[Package], by: Actor, now: int) -> None:
    """Write down which of these packages' names no attempt of the project had a permit for before."""
    for package in packages:
        said = f'"name":{to_json(package.name)},'
        # A database may compare without regard to case, and names that differ in it alone are two.
        earlier = (
            select(deliveries.c.package)
            .join(builds, builds.c.id == deliveries.c.build_id)
            .where(builds.c.project_id == select(builds.c.project_id).where(builds.c.id == row.build).scalar_subquery())
            .where(deliveries.c.package.contains(said, autoescape=True))
        )
        if not any(said in written for written in connection.execute(earlier).scalars()):
            detail = {"attempt": row.name, "package": package.name, "version": package.version}
            audit.record(
                connection,
                by=by,
                action="package.new",
                subject=row.project,
                project=row.project,
                detail=detail,
                now=now,
            )


def refuse(connection: Connection, attempt: str, target: str, reason: str, builder: str, now: int) -> None:
    """Write down that an attempt gets no permit. It may ask again and again: the same is written down once."""
    row = attempts.get(connection, attempt)
    if row is not None:
        detail = {"attempt": attempt, "target": target[:100], "reason": reason}
        by = builder_actor(builder)
        audit.record_once(connection, by=by, action="permit.refuse", project=row.project, detail=detail, now=now)


def permitted(connection: Connection, row: AttemptRow) -> list[Permitted]:
    """Return what an attempt was offered to publish, under its lease, and what it got permits for."""
    found = connection.execute(
        select(deliveries.c.target, deliveries.c.settings, deliveries.c.package)
        .where(*_of_lease(row))
        .order_by(deliveries.c.target)
    )
    offered = [(each, TARGETS.read_kept([from_json(each.settings, Any)])[0]) for each in found]
    uploads = publications.of_attempt(connection, row.name)
    return [
        Permitted(
            target=each.target,
            place=TARGETS.of(settings).place(settings),
            packages=() if each.package is None else _packages(each.package),
            stored=any(upload.target == each.target for upload in uploads),
            missing=[upload.name for upload in uploads if upload.target == each.target and not upload.sha256],
        )
        for each, settings in offered
    ]


def _record(connection: Connection, attempt: str, target: Target[Any]) -> tuple[Record | None, dict[str, bytes]]:
    """Return the record of an attempt (None: there is none, or its project was deleted), and the sealed secrets."""
    row = attempts.get(connection, attempt)
    project = None if row is None else projects.get(connection, row.project)
    if row is None or project is None:
        return None, {}
    offered = connection.execute(
        select(deliveries.c.settings, deliveries.c.package, deliveries.c.bound_to).where(_is(row, target))
    ).first()
    sealed, no_secret = _secrets(connection, row, target, None if offered is None else offered.bound_to)
    record = Record(
        project=row.project,
        settings=find(project.targets, target.name),
        state=row.state,
        lease=row.lease,
        builder=row.builder,
        cancel_reason=row.cancel_reason,
        steps=row.steps,
        offered=None if offered is None else TARGETS.read([from_json(offered.settings, Any)])[0],
        given=() if offered is None or offered.package is None else _packages(offered.package),
        no_secret=no_secret,
    )
    return record, sealed


def _packages(written: str) -> list[Package]:
    """Return the packages of a permit, of which one is written as it is, and several as a list."""
    found: Package | list[Package] = msgspec.json.decode(written, type=Package | list[Package])
    return found if isinstance(found, list) else [found]


def _is(row: AttemptRow, target: Target[Any]) -> ColumnElement[bool]:
    """The row of what this attempt was offered to publish to a target under its lease."""
    return and_(deliveries.c.target == target.name, *_of_lease(row))


def _of_lease(row: AttemptRow) -> tuple[ColumnElement[bool], ...]:
    """The rows of what this attempt was offered to publish under its lease."""
    return (
        deliveries.c.build_id == row.build,
        deliveries.c.number == row.number,
        deliveries.c.lease == row.lease,
    )


def _secrets(
    connection: Connection, row: AttemptRow, target: Target[Any], binding: str | None
) -> tuple[dict[str, bytes], str]:
    """The sealed secrets for what an attempt was offered to publish; or why one of them isn't there."""
    found: dict[str, bytes] = {}
    for secret in target.secrets:
        try:
            sealed = projects.sealed_secret(connection, row.project, secret.name, binding)
        except NotPossible as error:
            return {}, str(error)
        if sealed is None:
            how = f"`twistedipc project secret set {row.project} {secret.name}` sets it"
            return {}, f"project {row.project} has no {secret.name}: {how}"
        found[secret.name] = sealed
    return found, ""


def _pin(connection: Connection, record: Record, settings: Settings, now: int) -> None:
    """Narrow the project's settings by the first package that it publishes, until an admin says otherwise."""
    project = projects.get(connection, record.project)
    if project is None:
        return
    projects.update(connection, record.project, {"targets": replaced(project.targets, settings)}, now)
    detail = {
        "changed": "targets",
        "target": name_of(settings),
        **_shown(settings),
        "why": "what it published first",
    }
    audit.record(
        connection,
        by=APISERVER,
        action="project.change",
        subject=record.project,
        project=record.project,
        detail=detail,
        now=now,
    )


def _shown(settings: Settings) -> dict[str, str]:
    """Return settings as the audit shows them."""
    (fields,) = TARGETS.write((settings,))
    del fields["type"]
    return {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in fields.items()}
