"""Builds: asked for, listed, looked at, cancelled, tried again. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import TimeoutError

from twistedipc.builds import environments, names, variables
from twistedipc.builds.attempt import StepResult
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.names import BadValue
from twistedipc.builds.states import STATES, PublicationState
from twistedipc.publish.archive import BadArchive, ManifestFile, read_manifest
from twistedipc.publish.compared import Change, Compared
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.static.target import Static
from twistedipc.server.boundaries import Waiting
from twistedipc.storage import builds, people, publications, releases
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import AttemptRow, BuildRow, GistRow, PublicationRow, ReleaseRow
from twistedipc.storage.standing import Standing, standing
from twistedipc.web.access.auth import forbidden, may
from twistedipc.web.api import schemas
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.queries import ListBuilds
from twistedipc.web.api.schemas import (
    MAX_REFUSAL,
    Build,
    BuildDetail,
    Builds,
    ChangedFile,
    Changes,
    NewBuild,
    PackageChanges,
    PersonName,
    Refusal,
    Step,
)
from twistedipc.web.http.problems import not_found

#: Seconds that an answer waits for a release that is about to go live.
SWITCH_DEADLINE = 5.0

#: How many files of each kind are listed of what would change.
MAX_CHANGES = 500

#: Fields of answers that are times; the rows have them in milliseconds.
_TIMES = ("created", "offered", "started", "ended")

_KEY = re.compile(rb"[\x21-\x7e]{1,255}\Z")


async def request(call: Call[None, NewBuild]) -> Reply[Build]:
    """
    Ask for a build. The answer comes after the commit: a 201 means that the build will be made. With an
    Idempotency-Key, asking again within seven days returns the build that was made the first time. Only a build of the
    project's own ref (``default_ref``) goes live by itself; with ``live`` a build of another protected ref, or of one
    commit that is on one, does too. Without the scope publish, and of a ref that isn't protected, it is a preview:
    ``preview`` says so, and it publishes nothing for the project's users. ``environment`` is the one of the project
    that it is of.
    """
    context, project, body = call.context, call.project, call.body
    ref = names.ref(project.default_ref if body.ref is None else body.ref)
    may_publish = may(call.token, "publish", project.name)
    targets = TARGETS.active(project.targets)
    of = environments.decide(
        project=project.name,
        ref=ref,
        default_ref=project.default_ref,
        patterns=project.protected,
        head=project.head,
        environments=project.environments,
        publish=body.publish,
        may_publish=may_publish,
        live=body.live,
        delivers=bool(TARGETS.delivered_by_runner(targets)),
    )
    if body.live and of.preview:
        raise forbidden(f"this build can't go live: {of.preview}")
    variables.check(body.parameters)
    if body.publish and (why := TARGETS.why_not(targets)):
        raise NotPossible(why)
    row, created = await context.requests.request_build(
        project=project.name,
        ref=ref,
        publish=body.publish,
        live=body.live,
        may_publish=may_publish,
        parameters=dict(body.parameters),
        by=call.actor,
        idempotency=_idempotency(call),
    )
    headers = {"Location": f"/api/v1/builds/{row.id}"}
    if not created:
        headers["Idempotent-Replayed"] = "true"
    known = msgspec.structs.replace(_build(row), preview=of.preview, environment=of.environment)
    return Reply(body=known, headers=headers)


async def list_page(call: Call[ListBuilds, None]) -> Reply[Builds]:
    """List builds, newest first. ``next`` is the ``before`` of the next page."""
    query, visible = call.query, call.token.allowance.projects_with("read")
    wanted = visible
    if isinstance(query.project, str):
        wanted = frozenset({names.project(query.project)})
        if visible is not None:
            wanted &= visible
    before = query.before if isinstance(query.before, int) else None
    states = frozenset(query.state) or None

    def page(connection: Connection) -> tuple[list[BuildRow], dict[str, PersonName]]:
        rows = builds.list_page(connection, projects=wanted, states=states, before=before, limit=query.limit + 1)
        return rows, _people_of(connection, rows)

    rows, authors = await call.context.ledger.read(page)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    await _served(call.context, [row.id for row in rows])
    return Reply(body=Builds(builds=[_build(row, authors) for row in rows], next=rows[-1].id if more else None))


async def show(call: Call[None, None]) -> Reply[BuildDetail]:
    """Show one build: its state, attempts, steps with times, commit, progress, annotations, and the caller's name."""
    return Reply(body=await _detail(call.context, call.build.id))


async def cancel(call: Call[None, None]) -> Reply[BuildDetail]:
    """
    Cancel the build. The request is durable with the answer; the build is cancelled once its processes have ended.
    """
    context, build = call.context, call.build
    await context.requests.cancel_build(build.id, f"cancelled by {call.token.who}", call.actor)
    return Reply(body=await _detail(context, build.id))


async def retry(call: Call[None, None]) -> Reply[BuildDetail]:
    """
    Try a build that has ended again: a new attempt, of the same commit. Its release doesn't replace that of a newer
    commit. What the new attempt may publish depends on the caller's scopes, and not on those of the first one.
    """
    context, build = call.context, call.build
    await context.requests.retry_build(build.id, call.actor, may_publish=may(call.token, "publish", build.project))
    location = {"Location": f"/api/v1/builds/{build.id}"}
    return Reply(body=await _detail(context, build.id), headers=location)


async def approve(call: Call[None, None]) -> Reply[BuildDetail]:
    """
    Approve what a build that waits for that has made: it goes live, unless something newer is live, or the project is
    held. Not by the caller who asked for the build, nor by a program.
    """
    context, build = call.context, call.build
    if call.token.service:
        raise forbidden(f"the token {call.token.name} is a program's: a person approves builds")
    await context.requests.approve_build(build.id, call.actor)
    return Reply(body=await _detail(context, build.id))


async def refuse(call: Call[None, Refusal]) -> Reply[BuildDetail]:
    """Refuse what a build that waits for approval has made: the build is cancelled, and its release never goes live."""
    context, build = call.context, call.build
    reason = names.shown(call.body.reason.strip(), MAX_REFUSAL)
    await context.requests.refuse_build(build.id, reason, call.actor)
    return Reply(body=await _detail(context, build.id))


async def changes(call: Call[None, None]) -> Reply[Changes]:
    """
    Show what would change if the static release of the build's newest attempt went live now: files that it adds,
    changes and leaves out. At most 500 of each are listed. The same of each package that waits for an approval, against
    what its tag leads to in the registry: at most 100 files of each kind, and what its package.json says otherwise.
    """
    context, build = call.context, call.build

    def look(connection: Connection) -> tuple[ReleaseRow | None, ReleaseRow | None, list[PublicationRow]]:
        name = f"{build.id}-{build.attempt}"
        made = [each for each in releases.of_build(connection, build.id) if each.attempt == name]
        mine = next((each for each in made if each.target == Static.name), None)
        waiting = [each for each in publications.of_attempt(connection, name) if each.state is PublicationState.STORED]
        return mine, releases.live(connection, build.project, Static.name), waiting

    mine, live, waiting = await context.ledger.read(look)
    if mine is None and not waiting:
        raise not_found(f"build {build.id} has made no static release, and no package of it waits for an approval")
    changed = _NO_RELEASE if mine is None else await _of_release(context, mine, live)
    return Reply(body=msgspec.structs.replace(changed, packages=await _of_packages(context, build.project, waiting)))


async def _of_packages(context: WebContext, project: str, waiting: list[PublicationRow]) -> list[PackageChanges]:
    found: list[PackageChanges] = []
    for target in dict.fromkeys(each.target for each in waiting):
        of_target = [each for each in waiting if each.target == target]
        compared = await context.comparing.compare(project, of_target)
        found += [_package(row, each) for row, each in zip(of_target, compared, strict=True)]
    return found


def _package(row: PublicationRow, compared: Compared) -> PackageChanges:
    return PackageChanges(
        target=row.target,
        name=row.name,
        version=row.version,
        tag=row.tag or "latest",
        integrity=row.integrity,
        size_packed=row.size,
        published=compared.published,
        unknown=compared.unknown,
        added_count=compared.added_count,
        removed_count=compared.removed_count,
        changed_count=compared.changed_count,
        size_before=compared.size_before,
        size=compared.size,
        added=_files(compared.added),
        removed=_files(compared.removed),
        changed=_files(compared.changed),
        notes=compared.notes,
    )


def _files(changes: list[Change]) -> list[ChangedFile]:
    return [ChangedFile(path=each.path, before=each.before, after=each.after) for each in changes]


#: What would change if there is no release.
_NO_RELEASE = Changes(
    live=None,
    added_count=0,
    removed_count=0,
    changed_count=0,
    size_before=0,
    size=0,
    added=[],
    removed=[],
    changed=[],
    release=False,
)


async def _of_release(context: WebContext, mine: ReleaseRow, live: ReleaseRow | None) -> Changes:
    try:
        files = await context.in_thread(_files_of, context.artifact_store.path(mine.sha256))
        before = {} if live is None else await context.in_thread(_files_of, context.artifact_store.path(live.sha256))
    except (OSError, BadArchive) as error:
        raise not_found("the archives of what is to be compared are gone") from error
    return _compared(before, files, None if live is None else live.id)


def _files_of(archive: Path) -> dict[str, ManifestFile]:
    return {file.path: file for file in read_manifest(archive).files}


def _compared(before: dict[str, ManifestFile], now: dict[str, ManifestFile], live: int | None) -> Changes:
    added = sorted(now.keys() - before.keys())
    removed = sorted(before.keys() - now.keys())
    changed = sorted(path for path in now.keys() & before.keys() if now[path].sha256 != before[path].sha256)
    return Changes(
        live=live,
        added_count=len(added),
        removed_count=len(removed),
        changed_count=len(changed),
        size_before=sum(file.size for file in before.values()),
        size=sum(file.size for file in now.values()),
        added=[ChangedFile(path=path, before=None, after=now[path].size) for path in added[:MAX_CHANGES]],
        removed=[ChangedFile(path=path, before=before[path].size, after=None) for path in removed[:MAX_CHANGES]],
        changed=[
            ChangedFile(path=path, before=before[path].size, after=now[path].size) for path in changed[:MAX_CHANGES]
        ],
    )


def _idempotency(call: Call[Any, NewBuild]) -> Idempotency | None:
    values = call.request.requestHeaders.getRawHeaders(b"idempotency-key")
    if values is None:
        return None
    if len(values) > 1 or not _KEY.match(values[0]):
        raise BadValue("an Idempotency-Key is 1 to 255 printable ASCII characters without spaces")
    # The digest is of the meaning: spaces and the order of members may differ.
    body = {**msgspec.structs.asdict(call.body), "parameters": sorted(call.body.parameters.items())}
    if not call.body.live:
        del body["live"]  # requests without it keep the digest that they had before this member existed
    return Idempotency(values[0].decode(), call.token.id, hashlib.sha256(msgspec.json.encode(body)).hexdigest())


def _build(row: BuildRow, authors: Mapping[str, PersonName] = MappingProxyType({})) -> Build:
    return Build(**_fields(row, Build), author_person=authors.get(row.author_email or ""))


def _people_of(connection: Connection, rows: list[BuildRow]) -> dict[str, PersonName]:
    """Return the people who are the authors of builds' commits, by their addresses."""
    found = people.names_of_emails(connection, {row.author_email for row in rows if row.author_email})
    return {email: PersonName(id=number, name=name) for email, (number, name) in found.items()}


def _fields(row: AttemptRow | BuildRow, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the fields of an answer of this kind that the row has, by the same names."""
    fields = {name: getattr(row, name) for name in kind.__struct_fields__ if hasattr(row, name)}
    times = {name: moment_or_none(fields[name]) for name in _TIMES if name in fields}
    return fields | times | {"tone": STATES[row.state].tone} | _gist(row.gist)


async def _detail(context: WebContext, build: int) -> BuildDetail:
    def everything(
        connection: Connection,
    ) -> tuple[BuildRow, dict[str, PersonName], Standing, list[AttemptRow], list[ReleaseRow], int | None] | None:
        row = builds.get(connection, build)
        about = None if row is None else standing(connection, row.project)
        if row is None or about is None:
            return None
        made = releases.of_build(connection, build)
        authors, all_attempts = _people_of(connection, [row]), builds.attempts(connection, build)
        return row, authors, about, all_attempts, made, builds.position(connection, build)

    found = await context.ledger.read(everything)
    if found is None:
        raise not_found()
    row, authors, about, attempts, made, position = found
    now = context.now()
    await _served(context, [build])
    return BuildDetail(
        **_fields(row, Build),
        author_person=authors.get(row.author_email or ""),
        attempts=[_attempt(attempt, made, about, now) for attempt in attempts],
        release_url=context.release_url(row.project) if any(map(_was_served, made)) else None,
        position=position,
        waiting=_waiting(context.dispatch.why_waiting(attempts[-1], position)) if attempts else None,
    )


def _was_served(release: ReleaseRow) -> bool:
    """Return whether the site of releases has served it."""
    return release.activated is not None and release.target == Static.name


def _waiting(waiting: Waiting | None) -> schemas.Waiting | None:
    if waiting is None:
        return None
    code: Any = waiting.code  # one of the schema's
    return schemas.Waiting(code=code, text=waiting.text, position=waiting.position, until=moment_or_none(waiting.until))


async def _served(context: WebContext, builds: list[int]) -> None:
    """
    Wait for the releases of builds that have succeeded, so that the caller of this answer finds them served: a release
    goes live some milliseconds after the end is committed. A release that takes longer goes live all the same.
    """
    switched = context.releasing.switched(builds)
    if not switched.called:
        with contextlib.suppress(TimeoutError):
            await switched.addTimeout(SWITCH_DEADLINE, context.clock)


def _attempt(row: AttemptRow, made: list[ReleaseRow], about: Standing, now: int) -> schemas.Attempt:
    release = next((release for release in made if release.attempt == row.name), None)
    others = {
        "steps": [_step(step) for step in row.steps],
        "release": None if release is None else release.id,
        "release_state": None if release is None else release.state,
        "release_why": "" if release is None else about.why_not_live(release, now),
        "decision": _decision(row),
    }
    return schemas.Attempt(**(_fields(row, schemas.Attempt) | others))


def _decision(row: AttemptRow) -> schemas.Decision | None:
    made = row.decision
    if made is None:
        return None
    return schemas.Decision(by=made.who, time=moment(made.time), approved=made.approved, reason=made.reason)


def _gist(row: GistRow) -> dict[str, Any]:
    progress = row.progress
    return {
        "progress": None if progress is None else Progress(value=progress.value, label=progress.label),
        "annotations": Annotations(errors=row.errors, warnings=row.warnings, notices=row.notices),
    }


def _step(step: StepResult) -> Step:
    outcome: Any = step.outcome  # one of the schema's, by the ledger's own rule
    return Step(
        index=step.index,
        name=step.name,
        command=step.command,
        outcome=outcome,
        exit_code=step.exit_code,
        started=moment(step.started),
        ended=moment(step.ended) if step.ended else None,
    )
