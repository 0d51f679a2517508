"""`twistedipc prune` and `twistedipc pin`: what isn't kept any more, and what stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec
from msgspec import UNSET

from twistedipc.builds.counts import counted
from twistedipc.builds.names import BadValue
from twistedipc.builds.retention import COUNTS, FOREVER, Own, check, parse_count, parse_days, shown
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Answer, AsksBack, Client, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import (
    Build,
    CachesKept,
    PlannedRemoval,
    Project,
    ProjectChange,
    PruneRequest,
    PruneRun,
    Pruning,
    Retention,
)

#: Seconds between two looks at a run.
INTERVAL = 1.0

#: How many projects or builders a sentence names.
_NAMED = 5


@click.command()
@with_client
@click.option("--project", metavar="NAME", help="Of this project alone; else of all that you are an admin of.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--no-wait", is_flag=True, help="Don't wait for the end of it.")
@json_option
def prune(client: Client, project: str | None, dry_run: bool, yes: bool, no_wait: bool, as_json: bool) -> None:
    """Remove what isn't kept any more by the rules of retention: logs, archives, releases, builds, messages.

    The apiserver does this by itself, every hour; docs/operating.md has the rules. What is live, pinned or going on
    always stays. Caches are on builders, which remove them by themselves.
    """
    answer = client.get(path("prune"), {"project": project})
    found = answer.decode(Pruning)
    if dry_run and as_json:
        print_json(answer)
        return
    if not as_json:
        _show(found)
    if dry_run:
        return
    if (
        not any(line.count for line in found.plan)
        and found.whole
        and (found.run is None or found.run.ended is not None)
    ):
        return
    lost = [
        f"the {line.kind}{f' of {line.project}' if line.project else ''}" for line in found.plan if line.nothing_left
    ]
    _remove(client, project, lost, yes=yes, wait=not no_wait, as_json=as_json)


def _remove(client: Client, project: str | None, lost: list[str], *, yes: bool, wait: bool, as_json: bool) -> None:
    """Have it removed. ``lost``: of what nothing would be left."""
    if not yes:
        if lost:
            note(f"Not even the newest would be left of {', '.join(lost)}.")
        click.confirm("Remove this? It can't be undone.", abort=True, err=True)
    try:
        answer = client.post(path("prune"), PruneRequest(confirm=bool(lost)), {"project": project})
    except AsksBack as error:  # the plan didn't have it: it wasn't whole
        note(error.message)
        if not yes:
            click.confirm("Remove this all the same?", abort=True, err=True)
        answer = client.post(path("prune"), PruneRequest(confirm=True), {"project": project})
    run = answer.decode(PruneRun)
    while run.ended is None and wait:
        client.sleep(INTERVAL)
        answer = client.get(path("prune", "run"))
        run = answer.decode(PruneRun)
    if as_json:
        print_json(answer)
    else:
        note(_said(run))


def _show(found: Pruning) -> None:
    if not found.removes:
        note("no rule says that anything is removed: see [retention] in apiserver.toml, and `project set --keep`")
    print_table(
        ("PROJECT", "WHAT", "GOES", "SIZE", "BY", "STAYS"),
        [_row(line) for line in found.plan],
        empty="nothing is old enough to go",
    )
    if not found.whole or not all(line.whole for line in found.plan):
        note("there is more than was looked at here (+): all of it goes, a little at a time")
    for sentence in _of_caches(found.caches):
        note(sentence)
    if found.run is not None and found.run.ended is None:
        note(f"a run goes on, since {local_time(found.run.began)}: {_said(found.run)}")
    if found.busy:
        note("a run goes on that isn't of your projects alone: another can begin when it has ended")


def _of_caches(found: CachesKept) -> Iterator[str]:
    """Yield sentences on what builders remove by themselves."""
    by_days: dict[int, list[str]] = {}
    for project, days in found.projects.items():
        by_days.setdefault(days, []).append(project)
    for days, projects in sorted(by_days.items()):
        more = f" and {len(projects) - _NAMED} more" if len(projects) > _NAMED else ""
        yield (
            f"caches of {', '.join(projects[:_NAMED])}{more} go {shown(days)} after a build last used them: builders "
            "remove them by themselves, and only they know how much that is (`twistedipc caches list` there)"
        )
    if found.unaware and by_days:
        yield (
            f"of an older version, and remove caches by limits of their own alone: {', '.join(found.unaware[:_NAMED])}"
            + (f" and {len(found.unaware) - _NAMED} more" if len(found.unaware) > _NAMED else "")
        )


def _row(line: PlannedRemoval) -> list[object]:
    stays = ", ".join(f"{count} ({why})" for why, count in sorted(line.stays.items()))
    more = "" if line.whole else "+"
    return [line.project or "-", line.kind.value, f"{line.count}{more}", size(line.size) if line.size else "",
            ", ".join(line.rules), stays]  # fmt: skip


def _said(run: PruneRun) -> str:
    """Return what a run has removed, in a sentence."""
    parts = []
    for kind, freed in run.freed.items():
        removed = counted(freed.count, str(kind).removesuffix("s"), str(kind))
        parts.append(f"{removed} ({size(freed.size)})" if freed.size else removed)
    if run.files.count:
        parts.append(f"{counted(run.files.count, 'file')} ({size(run.files.size)})")
    said = f"removed: {', '.join(parts)}" if parts else "nothing was removed"
    if run.given_back:
        said += f"; the database's file is {size(run.given_back)} smaller"
    if run.ended is None:
        said += "; it goes on"
    return f"{said}; {run.problem}" if run.problem else said


@click.command()
@with_client
@click.argument("build", type=click.IntRange(min=1))
@click.option("--remove", is_flag=True, help="Let the rules of retention decide about it again.")
@json_option
def pin(client: Client, build: int, remove: bool, as_json: bool) -> None:
    """Keep all that build BUILD has, whatever the rules of retention say."""
    if remove:
        answer = client.delete(path("builds", str(build), "pin"))
    else:
        answer = client.put(path("builds", str(build), "pin"))
    if as_json:
        print_json(answer)
        return
    made = answer.decode(Build)
    note(f"build {made.id} of {made.project} is " + ("pinned" if made.pinned else "kept for as long as the rules say"))


# -- the rules of a project --------------------------------------------------------------------------------------------


def with_rules(before: Own, said: Sequence[str]) -> Retention:
    """Return a project's own rules with what options ``RULE=TIME`` say. Raises `click.UsageError`."""
    found = msgspec.structs.asdict(before)
    for each in said:
        rule, equals, value = each.partition("=")
        rule = rule.strip().replace("-", "_")
        if rule not in found or not equals:
            raise click.UsageError(f"--keep {each}: it is RULE=TIME; the rules are {', '.join(found)}")
        try:
            found[rule] = _value(rule, value.strip())
        except BadValue as error:
            raise click.UsageError(f"--keep {rule}: {error}") from error
    try:
        return Retention(**msgspec.structs.asdict(check(Own(**found))))
    except BadValue as error:
        raise click.UsageError(f"--keep {error}") from error


def _value(rule: str, value: str) -> object:
    if not value:
        return UNSET
    if rule == "last_success":
        if value not in ("true", "false"):
            raise BadValue("it is true or false")
        return value == "true"
    found = parse_count(value) if rule in COUNTS else parse_days(value)
    if rule == "newest" and found == FOREVER:
        raise BadValue("it is a number")
    return found


def rules_of(found: Project) -> str:
    """Return the rules that hold for a project, for people; its own are marked."""
    own, parts = found.retention, []
    for name, value in msgspec.structs.asdict(found.kept).items():
        mark = "" if getattr(own, name) is UNSET else "*"
        if name == "last_success":
            said = "yes" if value else "no"
        else:
            said = FOREVER if value is None else str(value) if name in COUNTS else shown(value)
        parts.append(f"{name}{mark} {said}")
    return ", ".join(parts)


def change_asking(client: Client, where: str, body: ProjectChange, *, yes: bool) -> Answer:
    """Change a project; if by its new rules nothing would be left of something, a person is asked first."""
    if yes and body.retention is not UNSET:
        body = msgspec.structs.replace(body, confirm=True)
    try:
        return client.patch(where, body)
    except AsksBack as error:
        note(error.message)
        click.confirm("Set these rules all the same?", abort=True, err=True)
        return client.patch(where, msgspec.structs.replace(body, confirm=True))
