"""The audit. ``web.api``; ``routes`` has this function."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.storage import audit
from twistedipc.storage.rows import AuditRow
from twistedipc.web.api.call import Call, Reply, moment
from twistedipc.web.api.queries import ListAudit
from twistedipc.web.api.schemas import Audit, AuditLine, PersonName


async def list_page(call: Call[ListAudit, None]) -> Reply[Audit]:
    """
    List what people and builders did: newest first, or with ``after`` oldest first, for a program that follows it. (A
    caller who is an admin of some projects alone sees what is about these.) ``action`` is one, such as token.create, or
    the first part of several, such as token.
    """
    query, wanted, now = call.query, call.token.allowance.projects_with("admin"), call.context.now()
    if isinstance(query.project, str):
        project = frozenset({names.project(query.project)})
        wanted = project if wanted is None else wanted & project
    after = query.after if isinstance(query.after, int) else None
    until = _milliseconds(query.until)
    if after is not None:
        until = now - audit.SETTLED if until is None else min(until, now - audit.SETTLED)

    def page(connection: Connection) -> list[AuditRow]:
        return audit.list_page(
            connection,
            projects=wanted,
            who=query.who if isinstance(query.who, str) else None,
            action=query.action if isinstance(query.action, str) else None,
            since=_milliseconds(query.since),
            until=until,
            before=query.before if isinstance(query.before, int) else None,
            after=after,
            limit=query.limit + 1,
        )

    rows = await call.context.ledger.read(page)
    shown = rows[: query.limit]
    further: int | None = after
    if shown and (after is not None or len(rows) > query.limit):
        further = shown[-1].id
    return Reply(body=Audit(lines=[line(row) for row in shown], next=further))


def line(row: AuditRow) -> AuditLine:
    """Return a line as the API, and the file that it is copied to, have it."""
    kind: Any = row.kind  # one of the schema's
    return AuditLine(
        id=row.id,
        time=moment(row.time),
        who=row.who,
        kind=kind,
        token=row.token,
        person=None if row.person is None else PersonName(id=row.person, name=row.person_name or ""),
        address=row.address,
        request=row.request,
        action=row.action,
        subject=row.subject,
        project=row.project,
        detail=row.detail,
    )


def _milliseconds(time: object) -> int | None:
    if not isinstance(time, datetime):
        return None
    # Without a zone it is UTC. (Of the year 1 Python can't tell the time in this machine's zone.)
    return int((time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp() * 1000)
