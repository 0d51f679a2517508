"""A project's static releases. ``web.api``; named in ``web.routes``."""

from __future__ import annotations

from twistedipc.server.releasing import NoSuchRelease
from twistedipc.storage import releases
from twistedipc.storage.rows import ReleaseRow
from twistedipc.web.call import Call, Reply, moment, moment_or_none
from twistedipc.web.problems import not_found
from twistedipc.web.schemas import Release, Releases


async def list_all(call: Call[None, None]) -> Reply:
    """The project's releases, newest first."""
    rows = await call.context.ledger.read(releases.list_all, call.project.name)
    url = call.context.release_url(call.project.name)
    return Reply(body=Releases(releases=[_release(row) for row in rows], url=url))


async def activate(call: Call[None, None]) -> Reply:
    """Make a release the live one: roll back, or forth, by one atomic switch."""
    context, project, release = call.context, call.project.name, int(call.path["release"])
    try:
        row = await context.releasing.activate(project, release)
    except NoSuchRelease as error:
        raise not_found(str(error)) from error
    await context.ledger.write(call.audit, "release.activate", project, {"release": str(release)})
    return Reply(body=_release(row))


def _release(row: ReleaseRow) -> Release:
    return Release(
        id=row.id,
        build=row.build,
        attempt=int(row.attempt.partition("-")[2]),
        state=row.state,
        commit=row.commit,
        sha256=row.sha256,
        files=row.files,
        size=row.size,
        created=moment(row.created),
        activated=moment_or_none(row.activated),
    )
