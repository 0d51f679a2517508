"""To whom a project's news go, and what they were told. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

import msgspec
from msgspec import UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.builds.places import ALLOW
from twistedipc.builds.states import TELLING_TONES, TellingState
from twistedipc.outgoing import webhook
from twistedipc.outgoing.addresses import api_of, mail_addresses, masked, web_address
from twistedipc.outgoing.kinds import KINDS
from twistedipc.outgoing.told import EVENTS
from twistedipc.storage import outbox, receivers
from twistedipc.storage.receivers import Secret
from twistedipc.storage.rows import ReceiverRow, TellingRow
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.queries import ListTellings
from twistedipc.web.api.repositories import problem_at
from twistedipc.web.api.schemas import NewReceiver, Receiver, Receivers, Telling, Tellings
from twistedipc.web.http.problems import not_found

#: How many bytes a secret has that is made here.
SECRET_BYTES = 24


async def list_all(call: Call[None, None]) -> Reply[Receivers]:
    """List to whom the project's news go."""
    rows = await call.context.ledger.read(receivers.list_all, call.project.name)
    return Reply(body=Receivers(receivers=[_receiver(row) for row in rows]))


async def put(call: Call[None, NewReceiver]) -> Reply[Receiver]:
    """
    Set to whom the project's news go: the repository's host (github, gitlab, gitea), which is told all that concerns
    it, with a token of the project's own; or a webhook, a chat (slack, teams) or addresses for mail, which are told the
    events that they want. Addresses and tokens are sealed, and never shown.
    """
    context, project, body, name = call.context, call.project, call.body, str(call.path["receiver"])
    before = await context.ledger.read(receivers.sealed, project.name, name)
    kept = Secret()
    if before is not None and before[0] == body.kind:
        kept = msgspec.json.decode(context.secret_box.open(before[1]), type=Secret)
    secret, made = await _secret(context, project.repository, body, kept)
    events = list(EVENTS) if isinstance(body.events, UnsetType) else body.events
    is_host = KINDS[body.kind].host
    shown = secret.where if is_host or body.kind == "mail" else masked(secret.where)
    sealed = context.secret_box.seal(msgspec.json.encode(secret).decode())

    def change(connection: Connection, now: int) -> ReceiverRow:
        row = receivers.put(
            connection,
            project.name,
            name,
            kind=body.kind,
            events=events,
            shown=shown,
            sealed=sealed,
            bound_to=names.place(project.repository) if is_host else None,
            now=now,
        )
        detail = {"receiver": name, "kind": row.kind, "where": row.shown, "events": ", ".join(row.events)}
        call.audit(connection, "receiver.set", project.name, detail)
        return row

    row = await context.ledger.write(change, context.now())
    return Reply(body=_receiver(row, secret.secret if made else None))


async def remove(call: Call[None, None]) -> Reply[None]:
    """Tell a receiver nothing more, and forget what it was told."""
    project, name = call.project.name, str(call.path["receiver"])

    def change(connection: Connection) -> bool:
        removed = receivers.remove(connection, project, name)
        if removed:
            call.audit(connection, "receiver.delete", project, {"receiver": name})
        return removed

    if not await call.context.ledger.write(change):
        raise not_found(f"project {project} has no receiver {name}")
    return Reply(body=None)


async def list_tellings(call: Call[ListTellings, None]) -> Reply[Tellings]:
    """List what was told of the project and what is to be told, newest first."""
    query = call.query
    before = None if isinstance(query.before, UnsetType) else query.before
    rows = await call.context.ledger.read(outbox.list_page, call.project.name, before, query.limit + 1)
    found = [_telling(row) for row in rows[: query.limit]]
    return Reply(body=Tellings(tellings=found, next=found[-1].id if len(rows) > query.limit else None))


async def tell_again(call: Call[None, None]) -> Reply[Telling]:
    """Have something told again that was told, or given up; not over something newer of the same commit."""
    context, project, telling = call.context, call.project.name, int(call.path["telling"])

    def change(connection: Connection, now: int) -> TellingRow:
        row = outbox.tell_again(connection, project, telling, now)
        call.audit(connection, "receiver.again", project, {"receiver": row.receiver, "telling": str(row.id)})
        return row

    row = await context.ledger.write(change, context.now())
    context.tell()
    return Reply(body=_telling(row))


async def _secret(context: WebContext, repository: str, body: NewReceiver, kept: Secret) -> tuple[Secret, bool]:
    """Return what is sealed of a receiver, and whether its secret was made here. Raises `BadValue`."""
    kind = KINDS[body.kind]
    where = kept.where if isinstance(body.where, UnsetType) else body.where
    secret = "" if isinstance(body.secret, UnsetType) else body.secret
    if not secret and where == kept.where:
        secret = kept.secret
    if body.kind == "mail":
        where = ", ".join(mail_addresses(where))
    elif where or not kind.host:
        web_address(where)
        problem = await problem_at(context, where)
        if problem:
            raise BadValue(f"nothing is sent to {masked(where)}: {problem}. {ALLOW}")
    if kind.host:
        api_of(body.kind, repository)  # type: ignore[arg-type]  # those whose row says so are hosts
        if not secret:
            raise BadValue(
                f"{body.kind} needs a token of the project's own, as its secret; with a new address again, and with "
                "another repository"
            )
        names.secret(secret)
    made = body.kind == "webhook" and not secret
    if made:
        secret = webhook.new_secret(context.random(SECRET_BYTES))
    if body.kind == "webhook":
        webhook.key_of(secret)
    elif not kind.host and secret:
        raise BadValue(f"{body.kind} has no secret but its address")
    return Secret(where=where, secret=secret), made


def _receiver(row: ReceiverRow, secret: str | None = None) -> Receiver:
    return Receiver(
        name=row.name,
        kind=row.kind,
        events=row.events,
        where=row.shown,
        void=row.void,
        created=moment(row.created),
        updated=moment(row.updated),
        secret=secret,
    )


def _telling(row: TellingRow) -> Telling:
    waits = row.state is TellingState.WAITING and row.due  # 0: it is next
    return Telling(
        id=row.id,
        receiver=row.receiver,
        kind=row.kind,
        part=row.part,
        phase=row.phase,
        event=row.event,
        build=row.build,
        attempt=row.attempt,
        state=row.state,
        tone=TELLING_TONES[row.state],
        reason=row.reason,
        tries=row.tries,
        due=moment_or_none(row.due) if waits else None,
        ended=moment_or_none(row.ended),
    )
