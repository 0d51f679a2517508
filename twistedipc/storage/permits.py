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
from twistedipc.builds.versions import Canary, canary_of
from twistedipc.builds.word import Permitted
from twistedipc.publish.permits import Decision, Granted, Record, Refused, Void, decide, decide_stored
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, find, name_of, replaced
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.storage import attempts, audit, projects, provenance, publications
from twistedipc.storage.columns import from_json, split_attempt, to_json
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.id_tokens import Claims
from twistedipc.storage.rows import APISERVER, Actor, AttemptRow, Holder, builder_actor
from twistedipc.storage.tables import builds, deliveries
from twistedipc.storage.versions import has_releases


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was decided; if it was granted, the sealed secrets of the target by name, and the attempt's row if its state
    changed.
    """

    decision: Decision
    row: AttemptRow | None = None
    sealed: dict[str, bytes] = {}
    settings: Settings | None = None  # of the target, if it may be published: now, or for a builder as offered
    claims: Claims | None = None  # what may be said of the attempt to the target's services; None: it isn't there


def offer(
    connection: Connection,
    attempt: str,
    lease: str,
    builder: str,
    now: int,
    targets: ProjectTargets,
    repository: str,
    of: Decided | None = None,
    inputs: str | None = None,
) -> AttemptRow | None:
    """
    `attempts.offer`, and what the attempt is offered to publish under this lease: to these ``targets``, built from this
    ``repository``, even if the project changes meanwhile. ``of`` and ``inputs`` are as there.
    """
    row = attempts.offer(connection, attempt, lease, builder, now, of, inputs)
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
    record, _sealed = _record(connection, attempt, asked, packages=packages)
    return Void() if record is None else decide(asked, record, lease=lease, builder=builder, packages=packages)


def give(
    connection: Connection, attempt: str, lease: str, target: str, packages: Sequence[Package], builder: str, now: int
) -> Answer:
    """Decide about a request for a permit, and write down what was granted."""
    asked = TARGETS.get(target)
    decision = look(connection, attempt, lease, target, packages, builder)
    if asked is None or not isinstance(decision, Granted):
        return Answer(decision=decision)
    record, sealed = _record(connection, attempt, asked, packages=packages)
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
        settings=record.offered,  # by which the builder publishes
        claims=claims_of(connection, row),
    )


def offered(connection: Connection, attempt: str, target: str) -> Settings | None:
    """Return the settings with which an attempt was offered a target; None if it wasn't."""
    asked = TARGETS.get(target)
    record, _sealed = (None, {}) if asked is None else _record(connection, attempt, asked)
    return None if record is None else record.offered


def claims_of(connection: Connection, row: AttemptRow) -> Claims | None:
    """Return what can be said of an attempt to other services; None if its project was deleted."""
    project = projects.get(connection, row.project)
    if project is None:
        return None
    return Claims(
        project=project.name,
        project_id=project.id,
        repository=provenance.repository_of(connection, row.name),
        build=row.build,
        attempt=row.name,
        ref=connection.execute(select(builds.c.ref).where(builds.c.id == row.build)).scalar_one(),
        commit=row.commit,
        environment=row.environment or "",
    )


def open_stored(connection: Connection, attempt: str, target: str, now: int) -> Answer:
    """
    Decide whether the apiserver may publish now what an attempt has stored for a target, and write that down. Asked
    again after a crash, the answer is of what the project says by then.
    """
    asked = TARGETS.get(target)
    row = attempts.get(connection, attempt)
    record, sealed = (None, {}) if asked is None else _record(connection, attempt, asked, now=True)
    if asked is None or record is None or row is None:
        return Answer(decision=Refused(f"there is no target {target[:100]} any more, or no project"))
    decision = decide_stored(asked, record)
    if isinstance(decision, Refused):
        return Answer(decision=decision)
    if decision.pin is not None:
        _pin(connection, record, decision.pin, now)
    if record.offered is not None:
        _audit_each(connection, row, "permit.give", asked, record.offered, record.given, APISERVER, now, once=True)
    return Answer(decision=decision, sealed=sealed, settings=record.settings, claims=claims_of(connection, row))


def look_stored(connection: Connection, attempt: str, target: str, *, to_reject: bool = False) -> Answer:
    """
    Return what `open_stored` would answer now, without writing anything down.

    :param to_reject: what is staged is to be taken back, so it is no matter that the attempt was cancelled
    """
    asked = TARGETS.get(target)
    row = attempts.get(connection, attempt)
    record, sealed = (None, {}) if asked is None else _record(connection, attempt, asked, now=True)
    if asked is None or record is None or row is None:
        return Answer(decision=Refused(f"there is no target {target[:100]} any more, or no project"))
    decision = decide_stored(asked, msgspec.structs.replace(record, cancel_reason="") if to_reject else record)
    return Answer(decision=decision, sealed=sealed, settings=record.settings, claims=claims_of(connection, row))


def _audit_each(
    connection: Connection,
    row: AttemptRow,
    action: str,
    target: Target[Any],
    offered: Settings,
    packages: Sequence[Package],
    by: Actor,
    now: int,
    *,
    once: bool = False,
) -> None:
    """Write down what an attempt may do with each of these packages. ``once``: unless it stands there."""
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
        if once:
            audit.record_once(connection, by=by, action=action, project=row.project, detail=detail, now=now)
            continue
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
            places={
                package.name: TARGETS.of(settings).package_place(settings, package.name)
                for package in (() if each.package is None else _packages(each.package))
            },
            packages=() if each.package is None else _packages(each.package),
            stored=any(upload.target == each.target for upload in uploads),
            missing=[upload.name for upload in uploads if upload.target == each.target and not upload.sha256],
        )
        for each, settings in offered
    ]


def _record(
    connection: Connection, attempt: str, target: Target[Any], *, now: bool = False, packages: Sequence[Package] = ()
) -> tuple[Record | None, dict[str, bytes]]:
    """
    Return the record of an attempt (None: there is none, or its project was deleted), and the sealed secrets.

    :param now: the secrets are those that the project's settings need now, and not those of the attempt's offer
    :param packages: for which they are, if the attempt has no permit yet
    """
    row = attempts.get(connection, attempt)
    project = None if row is None else projects.get(connection, row.project)
    if row is None or project is None:
        return None, {}
    offered = connection.execute(
        select(deliveries.c.settings, deliveries.c.package, deliveries.c.bound_to).where(_is(row, target))
    ).first()
    settings = find(project.targets, target.name)
    then = None if offered is None else TARGETS.read([from_json(offered.settings, Any)])[0]
    needed = (settings or then) if now else (then or settings)
    sealed: dict[str, bytes] = {}
    no_secret = ""
    given = () if offered is None or offered.package is None else _packages(offered.package)
    if needed is not None:
        of = [package.name for package in given or packages]
        binding = None if offered is None else offered.bound_to
        sealed, no_secret = _secrets(connection, row, target, needed, of, then, binding)
    named, no_canary = _canary(connection, row)
    record = Record(
        project=row.project,
        settings=settings,
        state=row.state,
        lease=row.lease,
        builder=row.builder,
        cancel_reason=row.cancel_reason,
        steps=row.steps,
        offered=then,
        given=given,
        no_secret=no_secret,
        canary=named,
        no_canary=no_canary,
    )
    return record, sealed


def _canary(connection: Connection, row: AttemptRow) -> tuple[Canary | None, str]:
    """
    Return the previews of packages that an attempt may publish, and why it may not; None if it is for the project's
    users.
    """
    if not row.preview:
        return None, ""
    build = connection.execute(select(builds.c.ref, builds.c.project_id).where(builds.c.id == row.build)).one()
    named = canary_of(build.ref, row.build)
    if not has_releases(connection, build.project_id, named.tag):
        return named, ""
    return named, f"the tag {named.tag} is one of the project's releases, so no canary gets it: rename {build.ref}"


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
    connection: Connection,
    row: AttemptRow,
    target: Target[Any],
    settings: Settings,
    packages: Sequence[str],
    offered: Settings | None,
    binding: str | None,
) -> tuple[dict[str, bytes], str]:
    """
    The sealed secrets for these packages of an attempt; or why one of them isn't there.

    :param settings: those that say what is needed
    :param offered: with which it was offered, and ``binding``, `projects.binding_of` these
    """
    found: dict[str, bytes] = {}
    for secret in target.secrets_for(settings, packages):
        if secret.audience:  # it is signed when it is needed, for what the attempt was offered with
            project = projects.get(connection, row.project)
            if binding and project is not None and binding != projects.binding_of(settings, project.repository):
                return {}, (
                    f"project {row.project} publishes to another registry, or is built from another repository, than "
                    "when this build began: build again"
                )
            continue
        bound = binding
        if offered is not None and binding is not None and target.secret_place(offered, secret.name) is not None:
            place = f"{target.place(offered)} "
            repository = binding.removeprefix(place)
            bound = f"{target.secret_place(offered, secret.name)} {repository}"
        try:
            sealed = projects.sealed_secret(connection, row.project, secret.name, bound)
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
