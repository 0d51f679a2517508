"""
A checked-out project -> the steps that build it. Bottom layer, pure: it is given the contents of files.

A ``.twistedipc.toml`` in the repository may say how it is built::

    [build]
    steps = ["make", {name = "test", run = "npm test"}]   # each is given to `sh -c` in the working copy
    output = "dist"          # the folder that is packed
    index = ""               # it needs no index.html: a folder of assets
    spa = true               # addresses without a file get index.html: a single-page application
    timeout = 600            # seconds; both can only lower what the platform allows
    idle_timeout = 60        # seconds without output or message

    [build.environment]
    MODE = "production"

Without ``steps``, package.json gives them (`managers`): ``npm ci`` where there is a lock file (``npm install``
otherwise), then ``npm run build`` if there is such a script. A repository without package.json that has an index.html
at its top is a site as it is: nothing is run, and the whole of it is packed. Without ``output``, the folder that is
packed is chosen after the build (`publish.output`), among `outputs.OUTPUTS`.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from twistedipc.builds import managers, variables
from twistedipc.builds.names import BadValue
from twistedipc.builds.outputs import FALLBACK, GENERATORS, INDEX, NOT_FOUND, OUTPUTS

PLAN_FILE = ".twistedipc.toml"

#: Folders that may hold a site without any build, beside `OUTPUTS`.
_PLAIN = ("docs", "site", "www", "html")

#: The paths in the working copy on which `make_plan` depends, if they exist before anything is built.
LOOKED_AT = frozenset(
    {
        INDEX,
        *managers.LOOKED_AT,
        *(generator.file for generator in GENERATORS),
        *(f"{folder}/{INDEX}" for folder in (*OUTPUTS, *_PLAIN)),
    }
)

#: The names of the steps that the platform does itself.
RESERVED = frozenset({"checkout", "toolchain", "pack", "publish"})

#: The most bytes of `PLAN_FILE` and of package.json that are read.
MAX_FILE = 1024 * 1024


class BadPlan(Exception):
    """The project can't be built as it is; ``str()`` of the exception is a sentence for the project's authors."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A command of a plan."""

    name: str
    run: str


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a project is built."""

    steps: list[PlannedStep]
    output: str = ""  # relative to the working copy; "": it is chosen among `OUTPUTS`
    index: str = INDEX  # the file that the output needs at its top; "": none
    remark: str = ""  # a sentence for the error, should there be no output
    spa: bool | None = None  # whether addresses without a file get index.html; None: ``framework_spa``, in doubt not
    framework_spa: bool = False  # whether sites of the project's framework count on that
    timeout: float | None = None  # seconds
    idle_timeout: float | None = None
    environment: dict[str, str] = {}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The folders that may be the output, in the order in which they are looked at."""
        return (self.output,) if self.output else OUTPUTS

    def is_single_page(self, top: Collection[str]) -> bool:
        """
        Return whether the site that was built answers addresses without a file with its page. ``top``: which of
        `NOT_FOUND` and `FALLBACK` it has at its top. A page for what isn't found says that the site isn't a single-page
        application, unless the project or a page for the others says that it is.
        """
        if self.spa is not None:
            return self.spa
        return self.framework_spa and (FALLBACK in top or NOT_FOUND not in top)


_Text = Annotated[str, Meta(min_length=1, max_length=32 * 1024)]
_Seconds = Annotated[float, Meta(gt=0)]


class _Step(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    run: _Text


class _Build(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    steps: Annotated[list[_Text | _Step], Meta(max_length=100)] | None = None
    output: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    index: str | None = None
    spa: bool | None = None
    timeout: _Seconds | None = None
    idle_timeout: _Seconds | None = None
    environment: dict[str, str] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    build: _Build = msgspec.field(default_factory=_Build)


def make_plan(plan_file: bytes | None, package_json: bytes | None, present: Collection[str]) -> Plan:
    """
    Return the plan of a project, from its `PLAN_FILE` and its package.json (None where there is none), and those of
    `LOOKED_AT` that are ``present``. Raises `BadPlan`.
    """
    build = _read_plan_file(plan_file) if plan_file is not None else _Build()
    output = _output(build.output) if build.output is not None else ""
    remark = ""
    if build.steps is not None:
        steps = [_named(step) for step in build.steps]
    elif package_json is not None:
        steps = _npm_steps(package_json, present)
        if len(steps) == 1:
            remark = 'package.json has no script "build", so that nothing was built.'
            if INDEX in present:
                remark += f' To release the repository itself, with its {INDEX}, set output = "." in {PLAN_FILE}.'
    else:
        steps = []
        if not output:
            _check_plain(present)
    if not steps and not output and INDEX in present:
        output = "."  # nothing is built, so that the repository itself is the site
    return Plan(
        steps=steps,
        output=output,
        index=_index(build.index),
        remark=remark,
        spa=build.spa,
        timeout=build.timeout,
        idle_timeout=build.idle_timeout,
        environment=build.environment,
    )


def _read_plan_file(data: bytes) -> _Build:
    try:
        values = tomllib.loads(data.decode("utf-8-sig"))  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadPlan(f"`{PLAN_FILE}` is UTF-16: save it as UTF-8") from error
        raise BadPlan(f"`{PLAN_FILE}` isn't UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadPlan(f"`{PLAN_FILE}` isn't TOML: {error}") from error
    try:
        build = msgspec.convert(values, _File).build
    except msgspec.ValidationError as error:
        raise BadPlan(f"`{PLAN_FILE}`: {_by_key(str(error))}") from error
    try:
        variables.of_repository(build.environment)
    except BadValue as error:
        raise BadPlan(f"`{PLAN_FILE}`: build.environment: {error}") from error
    return build


def _by_key(message: str) -> str:
    """Return msgspec's "Expected `float`, got `str` - at `$.build.timeout`" with the key first."""
    what, at, path = message.partition(" - at `")
    key = path.removesuffix("`").removeprefix("$").removeprefix(".")
    what = what[:1].lower() + what[1:]
    return f"{key}: {what}" if at and key else what


def _named(step: str | _Step) -> PlannedStep:
    if isinstance(step, _Step):
        if step.name in RESERVED:
            raise BadPlan(f"`{PLAN_FILE}`: build.steps: no step can be named {step.name}: the platform has one")
        name, run = step.name, step.run
    else:
        first = step.strip().partition("\n")[0]
        name, run = (first[:59] + "…" if len(first) > 60 else first), step
        if name in RESERVED:
            name = f"sh: {name}"
    if not run.strip() or not name.strip():
        raise BadPlan(f"`{PLAN_FILE}`: build.steps: a step is empty")
    if "\0" in run or not name.isprintable():
        raise BadPlan(f"`{PLAN_FILE}`: build.steps: a step has characters in it that can't be in a command or a name")
    return PlannedStep(name=name, run=run)


def _output(folder: str) -> str:
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if folder.startswith("/") or ".." in parts or not folder.isprintable() or parts[:1] == [".git"]:
        raise BadPlan(f"`{PLAN_FILE}`: build.output: it must be a folder inside the repository")
    return "/".join(parts) or "."


def _index(name: str | None) -> str:
    if name is None or name == INDEX:
        return INDEX
    if name:
        raise BadPlan(
            f'`{PLAN_FILE}`: build.index: it can only be "{INDEX}", or "" for a folder of assets that has none: '
            "no other file is served for a folder's address"
        )
    return ""


def _check_plain(present: Collection[str]) -> None:
    """Raise `BadPlan` unless a repository without package.json and without steps is a site as it is."""
    for generator in GENERATORS:
        if generator.file in present:
            raise BadPlan(
                f"{generator.file} says that {generator.name} makes this site, and nothing says how: set build.steps "
                f'in {PLAN_FILE}, for example {generator.example}, or output = "." to release the files as they are'
            )
    if INDEX in present:
        return
    needs = f"the repository needs a package.json, an {INDEX} at its top, or a {PLAN_FILE} with build.steps"
    plain = next((folder for folder in (*OUTPUTS, *_PLAIN) if f"{folder}/{INDEX}" in present), None)
    if plain is not None:
        needs += f'. {plain} has an {INDEX}: to release that folder as it is, set output = "{plain}" under [build]'
    raise BadPlan(f"there is nothing to build: {needs}")


def _npm_steps(package_json: bytes, present: Collection[str]) -> list[PlannedStep]:
    try:
        package = msgspec.json.decode(package_json.removeprefix(codecs.BOM_UTF8), type=managers.PackageJson)
        steps = managers.npm_steps(package, present)
    except managers.Unsupported as error:
        raise BadPlan(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPlan(f"package.json can't be read: {_by_key(str(error))}") from error
    return [PlannedStep(name=name, run=run) for name, run in steps]
