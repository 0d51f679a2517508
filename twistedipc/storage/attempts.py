"""
The ledger's attempts, as dispatch moves them from state to state. Functions for `Ledger.read` and `Ledger.write`;
``storage`` layer.

Every change of state is one compare-and-set on (attempt, lease, builder, state): it happens only from a state that the
function names and `builds.states` allows, and only by the builder that has the lease. It returns the new row, or None
when it missed: then something else happened first, and `get` tells what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from twistedipc.builds import names
from twistedipc.builds.attempt import FoundCommit, Published, Result, StepResult, Tool, Used
from twistedipc.builds.egress import MAX_CONTACTS, Contact, Egress, reached
from twistedipc.builds.environments import PREVIEW, Decided, decide
from twistedipc.builds.host_rules import MAX_NAME
from twistedipc.builds.inputs import inputs_of
from twistedipc.builds.isolation import Kind
from twistedipc.builds.lint import MAX_MESSAGE, Linted, LintedPackage, Message, bounded
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.registries import Registry
from twistedipc.builds.states import (
    BUILDER_DONE,
    DELIVERS,
    LEASED,
    STATES,
    TERMINAL,
    AttemptState,
    Cancellation,
    LeaseStatus,
    check_attempt,
    proven,
    states_before,
    states_where,
)
from twistedipc.builds.variables import OfContexts, of_context
from twistedipc.builds.versions import Versioning
from twistedipc.builds.word import within
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets
from twistedipc.storage import access, build_secrets, changes, outbox, rings
from twistedipc.storage.columns import (
    GIST,
    attempt_name,
    columns_of,
    environments_of,
    exit_code,
    from_json,
    gist_row,
    integer,
    is_strangers,
    own_rules,
    project_settings,
    protected_refs,
    row_as,
    runs_on,
    split_attempt,
    text,
    to_json,
)
from twistedipc.storage.queue import Features, admits, next_builds
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import AccessRow, AttemptRow, BuildSecretRow, Decision, Holder, OfferRow, Passed
from twistedipc.storage.tables import attempts, builds, projects, said, sealed_chunks, steps
from twistedipc.storage.versions import canary, versioning

_S = AttemptState

_HELD = states_where(lambda info: info.lease is LeaseStatus.HELD)
_OFFERABLE = states_where(lambda info: info.offerable)
_CANCELLED_AT_ONCE = states_where(lambda info: info.cancel is Cancellation.AT_ONCE)

#: States in which a build keeps no later one of its lane waiting: it has ended, or waits for a person.
DONE_IN_LANE = TERMINAL | {_S.WAITING_APPROVAL}

_NO_RECORDS = hashlib.sha256().hexdigest()


# -- looking ---------------------------------------------------------------------------------------------------------


def get(connection: Connection, attempt: str) -> AttemptRow | None:
    """Return the attempt of this name."""
    build, number = split_attempt(attempt)
    rows = _rows(connection, _OF_NAME, {"build": build, "attempt": number})
    return rows[0] if rows else None


def of_build(connection: Connection, build: int) -> list[AttemptRow]:
    """Return all attempts of a build, oldest first."""
    return _rows(connection, _SELECT.where(attempts.c.build_id == integer(build)).order_by(attempts.c.number))


def newest_of(connection: Connection, chosen: Collection[int]) -> dict[int, AttemptRow]:
    """Return the newest attempt of each of these builds, by their numbers."""
    newest = attempts.c.build_id.in_(list(map(integer, chosen))), attempts.c.number == builds.c.attempt
    return {row.build: row for row in _rows(connection, _SELECT.where(*newest))}


def leased(connection: Connection, builder: str | None) -> list[AttemptRow]:
    """Return all attempts of which a builder has the lease (this one, if it is named), oldest first."""
    query = _SELECT.where(attempts.c.state.in_(sorted(LEASED))).order_by(attempts.c.build_id)
    if builder is not None:
        query = query.where(attempts.c.builder == builder)
    return _rows(connection, query)


def next_queued(
    connection: Connection,
    limit: int,
    can: Collection[Features] | None = None,
    passed: Collection[Passed] = (),
) -> list[OfferRow]:
    """Return up to ``limit`` attempts that may be offered, in the order of the queue. See `queue.next_builds`."""
    chosen = next_builds(connection, limit, can=can, passed=passed)
    if not chosen:
        return []
    query = (
        select(
            attempts.c.build_id,
            attempts.c.number,
            attempts.c.commit_id,
            attempts.c.live,
            attempts.c.may_publish,
            builds.c.ref,
            builds.c.publish.label("wants_publish"),
            builds.c.bump,
            builds.c.created.label("asked"),
            builds.c.due,
            builds.c.parameters,
            builds.c.origin,
            projects.c.id.label("project_id"),
            projects.c.name,
            projects.c.default_ref,
            projects.c.head,
            projects.c.repository,
            projects.c.targets,
            projects.c.settings,
            projects.c.environment,
            projects.c.of_contexts,
            projects.c.registries,
            projects.c.protected,
            projects.c.environments,
            projects.c.runs_on,
            projects.c.caches,
            projects.c.retention,
            projects.c.timeout,
            projects.c.idle_timeout,
        )
        .join(builds, builds.c.id == attempts.c.build_id)
        .join(projects, projects.c.id == builds.c.project_id)
        .where(builds.c.id.in_(chosen), attempts.c.number == builds.c.attempt)
    )
    found = {row.build_id: row for row in connection.execute(query)}
    rows = [found[build] for build in chosen if build in found]
    secrets = build_secrets.of_projects(connection, [row.project_id for row in rows])
    accesses = access.of_projects(connection, [row.project_id for row in rows])
    return [
        _offer_row(
            row,
            secrets.get(row.project_id, []),
            accesses.get(row.project_id),
            _hosts_used(connection, row),
            _versioning(connection, row),
        )
        for row in rows
    ]


def _hosts_used(connection: Connection, row: Any) -> list[str] | None:
    """Return the hosts that the last build of a project that succeeded contacted, if new ones are asked about."""
    if project_settings(row.settings).egress != "ask":
        return None
    return _hosts_of_last(connection, builds.c.project_id == row.project_id)


def hosts_used_before(connection: Connection, build: int) -> list[str] | None:
    """Return the hosts that the last build before this one that succeeded contacted; None if there is none."""
    project = select(builds.c.project_id).where(builds.c.id == build).scalar_subquery()
    return _hosts_of_last(connection, builds.c.project_id == project, builds.c.id < build)


def _hosts_of_last(connection: Connection, *which: ColumnElement[bool]) -> list[str] | None:
    query = (
        select(attempts.c.egress)
        .join(builds, builds.c.id == attempts.c.build_id)
        .where(*which)
        .where(attempts.c.state == _S.SUCCEEDED)
        .where(attempts.c.egress.is_not(None))
        .order_by(attempts.c.created.desc(), attempts.c.build_id.desc())
        .limit(1)
    )
    egress = connection.execute(query).scalar()
    return None if egress is None else reached(from_json(egress, Egress))


def _versioning(connection: Connection, row: Any) -> Versioning | None:
    """Return which versions a build's packages get; None: those of their files."""
    targets = TARGETS.active(TARGETS.read_kept(from_json(row.targets, list[Any])))
    named = canary(
        _environment_of(row, targets),
        ref=row.ref,
        build=row.build_id,
        publish=row.wants_publish,
        may_publish=row.may_publish and not is_strangers(row.origin),
        patterns=protected_refs(row),
        head=row.head or "",
        targets=targets,
    )
    if not row.bump and named is None and not TARGETS.make_versions(targets):
        return None
    return versioning(
        connection, project_id=row.project_id, build=row.build_id, bump=row.bump or "", canary=named, asked=row.asked
    )


def _environment_of(row: Any, targets: ProjectTargets) -> Decided:
    """Return of which environment a build is. ``targets``: its project's."""
    if is_strangers(row.origin):
        return Decided(environment=PREVIEW, preview="it is of a pull request from a fork")
    return decide(
        project=row.name,
        ref=row.ref,
        default_ref=row.default_ref,
        patterns=protected_refs(row),
        head=row.head or "",
        environments=environments_of(row.environments),
        publish=row.wants_publish,
        may_publish=row.may_publish,
        live=row.live,
        delivers=bool(TARGETS.delivered_by_runner(targets)),
    )


def _offer_row(
    row: Any,
    secrets: list[BuildSecretRow],
    its_access: AccessRow | None,
    used: list[str] | None,
    versions: Versioning | None,
) -> OfferRow:
    targets = TARGETS.active(TARGETS.read_kept(from_json(row.targets, list[Any])))
    patterns, of, stranger = protected_refs(row), _environment_of(row, targets), is_strangers(row.origin)
    if of.preview and row.wants_publish:
        targets_now = TARGETS.delivered_by_apiserver(targets)  # whose releases don't go live by themselves
        if versions is not None and versions.canary is not None:
            targets_now = TARGETS.ordered([*targets_now, *TARGETS.with_canaries(targets)])
    else:
        targets_now = targets if row.wants_publish else ()
    of_contexts = OfContexts() if row.of_contexts is None else from_json(row.of_contexts, OfContexts)
    variables = of_context(from_json(row.environment, dict[str, str]), of_contexts, of.environment)
    parameters = from_json(row.parameters, dict[str, str])
    return OfferRow(
        name=attempt_name(row.build_id, row.number),
        build=row.build_id,
        project=row.name,
        repository=row.repository,
        ref=row.ref,
        commit=row.commit_id,
        targets=targets_now,
        site=TARGETS.need_site(targets),
        settings=project_settings(row.settings),
        parameters=parameters,
        environment=variables,
        inputs=inputs_of(variables, parameters, [] if stranger else build_secrets.given(secrets, of.environment)),
        of=of,
        protected=patterns,
        by_name=row.ref in patterns and not row.commit_id,
        registries=[] if row.registries is None else from_json(row.registries, list[Registry]),
        used=used,
        secrets=not stranger and build_secrets.any_for(secrets, of.environment),
        stranger=stranger,
        access=access.serves(its_access, row.repository),
        head=names.HEAD in (row.default_ref, *patterns, *of.refs),
        versioning=versions,
        runs_on=runs_on(row.runs_on),
        caches=row.caches,
        retention=own_rules(row.retention),
        timeout=row.timeout,
        idle_timeout=row.idle_timeout,
        place=Passed(row.project_id, row.due, row.build_id),
    )


# -- the queue: for `builds`, which queues attempts and cancels them --------------------------------------------------


def queue(
    connection: Connection,
    build: int,
    number: int,
    *,
    requested_by: str,
    live: bool,
    may_publish: bool,
    asker: int | None,
    asker_person: int | None,
    now: int,
    commit: str = "",
    resolved: int | None = None,
) -> None:
    """Add an attempt to the queue; of this ``commit``, to which the ref led at ``resolved``, if it repeats another."""
    connection.execute(
        insert(attempts).values(
            build_id=build,
            number=number,
            state=_S.QUEUED,
            reason="",
            requested_by=requested_by,
            lease="",
            builder="",
            cancel_reason="",
            created=now,
            commit_id=commit,
            resolved=resolved,
            live=live,
            may_publish=may_publish,
            asker=asker,
            asker_person=asker_person,
            subject="",
            author="",
            next_record=1,
            log_bytes=0,
            sha256="",
            complete=False,
            published="[]",
        )
    )
    queued = get(connection, attempt_name(build, number))
    if queued is not None:
        changes.note_attempt(connection, queued.name)
        outbox.note(connection, queued)
    _ring(connection, build, _S.QUEUED)


def cancel_at_once(connection: Connection, attempt: str, reason: str, now: int) -> AttemptRow | None:
    """→ cancelled, from a state in which nothing runs: no process must die first."""
    return change(
        connection,
        attempt,
        holder=None,
        before=_CANCELLED_AT_ONCE,
        after=_S.CANCELLED,
        cancel_reason=reason,
        reason=reason,
        **_unfinished(now),
    )


def note_cancel(connection: Connection, attempt: str, reason: str) -> AttemptRow | None:
    """Set the flag that says that it is to be cancelled, unless it has ended. The first reason stays."""
    changed = connection.execute(
        update(attempts)
        .where(*_is(attempt), attempts.c.state.not_in(sorted(TERMINAL)))
        .values(cancel_reason=case((attempts.c.cancel_reason == "", reason), else_=attempts.c.cancel_reason))
    )
    if not changed.rowcount:
        return None
    changes.note_attempt(connection, attempt)
    row = get(connection, attempt)
    if row is not None:
        _ring(connection, row.build, row.state)
    return row


# -- dispatch --------------------------------------------------------------------------------------------------------


def offer(
    connection: Connection,
    attempt: str,
    lease: str,
    builder: str,
    now: int,
    of: Decided | None = None,
    inputs: str | None = None,
) -> AttemptRow | None:
    """
    queued → offered: grant ``builder`` the lease, which no other attempt ever had. ``of``: of which environment the
    attempt is, and why it publishes nothing for users, as it is offered. ``inputs``: with which variables and secrets
    it is built (`builds.inputs`). None also if the project's queue doesn't allow it, or the builder is drained.
    """
    if not admits(connection, attempt, builder):
        return None
    return change(
        connection,
        attempt,
        holder=None,
        before=_OFFERABLE,
        after=_S.OFFERED,
        set_lease=lease,
        builder=builder,
        offered=now,
        preview=None if of is None else of.preview,
        environment=None if of is None else of.environment,
        inputs=inputs,
    )


def requeue(connection: Connection, attempt: str, holder: Holder, now: int, reason: str = "") -> AttemptRow | None:
    """
    offered → queued: it was declined, the offer expired, or its builder never had it; ``reason`` says so to people, as
    long as it waits. It has its old place in the queue, and the lease is void. If it is to be cancelled, it is
    cancelled instead. Never from accepted: the builder may have been told to start it, and an attempt starts once.
    """
    before = frozenset({_S.OFFERED})
    cancelled = change(
        connection,
        attempt,
        holder=holder,
        before=before,
        after=_S.CANCELLED,
        only_if=(attempts.c.cancel_reason != "",),
        reason=attempts.c.cancel_reason,
        **_unfinished(now),
    )
    if cancelled is not None:
        return cancelled
    return change(
        connection,
        attempt,
        holder=holder,
        before=before,
        after=_S.QUEUED,
        set_lease="",
        builder="",
        offered=None,
        reason=text(reason) if reason else attempts.c.reason,
    )


def accept(connection: Connection, attempt: str, holder: Holder, isolation: Kind | None = None) -> AttemptRow | None:
    """
    offered → accepted: once this is committed, the builder may be told to start it. ``isolation``: what isolates the
    steps there; None: the builder doesn't say.
    """
    return change(
        connection,
        attempt,
        holder=holder,
        before=frozenset({_S.OFFERED}),
        after=_S.ACCEPTED,
        reason="",
        isolation=isolation,
    )


def started(connection: Connection, attempt: str, holder: Holder, time: int, now: int) -> AttemptRow | None:
    """
    accepted or disconnected → running, since ``time`` by the builder's clock, if that can be. If it runs or publishes
    already, its row.
    """
    offered = connection.execute(select(attempts.c.offered).where(*_is(attempt))).scalar()
    time = within(time, now if offered is None else offered, now)
    return change(
        connection,
        attempt,
        holder=holder,
        before=frozenset({_S.ACCEPTED, _S.DISCONNECTED}),
        after=_S.RUNNING,
        started=func.coalesce(attempts.c.started, integer(time)),
        reason="",
    ) or _already(connection, attempt, holder, frozenset({_S.RUNNING, _S.PUBLISHING}))


def checked_out(
    connection: Connection, attempt: str, holder: Holder, found: FoundCommit, now: int, resolved: int | None
) -> AttemptRow | None:
    """
    While its builder has it: note which commit it builds, which `builds.word` has judged. None if that is known
    already. ``resolved`` is as in `finish`.
    """
    changed = connection.execute(
        update(attempts)
        .where(*_is(attempt), *_has(holder), attempts.c.state.in_(sorted(_HELD)), attempts.c.subject == "")
        .where(attempts.c.commit_id.in_(["", found.commit]))
        .values(**_told_commit(found, now, resolved))
    )
    row = get(connection, attempt) if changed.rowcount else None
    if row is not None:
        changes.note_attempt(connection, attempt)
        outbox.note_commit(connection, row)
    return row


def publishing(connection: Connection, attempt: str, holder: Holder) -> AttemptRow | None:
    """accepted, running or disconnected → publishing. If it publishes already, its row."""
    return change(
        connection,
        attempt,
        holder=holder,
        before=states_before(_S.PUBLISHING) & _HELD,
        after=_S.PUBLISHING,
    ) or _already(connection, attempt, holder, frozenset({_S.PUBLISHING}))


def note_trouble(connection: Connection, attempt: str, holder: Holder, reason: str) -> AttemptRow | None:
    """
    While it publishes: say why it takes so long, or by "" that nothing is wrong any more. None if it says so already,
    or doesn't publish under this lease.
    """
    wanted = text(reason)
    changed = connection.execute(
        update(attempts)
        .where(*_is(attempt), *_has(holder), attempts.c.state == _S.PUBLISHING, attempts.c.reason != wanted)
        .values(reason=wanted)
    )
    changes.note_attempt(connection, attempt)
    return get(connection, attempt) if changed.rowcount else None


def disconnected(connection: Connection, builder: str) -> list[AttemptRow]:
    """The link to ``builder`` is down: what it had accepted, was running or publishing → disconnected."""
    before = states_before(_S.DISCONNECTED)
    changed = [
        change(connection, held.name, holder=held.holder, before=before, after=_S.DISCONNECTED)
        for held in leased(connection, builder)
        if held.state in before
    ]
    return [row for row in changed if row is not None]


def missed(connection: Connection, attempt: str, holder: Holder, reason: str) -> AttemptRow | None:
    """The builder is linked, and doesn't say that it has the attempt → disconnected, for a ``reason`` for people."""
    row = change(
        connection,
        attempt,
        holder=holder,
        before=states_before(_S.DISCONNECTED),
        after=_S.DISCONNECTED,
        reason=text(reason),
    )
    if row is not None:
        return row
    changed = connection.execute(
        update(attempts)
        .where(*_is(attempt), *_has(holder), attempts.c.state == _S.DISCONNECTED)
        .values(reason=text(reason))
    )
    changes.note_attempt(connection, attempt)
    return get(connection, attempt) if changed.rowcount else None


def reconnected(connection: Connection, attempt: str, holder: Holder, phase: AttemptState) -> AttemptRow | None:
    """
    The builder is linked again and says that it has the attempt in ``phase`` (accepted, running or publishing;
    else `ValueError`). If it is known to be further, its row as it is: no attempt goes back.
    """
    reached = STATES[phase].reached
    if reached is None:
        raise ValueError(f"{phase} isn't a phase in which a builder has an attempt")
    return change(
        connection,
        attempt,
        holder=holder,
        before=states_before(phase) & LEASED,
        after=phase,
        reason="",
    ) or _already(
        connection,
        attempt,
        holder,
        states_where(lambda info: info.reached is not None and info.reached >= reached),
    )


def finish(
    connection: Connection,
    attempt: str,
    holder: Holder,
    result: Result,
    complete: bool,
    now: int,
    resolved: int | None = None,
    *,
    waits: bool = False,
    delivers: bool = False,
) -> AttemptRow | None:
    """
    → the result's outcome, with all that the result tells, which `builds.word` has judged; ``complete``: the stored log
    is whole, without which no attempt succeeds. If this lease's attempt has ended already, its row, unchanged.

    :param waits: what was built is to be approved first: → waiting_approval
    :param delivers: the apiserver publishes what is stored: → delivering

    :param resolved: when the ref led to the commit, as far as the builder can tell. It was not before the offer and
        not after now, whatever is said; an attempt that repeats another keeps what that one had found.
    """
    outcome = proven(_S(result.outcome), holds=complete)
    after = outcome
    if outcome is _S.SUCCEEDED and (waits or delivers):
        after = _S.WAITING_APPROVAL if waits else _S.DELIVERING
    values = _told(result, complete, now, resolved)
    row = change(connection, attempt, holder=holder, before=states_before(after) & _HELD, after=after, **values)
    if row is None:
        return _already(connection, attempt, holder, BUILDER_DONE)
    _add_steps(connection, attempt, result.steps)
    _end_steps(connection, attempt, outcome, integer(result.ended))
    finished = get(connection, attempt)
    if finished is not None and _bound_steps(connection, finished, now):
        finished = get(connection, attempt)
    return finished


_DAMAGED = exists().where(
    sealed_chunks.c.build_id == attempts.c.build_id,
    sealed_chunks.c.number == attempts.c.number,
    sealed_chunks.c.damaged,
)


def _told(result: Result, complete: bool, now: int, resolved: int | None) -> dict[str, Any]:
    """Return the columns of what a result tells."""
    ended = integer(result.ended)
    values: dict[str, Any] = {
        **_told_commit(result, now, resolved),
        "reason": text(result.reason),
        "started": func.coalesce(attempts.c.started, integer(result.started)),
        "ended": case((attempts.c.started > ended, attempts.c.started), else_=ended),
        "lines": integer(result.lines),
        "sha256": text(result.sha256, 64),
        # What was sealed while it ran may be damaged by now, of which the builder knows nothing.
        "complete": and_(literal(complete), ~_DAMAGED),
        "published": to_json([_clean_published(published) for published in result.published[:MAX_PUBLISHED]]),
        "recognised": to_json([_clean_finding(finding) for finding in result.recognised[:100]]),
        "tools": to_json([_clean_tool(tool) for tool in result.tools[:100]]),
        "used": None if result.used is None else to_json(_clean_used(result.used)),
        "egress": None if result.egress is None else to_json(_clean_egress(result.egress)),
        "linted": None if result.linted is None else to_json(_clean_linted(result.linted)),
    }
    if result.protected is not None:
        values["protected"] = text(result.protected, names.MAX_REF)
    return values


def _told_commit(found: Result | FoundCommit, now: int, resolved: int | None) -> dict[str, Any]:
    """Return the columns of the commit. An attempt that ended before its checkout keeps what an earlier one found."""
    columns = (("commit_id", found.commit), ("subject", found.subject), ("author", found.author),
               ("author_email", found.author_email.lower()))  # fmt: skip
    values: dict[str, Any] = {column: text(value) for column, value in columns if value}
    if found.commit:
        since = func.coalesce(attempts.c.offered, attempts.c.created)
        said = None if resolved is None else min(integer(resolved), now)
        known = since if said is None else case((since > said, since), else_=said)
        values["resolved"] = func.coalesce(attempts.c.resolved, known)
    return values


def approve(connection: Connection, attempt: str, decision: Decision, *, delivers: bool = False) -> AttemptRow | None:
    """
    waiting_approval → succeeded: a person has approved that what it built is published. → delivering, if the apiserver
    has to publish it.
    """
    return _decided(connection, attempt, _S.DELIVERING if delivers else _S.SUCCEEDED, decision, "")


def goes_on(connection: Connection, attempt: str) -> AttemptRow | None:
    """waiting_approval → delivering: what is staged of it was approved or rejected at the registry."""
    return change(
        connection,
        attempt,
        holder=None,
        before=frozenset({_S.WAITING_APPROVAL}),
        after=_S.DELIVERING,
        reason="",
    )


def refuse(connection: Connection, attempt: str, decision: Decision) -> AttemptRow | None:
    """waiting_approval → cancelled: a person has refused that what it built is published."""
    reason = f"{decision.who} refused that it is published" + (f": {decision.reason}" if decision.reason else "")
    return _decided(connection, attempt, _S.CANCELLED, decision, reason)


def _decided(
    connection: Connection, attempt: str, after: AttemptState, decision: Decision, reason: str
) -> AttemptRow | None:
    return change(
        connection,
        attempt,
        holder=None,
        before=frozenset({_S.WAITING_APPROVAL}),
        after=after,
        decision=to_json(decision),
        reason=text(reason),
    )


def delivering(connection: Connection) -> list[AttemptRow]:
    """Return the attempts whose packages the apiserver publishes, oldest first."""
    query = _SELECT.where(attempts.c.state.in_(sorted(DELIVERS))).order_by(attempts.c.ended, attempts.c.build_id)
    return _rows(connection, query)


def note_published(connection: Connection, attempt: str, published: list[Published]) -> None:
    """Note what of an attempt the apiserver has published by now."""
    written = to_json([_clean_published(each) for each in published[:MAX_PUBLISHED]])
    connection.execute(
        update(attempts).where(*_is(attempt), attempts.c.state.in_(sorted(DELIVERS))).values(published=written)
    )


def delivered(
    connection: Connection, attempt: str, outcome: AttemptState, reason: str, sha256: str, now: int
) -> AttemptRow | None:
    """
    delivering → succeeded, failed or cancelled: what is published of it is. Its log, to which the apiserver has added,
    ends with what has come; ``sha256`` is the digest of all of it.
    """
    row = change(
        connection,
        attempt,
        holder=None,
        before=DELIVERS,
        after=outcome,
        reason=text(reason),
        ended=now,
        lines=attempts.c.next_record - 1,
        sha256=text(sha256, 64),
    )
    if row is not None:
        _end_steps(connection, attempt, outcome, now)
    return row


def waits_again(connection: Connection, attempt: str, reason: str, sha256: str, now: int) -> AttemptRow | None:
    """
    delivering → waiting_approval: what is staged waits for a person. Its log, to which the apiserver has added, is what
    has come by now; ``sha256`` is the digest of all of it. ``reason`` is a sentence for people.
    """
    row = change(
        connection,
        attempt,
        holder=None,
        before=DELIVERS,
        after=_S.WAITING_APPROVAL,
        reason=text(reason),
        lines=attempts.c.next_record - 1,
        sha256=text(sha256, 64),
    )
    if row is not None:
        _end_steps(connection, attempt, _S.SUCCEEDED, now)
    return row


def note_release(connection: Connection, attempt: str, reason: str) -> None:
    """Say of an attempt that has succeeded why its release didn't go live; "" once it has."""
    connection.execute(
        update(attempts).where(*_is(attempt), attempts.c.state == _S.SUCCEEDED).values(reason=text(reason))
    )
    changes.note_attempt(connection, attempt)


def lose(connection: Connection, attempt: str, holder: Holder, reason: str, now: int) -> AttemptRow | None:
    """→ lost: nothing will tell any more how it ended. Its log is what has arrived, and not complete."""
    row = change(
        connection,
        attempt,
        holder=holder,
        before=states_before(_S.LOST) & _HELD,
        after=_S.LOST,
        reason=text(reason),
        ended=now,
        lines=attempts.c.next_record - 1,
    )
    if row is None:
        return None
    _end_steps(connection, attempt, _S.LOST, now)
    return get(connection, attempt)


# -- the compare-and-set, and rows -----------------------------------------------------------------------------------


def _is(attempt: str) -> tuple[Any, Any]:
    build, number = split_attempt(attempt)
    return attempts.c.build_id == build, attempts.c.number == number


def _has(holder: Holder | None) -> tuple[Any, ...]:
    """The conditions that this is who has the attempt."""
    return () if holder is None else (attempts.c.lease == holder.lease, attempts.c.builder == holder.builder)


def change(
    connection: Connection,
    attempt: str,
    /,
    *,
    holder: Holder | None,
    before: frozenset[AttemptState],
    after: AttemptState,
    only_if: tuple[Any, ...] = (),
    set_lease: str | None = None,
    **values: Any,
) -> AttemptRow | None:
    """
    The compare-and-set itself: set ``after``, the new lease and the ``values`` of other columns, if the attempt's state
    is in ``before`` and the ``holder`` has it (None: any). Those outside who want to know are told (`outbox`), by the
    same transaction. The new row, or None. Raises `IllegalTransition` if the
    table doesn't have a transition from each of ``before``: a bug of ours.
    """
    for state in before:
        check_attempt(state, after)
    if set_lease is not None:
        values["lease"] = set_lease
    changed = connection.execute(
        update(attempts)
        .where(*_is(attempt), *_has(holder), attempts.c.state.in_(sorted(before)), *only_if)
        .values(state=after, **values)
    )
    if not changed.rowcount:
        return None
    build, number = split_attempt(attempt)
    connection.execute(update(builds).where(builds.c.id == build, builds.c.attempt == number).values(state=after))
    row = get(connection, attempt)
    if row is not None:
        changes.note_attempt(connection, attempt)
        outbox.note(connection, row)
    _ring(connection, build, after)
    return row


def _ring(connection: Connection, build: int, state: AttemptState) -> None:
    """Have other apiservers told that an attempt of the build is in this state now, or is to be cancelled in it."""
    rings.note(connection, Topic.STATE, str(build))
    if STATES[state].offerable:
        rings.note(connection, Topic.QUEUE)
    if STATES[state].delivers:
        rings.note(connection, Topic.DELIVERY)


def _already(
    connection: Connection, attempt: str, holder: Holder, states: frozenset[AttemptState]
) -> AttemptRow | None:
    row = get(connection, attempt)
    return row if row is not None and row.holder == holder and row.state in states else None


def _unfinished(now: int) -> dict[str, Any]:
    """The end of an attempt of which nothing runs: an empty log is whole; what isn't empty is what is known of it."""
    empty = attempts.c.next_record == 1
    return {
        "ended": now,
        "lines": attempts.c.next_record - 1,
        "sha256": case((empty, _NO_RECORDS), else_=attempts.c.sha256),
        "complete": or_(empty, attempts.c.complete),
    }


def _clean_finding(finding: Finding) -> Finding:
    return Finding(
        what=text(finding.what, 100),
        value=text(finding.value, 1000),
        why=text(finding.why, 1000),
        file=text(finding.file, 1000),
        line=integer(finding.line),
    )


def _clean_tool(tool: Tool) -> Tool:
    return Tool(
        name=text(tool.name, 100),
        version=text(tool.version, 100),
        uri=text(tool.uri, 1000),
        digests={text(name, 20): text(value, 200) for name, value in list(tool.digests.items())[:10]},
    )


def _clean_used(used: Used) -> Used:
    return Used(
        processes=integer(used.processes),
        memory=integer(used.memory),
        disk=integer(used.disk),
        open_files=integer(used.open_files),
        cpu=integer(used.cpu),
    )


def _clean_egress(egress: Egress) -> Egress:
    contacts = [
        Contact(
            host=text(each.host, MAX_NAME),
            port=integer(each.port),
            first=integer(each.first),
            step=text(each.step, 200),
            address=text(each.address, 64),
            connections=integer(each.connections),
            sent=integer(each.sent),
            received=integer(each.received),
            udp=each.udp,
            why=text(each.why, 200),
        )
        for each in egress.contacts[:MAX_CONTACTS]
    ]
    more = max(0, len(egress.contacts) - MAX_CONTACTS)
    return Egress(contacts=contacts, more=integer(egress.more) + more, lost=egress.lost)


def _clean_linted(linted: Linted) -> Linted:
    packages = [
        LintedPackage(
            target=text(each.target, MAX_NAME),
            name=text(each.name, MAX_NAME),
            version=text(each.version, MAX_NAME),
            messages=[Message(level=message.level, text=text(message.text, MAX_MESSAGE)) for message in each.messages],
            more=integer(each.more),
            why=text(each.why, MAX_MESSAGE),
        )
        for each in linted.packages[:MAX_PUBLISHED]
    ]
    return bounded(Linted(version=text(linted.version, 100), packages=packages, why=text(linted.why, MAX_MESSAGE)))


def _clean_published(published: Published) -> Published:
    return Published(
        target=text(published.target),
        name=text(published.name),
        version=text(published.version),
        integrity=text(published.integrity),
        status=published.status,
        registry=text(published.registry),
        notice=text(published.notice),
    )


def _add_steps(connection: Connection, attempt: str, results: list[StepResult]) -> None:
    """Steps whose end the log doesn't have, as the result has them."""
    build, number = split_attempt(attempt)
    by_index = {result.index: result for result in results[:MAX_STEPS] if 0 <= result.index < MAX_STEPS}
    if not by_index:
        return
    of_attempt = steps.c.build_id == build, steps.c.number == number
    connection.execute(delete(steps).where(*of_attempt, steps.c.step.in_(sorted(by_index))))
    connection.execute(
        insert(steps),
        [
            {
                "build_id": build,
                "number": number,
                "step": result.index,
                "name": text(result.name),
                "command": text(result.command),
                "outcome": step_outcome(result.outcome),
                "started": integer(result.started),
                "ended": integer(result.ended),
                "exit_code": exit_code(result.exit_code),
            }
            for result in by_index.values()
        ],
    )


def _end_steps(connection: Connection, attempt: str, outcome: AttemptState, ended: int) -> None:
    """A step that was running when the attempt ended ended with it."""
    build, number = split_attempt(attempt)
    connection.execute(
        update(steps)
        .where(steps.c.build_id == build, steps.c.number == number, steps.c.outcome == "running")
        .values(outcome=step_outcome(outcome), ended=ended)
    )


def _bound_steps(connection: Connection, row: AttemptRow, now: int) -> bool:
    """Of what the log says of times, keep what can be. Return whether something couldn't."""
    changed = False
    since = row.created if row.offered is None else row.offered
    for step in row.steps:
        started, ended = within(step.started, since, now), within(step.ended, since, now)
        if (started, ended) != (step.started, step.ended):
            changed = True
            connection.execute(
                update(steps)
                .where(steps.c.build_id == row.build, steps.c.number == row.number, steps.c.step == step.index)
                .values(started=started, ended=max(started, ended))
            )
    return changed


#: The most packages of an attempt whose publication is kept.
MAX_PUBLISHED = 100

#: The most steps of an attempt that have a row. (The log has all of them.)
MAX_STEPS = 1000

_STEP_OUTCOMES = frozenset({"succeeded", "failed", "cancelled", "timed_out"})


def step_outcome(outcome: str) -> str:
    """``outcome`` as a step's row has it; what steps don't know is "failed"."""
    return outcome if outcome in _STEP_OUTCOMES else "failed"


_SELECT = (
    select(
        *columns_of(AttemptRow, attempts),
        attempts.c.build_id.label("build"),
        attempts.c.commit_id.label("commit"),
        projects.c.name.label("project"),
        func.coalesce(said.c.summary, "").label("summary"),
        *GIST,
    )
    .join(builds, builds.c.id == attempts.c.build_id)
    .join(projects, projects.c.id == builds.c.project_id)
    .outerjoin(said, and_(said.c.build_id == attempts.c.build_id, said.c.number == attempts.c.number))
)


# Made once: an attempt is asked for some thirty times from its begin to its end.
_OF_NAME = _SELECT.where(attempts.c.build_id == bindparam("build"), attempts.c.number == bindparam("attempt"))
_STEPS_OF = select(steps).where(steps.c.build_id.in_(bindparam("builds", expanding=True))).order_by(steps.c.step)


def _rows(connection: Connection, query: Any, parameters: Mapping[str, object] | None = None) -> list[AttemptRow]:
    found = connection.execute(query, parameters).all()
    taken = _steps(connection, {(row.build, row.number) for row in found})
    return [_row(row, taken.get((row.build, row.number), [])) for row in found]


def _steps(connection: Connection, keys: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[StepResult]]:
    builds_of_keys = sorted({build for build, _number in keys})
    taken: dict[tuple[int, int], list[StepResult]] = {}
    if not builds_of_keys:
        return taken
    for row in connection.execute(_STEPS_OF, {"builds": builds_of_keys}):
        taken.setdefault((row.build_id, row.number), []).append(
            StepResult(
                index=row.step,
                name=row.name,
                command=row.command,
                outcome=row.outcome,
                started=row.started,
                ended=row.ended,
                exit_code=row.exit_code,
            )
        )
    return taken


def _row(row: Row[Any], taken: list[StepResult]) -> AttemptRow:
    return row_as(
        AttemptRow,
        row,
        name=attempt_name(row.build, row.number),
        decision=None if row.decision is None else from_json(row.decision, Decision),
        state=AttemptState(row.state),
        published=from_json(row.published, list[Published]),
        recognised=from_json(row.recognised or "[]", list[Finding]),
        used=None if row.used is None else from_json(row.used, Used),
        egress=None if row.egress is None else from_json(row.egress, Egress),
        linted=None if row.linted is None else from_json(row.linted, Linted),
        tools=from_json(row.tools or "[]", list[Tool]),
        steps=taken,
        gist=gist_row(row),
    )
