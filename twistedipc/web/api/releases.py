"""A project's releases. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from sqlalchemy import Connection

from twistedipc.builds import labels
from twistedipc.builds.retention import Rules, effective, preview_ends
from twistedipc.builds.states import RELEASE_STATES
from twistedipc.publish.targets.differences import FileDifference as Difference
from twistedipc.storage import preview_passwords, previews, promotions, releases
from twistedipc.storage.errors import NoSuchRelease, NotProtected
from twistedipc.storage.password_hashes import hash_of
from twistedipc.storage.rows import PreviewPasswordRow, PreviewRow, ReleaseRow
from twistedipc.storage.standing import Standing, standing
from twistedipc.web.access.auth import forbidden
from twistedipc.web.api.builds import shown_build
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.projects import addresses
from twistedipc.web.api.queries import CompareReleases, ListReleases
from twistedipc.web.api.schemas import (
    DiskUse,
    FileDifference,
    FileSizes,
    Hold,
    KindTotal,
    KindTotals,
    NewPreviewPassword,
    NewVisit,
    Preview,
    Promoted,
    Release,
    ReleaseDifference,
    Releases,
    Resumed,
    Visit,
)
from twistedipc.web.http.problems import not_found

#: How many files are listed of what two releases have other than one another.
MAX_DIFFERENCES = 500


class _Listed(NamedTuple):
    """What the ledger has of a project's releases."""

    about: Standing | None
    page: list[ReleaseRow]
    live: list[ReleaseRow]
    previews: list[PreviewRow]
    password: PreviewPasswordRow | None


async def list_page(call: Call[ListReleases, None]) -> Reply[Releases]:
    """
    List the project's releases, newest first, those that are live, the caller that holds them back, if one does, and
    what they take of the apiserver's disk. ``next`` is the ``before`` of the next page.
    """
    context, project, query = call.context, call.project.name, call.query
    now, before = context.now(), query.before if isinstance(query.before, int) else None

    def look(connection: Connection) -> _Listed:
        return _Listed(
            standing(connection, project),
            releases.list_page(connection, project, before=before, limit=query.limit + 1),
            releases.all_live(connection, project),
            previews.list_all(connection, project, now),
            preview_passwords.get(connection, project),
        )

    about, rows, live, shown, password = await context.ledger.read(look)
    if about is None:
        raise not_found(f"there is no project {project}")
    hold = about.project.hold
    rules = effective(about.project.retention, context.retention.rules)
    disk = await context.releasing.disk_use(project)
    more, rows = len(rows) > query.limit, rows[: query.limit]
    return Reply(
        body=Releases(
            releases=[_release(row, about, now) for row in rows],
            next=rows[-1].id if more else None,
            live=[_release(row, about, now) for row in live],
            url=context.release_url(project),
            addresses=addresses(call, about.project),
            previews=[_preview(each, context.release_url, rules) for each in shown],
            password_since=None if password is None else moment(password.changed),
            held=None if hold is None else Hold(by=hold.who, since=moment(hold.time), release=hold.release),
            disk=None if disk is None or not disk.contents else DiskUse(**disk._asdict()),
        )
    )


async def compare(call: Call[CompareReleases, None]) -> Reply[ReleaseDifference]:
    """
    Show what a static release has other than another one: files that are new, changed and gone, and what they weigh. At
    most 500 are listed, the heaviest changes first. By default, what the newest one has other than the live one.
    """
    context, project, query = call.context, call.project.name, call.query
    now = context.now()

    def look(connection: Connection) -> tuple[Standing | None, list[ReleaseRow | None]]:
        names = (query.older, query.newer)
        return standing(connection, project), [previews.named(connection, project, name, now) for name in names]

    about, (older, newer) = await context.ledger.read(look)
    if about is None:
        raise not_found(f"there is no project {project}")
    if newer is None or (older is None and query.older != "live"):
        raise not_found(_no_such(project, query.newer if newer is None else query.older))
    try:
        found = await context.releasing.compare(older, newer, MAX_DIFFERENCES)
    except NoSuchRelease as error:
        raise not_found(str(error)) from error
    return Reply(
        body=ReleaseDifference(
            before=None if older is None else _release(older, about, now),
            after=_release(newer, about, now),
            added=found.added,
            changed=found.changed,
            removed=found.removed,
            files=[_difference(each) for each in found.files],
            totals=[
                KindTotals(
                    kind=each.kind,
                    before=KindTotal(**each.before._asdict()),
                    after=KindTotal(**each.after._asdict()),
                )
                for each in found.totals
            ],
        )
    )


def _no_such(project: str, name: str) -> str:
    if name in ("live", "latest"):
        which = "that is live" if name == "live" else "of a build that succeeded"
        return f"{project} has no static release {which}"
    return (
        f"{project} has no static release {name[:100]!a}: say a release's number, live, latest, build-NUMBER, "
        "pr-NUMBER, or a branch that has a preview"
    )


def _difference(each: Difference) -> FileDifference:
    return FileDifference(
        path=each.path,
        was=each.was,
        kind=each.kind,
        before=None if each.before is None else FileSizes(**each.before._asdict()),
        after=None if each.after is None else FileSizes(**each.after._asdict()),
    )


async def promote(call: Call[None, None]) -> Reply[Promoted]:
    """
    Make what users get of what a build has made. A preview goes live as it is if its commit was on a protected ref, and
    production is built with the same variables and secrets; else its commit is built for production.
    """
    context, build = call.context, call.build
    try:
        found = await context.ledger.read(promotions.decide, build.id)
        rebuild = found.rebuild
        if not rebuild and not await context.releasing.has(found.release):
            rebuild = "the files of its release have been removed"
        if not rebuild:
            row, decides = await context.releasing.activate(build.project, found.release.id, by=call.actor)
            context.tell()
            return Reply(body=Promoted(release=_release(row, decides, context.now()), build=None))
    except NoSuchRelease as error:
        raise not_found(str(error)) from error
    except NotProtected as error:
        raise forbidden(str(error)) from error
    made, _ = await context.requests.request_build(
        project=build.project,
        ref=found.release.commit,
        publish=True,
        live=True,
        may_publish=True,
        bump="",
        parameters={},
        by=call.actor,
        idempotency=None,
    )
    return Reply(body=Promoted(release=None, build=shown_build(made), why=rebuild))


async def set_password(call: Call[None, NewPreviewPassword]) -> Reply[None]:
    """
    Set the password by which guests see the project's previews, in the place of an older one, with which nobody sees
    any from then on. Only a hash of it is kept. Members of the team go on seeing them by signing in.
    """
    context = call.context
    hashed = await context.in_thread(hash_of, call.body.password, context.random)

    def change(connection: Connection, project: str, hashed: str, now: int) -> None:
        preview_passwords.put(connection, project, hashed, now)
        call.audit(connection, "preview_password.set", project, {})

    try:
        await context.ledger.write(change, call.project.name, hashed, context.now())
    finally:
        context.audience.changed(call.project.name)  # also if the answer to the commit was lost
    return Reply(body=None)


async def remove_password(call: Call[None, None]) -> Reply[None]:
    """Have no password for the project's previews: who may see them is said by its settings again."""

    def change(connection: Connection, project: str) -> bool:
        removed = preview_passwords.remove(connection, project)
        if removed:
            call.audit(connection, "preview_password.remove", project, {})
        return removed

    try:
        removed = await call.context.ledger.write(change, call.project.name)
    finally:
        call.context.audience.changed(call.project.name)  # also if the answer to the commit was lost
    if not removed:
        raise not_found(f"the previews of {call.project.name} have no password")
    return Reply(body=None)


async def begin_visit(call: Call[None, NewVisit]) -> Reply[Visit]:
    """
    Let a browser see a project's releases that are for its team: the answer is an address at the release's host that
    is good for this browser, once, for half a minute. The release's host has sent the browser to the page for that.
    """
    context, project, body = call.context, call.project.name, call.body
    name = context.hosts.project_of(body.host) or project
    named = labels.parse(name)
    addresses = context.domains.urls_of(name if named is not None and named[1] == project else project)
    known = {parts.netloc: parts for parts in map(urlsplit, addresses) if parts.path == "/"}
    address = known.get(body.host)
    if address is None:
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
        row, decides = await context.releasing.activate(project, release, by=call.actor)
    except NoSuchRelease as error:
        raise not_found(str(error)) from error
    except NotProtected as error:
        raise forbidden(str(error)) from error
    context.tell()
    return Reply(body=_release(row, decides, context.now()))


async def resume(call: Call[None, None]) -> Reply[Resumed]:
    """
    Let the project's releases go live by themselves again, after it was rolled back. The newest release of each target
    that waits is live with the answer.
    """
    was_held, rows = await call.context.releasing.resume(call.project.name, by=call.actor)
    call.context.tell()
    shown = [await _shown(call, row) for row in rows]
    return Reply(body=Resumed(was_held=was_held, release=shown[0] if shown else None, releases=shown))


def _preview(row: PreviewRow, address_of: Callable[[str], str], rules: Rules) -> Preview:
    return Preview(
        url=address_of(labels.host_name(row.label, row.project)),
        ref=row.ref,
        build=row.release.build,
        release=row.release.id,
        commit=row.release.commit,
        since=moment(row.updated),
        ends=moment_or_none(preview_ends(row.updated, row.stays, row.days, rules)),
    )


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
