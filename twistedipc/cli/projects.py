"""`twistedipc project …`: the projects of an apiserver."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from msgspec import UNSET

from twistedipc.builds.names import HEAD
from twistedipc.builds.priorities import LEVELS, MAX_AT_ONCE, Priority
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import OnLost
from twistedipc.builds.variables import Change
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.domains import domain
from twistedipc.cli.environment import ask_back, env, pairs, registry, tell, variables_of
from twistedipc.cli.environments import environment
from twistedipc.cli.hooks import hook
from twistedipc.cli.notify import notify
from twistedipc.cli.output import json_option, local_time, note, print_fields, print_json, print_table
from twistedipc.cli.people import members
from twistedipc.cli.poll import poll, polling_of
from twistedipc.cli.previews import previews
from twistedipc.cli.prune import change_asking, rules_of, with_rules
from twistedipc.cli.repositories import fields_of as access_of
from twistedipc.cli.repositories import hosts, key
from twistedipc.cli.schedules import schedule
from twistedipc.cli.secrets import secret
from twistedipc.cli.settings import fields_of, recognise_option, says_something, settings_options, with_settings
from twistedipc.cli.targets import TargetsCommand, described, details_of, request_of, targets_of, with_options
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.web.api.schemas import (
    NewPriority,
    NewProject,
    Project,
    ProjectChange,
    Projects,
    QueueChange,
    RunsOn,
    Settings,
)

on_lost_option = click.option(
    "--on-lost",
    type=click.Choice(["lost", "rerun"]),
    help="What happens to a build whose builder is gone for good: it stays lost (the default), or is run again.",
)


protected_option = click.option(
    "--protect",
    "protected",
    multiple=True,
    metavar="PATTERN",
    help="Only from these refs is anything published for users: main, release/*, tags/v* (else: from the default ref "
    'alone); may be repeated, and replaces those before. "" is the default ref alone.',
)


builders_option = click.option(
    "--builders",
    metavar="NAME,…",
    help='Only these builders take its builds, by keys of their own; with --pool, those of the pool as well. "" and no '
    "--pool is any builder.",
)
pool_option = click.option(
    "--pool",
    "pools",
    metavar="NAME",
    multiple=True,
    help="Only builders that are in this pool take its builds; may be repeated: in all of them.",
)
at_once_option = click.option(
    "--at-once",
    type=click.IntRange(0, MAX_AT_ONCE),
    metavar="N",
    help="At most so many of its builds run at a time (0: as many as there are slots).",
)
priority_option = click.option(
    "--priority",
    "priorities",
    metavar="REF=low|normal|high",
    multiple=True,
    help='Which priority builds of refs have in the queue, such as "release/*=high"; may be repeated: the first one '
    'that matches counts. "" is none.',
)


approval_option = click.option(
    "--approval/--no-approval",
    default=None,
    help="Whether another person than the one who asked approves what is built before it is published.",
)


keep_option = click.option(
    "--keep",
    multiple=True,
    metavar="RULE=TIME",
    help="How long what its builds leave is kept, in place of the apiserver's rule: logs=30d, artifacts=forever, "
    "releases=20, newest=5 (docs/operating.md has all); RULE= is as the apiserver has it. May be repeated.",
)


@click.group()
def project() -> None:
    """Add, show, change and remove projects."""


@project.command(cls=TargetsCommand)
@with_client
@click.argument("name")
@click.argument("repository")
@click.option(
    "--ref",
    default=HEAD,
    show_default=True,
    help="Branch, tag, refs/… or commit that is built by default; HEAD is the repository's own default branch.",
)
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds for a whole attempt.")
@click.option("--idle-timeout", type=float, default=900.0, show_default=True, help="Seconds without output.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable for all steps; may be repeated.")
@protected_option
@approval_option
@on_lost_option
@settings_options
@json_option
def add(
    client: Client,
    name: str,
    repository: str,
    ref: str,
    timeout: float,
    idle_timeout: float,
    env: tuple[str, ...],
    protected: tuple[str, ...],
    approval: bool | None,
    on_lost: OnLost | None,
    as_json: bool,
    said: dict[str, Any],
    **options: Any,
) -> None:
    """Add the project NAME, whose sources are in the git REPOSITORY."""
    variables = pairs(env, "--env")
    ask_back(variables, name)
    body = NewProject(
        name=name,
        repository=repository,
        default_ref=ref,
        environment=variables,
        timeout=timeout,
        idle_timeout=idle_timeout,
        on_lost=UNSET if on_lost is None else on_lost,
        protected=list(filter(None, protected)) or UNSET,
        approval=UNSET if approval is None else int(approval),
        settings=_request_of(with_settings(BuildSettings(), options)) if says_something(options) else UNSET,
        **request_of(with_options(TARGETS.default, said)),
    )
    answer = client.post(path("projects"), body)
    if as_json:
        print_json(answer)
    else:
        added = answer.decode(Project)
        note(f"project {added.name} added; `twistedipc build {added.name} --follow` builds it")
        tell(added)


@project.command("list")
@with_client
@json_option
def list_projects(client: Client, as_json: bool) -> None:
    """List the projects that you may see."""
    answer = client.get(path("projects"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "REF", "PUBLISHES", "REPOSITORY"),
        [(p.name, p.default_ref, described(p), p.repository) for p in answer.decode(Projects).projects],
        empty="there are no projects; `twistedipc project add NAME REPOSITORY` adds one",
    )


@project.command()
@with_client
@click.argument("name")
@json_option
def show(client: Client, name: str, as_json: bool) -> None:
    """Show one project."""
    answer = client.get(path("projects", name))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Project)
    print_fields(
        [
            ("name", found.name),
            ("repository", found.repository),
            ("default ref", f"HEAD, which is {found.head}" if is_head(found) and found.head else found.default_ref),
            *access_of(found),
            ("protected", " ".join(found.protected)),
            ("built by", _built_by(found)),
            ("queue", _queue_of(found)),
            ("approval", "by another person" if found.approval else None),
            ("polling", polling_of(client, name)),
            ("environments", " ".join(each.name for each in found.environments)),
            ("publishes", described(found)),
            *details_of(found),
            ("domains", " ".join(found.domains)),
            *fields_of(found.settings),
            ("timeout", f"{found.timeout:g} s, {found.idle_timeout:g} s without output"),
            ("when lost", "run again" if found.on_lost == "rerun" else "stays lost"),
            ("keeps", rules_of(found)),
            ("variables", " ".join(_variable(*each) for each in variables_of(found))),
            ("secrets", " ".join([*found.secrets, *dict.fromkeys(each.name for each in found.build_secrets)])),
            ("registries", " ".join(each.address for each in found.registries)),
            ("badge", found.badge),
            ("feed", found.atom),
            ("added", local_time(found.created)),
            ("changed", local_time(found.updated)),
        ]
    )


def _built_by(found: Project) -> str:
    bound = found.runs_on
    pools = f"the {'pools' if bound.pools[1:] else 'pool'} {' and '.join(bound.pools)}"
    said = [*bound.builders, *([pools] if bound.pools else [])]
    return " or ".join(said) or "any builder"


def _runs_on(builders: str | None, pools: tuple[str, ...]) -> RunsOn | None:
    """Return the builders that the options bind a project to; None if they say nothing."""
    if builders is None and not pools:
        return None
    named = [name.strip() for name in (builders or "").split(",") if name.strip()]
    return RunsOn(builders=named, pools=list(filter(None, pools)))


def _queue(at_once: int | None, priorities: tuple[str, ...]) -> QueueChange | None:
    """Return what the options say of a project's queue; None if they say nothing."""
    if at_once is None and not priorities:
        return None
    said = pairs(tuple(filter(None, priorities)), "--priority")
    rules = [NewPriority(ref=ref, priority=_priority(level)) for ref, level in said.items()]
    return QueueChange(at_once=UNSET if at_once is None else at_once or None, priorities=rules if priorities else UNSET)


def _priority(said: str) -> Priority:
    for known in LEVELS:
        if said == known:
            return known
    raise click.UsageError(f"a priority is one of {', '.join(LEVELS)}, not {said}")


def _queue_of(found: Project) -> str | None:
    """Return what a project says of its queue, in short."""
    rules = found.queue
    said = [
        *([f"paused since {local_time(rules.paused)}"] if rules.paused else []),
        *([f"at most {rules.at_once} at once"] if rules.at_once else []),
        *(f"{each.ref} {each.priority}" for each in rules.priorities),
    ]
    return ", ".join(said) or None


@project.command()
@with_client
@click.argument("name")
def pause(client: Client, name: str) -> None:
    """Begin no build of the project NAME, until `twistedipc project resume`. What runs goes on."""
    client.patch(path("projects", name), ProjectChange(queue=QueueChange(paused=True)))
    note(f"no build of {name} begins until twistedipc project resume {name}")


@project.command()
@with_client
@click.argument("name")
def resume(client: Client, name: str) -> None:
    """Begin builds of the project NAME again, after `twistedipc project pause`."""
    client.patch(path("projects", name), ProjectChange(queue=QueueChange(paused=False)))
    note(f"builds of {name} begin again")


@project.command("set", cls=TargetsCommand)
@with_client
@click.argument("name")
@click.option("--repository", help="The address of the git repository.")
@click.option("--ref", help="Branch, tag, refs/… or commit that is built by default.")
@click.option("--timeout", type=float, help="Seconds for a whole attempt.")
@click.option("--idle-timeout", type=float, help="Seconds without output.")
@click.option(
    "--env",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a variable of all builds; the others stay (see `project env`); may be repeated.",
)
@builders_option
@pool_option
@at_once_option
@priority_option
@protected_option
@approval_option
@on_lost_option
@keep_option
@click.option("--yes", is_flag=True, help="Don't ask when the rules of --keep would leave nothing of something.")
@settings_options
@recognise_option
def set_project(
    client: Client,
    name: str,
    repository: str | None,
    ref: str | None,
    timeout: float | None,
    idle_timeout: float | None,
    env: tuple[str, ...],
    builders: str | None,
    pools: tuple[str, ...],
    protected: tuple[str, ...],
    approval: bool | None,
    on_lost: OnLost | None,
    said: dict[str, Any],
    **options: Any,
) -> None:
    """Change a project; what isn't given stays as it is."""
    keep, yes = options.pop("keep"), options.pop("yes")
    queue = _queue(options.pop("at_once"), options.pop("priorities"))
    variables = pairs(env, "--env")
    ask_back(variables, name)
    changes: dict[str, object] = {
        "repository": repository,
        "default_ref": ref,
        "timeout": timeout,
        "idle_timeout": idle_timeout,
        "variables": [Change(name=key, value=value) for key, value in variables.items()] or None,
        "on_lost": on_lost,
        "protected": list(filter(None, protected)) if protected else None,
        "runs_on": _runs_on(builders, pools),
        "queue": queue,
        "approval": None if approval is None else int(approval),
    }
    of_targets = any(value is not None and value != () for value in said.values())
    if of_targets or keep or says_something(options):
        now = client.get(path("projects", name)).decode(Project)
        if of_targets:
            changes |= request_of(with_options(targets_of(now), said))
        if says_something(options):
            changes["settings"] = _request_of(with_settings(now.settings, options))
        if keep:
            changes["retention"] = with_rules(now.retention, keep)
    body = ProjectChange(**{key: UNSET if value is None else value for key, value in changes.items()})  # type: ignore[arg-type]
    changed = change_asking(client, path("projects", name), body, yes=yes).decode(Project)
    note(f"project {name} changed")
    tell(changed)


project.add_command(notify)
project.add_command(key)
project.add_command(hosts)
project.add_command(hook)
project.add_command(poll)
project.add_command(schedule)
project.add_command(domain)
project.add_command(previews)


@project.command()
@with_client
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
def remove(client: Client, name: str, yes: bool) -> None:
    """Remove the project NAME and erase its secrets. Not possible while one of its builds goes on."""
    if not yes:
        click.confirm(f"Remove the project {name}?", abort=True, err=True)
    client.delete(path("projects", name))
    note(f"project {name} is removed")


def is_head(found: Project) -> bool:
    """Return whether the project builds what its repository's HEAD stands for."""
    return found.default_ref == HEAD


def _request_of(settings: BuildSettings) -> Settings:
    return Settings(**msgspec.structs.asdict(settings))


def _variable(name: str, value: str, builds: str) -> str:
    return f"{name}={value}" + (f" ({builds})" if builds != "all" else "")


@project.group()
def caches() -> None:
    """What the builds of a project keep for its next builds."""


@caches.command("clear")
@with_client
@click.argument("name")
def clear_caches(client: Client, name: str) -> None:
    """Have builds of the project NAME begin without what earlier ones have kept, on all builders.

    Builds that run go on with theirs, and keep nothing for later ones.
    """
    client.delete(path("projects", name, "caches"))
    note(f"builds of {name} use nothing from now on that was kept before")


for _group in (env, environment, secret, registry, members):
    project.add_command(_group)
