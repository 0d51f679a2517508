"""
Hooks: what repositories' hosts tell (`receive`), and what people see and say of that. ``web.api``; ``routes`` has these
functions.

`receive` needs no token: the message is signed. Whether there is a project, whether it has a hook, and what was wrong
with the signature, nobody can tell from the answer, nor from how long it takes.
"""

from __future__ import annotations

import os
from urllib.parse import quote

from sqlalchemy import Connection
from twisted.logger import Logger

from twistedipc.builds.hooks import kinds, signing
from twistedipc.builds.hooks.kinds import LABELS
from twistedipc.builds.hooks.reading import BadPayload
from twistedipc.builds.hooks.settings import HookSettings, checked
from twistedipc.builds.origin import sentence
from twistedipc.storage import hooks
from twistedipc.storage.rows import HookDeliveryRow
from twistedipc.web.access.auth import forbidden
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.schemas import Hook, HookAnswer, HookMessage, HookMessages, HookSecret
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.problems import ProblemError, invalid

#: The largest message in bytes. GitHub sends up to 25 MB; what it sends of pushes is far smaller.
MAX_MESSAGE = 5 << 20

_log = Logger()


async def receive(call: Call[None, None]) -> Reply[HookAnswer]:
    """
    Take a message of the host of a project's repository: GitHub, GitLab, Gitea, Forgejo, or a program that signs as the
    Standard Webhooks say. The answer comes after the commit: 202 if the message has made a build, or waits for a
    member; 200 if nothing follows from it, or if it was taken before. What builds nothing is no error.
    """
    context, project, body = call.context, str(call.path["name"]), call.content
    header = _headers(call.request)
    host = kinds.kind_of(header)
    if host is None:
        raise ProblemError(400, "it can't be told which kind of host sends this: it has none of their headers")
    sealed = await context.ledger.read(hooks.sealed_secret, project)
    # Without a secret the same is done with another one, so that it takes as long.
    secret = context.secret_box.open(sealed or context.secret_box.seal(signing.new_secret(os.urandom)))
    if not host.verify(header, body, secret, context.now()) or sealed is None:
        _log.info("a message for the hook of {project} was refused: {host}", project=project, host=host.label)
        raise ProblemError(401, "the signature isn't right, or there is no such hook", name="bad-signature")
    try:
        event = kinds.read(host, header, body)
    except BadPayload as error:
        raise invalid(str(error)) from error
    taken = await context.hooking.take_message(project, event)
    row = taken.row
    if row.outcome == "gone":
        context.audience.changed(project)  # its preview is no more
    if taken.look:
        context.looks.wake()
    answer = HookAnswer(
        message=row.id, outcome=row.outcome, reason=f"{row.outcome}: {row.reason}".rstrip(": "), build=row.build
    )
    waits = row.outcome == "waits" and not taken.again
    return Reply(body=answer, status=202 if taken.made is not None or waits else 200)


def _headers(request: BoundedRequest) -> signing.Headers:
    """Return what looks the request's headers up; one that is there twice is as if it weren't."""

    def header(name: str) -> str:
        values = request.requestHeaders.getRawHeaders(name.encode(), ())
        return values[0].decode("latin-1").strip() if len(values) == 1 else ""

    return header


async def show(call: Call[None, None]) -> Reply[Hook]:
    """Show where the host of a project's repository sends its messages, and which of them build."""
    return Reply(body=await _shown(call))


async def change(call: Call[None, HookSettings]) -> Reply[Hook]:
    """Set which messages build, and what becomes of the builds before. What isn't given gets its default."""
    settings = checked(call.body)

    def write(connection: Connection) -> None:
        hooks.set_settings(connection, call.project.id, settings)
        call.audit(connection, "hook.change", call.project.name, {})

    await call.context.ledger.write(write)
    return Reply(body=await _shown(call))


async def make_secret(call: Call[None, None]) -> Reply[HookSecret]:
    """Make the hook's secret, in the place of the one that there is, which is void at once. It is shown this once."""
    context = call.context
    secret = signing.new_secret(context.random)
    sealed = context.secret_box.seal(secret)

    def write(connection: Connection) -> None:
        hooks.set_secret(connection, call.project.id, sealed, context.now())
        call.audit(connection, "hook.secret", call.project.name, {})

    await context.ledger.write(write)
    return Reply(body=HookSecret(url=_url(call), secret=secret))


async def remove_secret(call: Call[None, None]) -> Reply[None]:
    """Erase the hook's secret: no message is taken any more."""

    def write(connection: Connection) -> None:
        hooks.set_secret(connection, call.project.id, None, call.context.now())
        call.audit(connection, "hook.remove", call.project.name, {})

    await call.context.ledger.write(write)
    return Reply(body=None)


async def list_messages(call: Call[None, None]) -> Reply[HookMessages]:
    """List the newest messages of the project's host, newest first, with what came of each."""
    rows = await call.context.ledger.read(hooks.deliveries, call.project.id)
    return Reply(body=HookMessages(messages=[_message(row) for row in rows]))


async def allow(call: Call[None, None]) -> Reply[HookMessage]:
    """
    Build what a message of a stranger's pull request brings: the commit that it tells of, and no other. The build gets
    no secret, and nothing that other builds keep. Not by a program.
    """
    if call.token.service:
        raise forbidden(f"the token {call.token.name} is a program's: a person allows what strangers have written")
    taken = await call.context.hooking.allow_message(call.project.name, int(call.path["message"]), call.actor)
    return Reply(body=_message(taken.row))


async def repeat(call: Call[None, None]) -> Reply[HookMessage]:
    """Do once more what a message asks for, whatever the project's filters say."""
    taken = await call.context.hooking.repeat_message(call.project.name, int(call.path["message"]), call.actor)
    if taken.row.outcome == "gone":
        call.context.audience.changed(call.project.name)
    return Reply(body=_message(taken.row))


async def _shown(call: Call[None, HookSettings] | Call[None, None]) -> Hook:
    row = await call.context.ledger.read(hooks.get, call.project.id)
    return Hook(url=_url(call), secret=moment_or_none(row.changed), settings=row.settings)


def _url(call: Call[None, HookSettings] | Call[None, None]) -> str:
    host = call.request.getHeader("host") or ""
    base = call.context.api_url.rstrip("/") or f"http://{quote(host, safe=':[]')}"
    return f"{base}/hooks/{call.project.name}"


def _message(row: HookDeliveryRow) -> HookMessage:
    event = row.event
    if event.what in ("ping", "other"):
        about = "ping" if event.what == "ping" else event.why
    elif event.what == "gone":
        about = f"pull request {event.number} was closed" if event.number else f"{event.branch} was deleted"
        about = f"{about} by {event.sender}" if event.sender else about
    else:
        about = sentence(event.origin)
    return HookMessage(
        id=row.id,
        host=LABELS.get(event.kind, event.kind),
        delivery=event.delivery,
        what=event.what,
        about=about,
        ref=event.ref,
        commit=event.commit,
        number=event.number,
        fork=event.fork,
        title=event.title,
        sender=event.sender,
        url=event.url,
        received=moment(row.received),
        outcome=row.outcome,
        reason=row.reason,
        build=row.build,
        decided_by=row.decided_by,
        decided=moment_or_none(row.decided),
    )
