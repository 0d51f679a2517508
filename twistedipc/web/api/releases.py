"""A project's releases. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from sqlalchemy import Connection

from twistedipc.builds.states import RELEASE_STATES
from twistedipc.storage import releases
from twistedipc.storage.errors import NoSuchRelease, NotProtected
from twistedipc.storage.rows import ReleaseRow
from twistedipc.storage.standing import Standing, standing
from twistedipc.web.access.auth import forbidden
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.projects import addresses
from twistedipc.web.api.schemas import Hold, NewVisit, Release, Releases, Resumed, Visit
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Releases]:
    """List the project's releases, newest first, and the caller that holds them back, if one does."""
    context, project = call.context, call.project.name

    def look(connection: Connection) -> tuple[Standing | None, list[ReleaseRow]]:
        return standing(connection, project), releases.list_all(connection, project)

    about, rows = await context.ledger.read(look)
    if about is None:
        raise not_found(f"there is no project {project}")
    hold, now = about.project.hold, context.now()
    return Reply(
        body=Releases(
            releases=[_release(row, about, now) for row in rows],
            url=context.release_url(project),
            addresses=addresses(call, about.project),
            held=None if hold is None else Hold(by=hold.who, since=moment(hold.time), release=hold.release),
        )
    )


async def begin_visit(call: Call[None, NewVisit]) -> Reply[Visit]:
    """
    Let a browser see a project's releases that are for its team: the answer is an address at the release's host that
    is good for this browser, once, for half a minute. The release's host has sent the browser to the page for that.
    """
    context, project, body = call.context, call.project.name, call.body
    address = urlsplit(context.release_url(project))
    if address.path != "/" or body.host != address.netloc:
        raise not_found(f"the releases of {project} aren't at {body.host[:200]}")
    await context.ledger.write(_record_visit, call)
    code = context.visits.code(project, body.host, body.challenge, call.token)
    query = urlencode({"code": code, "to": body.path})
    return Reply(body=Visit(url=f"{address.scheme}://{address.netloc}/.well-known/twistedipc-visit?{query}"))


def _record_visit(connection: Connection, call: Call[None, NewVisit]) -> None:
    call.audit(connection, "visit.begin", call.project.name, {"host": call.body.host})


async def activate(call: Call[None, None]) -> Reply[Release]:
    """
    Make a release the live one of its target, by one atomic switch. Making an older release than the live one live
    rolls the project back: from then on its releases are held, until they are resumed. A release that was never live
    must be of a commit that was on a protected ref.
    """
    context, project, release = call.context, call.project.name, int(call.path["release"])
    try:
        row = await context.releasing.activate(project, release, by=call.actor)
    except NoSuchRelease as error:
        raise not_found(str(error)) from error
    except NotProtected as error:
        raise forbidden(str(error)) from error
    return Reply(body=await _shown(call, row))


async def resume(call: Call[None, None]) -> Reply[Resumed]:
    """
    Let the project's releases go live by themselves again, after it was rolled back. The newest release of each target
    that waits is live with the answer.
    """
    was_held, rows = await call.context.releasing.resume(call.project.name, by=call.actor)
    shown = [await _shown(call, row) for row in rows]
    return Reply(body=Resumed(was_held=was_held, release=shown[0] if shown else None, releases=shown))


async def _shown(call: Call[None, None], row: ReleaseRow) -> Release:
    about = await call.context.ledger.read(standing, row.project)
    if about is None:
        raise not_found(f"there is no project {row.project}")
    return _release(row, about, call.context.now())


def _release(row: ReleaseRow, about: Standing, now: int) -> Release:
    return Release(
        id=row.id,
        target=row.target,
        build=row.build,
        attempt=row.number,
        state=row.state,
        tone=RELEASE_STATES[row.state].tone,
        why=about.why_not_live(row, now),
        ref=row.ref,
        commit=row.commit,
        resolved=moment_or_none(row.resolved),
        sha256=row.sha256,
        files=row.files,
        size=row.size,
        created=moment(row.created),
        activated=moment_or_none(row.activated),
    )
