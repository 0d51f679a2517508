"""
`twistedipc project env …` and `project registry …`: the variables of a project's builds, and the registries from which
they install. ``cli``; used by ``projects``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click
import msgspec

from twistedipc.builds import names
from twistedipc.builds.secrets import Builds
from twistedipc.builds.variables import Change, looks_secret
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, note, print_json, print_table
from twistedipc.cli.secrets import builds_options, for_builds
from twistedipc.web.api.schemas import NewRegistry, Project, ProjectChange


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """Return ``K=V`` options as a dictionary. Raises `click.BadParameter`."""
    found: dict[str, str] = {}
    for value in values:
        name, separator, content = value.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{value!r} isn't NAME=VALUE", param_hint=option)
        found[name] = content
    return found


def ask_back(variables: Mapping[str, str], project: str) -> None:
    """
    Ask, at a terminal, whether what looks like a secret is to become a variable; elsewhere the server's answer warns.
    Raises `click.Abort`.
    """
    for name in variables:
        if looks_secret(name) and sys.stdin.isatty():
            note(f"{name} looks like a secret. Admins can read a variable; a secret, nobody can:")
            note(f"  twistedipc project secret set {project} {name}")
            click.confirm(f"Set {name} as a variable all the same?", abort=True, err=True)


def tell(project: Project) -> None:
    """Say what the server has to say of a change."""
    for notice in project.notices:
        note(f"note: {notice}")


@click.group()
def env() -> None:
    """Set, list and unset the variables of a project's builds."""


@env.command("set")
@with_client
@click.argument("name")
@click.argument("variables", metavar="VARIABLE=VALUE...", nargs=-1, required=True)
@builds_options[0]
@builds_options[1]
@builds_options[2]
def set_variables(
    client: Client, name: str, variables: tuple[str, ...], builds: str | None, environment: str | None
) -> None:
    """Set variables of the project NAME, for all builds or for some; its other variables stay.

    Admins can read them, and builders keep them on disk. For tokens and passwords see `project secret`.
    """
    values = pairs(variables, "VARIABLE=VALUE")
    which = for_builds(builds, environment) or "all"
    ask_back(values, name)
    changes = [Change(name=key, value=value, builds=which) for key, value in values.items()]
    changed = client.patch(path("projects", name), ProjectChange(variables=changes)).decode(Project)
    note(f"set for {which} builds of {name}: {', '.join(values)}")
    tell(changed)


@env.command("unset")
@with_client
@click.argument("name")
@click.argument("variables", metavar="VARIABLE...", nargs=-1, required=True)
@builds_options[0]
@builds_options[1]
@builds_options[2]
def unset_variables(
    client: Client, name: str, variables: tuple[str, ...], builds: str | None, environment: str | None
) -> None:
    """Unset variables of the project NAME, for all builds or for some."""
    which = for_builds(builds, environment) or "all"
    known = {variable for variable, _value, _builds in variables_of(client.get(path("projects", name)).decode(Project))}
    unknown = [variable for variable in variables if variable not in known]
    if unknown:
        raise Failure(ExitCode.NOT_FOUND, f"{name} has no variable {', '.join(unknown)}")
    changes = [Change(name=key, value=None, builds=which) for key in variables]
    client.patch(path("projects", name), ProjectChange(variables=changes))
    note(f"unset for {which} builds of {name}: {', '.join(variables)}")


@env.command("list")
@with_client
@click.argument("name")
@json_option
def list_variables(client: Client, name: str, as_json: bool) -> None:
    """List the variables of the project NAME. Their values are for admins."""
    answer = client.get(path("projects", name))
    if as_json:
        print_json(answer)
        return
    rows = [(variable, value, builds) for variable, value, builds in variables_of(answer.decode(Project))]
    how = f"`twistedipc project env set {name} VARIABLE=VALUE` sets one"
    print_table(("NAME", "VALUE", "BUILDS"), rows, empty=f"{name} has no variables; {how}")


def variables_of(project: Project) -> list[tuple[str, str, str]]:
    """Return the names, the values and the builds of a project's variables, by name."""
    kinds: list[tuple[Builds, Mapping[str, str | None]]] = [
        ("all", project.environment),
        ("production", project.of_contexts.production),
        ("previews", project.of_contexts.previews),
        *project.of_contexts.environments.items(),
    ]
    found = [
        (name, "(for admins to see)" if value is None else value, builds)
        for builds, values in kinds
        for name, value in values.items()
    ]
    return sorted(found)


@click.group()
def registry() -> None:
    """Add, list and remove the registries from which a project's builds install packages."""


@registry.command("add")
@with_client
@click.argument("name")
@click.argument("address")
@click.option("--token-secret", metavar="SECRET", default="", help="The secret of the project that is its token.")
@click.option("--scope", "scopes", multiple=True, metavar="@SCOPE", help="Whose packages it has; may be repeated.")
def add_registry(client: Client, name: str, address: str, token_secret: str, scopes: tuple[str, ...]) -> None:
    """Have the builds of the project NAME install packages from the registry at ADDRESS.

    With --scope, those of that scope alone; without, all that no other registry has. The install step alone, the one
    named install, is set up for it: npm, pnpm, Yarn and Bun. The token is sent to this address and nowhere else. What
    was said of the same ADDRESS before is replaced.
    """
    now = client.get(path("projects", name)).decode(Project)
    new = NewRegistry(address=address, secret=token_secret, scopes=list(scopes))
    others = [each for each in now.registries if names.place(each.address) != names.place(address)]
    _set_registries(client, name, [*map(_as_request, others), new])
    note(f"{name} installs {', '.join(scopes) or 'packages'} from {address}")


@registry.command("remove")
@with_client
@click.argument("name")
@click.argument("address")
def remove_registry(client: Client, name: str, address: str) -> None:
    """Have the builds of the project NAME install nothing from the registry at ADDRESS any more."""
    now = client.get(path("projects", name)).decode(Project)
    others = [each for each in now.registries if names.place(each.address) != names.place(address)]
    if len(others) == len(now.registries):
        raise Failure(ExitCode.NOT_FOUND, f"{name} has no registry {address}")
    _set_registries(client, name, [*map(_as_request, others)])
    note(f"{name} installs nothing from {address} any more")


@registry.command("list")
@with_client
@click.argument("name")
@json_option
def list_registries(client: Client, name: str, as_json: bool) -> None:
    """List the registries from which the builds of the project NAME install packages."""
    answer = client.get(path("projects", name))
    if as_json:
        print_json(answer)
        return
    rows = [
        (each.address, ", ".join(each.scopes) or "all packages", each.secret or "none")
        for each in answer.decode(Project).registries
    ]
    how = f"`twistedipc project registry add {name} ADDRESS` adds one"
    print_table(("ADDRESS", "PACKAGES", "TOKEN"), rows, empty=f"{name} has no registries of its own; {how}")


def _as_request(registry: object) -> NewRegistry:
    return msgspec.convert(msgspec.to_builtins(registry), NewRegistry)


def _set_registries(client: Client, name: str, registries: list[NewRegistry]) -> None:
    tell(client.patch(path("projects", name), ProjectChange(registries=registries)).decode(Project))
