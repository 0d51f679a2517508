"""`twistedipc project environment …`: the environments of a project. ``cli``; used by ``projects``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from twistedipc.builds.environments import PREVIEW, PRODUCTION, Environment
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.environment import tell
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, note, print_json, print_table
from twistedipc.web.api.schemas import NewEnvironment, Project, ProjectChange

_approval_option = click.option(
    "--approval/--no-approval",
    default=None,
    help="Whether another person than the one who asked approves what is built before the build succeeds.",
)


@click.group()
def environment() -> None:
    """Add, list, change and remove the environments of a project, beside production and previews.

    Each has refs that lead to it, and variables and secrets of its own: `project env set --environment NAME`, `project
    secret set --environment NAME`. Its releases are kept as those of previews are: only production goes live.
    """


@environment.command("add")
@with_client
@click.argument("project")
@click.argument("name")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    required=True,
    metavar="PATTERN",
    help="Which refs lead to it: staging, release/*, tags/rc-*; may be repeated.",
)
@_approval_option
def add_environment(client: Client, project: str, name: str, refs: tuple[str, ...], approval: bool | None) -> None:
    """Add the environment NAME to PROJECT, after those that there are: the first one that fits a ref counts.

    It begins with the variables that previews have, and without secrets of its own.
    """
    now = _existing(client, project)
    if any(each.name == name for each in now):
        raise Failure(
            ExitCode.USAGE, f"{project} has an environment {name} already: `project environment set` changes it"
        )
    _save(client, project, [*now, Environment(name=name, refs=list(refs), approval=int(bool(approval)))])
    note(f"builds of {', '.join(refs)} are of {name} now, unless they are of production")


@environment.command("set")
@with_client
@click.argument("project")
@click.argument("name")
@click.option("--ref", "refs", multiple=True, metavar="PATTERN", help="The refs that lead to it: all of them.")
@_approval_option
@click.option("--first", is_flag=True, help="It comes before all others.")
def set_environment(
    client: Client, project: str, name: str, refs: tuple[str, ...], approval: bool | None, first: bool
) -> None:
    """Change the environment NAME of PROJECT."""
    if name == PRODUCTION:
        raise click.UsageError(f"production is set by `twistedipc project set {project}`: --protect and --approval")
    if not refs and approval is None and not first:
        raise click.UsageError("say what is to change: --ref, --approval, --no-approval or --first")
    now = _existing(client, project)
    (found,) = [each for each in now if each.name == name] or [_missing(project, name)]
    changed = Environment(
        name=name,
        refs=list(refs) or found.refs,
        approval=found.approval if approval is None else int(approval),
    )
    others = [each for each in now if each.name != name]
    place = 0 if first else now.index(found)
    _save(client, project, [*others[:place], changed, *others[place:]])
    note(f"{name} of {project} is changed")


@environment.command("remove")
@with_client
@click.argument("project")
@click.argument("name")
def remove_environment(client: Client, project: str, name: str) -> None:
    """Remove the environment NAME of PROJECT, with its variables: what it built is a preview from now on."""
    now = _existing(client, project)
    if not any(each.name == name for each in now):
        _missing(project, name)
    _save(client, project, [each for each in now if each.name != name])
    note(f"{name} of {project} is removed")


@environment.command("list")
@with_client
@click.argument("project")
@json_option
def list_environments(client: Client, project: str, as_json: bool) -> None:
    """List the environments of PROJECT, in the order in which they are looked through for a ref."""
    answer = client.get(path("projects", project))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Project)
    rows: list[tuple[object, ...]] = [(PRODUCTION, " ".join(found.protected), _approval(found.approval))]
    rows += [(each.name, " ".join(each.refs), _approval(each.approval)) for each in found.environments]
    rows += [(PREVIEW, "all others", "")]
    print_table(("NAME", "REFS", "APPROVAL"), rows, empty="")


def _approval(people: int) -> str:
    return "by another person" if people else ""


def _existing(client: Client, project: str) -> list[Environment]:
    return client.get(path("projects", project)).decode(Project).environments


def _missing(project: str, name: str) -> Environment:
    raise Failure(ExitCode.NOT_FOUND, f"{project} has no environment {name}")


def _save(client: Client, project: str, environments: Sequence[Environment]) -> None:
    said = [NewEnvironment(name=each.name, refs=each.refs, approval=each.approval) for each in environments]
    tell(client.patch(path("projects", project), ProjectChange(environments=said)).decode(Project))
