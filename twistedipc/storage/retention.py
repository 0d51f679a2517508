"""
What isn't kept any more: what the rules of retention say of the ledger's rows, and how they are deleted. Functions for
`Ledger.read` and `Ledger.write`; ``storage`` layer, on top of ``releases`` and ``previews``.

`look` says of the next builds of a project what becomes of them, the oldest first, and changes nothing: a plan is made
of it, and so is the work. `remove` deletes what goes. It decides again, by the same function and in the transaction
that deletes: what somebody has pinned or made live since the look stays.

**How far it has come is in the rows.** `builds.has_log` and `builds.has_archive` are false once there is nothing left
to look for, and a look doesn't see these builds; so a look costs what there is to do, whatever else is kept. A log
that is too large for one transaction is marked first (`attempts.log_removed`): from then on nobody is shown it. A file
is only deleted when the row that named it has gone, and by a row of its own (`removed_files`): whatever kills the
process, no row names a file that isn't there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, text, update

from twistedipc.builds.names import full_ref
from twistedipc.builds.retention import DAY, Facts, Kind, Rules, Stays, Verdict, effective, oldest_kept, verdict
from twistedipc.builds.states import TERMINAL, AttemptState, ReleaseState, TellingState
from twistedipc.publish.targets.registry import TARGETS, name_of
from twistedipc.storage import previews, projects, releases, sealed_logs
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.columns import attempt_name, own_rules
from twistedipc.storage.prepared import command
from twistedipc.storage.rows import Row
from twistedipc.storage.tables import (
    artifacts,
    attempts,
    builds,
    deliveries,
    hook_deliveries,
    hook_refs,
    idempotency,
    outbox,
    publications,
    receivers,
    removed_files,
    said,
    schedules,
    sealed_chunks,
    statements,
    steps,
)
from twistedipc.storage.tables import previews as previews_table
from twistedipc.storage.tables import projects as projects_table
from twistedipc.storage.tables import releases as releases_table

#: What belongs to builds, one by one.
OF_BUILDS = (Kind.LOGS, Kind.ARTIFACTS, Kind.UNPUBLISHED, Kind.BUILDS)

#: Of what it is asked back before all of it goes. (What builds have that publish nothing may go at once.)
ASKED_BACK = (Kind.PREVIEWS, Kind.RELEASES, Kind.LOGS, Kind.ARTIFACTS, Kind.BUILDS, Kind.MESSAGES)


class Subject(Row, frozen=True, kw_only=True):
    """A project, and the rules that hold for it."""

    id: int
    name: str
    deleted: bool  # it is no project any more; what it has left goes by the apiserver's rules, and nothing is live
    rules: Rules


class Item(Row, frozen=True, kw_only=True):
    """What becomes of one thing, and how many bytes it has."""

    id: int  # the build's, or the release's
    verdict: Verdict
    size: int = 0
    attempts: frozenset[int] = frozenset()  # of a log: those that go
    begun: bool = False  # of a log: a part of it is removed already
    partly: bool = False  # of a log: other attempts of the build keep theirs


class Limits(Row, frozen=True, kw_only=True):
    """The builds of a project at which counts begin and end; 0: all are within."""

    newest_from: int  # it and newer ones are among the newest
    oldest_of_most: int  # older ones are too many

    @classmethod
    def of(cls, connection: Connection, subject: Subject) -> Limits:
        """Count a project's builds. That takes as long as the counts are large."""

        def nth(count: int) -> int:
            query = select(builds.c.id).where(builds.c.project_id == subject.id).order_by(builds.c.id.desc())
            return connection.execute(query.offset(count - 1).limit(1)).scalar() or 0

        newest, most = 0 if subject.deleted else subject.rules.newest, subject.rules.most_builds
        return cls(newest_from=nth(newest) if newest else 1 << 62, oldest_of_most=nth(most) if most else 0)


class Page(Row, frozen=True, kw_only=True):
    """A look at the next things, the oldest first."""

    items: list[Item]
    limits: Limits  # by which it was decided. Builds that have come since can only have more go
    settled: list[int]  # builds that have nothing of this kind, or keep it for ever: they needn't be looked at again
    next: int | None  # after which the next look begins; None: what follows isn't old enough, or nothing follows

    @property
    def wanted(self) -> list[int]:
        """The builds for which there is something to do; see `remove`."""
        return sorted({item.id for item in self.items if item.verdict.goes} | set(self.settled))


class Removed(Row, frozen=True, kw_only=True):
    """What was removed."""

    count: int = 0
    size: int = 0  # bytes
    left: bool = False  # there was too much for one transaction


def subjects(connection: Connection, default: Rules, wanted: Collection[str] | None = None) -> list[Subject]:
    """Return all projects with their rules; those that were deleted too, unless only some are ``wanted``."""
    query = select(projects_table.c.id, projects_table.c.name, projects_table.c.deleted, projects_table.c.retention)
    if wanted is not None:
        query = query.where(projects_table.c.name.in_(sorted(wanted)), projects_table.c.deleted.is_(None))
    return [
        Subject(
            id=row.id,
            name=row.name,
            deleted=row.deleted is not None,
            rules=default if row.deleted is not None else effective(own_rules(row.retention), default),
        )
        for row in connection.execute(query.order_by(projects_table.c.id))
    ]


def due(connection: Connection, asked: Sequence[Subject], now: int) -> list[list[Kind]]:
    """
    Return for each of these projects the kinds of which something may go, in the order of `Kind`. On most days that is
    nothing for most projects, and one statement says so of all of them: it looks at the oldest of each kind.
    """
    rows = {row.id: row for row in connection.execute(_OLDEST, {"asked": [subject.id for subject in asked]})}
    return [[kind for kind in Kind if _is_due(kind, subject, rows[subject.id], now)] for subject in asked]


def _is_due(kind: Kind, subject: Subject, row: Any, now: int) -> bool:
    rules = subject.rules
    if kind in OF_BUILDS:
        created = getattr(row, kind)
        before = oldest_kept(kind, rules, now)
        return created is not None and (rules.most_builds is not None or (before is not None and created <= before))
    if kind is Kind.PREVIEWS:
        return not subject.deleted and row.previews is not None  # a target may have a rule of its own for them
    if kind is Kind.RELEASES:
        return not subject.deleted and rules.releases is not None and row.releases is not None
    if kind is not Kind.MESSAGES or rules.messages is None:
        return False
    return row.receivers is not None or (row.messages is not None and row.messages <= now - rules.messages * DAY)


# -- what becomes of builds --------------------------------------------------------------------------------------------

# Written out, as the indexes have them: SQLite takes an index with a condition only for the very same words.
_WHERE = {
    Kind.LOGS: text("builds.has_log = true"),
    Kind.ARTIFACTS: text("builds.has_archive = true AND builds.publish = true"),
    Kind.UNPUBLISHED: text("builds.has_archive = true AND builds.publish = false"),
    Kind.BUILDS: text("builds.lasting = false"),
}


def _oldest(column: Any, *which: Any) -> Any:
    """Return what finds a column of the oldest row of a project: one look into an index."""
    table = column.table
    query = select(column).where(table.c.project_id == projects_table.c.id, *which).limit(1)
    return (query.order_by(table.c.id) if "id" in table.c else query).scalar_subquery()


_OLDEST = select(
    projects_table.c.id,
    *[_oldest(builds.c.created, where).label(kind.value) for kind, where in _WHERE.items()],
    _oldest(previews_table.c.release_id).label(Kind.PREVIEWS),
    _oldest(releases_table.c.id).label(Kind.RELEASES),
    _oldest(hook_deliveries.c.received, hook_deliveries.c.outcome != "waits").label(Kind.MESSAGES),
    _oldest(receivers.c.id).label("receivers"),
).where(projects_table.c.id.in_(bindparam("asked", expanding=True)))


def look(connection: Connection, subject: Subject, kind: Kind, after: int, limit: int, now: int) -> Page:
    """
    Say what becomes of what up to ``limit`` builds of a project have of this kind (of `OF_BUILDS`), from the oldest
    after the build ``after`` on.
    """
    limits = Limits.of(connection, subject)
    oldest = oldest_kept(kind, subject.rules, now)
    if oldest is None and not limits.oldest_of_most:
        return Page(items=[], limits=limits, settled=[], next=None)
    query = select(builds.c.id, builds.c.created).where(builds.c.project_id == subject.id, builds.c.id > after)
    rows = connection.execute(query.where(_WHERE[kind]).order_by(builds.c.id).limit(limit)).all()
    chosen = [
        row.id for row in rows if (oldest is not None and row.created <= oldest) or row.id < limits.oldest_of_most
    ]
    items, settled = _judged(connection, subject, kind, chosen, limits, now)
    on = len(rows) == limit and len(chosen) == limit
    return Page(items=items, limits=limits, settled=settled, next=rows[-1].id if on else None)


def leaves_nothing(connection: Connection, subject: Subject, kind: Kind, now: int) -> bool:
    """
    Return whether of what a project has of this kind even the newest goes. (What is older and stays is live, or pinned,
    or the like.) Of releases: whether none is left to roll back to.
    """
    if kind not in OF_BUILDS:
        return _LEAVES_NOTHING[kind](connection, subject, now)
    if oldest_kept(kind, subject.rules, now) is None and subject.rules.most_builds is None:
        return False
    limits = Limits.of(connection, subject)
    newest = select(builds.c.id).where(builds.c.project_id == subject.id).where(_WHERE[kind])
    chosen = list(connection.execute(newest.order_by(builds.c.id.desc()).limit(_NEWEST)).scalars())
    items, _settled = _judged(connection, subject, kind, chosen, limits, now)
    return bool(items) and all(item.verdict.goes for item in items)


def lost(connection: Connection, subject: Subject, now: int) -> list[Kind]:
    """Return of which kinds a project would have nothing left."""
    return [kind for kind in ASKED_BACK if leaves_nothing(connection, subject, kind, now)]


#: Among so many of the newest builds one is looked for that keeps something.
_NEWEST = 50


class _Held(Row, frozen=True, kw_only=True):
    """What a build has of a kind."""

    size: int = 0  # bytes
    there: bool = False
    attempts: frozenset[int] = frozenset()  # of logs: those that have one
    begun: frozenset[int] = frozenset()  # those of which a part is removed already


def _judged(
    connection: Connection, subject: Subject, kind: Kind, chosen: Sequence[int], limits: Limits, now: int
) -> tuple[list[Item], list[int]]:
    """Return what becomes of these builds, and those that needn't be looked at again."""
    if not chosen:
        return [], []
    held = _HELD[kind](connection, chosen)
    items, settled = [], []
    for facts in _facts(connection, subject, chosen, limits, now):
        mine = held.get(facts.build, _Held(there=kind is Kind.BUILDS))
        if not mine.there:
            if Stays.GOES_ON not in facts.stays:
                settled.append(facts.build)
            continue
        found = verdict(kind, facts, subject.rules, now)
        if found.stays is Stays.PACKAGES:
            settled.append(facts.build)
        going, partly = mine.attempts, False
        if mine.begun and not found.goes:
            # It was pinned, say, when a part of a log was gone already.
            found, going, partly = Verdict(rule=Kind.LOGS), mine.begun, mine.begun < mine.attempts
        begun = bool(mine.begun)
        items.append(Item(id=facts.build, verdict=found, size=mine.size, attempts=going, begun=begun, partly=partly))
    return items, settled


def _facts(connection: Connection, subject: Subject, chosen: Sequence[int], limits: Limits, now: int) -> list[Facts]:
    """What the ledger knows of these builds, in their order."""
    pins = _pins(connection, subject, chosen, now)
    query = select(builds.c.id, builds.c.created, builds.c.state, builds.c.pinned)
    rows = connection.execute(query.where(builds.c.id.in_(chosen)).order_by(builds.c.id)).all()
    a = attempts.c
    ends = select(a.build_id, func.max(a.ended).label("ended")).where(a.build_id.in_(chosen)).group_by(a.build_id)
    ended = {row.build_id: row.ended for row in connection.execute(ends)}
    found = []
    for row in rows:
        stays = {reason for reason, ids in pins.items() if row.id in ids}
        if row.state not in TERMINAL:
            stays.add(Stays.GOES_ON)
        if not subject.deleted and row.pinned is not None:
            stays.add(Stays.PINNED)
        if row.id >= limits.newest_from:
            stays.add(Stays.NEWEST)
        found.append(
            Facts(
                build=row.id,
                ended=max(ended.get(row.id) or 0, row.created),
                stays=frozenset(stays),
                beyond_most=row.id < limits.oldest_of_most,
            )
        )
    return found


def _pins(connection: Connection, subject: Subject, chosen: Sequence[int], now: int) -> dict[Stays, set[int]]:
    """Which of these builds stay because of something else that is in the ledger."""

    def ids(query: Any) -> set[int]:
        return set(connection.execute(query).scalars())

    p, d = publications.c, deliveries.c
    found = {
        Stays.PACKAGES: ids(select(p.build_id).where(p.build_id.in_(chosen)))
        | ids(select(d.build_id).where(d.build_id.in_(chosen), d.package.is_not(None))),
    }
    if subject.deleted:
        return found
    o, r, s = outbox.c, hook_refs.c, schedules.c
    found[Stays.TOLD] = ids(select(o.build_id).where(o.state == TellingState.WAITING, o.build_id.in_(chosen)))
    found[Stays.OF_REF] = ids(select(r.build_id).where(r.build_id.in_(chosen), r.gone.is_(False)))
    found[Stays.OF_SCHEDULE] = ids(select(s.build_id).where(s.build_id.in_(chosen)))
    if subject.rules.last_success:
        found[Stays.LAST_SUCCESS] = _last_successes(connection, subject, chosen)
    made = connection.execute(
        select(releases_table.c.id, releases_table.c.build_id, releases_table.c.state).where(
            releases_table.c.build_id.in_(chosen)
        )
    ).all()
    found[Stays.RELEASE] = {row.build_id for row in made}
    found[Stays.LIVE] = {row.build_id for row in made if row.state == ReleaseState.LIVE}
    if made:
        about = projects.get(connection, subject.name)
        shown = frozenset() if about is None else previews.kept(connection, about, subject.rules, now)
        found[Stays.PREVIEW] = {row.build_id for row in made if row.id in shown}
    if any(row.state == ReleaseState.PACKED for row in made):
        waits = {each.id for each in releases.waiting(connection, subject.name)}
        found[Stays.WAITS] = {row.build_id for row in made if row.id in waits}
    return found


def _last_successes(connection: Connection, subject: Subject, chosen: Sequence[int]) -> set[int]:
    """Return which of these builds are the last success of a ref that there is, as far as is known."""
    newer = builds.alias("newer")
    later = exists().where(
        newer.c.project_id == builds.c.project_id,
        newer.c.ref == builds.c.ref,
        newer.c.id > builds.c.id,
        text("newer.state = 'succeeded'"),
    )
    query = select(builds.c.id, builds.c.ref).where(builds.c.id.in_(chosen), builds.c.state == "succeeded", ~later)
    last = {row.id: full_ref(row.ref) for row in connection.execute(query)}
    gone = set(
        connection.execute(
            select(hook_refs.c.lane).where(
                hook_refs.c.project_id == subject.id, hook_refs.c.gone, hook_refs.c.lane.in_(set(last.values()))
            )
        ).scalars()
    )
    return {build for build, ref in last.items() if ref not in gone}


def _held_logs(connection: Connection, chosen: Sequence[int]) -> dict[int, _Held]:
    a, c = attempts.c, sealed_chunks.c
    sealed = {
        (row.build_id, row.number): row.plain - row.size
        for row in connection.execute(
            select(c.build_id, c.number, func.sum(c.plain).label("plain"), func.sum(c.size).label("size"))
            .where(c.build_id.in_(chosen))
            .group_by(c.build_id, c.number)
        )
    }
    query = select(a.build_id, a.number, a.log_bytes, a.log_removed).where(a.build_id.in_(chosen), a.next_record > 1)
    found: dict[int, _Held] = {}
    for row in connection.execute(query):
        begun = row.log_removed is not None
        if begun and not sealed_logs.is_left(connection, attempt_name(row.build_id, row.number)):
            continue
        before = found.get(row.build_id, _Held())
        found[row.build_id] = _Held(
            size=before.size + (0 if begun else row.log_bytes - int(sealed.get((row.build_id, row.number), 0))),
            there=True,
            attempts=before.attempts | {row.number},
            begun=before.begun | {row.number} if begun else before.begun,
        )
    return found


def _held_archives(connection: Connection, chosen: Sequence[int]) -> dict[int, _Held]:
    query = (
        select(artifacts.c.build_id, func.sum(artifacts.c.size).label("size"))
        .where(artifacts.c.build_id.in_(chosen))
        .group_by(artifacts.c.build_id)
    )
    return {row.build_id: _Held(size=int(row.size), there=True) for row in connection.execute(query)}


def _nothing_held(connection: Connection, chosen: Sequence[int]) -> dict[int, _Held]:
    return {}


_HELD: dict[Kind, Callable[[Connection, Sequence[int]], dict[int, _Held]]] = {
    Kind.LOGS: _held_logs,
    Kind.ARTIFACTS: _held_archives,
    Kind.UNPUBLISHED: _held_archives,
    Kind.BUILDS: _nothing_held,
}


# -- removing ----------------------------------------------------------------------------------------------------------


def remove(
    connection: Connection, subject: Subject, kind: Kind, chosen: Sequence[int], limits: Limits, most: int, now: int
) -> Removed:
    """
    Remove what these builds have of a kind, as far as it goes. All of them are of one `Page.wanted`.

    :param limits: the page's
    :param most: bytes of logs that are removed at a time, about
    """
    flag = {Kind.LOGS: "has_log", Kind.BUILDS: "lasting"}.get(kind, "has_archive")
    items, settled = _judged(connection, subject, kind, chosen, limits, now)
    going = [item for item in items if item.verdict.goes]
    if kind is Kind.LOGS:
        removed, done = _remove_logs(connection, going, most, now)
        settled += done
    elif kind is Kind.BUILDS:
        removed = _remove_builds(connection, subject, [item.id for item in going])
    else:
        removed = _remove_archives(connection, [item.id for item in going])
        settled += [item.id for item in going]
    if settled:
        values = {flag: kind is Kind.BUILDS}
        connection.execute(update(builds).where(builds.c.id.in_(settled)).values(**values))
    return removed


def _remove_logs(connection: Connection, going: list[Item], most: int, now: int) -> tuple[Removed, list[int]]:
    """Remove logs, of about ``most`` bytes. What that was, and the builds that have none any more."""
    size = count = 0
    small: list[Item] = []
    large: list[Item] = []
    for item in going:
        fits = not item.begun and not item.partly and size + item.size <= most
        (small if fits else large).append(item)
        size += item.size if fits else 0
    for rule in {item.verdict.rule for item in small}:
        count += _mark_logs(connection, [item.id for item in small if item.verdict.rule == rule], rule, now)
    done = [item.id for item in small]
    sealed_logs.remove_all(connection, done)
    for item in large:
        for number in sorted(item.attempts):
            if size >= most:
                return Removed(count=count, size=size, left=True), done
            count += _mark_logs(connection, [item.id], item.verdict.rule, now, number)
            name = attempt_name(item.id, number)
            while size < most and (freed := sealed_logs.remove(connection, name, most - size)):
                size += freed
            if sealed_logs.is_left(connection, name):
                return Removed(count=count, size=size, left=True), done
        if not item.partly:
            done.append(item.id)
    return Removed(count=count, size=size), done


def _mark_logs(connection: Connection, chosen: Sequence[int], rule: str, now: int, number: int | None = None) -> int:
    """Note by which rule logs of these builds are removed (or of one attempt, by its ``number``), and how many are."""
    a = attempts.c
    which = [a.build_id.in_(chosen), a.next_record > 1, a.log_removed.is_(None)]
    if number is not None:
        which.append(a.number == number)
    return connection.execute(update(attempts).where(*which).values(log_removed=now, log_rule=rule)).rowcount


def _remove_archives(connection: Connection, going: Sequence[int]) -> Removed:
    """Forget the archives of these builds; their files go by `remove_files`."""
    which = artifacts.c.build_id.in_(going)
    rows = connection.execute(select(artifacts.c.sha256, artifacts.c.size).where(which)).all()
    note_files(connection, {row.sha256 for row in rows})
    connection.execute(delete(artifacts).where(which))
    return Removed(count=len(rows))


def _remove_builds(connection: Connection, subject: Subject, going: Sequence[int]) -> Removed:
    """Delete builds with all that the ledger has of them. Those whose log isn't removed yet stay until it is."""
    held = _held_logs(connection, going) if going else {}
    gone = [build for build in going if build not in held or not held[build].there]
    if not gone:
        return Removed()
    _remove_archives(connection, gone)
    if subject.deleted:
        made = select(releases_table.c.id).where(releases_table.c.build_id.in_(gone))
        connection.execute(delete(previews_table).where(previews_table.c.release_id.in_(made)))
        connection.execute(delete(releases_table).where(releases_table.c.build_id.in_(gone)))
        connection.execute(update(hook_refs).where(hook_refs.c.build_id.in_(gone)).values(build_id=None))
    for table in (hook_deliveries, hook_refs):
        connection.execute(update(table).where(table.c.build_id.in_(gone)).values(build_id=None))
    for table in (said, steps, deliveries, statements, idempotency, attempts):
        connection.execute(delete(table).where(table.c.build_id.in_(gone)))
    connection.execute(delete(builds).where(builds.c.id.in_(gone)))
    return Removed(count=len(gone))


# -- releases ----------------------------------------------------------------------------------------------------------


def look_at_releases(connection: Connection, subject: Subject, limit: int, now: int) -> list[Item]:
    """Return up to ``limit`` of a project's releases that are too many, the oldest first."""
    if subject.rules.releases is None or subject.deleted:
        return []
    about = projects.get(connection, subject.name)
    if about is None:
        return []
    kept: set[int] = set(previews.kept(connection, about, subject.rules, now))
    made = select(releases_table.c.target).where(releases_table.c.project_id == subject.id).distinct()
    targets = {name_of(settings) for settings in TARGETS.active(about.targets)}
    for target in targets | set(connection.execute(made).scalars()):
        kept |= releases.to_keep(connection, subject.name, target, subject.rules.releases)
    query = (
        select(releases_table.c.id, releases_table.c.size)
        .where(releases_table.c.project_id == subject.id)
        .order_by(releases_table.c.id)
        .limit(limit + len(kept))
    )
    found = Verdict(rule=f"releases = {subject.rules.releases}")
    rows = connection.execute(query).all()
    return [Item(id=row.id, verdict=found, size=row.size) for row in rows if row.id not in kept][:limit]


def remove_releases(connection: Connection, subject: Subject, limit: int, now: int) -> Removed:
    """Delete the rows of releases that are too many. Their files go with `Releasing.tidy`."""
    going = look_at_releases(connection, subject, limit, now)
    if going:
        connection.execute(delete(releases_table).where(releases_table.c.id.in_([item.id for item in going])))
    return Removed(count=len(going), left=len(going) == limit)


def _no_way_back(connection: Connection, subject: Subject, now: int) -> bool:
    """Return whether there are releases that were live, of some target, and all but the live one go."""
    r = releases_table.c
    going = {item.id for item in look_at_releases(connection, subject, _MOST_RELEASES, now)}
    once = select(r.id, r.target).where(r.project_id == subject.id, r.activated.is_not(None))
    by_target: dict[str, list[int]] = {}
    for row in connection.execute(once.where(r.state != ReleaseState.LIVE).order_by(r.id.desc()).limit(_MOST_RELEASES)):
        by_target.setdefault(row.target, []).append(row.id)
    return any(all(each in going for each in made) for made in by_target.values())


#: Among so many of a project's releases one is looked for to which it can be rolled back.
_MOST_RELEASES = 1000


# -- previews ----------------------------------------------------------------------------------------------------------


def look_at_previews(connection: Connection, subject: Subject, now: int) -> list[Item]:
    """Return what becomes of a project's previews of branches: by the numbers of their releases."""
    about = None if subject.deleted else projects.get(connection, subject.name)
    if about is None:
        return []
    found = previews.judged(connection, about, subject.rules, now)
    return [Item(id=each.release, verdict=each.verdict) for each in found]


def remove_previews(connection: Connection, subject: Subject, limit: int, now: int) -> Removed:
    """Delete previews that aren't kept any more, all at once: there are as many as branches at most."""
    about = None if subject.deleted else projects.get(connection, subject.name)
    return Removed(count=0 if about is None else previews.forget(connection, about, subject.rules, now))


def _no_preview(connection: Connection, subject: Subject, now: int) -> bool:
    if subject.rules.previews is None:
        return False
    found = look_at_previews(connection, subject, now)
    return bool(found) and all(item.verdict.goes for item in found)


# -- what came, and what was told --------------------------------------------------------------------------------------


def old_messages(connection: Connection, subject: Subject, limit: int, now: int) -> tuple[list[int], list[int]]:
    """Return up to ``limit`` messages of hosts, and as many tellings, that are too old: the numbers of both."""
    days = subject.rules.messages
    if days is None:
        return [], []
    since = now - days * DAY
    # The oldest come first, so no more rows are read than go: whether one is old isn't asked of all that there are.
    oldest = (
        select(hook_deliveries.c.id, hook_deliveries.c.received)
        .where(hook_deliveries.c.project_id == subject.id, hook_deliveries.c.outcome != "waits")
        .order_by(hook_deliveries.c.id)
        .limit(limit)
        .subquery()
    )
    came = select(oldest.c.id).where(oldest.c.received <= since)
    told = (
        select(outbox.c.id)
        .where(outbox.c.receiver_id.in_(select(receivers.c.id).where(receivers.c.project_id == subject.id)))
        .where(outbox.c.state != TellingState.WAITING, outbox.c.ended <= since)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return list(connection.execute(came).scalars()), list(connection.execute(told).scalars())


def remove_messages(connection: Connection, subject: Subject, limit: int, now: int) -> Removed:
    """Delete messages and tellings that are too old."""
    came, told = old_messages(connection, subject, limit, now)
    for table, ids in ((hook_deliveries, came), (outbox, told)):
        if ids:
            connection.execute(delete(table).where(table.c.id.in_(ids)))
    return Removed(count=len(came) + len(told), left=limit in (len(came), len(told)))


def _no_message(connection: Connection, subject: Subject, now: int) -> bool:
    """Return whether even the newest message of a host goes, or what was told last."""
    days = subject.rules.messages
    if days is None:
        return False
    h, o = hook_deliveries.c, outbox.c
    came = select(h.received).where(h.project_id == subject.id, h.outcome != "waits").order_by(h.id.desc()).limit(1)
    mine = o.receiver_id.in_(select(receivers.c.id).where(receivers.c.project_id == subject.id))
    told = select(o.ended).where(mine, o.state != TellingState.WAITING).order_by(o.id.desc()).limit(1)
    newest = [connection.execute(query).scalar() for query in (came, told)]
    return any(each is not None and each <= now - days * DAY for each in newest)


_LEAVES_NOTHING: dict[Kind, Callable[[Connection, Subject, int], bool]] = {
    Kind.PREVIEWS: _no_preview,
    Kind.RELEASES: _no_way_back,
    Kind.MESSAGES: _no_message,
}


def newest_known(connection: Connection) -> int:
    """Return when the newest came that the ledger has of builds: their requests, archives, packages and ends."""
    newest = select(builds.c.id).order_by(builds.c.id.desc()).limit(_NEWEST)
    a, f, p = attempts.c, artifacts.c, publications.c
    queries = (
        select(func.max(builds.c.created)).where(builds.c.id.in_(newest)),
        select(func.max(a.ended)).where(a.build_id.in_(newest)),
        select(func.max(f.created)).where(f.build_id.in_(newest)),
        select(func.max(p.updated)).where(p.build_id.in_(newest)),
    )
    return max(connection.execute(query).scalar() or 0 for query in queries)


# -- files -------------------------------------------------------------------------------------------------------------


def note_files(connection: Connection, names: Iterable[str]) -> None:
    """Note that these files of the artifact store may be needed no longer: `remove_files` looks whether they are."""
    wanted = set(names)
    known = set(connection.execute(select(removed_files.c.sha256).where(removed_files.c.sha256.in_(wanted))).scalars())
    if wanted - known:
        connection.execute(insert(removed_files), [{"sha256": sha256} for sha256 in sorted(wanted - known)])


def unknown_files(connection: Connection, names: Collection[str]) -> list[str]:
    """Return which of these files of the artifact store no row names."""
    return sorted(set(names) - _needed(connection, names))


def any_files(connection: Connection) -> bool:
    """Return whether there are files for `remove_files` to look at."""
    return connection.execute(select(removed_files.c.sha256).limit(1)).first() is not None


def remove_files(connection: Connection, store: ArtifactStore, limit: int, after: str) -> tuple[Removed, str]:
    """
    Take up to ``limit`` files that were noted, after the name ``after``, out of the store, unless a row has come to
    name them; and the name to go on after. It is done in the transaction: nothing can come to need a file meanwhile.
    Raises OSError.
    """
    query = select(removed_files.c.sha256).where(removed_files.c.sha256 > after).order_by(removed_files.c.sha256)
    names = list(connection.execute(query.limit(limit)).scalars())
    needed = _needed(connection, names)
    sizes = {name: store.size(name) for name in names if name not in needed}
    # A package that is stored at this moment is named by its size alone. (There are few attempts that go on, and many
    # packages without a file: the index of these isn't the one to use.)
    p, a = publications.c, attempts.c
    going_on = select(a.build_id).where(a.state.in_(sorted(set(AttemptState) - TERMINAL)))
    coming = select(p.size).where(
        p.build_id.in_(going_on), func.coalesce(p.sha256, "") == "", p.size.in_(set(sizes.values()))
    )
    expected = set(connection.execute(coming).scalars())
    gone = [name for name, size in sizes.items() if size not in expected]
    for name in gone:
        store.set_aside(name)
    over = [*gone, *needed]
    connection.execute(delete(removed_files).where(removed_files.c.sha256.in_(over)))
    removed = Removed(count=len(gone), size=sum(sizes[name] for name in gone), left=len(names) == limit)
    return removed, names[-1] if names else after


def _needed(connection: Connection, names: Collection[str]) -> set[str]:
    return {
        name
        for table in (artifacts, publications)
        for name in connection.execute(select(table.c.sha256).where(table.c.sha256.in_(set(names)))).scalars()
    }


# -- space -------------------------------------------------------------------------------------------------------------


class Space(Row, frozen=True, kw_only=True):
    """What a database in a file has of pages that hold nothing."""

    free: int  # bytes
    size: int  # bytes of the whole file
    shrinks: bool  # `give_back` can give them back to the disk


def free_space(connection: Connection) -> Space | None:
    """Return what is free inside the database's file; None of PostgreSQL, which sees to it by itself."""
    if connection.dialect.name != "sqlite":
        return None

    def pragma(name: str) -> int:
        return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    page = pragma("page_size")
    return Space(
        free=pragma("freelist_count") * page,
        size=pragma("page_count") * page,
        shrinks=pragma("auto_vacuum") == 2,
    )


def give_back(connection: Connection, pages: int) -> Space | None:
    """Give up to so many free pages of SQLite's file back to the disk. Return what there is then, as `free_space`."""
    for _ in range(pages):
        # One by one: SQLite gives a page back for each step of the statement, and Python's driver makes one step of a
        # statement that has no columns.
        command(connection, "PRAGMA incremental_vacuum(1)")
    return free_space(connection)
