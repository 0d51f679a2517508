"""
A project's targets on the command line: options made from the registry, and what an answer says of them. ``cli``; used
by ``projects``.

For each target there is a switch (``--npm``, ``--no-npm``) and an option for each field of its settings that has one.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec
import msgspec.inspect
from msgspec.structs import replace

from twistedipc.builds.names import BadValue
from twistedipc.publish.targets.fields import fields_of
from twistedipc.publish.targets.registry import (
    TARGETS,
    ProjectTargets,
    find,
    from_flat,
    name_of,
    replaced,
    to_flat,
)
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.web.api.schemas import Project


class TargetsCommand(click.Command):
    """A command with the targets' options; it gets them all as the argument ``said``, for `with_options`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, and one for each option of a target."""
        own = super().get_params(ctx)
        return [*own[:-1], *(option for target in TARGETS for option in _options(target)), own[-1]]

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, with the targets' options in one dictionary."""
        names = [option.name for target in TARGETS for option in _options(target)]
        ctx.params["said"] = {name: ctx.params.pop(name) for name in names if name is not None}
        return super().invoke(ctx)


def with_options(targets: ProjectTargets, said: dict[str, Any]) -> ProjectTargets:
    """These targets with what the options say. Raises `click.UsageError`."""
    for target in TARGETS:
        on = said[_switch(target)]
        given = {
            field.name: value
            for field in fields_of(target)
            if (value := said[f"{target.name}_{field.name}"]) not in (None, ())
        }
        if on is None and not given:
            continue
        settings = _changed(target, find(targets, target.name), on, given)
        if settings == _nothing(target):
            targets = tuple(each for each in targets if name_of(each) != target.name)
        else:
            targets = replaced(targets, settings)
    return targets


def targets_of(project: Project) -> ProjectTargets:
    """The targets in an answer; an older apiserver says them in the flat form."""
    return TARGETS.read_kept(project.targets) if project.targets else from_flat(project.publish)


def request_of(targets: ProjectTargets) -> dict[str, Any]:
    """What a request says of these targets: in the flat form if that can say it, which an older apiserver knows too."""
    flat = to_flat(targets)
    if from_flat(flat) == targets:
        return {"publish": flat}
    return {"targets": TARGETS.write(targets)}


def described(project: Project) -> str:
    """Return what a project publishes, in a few words."""
    what = [TARGETS.of(settings).describe(settings) for settings in TARGETS.active(targets_of(project))]
    return ", ".join(what) or "nothing"


def details_of(project: Project) -> list[tuple[str, object]]:
    """More about what a project publishes, as fields: settings, and where it is found."""
    fields: list[tuple[str, object]] = []
    for settings in TARGETS.active(targets_of(project)):
        target = TARGETS.of(settings)
        fields += target.details(settings).items()
        fields.append((target.what, target.address(settings, project.name, lambda _: project.release_url)))
    return fields


# -- the options


def _switch(target: Target[Any]) -> str:
    return f"target_{target.name}"


def _options(target: Target[Any]) -> list[click.Option]:
    secrets = ", ".join(secret.name for secret in target.secrets)
    found = [
        click.Option(
            [_switch(target), f"--{target.name}/--no-{target.name}"],
            default=None,
            help=f"Whether to publish the {target.what}"
            + (f" (see `project secret` for its {secrets})." if secrets else ".")
            + (" A new project does." if target.default else ""),
        )
    ]
    for field in fields_of(target):
        option, many = field.option, field.kind == "list"
        empty = f' "" {option.unset}.' if option.unset else ""
        again = " May be repeated. Replaces all that are set." if many else ""
        found.append(
            click.Option(
                [f"{target.name}_{field.name}", option.flag],
                multiple=many,
                metavar=option.metavar,
                help=option.help + again + empty,
            )
        )
    return found


def _changed(target: Target[Any], settings: Settings | None, on: bool | None, given: dict[str, Any]) -> Settings:
    """The settings of a target with what was given. Without its switch, a target that isn't there is paused."""
    fields = {
        field: [each for each in value if each] if isinstance(value, tuple) else value for field, value in given.items()
    }
    paused = not on if on is not None else settings is None or settings.paused
    before: dict[str, Any] = {"type": target.name} if settings is None else msgspec.to_builtins(settings)
    try:
        changed: Settings = msgspec.convert(before | fields, target.settings, strict=False)
        target.check(changed)
    except (msgspec.ValidationError, BadValue) as error:
        raise click.UsageError(f"the target {target.name}: {error}") from error
    return replace(changed, paused=paused)


def _nothing(target: Target[Any]) -> Settings | None:
    """The settings of a target that say nothing: it is paused, and has none of its own. None if it needs some."""
    try:
        nothing: Settings = target.settings(paused=True)
    except TypeError:
        return None
    return nothing
