"""
A project's badge and feed, for programs that have no token: a README's picture, a feed reader. ``web.api``; ``routes``
has these functions.

Their addresses hold a key of their own, which shows nothing else. Who may see the project is told the addresses.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.states import STATES, Phase, Tone
from twistedipc.outgoing import atom
from twistedipc.outgoing.badge import svg
from twistedipc.outgoing.told import At, Told
from twistedipc.storage import builds, projects
from twistedipc.storage.rows import BuildRow, ProjectRow
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.queries import FeedKey
from twistedipc.web.http.conditional import status_of_conditions
from twistedipc.web.http.problems import not_found

#: How many builds a feed has.
ENTRIES = 30

#: Seconds for which an answer may be kept.
KEPT = 60


async def badge(call: Call[FeedKey, None]) -> Reply[bytes]:
    """
    Show how the newest build of the project's own ref has ended, as a picture. The address, with its key, is the
    project's ``badge``.
    """
    row = await _project(call)

    def look(connection: Connection) -> BuildRow | None:
        found = builds.newest_ended(connection, row.id, names.own_refs(row.default_ref, row.head), 1)
        return found[0] if found else None

    newest = await call.context.ledger.read(look)
    if newest is None:
        return _reply(call, svg("build", "unknown", Tone.WAITING), "image/svg+xml")
    state = STATES[newest.state]
    return _reply(call, svg("build", newest.state.value.replace("_", " "), state.tone), "image/svg+xml")


async def feed(call: Call[FeedKey, None]) -> Reply[bytes]:
    """List the builds of the project that have ended last, as an Atom feed. Its address is the project's ``atom``."""
    row = await _project(call)
    context = call.context
    found = await context.ledger.read(builds.newest_ended, row.id, None, ENTRIES)
    entries = [(_told(each), At(build=f"{context.api_url}/#/builds/{each.id}")) for each in found]
    page = f"{context.api_url}/#/projects/{quote(row.name)}"
    body = atom.feed(row.name, entries, here=addresses(context, row)[1], page=page, now=row.created)
    return _reply(call, body, "application/atom+xml")


def addresses(context: WebContext, row: ProjectRow) -> tuple[str, str]:
    """Return where a project's badge is, and its feed."""
    base = f"{context.api_url}/api/v1/feeds/{quote(row.name)}"
    key = _key(context, row)
    return f"{base}/badge.svg?key={key}", f"{base}/builds.atom?key={key}"


async def _project(call: Call[FeedKey, None]) -> ProjectRow:
    """Return the project of an address whose key is right. Raises 404: who has none isn't told what there is."""
    row = await call.context.ledger.read(projects.get, str(call.path["feed"]))
    if row is None or not hmac.compare_digest(call.query.key.encode(), _key(call.context, row).encode()):
        raise not_found()
    return row


def _key(context: WebContext, row: ProjectRow) -> str:
    return context.secret_box.name_for(f"feeds of project {row.id}")


def _told(row: BuildRow) -> Told:
    return Told(
        project=row.project,
        build=row.id,
        attempt=row.attempt,
        phase=STATES[row.state].told or Phase.FAILED,
        reason=row.reason,
        ref=row.ref,
        commit=row.commit,
        title=row.subject,
        author=row.author,
        created=row.created,
        started=row.started or 0,
        ended=row.ended or 0,
    )


def _reply(call: Call[Any, None], body: bytes, content_type: str) -> Reply[bytes]:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"max-age={KEPT}",
        "Cross-Origin-Resource-Policy": "cross-origin",  # a README is elsewhere
    }
    status = status_of_conditions(call.request, etag.encode())
    return Reply(body=b"" if status else body, status=status, headers=headers, content_type=content_type)
