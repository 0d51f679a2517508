"""`twistedipc project …`: the projects of an apiserver."""

from __future__ import annotations

import sys
from typing import Literal

import click
import msgspec
from msgspec import UNSET

from twistedipc.builds.attempt import Publish
from twistedipc.builds.states import OnLost
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_fields, print_json, print_table
from twistedipc.web.api.schemas import NewProject, NewSecret, Project, ProjectChange, Projects


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """Return ``K=V`` options as a dictionary. Raises `click.BadParameter`."""
    found: dict[str, str] = {}
    for value in values:
        name, separator, content = value.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{value!r} isn't NAME=VALUE", param_hint=option)
        found[name] = content
    return found


on_lost_option = click.option(
    "--on-lost",
    type=click.Choice(["lost", "rerun"]),
    help="What becomes of a build whose builder is gone for good: it stays lost (unless this says otherwise), or is "
    "run again by itself.",
)

_PACKAGE_HELP = "An npm package that it may publish, or all of a scope (@acme/*); else the first one; may be repeated."


@click.group()
def project() -> None:
    """Add, show, change and remove projects."""


@project.command()
@with_client
@click.argument("name")
@click.argument("repository")
@click.option(
    "--ref", default="main", show_default=True, help="Branch, tag, refs/… or commit that is built by default."
)
@click.option("--npm", is_flag=True, help="Publish the npm package (see `project secret` for the registry's token).")
@click.option("--registry", default="", metavar="ADDRESS", help="The npm registry (else the one npm is set up for).")
@click.option("--package", "packages", multiple=True, metavar="NAME", help=_PACKAGE_HELP)
@click.option("--no-static", is_flag=True, help="Make no static release of the output folder.")
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds for a whole attempt.")
@click.option("--idle-timeout", type=float, default=900.0, show_default=True, help="Seconds without output.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable for all steps; may be repeated.")
@on_lost_option
@json_option
def add(
    client: Client,
    name: str,
    repository: str,
    ref: str,
    npm: bool,
    registry: str,
    packages: tuple[str, ...],
    no_static: bool,
    timeout: float,
    idle_timeout: float,
    env: tuple[str, ...],
    on_lost: OnLost | None,
    as_json: bool,
) -> None:
    """Add the project NAME, whose sources are in the git REPOSITORY."""
    body = NewProject(
        name=name,
        repository=repository,
        default_ref=ref,
        publish=Publish(static=not no_static, npm=npm, registry=registry, packages=list(packages)),
        environment=pairs(env, "--env"),
        timeout=timeout,
        idle_timeout=idle_timeout,
        on_lost=UNSET if on_lost is None else on_lost,
    )
    answer = client.post(path("projects"), body)
    if as_json:
        print_json(answer)
    else:
        added = answer.decode(Project)
        note(f"project {added.name} added; `twistedipc build {added.name} --follow` builds it")
        _tell(added)


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
        [(p.name, p.default_ref, _publishes(p.publish), p.repository) for p in answer.decode(Projects).projects],
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
            ("default ref", found.default_ref),
            ("publishes", _publishes(found.publish)),
            ("packages", _packages(found.publish)),
            ("release", found.release_url if found.publish.static else None),
            ("timeout", f"{found.timeout:g} s, {found.idle_timeout:g} s without output"),
            ("when lost", "run again" if found.on_lost == "rerun" else "stays lost"),
            ("variables", " ".join(_variable(key, value) for key, value in sorted(found.environment.items()))),
            ("secrets", " ".join(found.secrets)),
            ("added", local_time(found.created)),
            ("changed", local_time(found.updated)),
        ]
    )


@project.command("set")
@with_client
@click.argument("name")
@click.option("--repository")
@click.option("--ref", help="Branch, tag, refs/… or commit that is built by default.")
@click.option("--npm/--no-npm", default=None, help="Whether to publish the npm package.")
@click.option("--static/--no-static", default=None, help="Whether to make a static release.")
@click.option("--registry", metavar="ADDRESS", help='The npm registry; "" for the one npm is set up for.')
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help=_PACKAGE_HELP + ' Replaces all that are set; "" for none.',
)
@click.option("--timeout", type=float, help="Seconds for a whole attempt.")
@click.option("--idle-timeout", type=float, help="Seconds without output.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Replace all variables; may be repeated.")
@on_lost_option
def set_project(
    client: Client,
    name: str,
    repository: str | None,
    ref: str | None,
    npm: bool | None,
    static: bool | None,
    registry: str | None,
    packages: tuple[str, ...],
    timeout: float | None,
    idle_timeout: float | None,
    env: tuple[str, ...],
    on_lost: OnLost | None,
) -> None:
    """Change a project; what isn't given stays as it is."""
    changes: dict[str, object] = {
        "repository": repository,
        "default_ref": ref,
        "timeout": timeout,
        "idle_timeout": idle_timeout,
        "environment": pairs(env, "--env") if env else None,
        "on_lost": on_lost,
    }
    publish: dict[str, object] = {
        "npm": npm,
        "static": static,
        "registry": registry,
        "packages": [name for name in packages if name] if packages else None,
    }
    if any(value is not None for value in publish.values()):
        now = client.get(path("projects", name)).decode(Project).publish
        given = {key: value for key, value in publish.items() if value is not None}
        changes["publish"] = msgspec.structs.replace(now, **given)
    body = ProjectChange(**{key: UNSET if value is None else value for key, value in changes.items()})  # type: ignore[arg-type]
    changed = client.patch(path("projects", name), body).decode(Project)
    note(f"project {name} changed")
    _tell(changed)


@project.command()
@with_client
@click.argument("name")
@click.argument("secret_name", metavar="SECRET", type=click.Choice(["npm_token"]))
@click.option("--remove", is_flag=True, help="Forget the secret.")
def secret(client: Client, name: str, secret_name: Literal["npm_token"], remove: bool) -> None:
    """Set a SECRET of the project NAME: npm_token, the npm registry's token.

    Its value is asked for, or read from standard input if that is no terminal. Nobody can read it back. It is for the
    registry and the repository that the project has now: when one of them is changed, it must be set again.
    """
    where = path("projects", name, "secrets", secret_name)
    if remove:
        client.delete(where)
        note(f"{secret_name} of {name} is removed")
        return
    # The registry goes along, so that the secret isn't set for another one that somebody sets meanwhile.
    registry = client.get(path("projects", name)).decode(Project).publish.registry
    if sys.stdin.isatty():
        where_to = registry or "the registry that npm is set up for"
        value = str(click.prompt(f"Value of {secret_name}, for {where_to}", hide_input=True, err=True))
    else:
        value = sys.stdin.read(4097).strip()
    if not 0 < len(value) <= 4096:
        raise Failure(ExitCode.USAGE, "a secret has 1 to 4096 characters")
    client.put(where, NewSecret(value=value, registry=registry))
    note(f"{secret_name} of {name} is set")


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


def _variable(name: str, value: str | None) -> str:
    return f"{name} (for admins to see)" if value is None else f"{name}={value}"


def _tell(project: Project) -> None:
    """What the server has to say of a change."""
    for notice in project.notices:
        note(f"note: {notice}")


def _packages(publish: Publish) -> str | None:
    if not publish.npm:
        return None
    return ", ".join(publish.packages) or "the first that it publishes"


def _publishes(publish: Publish) -> str:
    what = ["static release"] if publish.static else []
    if publish.npm:
        what.append("npm package" + (f" to {publish.registry}" if publish.registry else ""))
    return ", ".join(what) or "nothing"
