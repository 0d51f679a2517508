"""
A checked-out project -> the steps that build it. Bottom layer, pure: it is given a `recognition.tree.Tree`.

A ``.twistedipc.toml`` in the repository may say how it is built::

    project = "shop"         # for the command, in a folder of the repository

    [build]
    root = "apps/web"        # the project's folder; what follows is relative to it
    steps = ["make", {name = "test", run = "npm test", network = "none"}]   # each is given to `sh -c` in the root
    output = "dist"          # the folder that is packed
    index = ""               # it needs no index.html: a folder of assets
    spa = true               # addresses without a file get index.html: a single-page application
    timeout = 600            # seconds; both can only lower what the platform allows
    idle_timeout = 60        # seconds without output or message

    [build.environment]
    MODE = "production"

    [site]                   # how the site is served: `site.said`
    trailing_slash = "never"

All settings of a project can be there (`settings.BuildSettings`), and win. A root's own file is read in place of the
repository's. Without ``steps``, what is run is recognised (`recognition`). Without ``output``, the folder that is
packed is chosen after the build (`publish.output`), among those that the framework writes and `outputs.OUTPUTS`.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import asdict, replace

from twistedipc.builds import toml, variables
from twistedipc.builds.egress import EgressMode, NetworkMode, narrower
from twistedipc.builds.names import BadValue
from twistedipc.builds.outputs import FALLBACK, INDEX, NOT_FOUND, OUTPUTS
from twistedipc.builds.recognition.paths import joined
from twistedipc.builds.recognition.reading import BadPlan, by_key, in_folder, read
from twistedipc.builds.recognition.recognise import nothing_to_build, recognise
from twistedipc.builds.recognition.recognised import PlannedStep, Recognised
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.settings import MAX_COMMAND, PLAN_FILE, BuildSettings, checked, narrowed
from twistedipc.builds.site.budgets import Budgets, budgets_of
from twistedipc.builds.site.rules import BadRules, Serving
from twistedipc.builds.site.said import SaidSite, serving_of

#: The names of the steps that the platform does itself.
RESERVED = frozenset({"checkout", "toolchain", "pack", "publish"})


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a project is built. All folders are relative to the working copy."""

    steps: list[PlannedStep]
    root: str = ""  # the project's folder
    output: str = ""  # "": it is chosen among ``candidates`` and `OUTPUTS`
    candidates: list[str] = []  # where the framework writes the site
    index: str = INDEX  # the file that the output needs at its top; "": none
    remark: str = ""  # a sentence for the error, should there be no output
    no_site: str = ""  # why it is certain that the build makes no site; "": it isn't
    spa: bool | None = None  # whether addresses without a file get index.html; None: ``framework_spa``, in doubt not
    framework_spa: bool = False  # whether sites of the project's framework count on that
    site: Serving = Serving()  # how the site is served beside that; its own files may say more
    budgets: Budgets = Budgets()  # how much the site may have
    timeout: float | None = None  # seconds
    idle_timeout: float | None = None
    annotate: bool = True  # whether what tools print becomes groups and annotations
    environment: dict[str, str] = {}
    caches: list[str] = []  # folders that are kept from one build to the next, relative to the root
    packages: list[str] = []  # patterns of the folders whose packages are published; none: the root's own
    packages_in: str = ""  # the folder to which they are relative
    network: NetworkMode = "open"  # what the steps may reach that say nothing else
    hosts: list[str] = []  # that they may reach beside the project's repository and registries
    egress: EgressMode = "record"
    recognised: Recognised = Recognised()

    @property
    def roots(self) -> list[str]:
        """The project's folder, and those above it in which something is installed or built."""
        return list(dict.fromkeys([self.root, *(step.folder for step in self.steps), ""]))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The folders that may be the output, in the order in which they are looked at."""
        if self.output:
            return (self.output,)
        return tuple(dict.fromkeys([*self.candidates, *(in_folder(self.root, folder) for folder in OUTPUTS)]))

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
    network: NetworkMode | None = None  # None: that of the project


class _Build(BuildSettings, msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    steps: Annotated[list[_Text | _Step], Meta(max_length=100)] | None = None
    index: str | None = None
    timeout: _Seconds | None = None
    idle_timeout: _Seconds | None = None
    environment: dict[str, str] = {}


#: What ``[site]`` says of the settings of a project; ``spa`` can be in ``[build]`` too.
_OF_SITE = ("spa", "trailing_slash", "clean_urls")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    project: str = ""  # what it is called on the apiserver: for the command, which then needn't be told
    build: _Build = msgspec.field(default_factory=_Build)
    site: SaidSite = SaidSite()


class _Site(NamedTuple):
    """What ``[site]`` says."""

    serving: Serving = Serving()
    budgets: Budgets = Budgets()


def make_plan(tree: Tree, said: BuildSettings) -> Plan:
    """
    Return the plan of a project.

    :param said: what the project's settings say
    :raises BadPlan: if it can't be built as it is
    """
    build, settings, said_in, site = _settings_of(tree, said)
    serving = _with_settings(site.serving, settings)
    if build.steps is not None:
        recognised = _beside_steps(tree, settings, said_in)
        steps = [_named(step, settings.root, settings.network) for step in build.steps]
    else:
        recognised = recognise(tree, settings, said_in)
        if recognised.refusal:
            raise BadPlan(recognised.refusal)
        steps = [*([recognised.install] if recognised.install is not None else []), *recognised.build]
    if any(len(step.run) > MAX_COMMAND for step in steps):
        raise BadPlan(f"a command of the build has more than {MAX_COMMAND} characters")
    top = recognised.root or "."
    here = INDEX in tree.names(recognised.root)
    packaged = recognised.manager is not None
    output = (recognised.outputs[0] if recognised.outputs else "") if settings.output else ""
    if build.steps is None and not steps and not output and not here:
        raise BadPlan(nothing_to_build(tree, recognised.root))
    if not steps and not output and here:
        output = top  # nothing is built, so that the repository itself is the site
    return Plan(
        steps=steps,
        root=recognised.root,
        output=output,
        candidates=[folder for folder in recognised.outputs if folder not in (output, top)],
        index=_index(build.index, serving.index),
        remark=_remark(packaged and build.steps is None and not recognised.build, here),
        no_site=recognised.no_site,
        spa=settings.spa,
        framework_spa=recognised.spa,
        site=serving,
        budgets=site.budgets,
        timeout=build.timeout,
        idle_timeout=build.idle_timeout,
        annotate=settings.annotate,
        environment=build.environment,
        caches=settings.caches,
        packages=settings.packages,
        packages_in=settings.root,
        network=settings.network,
        hosts=settings.hosts,
        egress=settings.egress,
        recognised=recognised,
    )


def settings_of(tree: Tree, said: BuildSettings) -> BuildSettings:
    """Return a project's settings with what its files say. Raises `BadPlan`."""
    return _settings_of(tree, said)[1]


def _with_settings(site: Serving, settings: BuildSettings) -> Serving:
    """How a site is served, with what its project's settings say."""
    return replace(site, trailing_slash=settings.trailing_slash or "auto", clean_urls=settings.clean_urls)


def _beside_steps(tree: Tree, settings: BuildSettings, said_in: Mapping[str, str]) -> Recognised:
    """What is recognised of a project that has steps of its own: it needn't be possible to build it without them."""
    try:
        found = recognise(tree, replace(settings, install="", build=""), said_in)
    except BadPlan:
        return Recognised(root=settings.root)
    findings = [finding for finding in found.findings if finding.what not in ("install", "build", "kind")]
    advice = [sentence for sentence in found.advice if sentence.startswith("There are lock files")]
    return replace(found, findings=findings, advice=advice, install=None, build=[], refusal="", no_site="", needs=[])


def _remark(nothing_built: bool, here: bool) -> str:
    if not nothing_built:
        return ""
    remark = 'package.json has no script "build", so that nothing was built.'
    if here:
        remark += f' To release the repository itself, with its {INDEX}, set output = "." in {PLAN_FILE}.'
    return remark


def _settings_of(tree: Tree, said: BuildSettings) -> tuple[_Build, BuildSettings, dict[str, str], _Site]:
    """
    What a project's files say of how it is built, its settings with that, which file says which of them, and what is
    said of the site.
    """
    paths = [in_folder(said.root, PLAN_FILE)] if said.root else []
    for path in [*paths, PLAN_FILE]:
        data = read(tree, path)
        if data is None:
            continue
        build, keys, site = _read_plan_file(data, path, root=said.root)
        merged = _merged(said, build, keys, path)
        if merged.root != said.root and PLAN_FILE in tree.names(merged.root):
            return _settings_of(tree, replace(said, root=merged.root))
        return build, merged, dict.fromkeys(keys, path), site
    return _Build(), said, {}, _Site()


def _merged(said: BuildSettings, build: _Build, keys: Collection[str], path: str) -> BuildSettings:
    given = {key: getattr(build, key) for key in BuildSettings.__struct_fields__ if key in keys}
    try:
        return narrowed(checked(BuildSettings(**(asdict(said) | given))), said)
    except BadValue as error:
        raise BadPlan(f"`{path}`: build.{error}") from error


def _read_plan_file(data: bytes, path: str, *, root: str) -> tuple[_Build, dict[str, Any], _Site]:
    """
    What a file says, the keys of settings that it has, and what it says of the site. ``root``: what is said of it
    already.
    """
    try:
        values = toml.loads(data.decode("utf-8-sig"))  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadPlan(f"`{path}` is UTF-16: save it as UTF-8") from error
        raise BadPlan(f"`{path}` isn't UTF-8") from error
    except (toml.BadToml, RecursionError) as error:
        raise BadPlan(f"`{path}` isn't TOML: {error}") from error
    try:
        file = msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        raise BadPlan(f"`{path}`: {by_key(str(error))}") from error
    build = file.build
    try:
        variables.of_repository(build.environment)
    except BadValue as error:
        raise BadPlan(f"`{path}`: build.environment: {error}") from error
    try:
        site = _Site(serving_of(file.site), budgets_of(file.site.budget, file.site.budget_action))
    except BadRules as error:
        raise BadPlan(f"`{path}`: {error}") from error
    keys = dict(values.get("build", {}))
    for key in _OF_SITE:
        if key != "spa" and key in keys:
            raise BadPlan(f"`{path}`: build.{key}: it is written under [site]")
        if (value := getattr(file.site, key)) is not None:
            if keys.setdefault(key, value) != value:
                raise BadPlan(f"`{path}`: site.{key}: build.{key} says another thing")
            build = replace(build, **{key: value})
    if root:
        said = joined("", keys.pop("root", root))
        if said not in (root, ""):
            raise BadPlan(f"`{path}`: build.root: the project's root is {root}, and this names another one")
    return build, keys, site


def _named(step: str | _Step, root: str, network: NetworkMode) -> PlannedStep:
    own: NetworkMode | None = None
    if isinstance(step, _Step):
        own = step.network
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
    if own is not None and own != narrower(own, network):
        raise BadPlan(
            f'`{PLAN_FILE}`: build.steps: {name} has network = "{own}", but the project has "{network}", and a step '
            "can only ask for less"
        )
    return PlannedStep(name=name, run=run, folder=root, network=own)


def _index(name: str | None, of_site: str) -> str:
    """The file that the output needs at its top, the one that is served for a folder; "" if it needs none."""
    if name == "":
        return ""
    if name not in (None, of_site):
        raise BadPlan(
            f'`{PLAN_FILE}`: build.index: it can only be "{of_site}", or "" for a folder of assets that has none: '
            "no other file is served for a folder's address (site.index names that file)"
        )
    return of_site
