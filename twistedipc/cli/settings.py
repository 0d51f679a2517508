"""
How a project is built, on the command line: an option for each of `BuildSettings`, and what an answer says of them.
``cli``; used by ``projects``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import msgspec

from twistedipc.builds.names import BadValue
from twistedipc.builds.settings import BuildSettings, checked


class _Option(NamedTuple):
    flag: str
    metavar: str
    help: str
    many: bool = False


_AGAIN = " May be repeated; replaces all that are set."

#: field of `BuildSettings` -> its option
_OPTIONS = {
    "root": _Option("--root", "FOLDER", "The project's folder in its repository (apps/web)."),
    "framework": _Option("--framework", "NAME", "The framework, where it isn't recognised."),
    "manager": _Option("--manager", "NAME[@VERSION]", "The package manager: npm, pnpm, yarn or bun (pnpm@9)."),
    "node": _Option("--node", "RANGE", "The version of Node (22, ^20.11.0, lts/iron)."),
    "install": _Option("--install", "COMMAND", 'The command that installs; "" runs none.'),
    "build": _Option("--build", "COMMAND", 'The command that builds; "" runs none.'),
    "output": _Option("--output", "FOLDER", "The folder that is packed, relative to the root."),
    "spa": _Option("--spa/--no-spa", "", "Whether addresses without a file get index.html."),
    "trailing_slash": _Option("--trailing-slash", "MODE", "Of pages' addresses: auto (the default), always or never."),
    "clean_urls": _Option("--clean-urls/--no-clean-urls", "", "Whether /about.html is sent to /about."),
    "watch": _Option("--watch", "PATTERN", "A push that touches no path like this builds nothing." + _AGAIN, True),
    "packages": _Option("--package-folder", "PATTERN", "Folders whose packages are published." + _AGAIN, True),
    "submodules": _Option("--submodules/--no-submodules", "", "Whether submodules are checked out (the default)."),
    "lfs": _Option("--lfs/--no-lfs", "", "Whether large files are fetched (the default)."),
    "annotate": _Option("--annotate/--no-annotate", "", "Whether what tools print becomes groups and annotations."),
    "caches": _Option("--cache", "FOLDER", "A folder that is kept from build to build." + _AGAIN, True),
    "network": _Option("--network", "MODE", "What its steps may reach: open (the default), registries or none."),
    "hosts": _Option("--host", "HOST", "A host that it may reach beside its registries." + _AGAIN, True),
    "egress": _Option(
        "--egress", "MODE", "With registries: ask fails a step that contacts a host which the last green build didn't."
    ),
}

_RECOGNISE = "recognise"


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: it gets the options of all settings as arguments ``set_…``, for `with_settings`."""
    for field, option in reversed(_OPTIONS.items()):
        metavar = option.metavar or None  # of a switch there is none
        command = click.option(
            f"set_{field}", option.flag, default=None, multiple=option.many, help=option.help, metavar=metavar
        )(command)
    return command


def recognise_option(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that changes a project: ``--recognise SETTING`` makes a setting what it is by default."""
    return click.option(
        f"set_{_RECOGNISE}",
        f"--{_RECOGNISE}",
        type=click.Choice(list(_OPTIONS)),
        multiple=True,
        help="Forget this setting: it is recognised from the project's files again. May be repeated.",
    )(command)


def with_settings(before: BuildSettings, options: dict[str, Any]) -> BuildSettings:
    """These settings with what the options say. Raises `click.UsageError`."""
    said = _said(options)
    forgotten = set(said.pop(_RECOGNISE, ()))
    both = sorted(forgotten & said.keys())
    if both:
        raise click.UsageError(f"--{_RECOGNISE} {both[0]} and {_OPTIONS[both[0]].flag} say two things of one setting")
    kept = {field: value for field, value in msgspec.structs.asdict(before).items() if field not in forgotten}
    given = {
        field: [each for each in value if each] if isinstance(value, tuple) else value for field, value in said.items()
    }
    try:
        return checked(BuildSettings(**(kept | given)))
    except BadValue as error:
        raise click.UsageError(str(error)) from error


def says_something(options: dict[str, Any]) -> bool:
    """Return whether any of the options was given."""
    return bool(_said(options))


def fields_of(settings: BuildSettings) -> list[tuple[str, object]]:
    """What a project says of how it is built, as fields for people; what is recognised is left out."""
    said = msgspec.to_builtins(settings)
    return [(_OPTIONS[field].flag.partition("/")[0].strip("-"), _shown(value)) for field, value in said.items()]


def _said(options: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("set_"): value for name, value in options.items() if value not in (None, ())}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value) or "nothing is run"
