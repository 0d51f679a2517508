"""
Removes what isn't kept any more, by the rules of retention. Wired by ``compose``; implements `boundaries.Retention`.

Every hour, and when somebody asks for it: project by project and kind by kind, what is too old is looked for and
removed, in small transactions with pauses between them, so that builds and viewers don't notice. The busier the
apiserver is, the longer are the pauses, up to a bound. What becomes of each
thing is decided by `builds.retention`, and done by `storage.retention`; a plan asks the same. Whatever ends this
process, the next run goes on: how far it has come is in the rows themselves.

The database's file of SQLite is made smaller meanwhile and afterwards, a little at a time, if it was made by a version
that allows it (`twistedipc ledger compact` has it otherwise).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.counts import counted
from twistedipc.builds.messages import CACHES_KEPT
from twistedipc.builds.retention import DAY, Kind, Lost, OnBuilders, Plan, PlanLine, Rules, Run, shown
from twistedipc.server.boundaries import InThread
from twistedipc.server.discarding import Discarding
from twistedipc.server.linked import LinkedBuilders
from twistedipc.server.releasing import Releasing
from twistedipc.server.workflows import Workflows
from twistedipc.storage import audit, retention
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.retention import ASKED_BACK, OF_BUILDS, Item, Limits, Removed, Subject
from twistedipc.storage.rows import APISERVER, Actor

_T = TypeVar("_T")

#: Seconds from one run to the next, and until the first: a start has more urgent things to do.
INTERVAL = 3600.0
FIRST = 300.0

#: The share of the time that a run takes for itself, and the longest pause, in seconds.
SHARE = 0.2
LONGEST_PAUSE = 0.5

#: Of how many projects it is found out at a time what they have to remove.
PROJECTS = 100

#: How many builds are looked at at a time, and how many rows of other kinds go at a time.
LOOKED = 50
ROWS = 200

#: Seconds that the statements of a transaction may take: what builds print meanwhile comes to its viewers later by as
#: much. So many builds go at once as fit into that, but this many at least, since to look what keeps them takes 2 ms,
#: however many they are; and so many bytes of logs for each.
LONGEST = 0.006
LEAST_AT_ONCE = 10
BYTES = 128 << 10

#: How many builds of a project a plan looks at, of each kind, and for how many seconds in all.
PLANNED = 2000
PLAN_SECONDS = 20.0

#: So many free pages of the database's file go back to the disk at a time as fit into `LONGEST`, between these.
LEAST_PAGES = 64
MOST_PAGES = 1024

#: Which part of its file the database keeps, since it needs that again soon (on most days as much comes as goes), and
#: how many bytes that is at least and at most.
SPARE_SHARE = 0.05
SPARE_BYTES = 4 << 20
MOST_SPARE_BYTES = 64 << 20

#: SQLite looks for each page that it gives back in a list of all that are free, so it takes the longer the more these
#: are. That is why room is given back after each part of a project's logs, of so many bytes, unless many more are free
#: already; and for so many seconds at the end of a run, which the next one goes on with.
PART = 8 << 20
FEW_FREE = 128 << 20
GIVING_BACK = 60.0

_DIGITS = "0123456789abcdef"


class Pruning:
    """
    Removes what isn't kept. ``rules``: those of projects that have none of their own.

    :param now: milliseconds since the epoch
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        in_thread: InThread,
        workflows: Workflows,
        releasing: Releasing,
        artifact_store: ArtifactStore,
        rules: Rules,
        linked: LinkedBuilders,
    ) -> None:
        self._rules = rules
        self._linked = linked
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._in_thread = in_thread
        self._workflows = workflows
        self._releasing = releasing
        self._store = artifact_store
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self._run: Run | None = None
        self._builds = _Portion(LEAST_AT_ONCE, LOOKED)
        self._pages = _Portion(LEAST_PAGES, MOST_PAGES)
        self._swept = 0  # so many folders of the artifact store were looked through

    @property
    def rules(self) -> Rules:
        """The rules of projects that have none of their own."""
        return self._rules

    @property
    def run(self) -> Run | None:
        """The run that goes on, else the last one; None: there was none since the start."""
        return self._run

    def start(self) -> None:
        """Begin, a little later; but see at once whether the ledger is older than the archives."""
        self._workflows.launch(self._see_age(), "looking whether the database is as new as the archives")
        self._timer = self._clock.callLater(FIRST, self._by_itself)

    def stop(self) -> None:
        """End; a run that goes on ends with the transaction that is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def _see_age(self) -> None:
        newest = await self._workflows.retry_until_available(lambda: self._ledger.read(retention.newest_known))
        if await self._in_thread(self._store.note_newer, newest / 1000):
            self._log.error(
                "the database is older than the archives: it was restored from a copy, or isn't the one that belongs "
                "to them. Archives that came since then, and that it doesn't name, are kept from now on (see "
                "docs/operating.md, Restore)"
            )

    def _by_itself(self) -> None:
        self._timer = self._clock.callLater(INTERVAL, self._by_itself)
        if self._run is None or self._run.ended is not None:
            self.begin(None, APISERVER)

    def begin(self, projects: frozenset[str] | None, by: Actor) -> Run:
        """
        Begin a run, unless one goes on: that one. ``projects``: of these alone, and nothing that is of no project.
        """
        if self._run is None or self._run.ended is not None:
            self._run = Run(by=by.name, began=self._now(), projects=projects)
            self._workflows.launch(self._go_through(self._run, projects, by), "removing what isn't kept any more")
        return self._run

    # -- the plan

    async def plan(self, projects: frozenset[str] | None) -> Plan:
        """Say what would go now. ``projects``: as in `begin`. Raises `LedgerUnavailable`."""
        until = self._clock.seconds() + PLAN_SECONDS
        subjects = await self._ledger.read(retention.subjects, self._rules, projects)
        lines: list[PlanLine] = []
        for subject, kinds in await self._due(subjects):
            for kind in kinds:
                if self._clock.seconds() > until:
                    continue
                line = await self._planned(subject, kind)
                if line is not None:
                    lines.append(line)
        if projects is None and self._rules.audit is not None:
            since = self._now() - self._rules.audit * DAY
            old = await self._ledger.read(audit.count_before, since, PLANNED)
            if old:
                lines.append(
                    PlanLine(
                        project="",
                        kind=Kind.AUDIT,
                        count=old,
                        size=0,
                        rules=[f"audit = {shown(self._rules.audit)}"],
                        stays={},
                        whole=old < PLANNED,
                        nothing_left=await self._ledger.read(audit.all_before, since),
                    )
                )
        late = self._clock.seconds() > until
        removes = self._rules.removes or any(subject.rules.removes for subject in subjects)
        return Plan(lines=lines, caches=self._on_builders(subjects), removes=removes, whole=not late)

    def _on_builders(self, subjects: list[Subject]) -> OnBuilders:
        """Say what can be known here of the caches, which builders remove."""
        rules = {each.name: each.rules.caches for each in subjects if not each.deleted}
        return OnBuilders(
            projects={name: days for name, days in rules.items() if days is not None},
            unaware=sorted(link.peer.info.name for link in self._linked.ready() if CACHES_KEPT not in link.features),
        )

    async def lost(self, projects: frozenset[str] | None) -> Lost:
        """See `boundaries.Retention`. It takes far less than a plan: a look at the newest builds of each project."""
        until = self._clock.seconds() + PLAN_SECONDS
        found: list[tuple[str, Kind]] = []
        days = self._rules.audit if projects is None else None
        if days is not None and await self._ledger.read(audit.all_before, self._now() - days * DAY):
            found.append(("", Kind.AUDIT))
        subjects = await self._ledger.read(retention.subjects, self._rules, projects)
        for subject, kinds in await self._due(subjects):
            if self._clock.seconds() > until:
                return Lost(of=found, whole=False)
            if kinds and not subject.deleted:
                found += [(subject.name, kind) for kind in await self._read(retention.lost, subject, self._now())]
        return Lost(of=found)

    async def _planned(self, subject: Subject, kind: Kind) -> PlanLine | None:
        name = "" if subject.deleted else subject.name
        if kind in OF_BUILDS:
            return await self._planned_of_builds(subject, kind, name)
        if kind is Kind.PREVIEWS:
            found = await self._read(retention.look_at_previews, subject, self._now())
            return await self._planned_of(subject, kind, name, found, whole=True) if found else None
        if kind is Kind.RELEASES:
            items = await self._read(retention.look_at_releases, subject, PLANNED, self._now())
            return await self._planned_of(subject, kind, name, items, whole=len(items) < PLANNED) if items else None
        came, told = await self._read(retention.old_messages, subject, PLANNED, self._now())
        count = len(came) + len(told)
        if not count:
            return None
        nothing = not subject.deleted and await self._read(retention.leaves_nothing, subject, kind, self._now())
        return PlanLine(
            project=name,
            kind=kind,
            count=count,
            size=0,
            rules=[f"messages = {subject.rules.messages} days"],
            stays={},
            whole=PLANNED not in (len(came), len(told)),
            nothing_left=nothing,
        )

    async def _planned_of_builds(self, subject: Subject, kind: Kind, name: str) -> PlanLine | None:
        after: int | None = 0
        looked: list[Item] = []
        while after is not None and len(looked) < PLANNED:
            page = await self._read(retention.look, subject, kind, after, LOOKED, self._now())
            looked += page.items
            after = page.next
        return await self._planned_of(subject, kind, name, looked, whole=after is None) if looked else None

    async def _planned_of(
        self, subject: Subject, kind: Kind, name: str, looked: list[Item], *, whole: bool
    ) -> PlanLine | None:
        """Return the line of a plan about what was looked at; None: nothing is to be said of it."""
        going = [item for item in looked if item.verdict.goes]
        if not going and kind is Kind.PREVIEWS:
            return None  # most are too young, and a line about each project says nothing
        stays: dict[str, int] = {}
        for item in looked:
            if item.verdict.stays is not None:
                stays[item.verdict.stays] = stays.get(item.verdict.stays, 0) + 1
        nothing = False
        if going and kind in ASKED_BACK and not subject.deleted:
            nothing = await self._read(retention.leaves_nothing, subject, kind, self._now())
        return PlanLine(
            project=name,
            kind=kind,
            count=len(going),
            size=sum(item.size for item in going),
            rules=sorted({item.verdict.rule for item in going}),
            stays=stays,
            whole=whole,
            nothing_left=nothing,
        )

    async def _due(self, subjects: list[Subject]) -> list[tuple[Subject, list[Kind]]]:
        """Return these projects, each with the kinds of which something may go."""
        found: list[tuple[Subject, list[Kind]]] = []
        for at in range(0, len(subjects), PROJECTS):
            some = subjects[at : at + PROJECTS]
            found += zip(some, await self._read(retention.due, some, self._now()), strict=True)
        return found

    # -- a run

    async def _go_through(self, run: Run, projects: frozenset[str] | None, by: Actor) -> None:
        try:
            for subject, kinds in await self._due(await self._read(retention.subjects, self._rules, projects)):
                for kind in kinds:
                    await self._remove_of(run, subject, kind)
            if projects is None:
                await self._remove_audit(run)
                await self._sweep()
            await self._remove_files(run)
            await self._give_back(run)
        except LedgerUnavailable as error:
            run.problem = str(error)
        except Exception as error:
            run.problem = f"it failed: {error}"
            raise
        finally:
            run.ended = self._now()
            await self._tell(run, projects, by)

    async def _remove_of(self, run: Run, subject: Subject, kind: Kind) -> None:
        if kind in OF_BUILDS:
            await self._remove_of_builds(run, subject, kind)
        elif kind is Kind.PREVIEWS:
            if any(item.verdict.goes for item in await self._read(retention.look_at_previews, subject, self._now())):
                await self._repeat(run, kind, retention.remove_previews, subject)
                await self._releasing.tidy(subject.name)
        elif kind is Kind.RELEASES:
            if await self._read(retention.look_at_releases, subject, 1, self._now()):
                await self._repeat(run, kind, retention.remove_releases, subject)
                crash_point(CrashPoint.APISERVER_PRUNED_RELEASES)
                await self._releasing.tidy(subject.name)
        elif kind is Kind.MESSAGES and any(await self._read(retention.old_messages, subject, 1, self._now())):
            await self._repeat(run, kind, retention.remove_messages, subject)

    async def _remove_of_builds(self, run: Run, subject: Subject, kind: Kind) -> None:
        after: int | None = 0
        freed = 0
        while after is not None:
            page = await self._read(retention.look, subject, kind, after, LOOKED, self._now())
            after, wanted = page.next, page.wanted
            while wanted:
                chosen = wanted[: self._builds.size]
                removed = await self._remove(subject, kind, chosen, page.limits)
                run.note(kind, removed.count, removed.size)
                crash_point(CrashPoint.APISERVER_PRUNED)
                if not removed.left:
                    wanted = wanted[len(chosen) :]
                freed += removed.size
                if freed >= PART:
                    freed = 0
                    await self._give_back(run, FEW_FREE)

    async def _remove(self, subject: Subject, kind: Kind, chosen: list[int], limits: Limits) -> Removed:
        """Remove what these builds have of a kind, or a part of it; and find out how many may go at once."""
        most = self._builds.size * BYTES
        args = (subject, kind, chosen, limits, most, self._now())
        removed, took = await self._asked(self._ledger.write, retention.remove, *args)
        self._builds.took(took.work, full=removed.left or len(chosen) == self._builds.size)
        await self._pause(took)
        return removed

    async def _repeat(
        self, run: Run, kind: Kind, remove: Callable[[Connection, Subject, int, int], Removed], subject: Subject
    ) -> None:
        """Remove what there is of something that has no bytes to speak of."""
        left = True
        while left:
            removed = await self._write(remove, subject, ROWS, self._now())
            run.note(kind, removed.count, removed.size)
            left = removed.left

    async def _remove_audit(self, run: Run) -> None:
        if self._rules.audit is None:
            return
        since = self._now() - self._rules.audit * DAY
        while await self._read(audit.count_before, since, 1):
            run.note(Kind.AUDIT, await self._write(audit.remove_before, since, ROWS), 0)

    async def _sweep(self) -> None:
        """
        Look through a few folders of the artifact store for files that no row names, which a crash has left: in a day
        through all of them.
        """
        for _ in range(16):
            digits = _DIGITS[self._swept // 16] + _DIGITS[self._swept % 16]
            self._swept = (self._swept + 1) % 256
            names = await self._in_thread(self._store.older_than, digits, (self._now() - DAY) / 1000)
            for at in range(0, len(names), ROWS):
                unknown = await self._read(retention.unknown_files, tuple(names[at : at + ROWS]))
                if unknown:
                    await self._write(retention.note_files, unknown)

    async def _remove_files(self, run: Run) -> None:
        def note(removed: Removed) -> None:
            run.files.count += removed.count
            run.files.size += removed.size

        try:
            await self._in_thread(self._store.delete_set_aside)  # a run before this one may have been ended
            await Discarding(self._store, self._in_thread).discard(self._read, self._write, note)
        except OSError as error:
            run.problem = f"archives can't be removed now: {error}"

    async def _give_back(self, run: Run, most: float = math.inf) -> None:
        """Give room of the database's file back to the disk, unless more than ``most`` bytes of it are free."""
        space = await self._read(retention.free_space)
        if space is None or not space.shrinks or space.free > most:
            return
        spare = min(max(SPARE_BYTES, int(space.size * SPARE_SHARE)), MOST_SPARE_BYTES)
        until = self._clock.seconds() + GIVING_BACK
        while space.free > spare and self._clock.seconds() < until:
            left, took = await self._asked(self._ledger.write, retention.give_back, self._pages.size)
            self._pages.took(took.work, full=True)
            await self._pause(took)
            before, space = space, left or space
            run.given_back += max(0, before.size - space.size)

    async def _tell(self, run: Run, projects: frozenset[str] | None, by: Actor) -> None:
        if run.problem and not self._stopped:
            self._log.error("what isn't kept any more can't all be removed now: {problem}", problem=run.problem)
        if run.did_anything:
            detail = {kind.value: f"{freed.count} ({counted(freed.size, 'byte')})" for kind, freed in run.freed.items()}
            if run.files.count:
                detail["files"] = f"{run.files.count} ({counted(run.files.size, 'byte')})"
            said = ", ".join(f"{name}: {what}" for name, what in detail.items())
            self._log.info("what isn't kept any more was removed: {said}", said=said)
            one = next(iter(projects)) if projects is not None and len(projects) == 1 else None
            try:
                await self._ledger.write(
                    audit.record,
                    by=by,
                    action="retention.prune",
                    subject=one or "all",
                    project=one,
                    detail=detail | ({"ended early": run.problem} if run.problem else {}),
                    now=self._now(),
                )
            except LedgerUnavailable as error:
                self._log.error("what was removed ({said}) isn't in the audit: {error}", said=said, error=error)

    # -- at its own pace

    def _read(self, query: Callable[..., _T], /, *args: object) -> Awaitable[_T]:
        return self._paced(self._ledger.read, query, *args)

    def _write(self, query: Callable[..., _T], /, *args: object) -> Awaitable[_T]:
        return self._paced(self._ledger.write, query, *args)

    async def _paced(self, ask: _Ask, query: Callable[..., _T], *args: object) -> _T:
        """Ask the ledger, and make a pause. Raises `_Stopped`."""
        found, took = await self._asked(ask, query, *args)
        await self._pause(took)
        return found

    async def _asked(self, ask: _Ask, query: Callable[..., _T], *args: object) -> tuple[_T, _Took]:
        """Ask the ledger; the answer, and what it took. Raises `_Stopped`."""
        if self._workflows.stopping or self._stopped:
            raise _Stopped
        seconds = self._clock.seconds

        def timed(connection: Connection) -> tuple[_T, float]:
            began = seconds()
            return query(connection, *args), seconds() - began

        began = seconds()
        found, work = await self._workflows.retry_until_available(lambda: ask(timed))
        return found, _Took(work, max(0.0, seconds() - began - work))

    async def _pause(self, took: _Took) -> None:
        """Make a pause in proportion to the work that was done, and as long as others made this wait."""
        pause = min(max(took.work * (1 / SHARE - 1), took.waited), LONGEST_PAUSE)
        if pause > 0:
            over: Deferred[None] = Deferred()
            self._clock.callLater(pause, over.callback, None)
            await over


#: Asks the ledger: `Ledger.read` or `Ledger.write`.
_Ask = Callable[[Callable[[Connection], Any]], Awaitable[Any]]


class _Took(NamedTuple):
    """
    How many seconds a question to the ledger took: its own statements, and all else: others' turns, the disk at a
    commit, the reactor. The busier the apiserver is, the longer that is.
    """

    work: float
    waited: float


class _Portion:
    """How many of something go at once: as many as fit into `LONGEST`, between the ``least`` and the ``most``."""

    def __init__(self, least: int, most: int) -> None:
        self.size = self._least = least
        self._most = most

    def took(self, seconds: float, *, full: bool) -> None:
        """Take note of how long the last ones took. ``full``: those were `size`."""
        if seconds > LONGEST:
            self.size = max(self._least, self.size // 2)
        elif full and seconds < LONGEST / 2:
            self.size = min(self._most, self.size + self._least)


class _Stopped(LedgerUnavailable):
    """The service stops: the next run goes on."""

    def __init__(self) -> None:
        super().__init__("the apiserver is being stopped")
