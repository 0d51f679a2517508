"""
What isn't kept any more: what would go, and having it go; and builds that stay. ``web.api``; ``routes`` has these
functions.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection

from twistedipc.builds.retention import Kind, Lost, Own, Rules, Run, check, effective
from twistedipc.storage import builds, projects, retention
from twistedipc.storage.retention import Subject
from twistedipc.storage.rows import BuildRow, ProjectRow
from twistedipc.web.api import schemas
from twistedipc.web.api.builds import shown_build
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.queries import Prune
from twistedipc.web.api.schemas import Build, FreedAmount, PlannedRemoval, PruneRequest, PruneRun, Pruning
from twistedipc.web.http.problems import conflict, not_found


async def show(call: Call[Prune, None]) -> Reply[Pruning]:
    """
    Show what would be removed now by the rules of retention, why the rest of what was looked at stays, and the run that
    goes on, or the last one. Nothing is removed. A caller who is an admin of some projects alone sees these, and only
    runs that were of no other; ``busy`` says that another one goes on.
    """
    plan = await call.context.retention.plan(await _projects(call))
    run, mine = call.context.retention.run, _own_run(call)
    return Reply(
        body=Pruning(
            removes=plan.removes,
            whole=plan.whole,
            plan=[PlannedRemoval(**{**msgspec.structs.asdict(line), "kind": line.kind}) for line in plan.lines],
            caches=schemas.CachesKept(projects=plan.caches.projects, unaware=plan.caches.unaware),
            run=None if mine is None else _shown(mine),
            busy=run is not None and mine is None and run.ended is None,
        )
    )


async def show_run(call: Call[None, None]) -> Reply[PruneRun]:
    """
    Show how far the run is that goes on, or what the last one since the apiserver's start has removed. It takes no
    look at what would be removed. A caller who is an admin of some projects alone sees only runs that were of no other.
    """
    run = _own_run(call)
    if run is None:
        raise not_found("nothing was removed by the rules of retention since the apiserver's start")
    return Reply(body=_shown(run))


def _own_run(call: Call[Any, None]) -> Run | None:
    """Return the newest run, if the caller may see it."""
    run = call.context.retention.run
    return run if run is not None and run.is_of(call.token.allowance.projects_with("admin")) else None


async def begin(call: Call[Prune, PruneRequest]) -> Reply[PruneRun]:
    """
    Remove what isn't kept any more, by the rules of retention, in the background: ``GET /api/v1/prune/run`` shows how
    far it is. If a run goes on, that is the answer; but not if it is of projects that the caller isn't an admin of. If
    not even the newest of something would be left of a project, ``confirm`` is needed. (The apiserver does the same by
    itself, every hour.)
    """
    wanted, served = await _projects(call), call.context.retention
    if not call.body.confirm:
        _ask_back(await served.lost(wanted))
    run = served.begin(wanted, call.actor)
    if not run.is_of(call.token.allowance.projects_with("admin")):
        raise conflict("a run of other projects, or of all, goes on: try again when it has ended")
    return Reply(body=_shown(run))


def _ask_back(lost: Lost) -> None:
    """Raise 409 unless it is sure that something is left of all that there is."""
    names = [f"the {_called(kind)}{f' of {project}' if project else ''}" for project, kind in lost.of]
    if names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise conflict(
            f"this would remove even the newest of {', '.join(names[:10])}{more}: say confirm = true if that is meant",
            name="confirm",
        )
    if not lost.whole:
        raise conflict(
            "it would take too long to find out whether something is left of all projects: name one, or say "
            "confirm = true if anything may go by the rules",
            name="confirm",
        )


def _called(kind: Kind) -> str:
    return "releases to roll back to" if kind is Kind.RELEASES else kind.value


async def pin(call: Call[None, None]) -> Reply[Build]:
    """Keep all that a build has, whatever the rules of retention say."""
    return await _pin(call, "build.pin", call.context.now())


async def unpin(call: Call[None, None]) -> Reply[Build]:
    """Let the rules of retention decide about a build again."""
    return await _pin(call, "build.unpin", None)


async def _pin(call: Call[None, None], action: str, since: int | None) -> Reply[Build]:
    build = call.build

    def change(connection: Connection) -> BuildRow:
        row = builds.pin(connection, build.id, since)
        call.audit(connection, action, build.project, {"build": str(build.id)}, project=build.project)
        return row

    return Reply(body=shown_build(await call.context.ledger.write(change)))


def own(said: schemas.Retention) -> Own:
    """Return a project's own rules that a request says. Raises `BadValue`."""
    return check(Own(**msgspec.structs.asdict(said)))


async def check_left(call: Call[None, schemas.ProjectChange], rules: Own | None) -> None:
    """
    Raise 409 if, by these rules of its own (None: they stay), not even the newest of something would be left of a
    project, and the caller doesn't say that this is meant.
    """
    project = call.project
    if rules is None or call.body.confirm is True:
        return
    subject = Subject(
        id=project.id, name=project.name, deleted=False, rules=effective(rules, call.context.retention.rules)
    )
    if kinds := await call.context.ledger.read(retention.lost, subject, call.context.now()):
        said = " and ".join(map(_called, kinds))
        raise conflict(
            f"by these rules even the newest {said} of {project.name} would be removed: say confirm = true if that is "
            "meant",
            name="confirm",
        )


def kept(project: ProjectRow, default: Rules) -> schemas.Kept:
    """Return the rules that hold for a project."""
    rules = effective(project.retention, default)
    return schemas.Kept(**{name: getattr(rules, name) for name in schemas.Kept.__struct_fields__})


async def _projects(call: Call[Prune, Any]) -> frozenset[str] | None:
    """Return the projects that are meant; None: all, and what is of none. Raises 404."""
    allowed = call.token.allowance.projects_with("admin")
    if not isinstance(call.query.project, str):
        return allowed
    mine = allowed is None or call.query.project in allowed
    if not mine or await call.context.ledger.read(projects.get, call.query.project) is None:
        raise not_found(f"there is no project {call.query.project}, or you aren't its admin")
    return frozenset({call.query.project})


def _shown(run: Run) -> PruneRun:
    return PruneRun(
        by=run.by,
        began=moment(run.began),
        ended=moment_or_none(run.ended),
        freed={kind.value: FreedAmount(count=freed.count, size=freed.size) for kind, freed in run.freed.items()},
        files=FreedAmount(count=run.files.count, size=run.files.size),
        given_back=run.given_back,
        problem=run.problem,
    )
