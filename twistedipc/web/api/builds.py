"""Builds: asked for, listed, looked at, cancelled, tried again. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UnsetType
from sqlalchemy import Connection
from twisted.internet.defer import TimeoutError

from twistedipc.builds import environments, labels, names, variables, versions
from twistedipc.builds.attempt import StepResult
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.names import BadValue
from twistedipc.builds.states import STATES, TERMINAL, AttemptState
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets
from twistedipc.publish.targets.static.target import Static
from twistedipc.server.boundaries import DELIVERING, Waiting
from twistedipc.storage import artifacts, builds, packages, people, previews, queue, releases
from twistedipc.storage import attempts as attempt_queries
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.columns import attempt_name
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import AttemptRow, BuildRow, GistRow, LedgerEntry, Place, ProjectRow, ReleaseRow
from twistedipc.storage.standing import Standing, standing
from twistedipc.storage.versions import canary
from twistedipc.web.access.auth import forbidden, may
from twistedipc.web.api import schemas
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.packages import publication
from twistedipc.web.api.passwords import taken
from twistedipc.web.api.queries import ListBuilds
from twistedipc.web.api.schemas import (
    MAX_REFUSAL,
    Approval,
    Build,
    BuildDetail,
    Builds,
    NewBuild,
    PersonName,
    Refusal,
    Step,
)
from twistedipc.web.http.problems import not_found

#: Seconds that an answer waits for a release that is about to go live.
SWITCH_DEADLINE = 5.0

#: Fields of answers that are times; the rows have them in milliseconds.
_TIMES = ("created", "offered", "started", "ended", "pinned", "log_removed")

_KEY = re.compile(rb"[\x21-\x7e]{1,255}\Z")


async def request(call: Call[None, NewBuild]) -> Reply[Build]:
    """
    Ask for a build. The answer comes after the commit: a 201 means that the build will be made. With an
    Idempotency-Key, asking again within seven days returns the build that was made the first time. Only a build of the
    project's own ref (``default_ref``) goes live by itself; with ``live`` a build of another protected ref, or of one
    commit that is on one, does too. Without the scope publish, and of a ref that isn't protected, it is a preview:
    ``preview`` says so, and it publishes nothing for the project's users. With ``bump`` its packages get versions that
    come after those of their package.json. ``environment`` is the one of the project
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
    if body.bump:
        _check_bump(body, project.name, targets, of.preview)
    if body.publish and (why := TARGETS.why_not(targets)):
        raise NotPossible(why)
    row, created = await context.requests.request_build(
        project=project.name,
        ref=ref,
        publish=body.publish,
        live=body.live,
        may_publish=may_publish,
        bump=body.bump,
        parameters=dict(body.parameters),
        by=call.actor,
        idempotency=_idempotency(call),
        priority=None if isinstance(body.priority, UnsetType) else body.priority,
    )
    headers = {"Location": f"/api/v1/builds/{row.id}"}
    if not created:
        headers["Idempotent-Replayed"] = "true"
    named = canary(
        of,
        ref=ref,
        build=row.id,
        publish=body.publish,
        may_publish=may_publish,
        patterns=project.protected,
        head=project.head,
        targets=targets,
    )
    tag = "" if named is None else named.tag
    known = msgspec.structs.replace(shown_build(row), preview=of.preview, environment=of.environment, canary=tag)
    return Reply(body=known, headers=headers)


def _check_bump(body: NewBuild, project: str, targets: ProjectTargets, preview: str) -> None:
    """Raise an error if the versions of a project's packages can't be raised as this asks for."""
    versions.check_bump(body.bump)
    if not TARGETS.with_versions(targets):
        raise NotPossible(f"project {project} publishes no packages, so there is no version to raise")
    if preview:
        raise NotPossible(f"versions aren't raised by a build that publishes nothing for users: {preview}")


async def list_page(call: Call[ListBuilds, None]) -> Reply[Builds]:
    """List builds, newest first. ``next`` is the ``before`` of the next page."""
    query, visible = call.query, call.token.allowance.projects_with("read")
    wanted = visible
    if isinstance(query.project, str):
        wanted = frozenset({names.project(query.project)})
        if visible is not None:
            wanted &= visible
    before = query.before if isinstance(query.before, int) else None
    found = builds.Sought(
        ref="" if isinstance(query.ref, UnsetType) else query.ref,
        by="" if isinstance(query.by, UnsetType) else query.by,
        text="" if isinstance(query.text, UnsetType) else query.text,
    )

    def page(connection: Connection) -> tuple[list[BuildRow], dict[str, PersonName], dict[int, _WhyWaiting]]:
        rows = builds.list_page(
            connection, projects=wanted, states=_states(query), before=before, limit=query.limit + 1, sought=found
        )
        waits = _why_waiting(connection, rows) if query.waiting == "true" else {}
        return rows, _people_of(connection, rows), waits

    rows, authors, waits = await call.context.ledger.read(page)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    await _served(call.context, [row.id for row in rows])
    shown = [
        msgspec.structs.replace(build, waiting=waits[build.id].shown(call.context)) if build.id in waits else build
        for build in (shown_build(row, authors) for row in rows)
    ]
    return Reply(body=Builds(builds=shown, next=rows[-1].id if more else None))


def _states(query: ListBuilds) -> frozenset[AttemptState] | None:
    """Return the states of which a query wants builds; None: all."""
    states = {
        state
        for state, info in STATES.items()
        if (not query.state or state in query.state)
        and (not query.tone or info.tone in query.tone)
        and (isinstance(query.ended, UnsetType) or (state in TERMINAL) == (query.ended == "true"))
    }
    return None if len(states) == len(STATES) else frozenset(states)


class _WhyWaiting(msgspec.Struct, frozen=True):
    """What the ledger knows of why a build doesn't go on."""

    attempt: AttemptRow
    place: Place | None  # in the queue
    turn: int | None  # the build before it of the same ref

    def shown(self, context: WebContext) -> schemas.Waiting | None:
        return _waiting(context.dispatch.why_waiting(self.attempt, self.place), self.turn)


def _why_waiting(connection: Connection, rows: Sequence[BuildRow]) -> dict[int, _WhyWaiting]:
    """Return it of those of these builds that haven't ended, by their numbers."""
    going_on = [row.id for row in rows if row.state not in TERMINAL]
    newest = attempt_queries.newest_of(connection, going_on)
    places, turns = queue.places(connection, going_on), builds.turns(connection, going_on)
    return {build: _WhyWaiting(attempt, places.get(build), turns.get(build)) for build, attempt in newest.items()}


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


async def approve(call: Call[None, Approval]) -> Reply[BuildDetail]:
    """
    Approve what a build that waits for that has made: it goes live, unless something newer is live, or the project is
    held. Not by the caller who asked for the build, nor by a program. Packages that are staged in a registry are
    approved there one after the other, with the caller's one-time password; it is kept in memory until it is used. If
    the registry refuses it, the build waits again, and says so.
    """
    context, build = call.context, call.build
    if call.token.service:
        raise forbidden(f"the token {call.token.name} is a program's: a person approves builds")
    await context.requests.approve_build(build.id, call.actor, await taken(context, call.body.otp, DELIVERING))
    return Reply(body=await _detail(context, build.id))


async def refuse(call: Call[None, Refusal]) -> Reply[BuildDetail]:
    """
    Refuse what a build that waits for approval has made: the build is cancelled, and its release never goes live. What
    is staged of it in a registry is taken back, with the caller's one-time password where the registry wants one.
    """
    context, build = call.context, call.build
    reason = names.shown(call.body.reason.strip(), MAX_REFUSAL)
    await context.requests.refuse_build(build.id, reason, call.actor, await taken(context, call.body.otp, DELIVERING))
    return Reply(body=await _detail(context, build.id))


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
    if not call.body.bump:
        del body["bump"]
    if isinstance(call.body.priority, UnsetType):
        del body["priority"]
    return Idempotency(values[0].decode(), call.token.id, hashlib.sha256(msgspec.json.encode(body)).hexdigest())


def shown_build(row: BuildRow, authors: Mapping[str, PersonName] = MappingProxyType({})) -> Build:
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
    ) -> (
        tuple[
            BuildRow,
            dict[str, PersonName],
            Standing,
            list[AttemptRow],
            list[ReleaseRow],
            list[str],
            list[LedgerEntry],
            Place | None,
            int | None,
            int | None,
            dict[int, int],
        ]
        | None
    ):
        row = builds.get(connection, build)
        about = None if row is None else standing(connection, row.project)
        if row is None or about is None:
            return None
        made = releases.of_build(connection, build)
        labelled = _labels(connection, about.project, made, context.now())
        authors, all_attempts = _people_of(connection, [row]), builds.attempts(connection, build)
        published = packages.of_attempt(connection, attempt_name(build, row.attempt))
        place, turn = queue.places(connection, [build]).get(build), builds.before_in_turn(connection, build)
        usual = builds.usual(connection, build)
        archives = artifacts.sizes(connection, build)
        return row, authors, about, all_attempts, made, labelled, published, place, turn, usual, archives

    found = await context.ledger.read(everything)
    if found is None:
        raise not_found()
    row, authors, about, attempts, made, labelled, published, place, turn, usual, archives = found
    now = context.now()
    await _served(context, [build])
    if labelled and not await context.releasing.has(made[-1]):
        labelled = []
    return BuildDetail(
        **_fields(row, Build),
        author_person=authors.get(row.author_email or ""),
        attempts=[_attempt(attempt, made, about, archives.get(attempt.number), now) for attempt in attempts],
        release_url=context.release_url(row.project) if any(map(_was_served, made)) else None,
        previews=[context.release_url(labels.host_name(label, row.project)) for label in labelled],
        position=None if place is None else place.before,
        waiting=_WhyWaiting(attempts[-1], place, turn).shown(context) if attempts else None,
        publications=[publication(each) for each in published],
        usual=usual,
    )


def _labels(connection: Connection, project: ProjectRow, made: list[ReleaseRow], now: int) -> list[str]:
    """Return the labels of the addresses that lead to a build's newest release."""
    newest = made[-1:]
    return [
        label
        for release in newest
        for label in previews.of_release(project, release)
        if (found := previews.find(connection, project.name, label, now)) is not None and found.release == release
    ]


def _was_served(release: ReleaseRow) -> bool:
    """Return whether the site of releases has served it."""
    return release.activated is not None and release.target == Static.name


def _waiting(waiting: Waiting | None, turn: int | None) -> schemas.Waiting | None:
    if waiting is None:
        return None
    if turn is not None and waiting.position is not None:
        return schemas.Waiting(
            code="turn", text=f"build {turn} of the same ref goes on", position=waiting.position, until=None
        )
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


def _attempt(
    row: AttemptRow, made: list[ReleaseRow], about: Standing, archive: int | None, now: int
) -> schemas.Attempt:
    release = next((release for release in made if release.attempt == row.name), None)
    others = {
        "steps": [_step(step) for step in row.steps],
        "archive": archive,
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
