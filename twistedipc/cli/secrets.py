"""`twistedipc project secret …`: the secrets of a project's builds and targets. ``cli``; used by ``projects``."""

from __future__ import annotations

import sys
from typing import Any

import click
from msgspec import UNSET

from twistedipc.builds.access import GIT_TOKEN
from twistedipc.builds.environments import PREVIEW
from twistedipc.builds.names import BadValue
from twistedipc.builds.secrets import MAX_SECRET, Builds, Steps
from twistedipc.builds.variables import secret_name
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.cli.targets import targets_of
from twistedipc.publish.targets.registry import TARGETS, find
from twistedipc.publish.targets.target import Secret, Target
from twistedipc.web.api.schemas import NewSecret, Project

#: Which builds something is for, as options.
builds_options = (
    click.option("--production", "builds", flag_value="production", help="For builds of the default ref alone."),
    click.option("--previews", "builds", flag_value="previews", help="For previews alone."),
    click.option("--environment", "environment", metavar="NAME", help="For the builds of this environment alone."),
)


def for_builds(builds: str | None, environment: str | None) -> Builds | None:
    """Return what `builds_options` say; None: nothing. Raises `click.UsageError` if they contradict one another."""
    if builds and environment:
        raise click.UsageError(f"--{builds} and --environment contradict one another")
    return builds or ("previews" if environment == PREVIEW else environment)


class SecretName(click.ParamType[str]):
    """The name of a secret: one that a target has, or that of a variable."""

    name = "secret"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if a secret can have it."""
        if TARGETS.secret(value) is None and value != GIT_TOKEN:
            try:
                secret_name(value)
            except BadValue as error:
                self.fail(str(error), param, ctx)
        return value


class SecretCommands(click.Group):
    """The commands; a name in the place of one means ``set``, as it did when that was the only one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant, and its arguments."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            args = ["set", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=SecretCommands)
def secret() -> None:
    """Set, list and remove the secrets of a project.

    A secret is a variable of the steps that it is for. Its value can't be read back, and is hidden in logs.
    """


@secret.command("set")
@with_client
@click.argument("name")
@click.argument("secret_name", metavar="SECRET", type=SecretName())
@click.option(
    "--steps",
    type=click.Choice(["all", "install", "build"]),
    help="Which steps are given it: that named install, the others, or all (the default).",
)
@builds_options[0]
@builds_options[1]
@builds_options[2]
@click.option("--remove", is_flag=True, hidden=True)  # as it was before there was a command for it
def set_secret(
    client: Client,
    name: str,
    secret_name: str,
    steps: Steps | None,
    builds: str | None,
    environment: str | None,
    remove: bool,
) -> None:
    """Set a SECRET of the project NAME: a variable of its builds, such as SENTRY_AUTH_TOKEN.

    Its value is asked for, or read from standard input if that is no terminal (without the newlines at its end); it
    may have several lines. It is for the repository that the project has now: when that is changed, it must be set
    again.

    git_token is given to the checkout step alone, and shown to the host of the repository alone, which must be one for
    https.

    One for some builds (--production, --previews, --environment) stands beside that of the same name for all builds,
    and comes first; one for all builds takes the place of those for some.

    A target's secret, such as npm_token, is given to the step that publishes. It is for the place to publish to (of
    npm the registry), too.
    """
    which = for_builds(builds, environment)
    if remove:
        _remove(client, name, secret_name, which)
        return
    known = TARGETS.secret(secret_name)
    if known is not None:
        _set_of_target(client, name, secret_name, known)
        return
    value = _value(f"Value of {secret_name}", MAX_SECRET)
    body = NewSecret(value=value, steps=UNSET if steps is None else steps, builds=UNSET if which is None else which)
    client.put(path("projects", name, "secrets", secret_name), body)
    note(f"{secret_name} of {name} is set")


@secret.command("list")
@with_client
@click.argument("name")
@json_option
def list_secrets(client: Client, name: str, as_json: bool) -> None:
    """List the secrets of the project NAME, without their values."""
    answer = client.get(path("projects", name))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Project)
    rows: list[tuple[object, ...]] = [(each, "publish", "all", "") for each in found.secrets]
    rows += [(GIT_TOKEN, "checkout", "all", "")] if found.access is not None and found.access.token else []
    rows += [(each.name, each.steps, each.builds, local_time(each.updated)) for each in found.build_secrets]
    how = f"`twistedipc project secret set {name} SECRET` sets one"
    print_table(("NAME", "STEPS", "BUILDS", "SET"), rows, empty=f"{name} has no secrets; {how}")


@secret.command("remove")
@with_client
@click.argument("name")
@click.argument("secret_name", metavar="SECRET")
@builds_options[0]
@builds_options[1]
@builds_options[2]
def remove_secret(client: Client, name: str, secret_name: str, builds: str | None, environment: str | None) -> None:
    """Erase a SECRET of the project NAME: all its values, or the one for some builds."""
    _remove(client, name, secret_name, for_builds(builds, environment))


def _remove(client: Client, name: str, secret_name: str, builds: Builds | None) -> None:
    client.delete(path("projects", name, "secrets", secret_name), {} if builds is None else {"builds": builds})
    note(f"{secret_name} of {name} is removed")


def _set_of_target(client: Client, name: str, secret_name: str, known: tuple[Target[Any], Secret]) -> None:
    # The place goes along, so that the secret isn't set for another one that somebody sets meanwhile.
    target, _secret = known
    settings = find(targets_of(client.get(path("projects", name)).decode(Project)), target.name)
    place = "" if settings is None else target.secret_place(settings, secret_name)
    if place is None:
        raise Failure(
            ExitCode.USAGE, f"{name} has nothing that needs {secret_name}: see `twistedipc project show {name}`"
        )
    own = settings is None or place == target.place(settings)
    where_to = f"no {target.what} yet" if settings is None else target.place_name(settings) if own else place
    value = _value(f"Value of {secret_name}, for {where_to}", 4096).strip()
    client.put(path("projects", name, "secrets", secret_name), NewSecret(value=value, registry=place))
    note(f"{secret_name} of {name} is set")


def _value(prompt: str, most: int) -> str:
    """Ask for a secret's value, or read it. Raises `Failure`."""
    if sys.stdin.isatty():
        value = str(click.prompt(prompt, hide_input=True, err=True))
    else:
        value = sys.stdin.read(most + 3).rstrip("\r\n")
    if not 0 < len(value) <= most:
        raise Failure(ExitCode.USAGE, f"a secret has 1 to {most} characters")
    return value
