"""
The ledger's permits to publish: what an attempt was offered to publish, and what it got a permit for. Functions for
`Ledger.read` and `Ledger.write`; ``storage`` layer. The rules are in `builds.permits`.

A permit, the name that it may give to its project, the state `publishing` and the line in the audit are one write.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from twistedipc.builds.attempt import Package, Publish
from twistedipc.builds.permits import Decision, Granted, Record, Void, decide
from twistedipc.storage import attempts, audit, projects
from twistedipc.storage.columns import from_json, split_attempt, to_json
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.tables import permits

#: The secret that a permit hands out.
TOKEN = "npm_token"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided; if it was granted, the project's sealed token, and the attempt's row if its state changed."""

    decision: Decision
    row: AttemptRow | None = None
    sealed: bytes | None = None


def offer(
    connection: Connection, attempt: str, lease: str, builder: str, now: int, target: str, publish: Publish
) -> AttemptRow | None:
    """`attempts.offer`, and what the attempt is offered to ``publish`` under this lease."""
    row = attempts.offer(connection, attempt, lease, builder, now, target)
    if row is not None:
        build, number = split_attempt(attempt)
        connection.execute(delete(permits).where(permits.c.build_id == build, permits.c.number == number))
        if publish.npm:
            values = {"build_id": build, "number": number, "lease": lease, "registry": publish.registry}
            connection.execute(insert(permits).values(**values))
    return row


def look(connection: Connection, attempt: str, lease: str, package: Package, builder: str) -> Decision:
    """What `give` would decide."""
    record, _sealed = _record(connection, attempt)
    return Void() if record is None else decide(record, lease=lease, builder=builder, package=package)


def give(connection: Connection, attempt: str, lease: str, package: Package, builder: str, now: int) -> Answer:
    """Decide, and write down what was granted."""
    record, sealed = _record(connection, attempt)
    decision = Void() if record is None else decide(record, lease=lease, builder=builder, package=package)
    if record is None or not isinstance(decision, Granted):
        return Answer(decision=decision)
    row = attempts.publishing(connection, attempt, lease)
    if row is None:
        return Answer(decision=Void())
    if decision.pin:
        _pin(connection, record, package.name, now)
    if decision.new:
        build, number = split_attempt(attempt)
        connection.execute(
            update(permits)
            .where(permits.c.build_id == build, permits.c.number == number)
            .values(package=to_json(package), given=now)
        )
        detail = {
            "attempt": attempt,
            "package": package.name,
            "version": package.version,
            "integrity": package.integrity,
            "tag": package.tag or "latest",
            "registry": record.registry or "",
        }
        audit.record(connection, who=builder, action="permit.give", subject=record.project, detail=detail, now=now)
    return Answer(decision=decision, row=None if row.state is record.state else row, sealed=sealed)


def _record(connection: Connection, attempt: str) -> tuple[Record | None, bytes | None]:
    """What is written down of an attempt (None if there is none, or its project was deleted), and the sealed token."""
    row = attempts.get(connection, attempt)
    project = None if row is None else projects.get(connection, row.project)
    if row is None or project is None:
        return None, None
    sealed, no_token = _token(connection, row)
    offered = connection.execute(
        select(permits.c.registry, permits.c.package).where(
            permits.c.build_id == row.build, permits.c.number == row.number, permits.c.lease == row.lease
        )
    ).first()
    record = Record(
        project=row.project,
        publish=project.publish,
        state=row.state,
        lease=row.lease,
        builder=row.builder,
        cancel_reason=row.cancel_reason,
        steps=row.steps,
        registry=None if offered is None else offered.registry,
        given=None if offered is None or offered.package is None else from_json(offered.package, Package),
        no_token=no_token,
    )
    return record, sealed


def _token(connection: Connection, row: AttemptRow) -> tuple[bytes | None, str]:
    """The sealed token for what an attempt was offered with; or why there is none."""
    try:
        sealed = projects.sealed_secret(connection, row.project, TOKEN, row.target)
    except NotPossible as error:
        return None, str(error)
    if sealed is None:
        return None, f"project {row.project} has no {TOKEN}: `twistedipc project secret {row.project} {TOKEN}` sets it"
    return sealed, ""


def _pin(connection: Connection, record: Record, package: str, now: int) -> None:
    """The first package that a project publishes becomes the only one, until an admin says otherwise."""
    publish = msgspec.structs.replace(record.publish, packages=[package])
    projects.update(connection, record.project, {"publish": publish}, now)
    detail = {"changed": "publish", "packages": package, "why": "the first package that it published"}
    audit.record(connection, who="apiserver", action="project.change", subject=record.project, detail=detail, now=now)
