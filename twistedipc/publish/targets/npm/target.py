"""The target ``npm``: what it is for the rest of the platform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec.structs import replace

from twistedipc.builds import names
from twistedipc.builds.attempt import Package, Packages, Published, Registry
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.builds.recognition.tree import Tree
from twistedipc.publish.compared import Compared
from twistedipc.publish.targets.npm.packers import command_of, packer_of
from twistedipc.publish.targets.npm.selection import select
from twistedipc.publish.targets.target import (
    Before,
    Built,
    Delivery,
    NotAllowed,
    Prepared,
    Secret,
    Settings,
    Target,
    option,
)

#: The scripts that npm runs before it packs a package that is to be published, in its order, and those that it runs
#: afterwards (https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order).
BEFORE_PACKING = ("prepublishOnly", "prepack", "prepare")
AFTER_PACKING = ("postpack", "publish", "postpublish")

#: `NpmSettings.publish_at` of packages that the apiserver publishes.
APISERVER = "apiserver"

#: The step in which a package manager packs.
PACKING = "packing"


class NpmSettings(Settings, frozen=True, kw_only=True, omit_defaults=True, tag="npm"):
    """The npm packages of the repository, in a registry."""

    registry: Annotated[
        Registry,
        option(
            "The npm registry (else the one npm is set up for).",
            flag="--registry",
            metavar="ADDRESS",
            unset="for the one npm is set up for",
        ),
    ] = ""
    packages: Annotated[
        Packages,
        option(
            "An npm package that the project may publish, or all of a scope (@acme/*); else what it publishes first.",
            flag="--package",
            metavar="NAME",
            unset="for none",
        ),
    ] = msgspec.field(default_factory=list)
    publish_at: Annotated[
        str,
        option(
            "Who publishes: builder, where it was built, or apiserver, which keeps the token to itself.",
            flag="--publish-at",
            metavar="builder|apiserver",
            unset="for the builder",
        ),
    ] = ""


class Npm(Target[NpmSettings]):
    """The packages of the repository, published by npm to a registry."""

    name = "npm"
    what = "npm package"
    programs = ("npm",)
    settings = NpmSettings
    secrets = (Secret(name="npm_token", variable="NODE_AUTH_TOKEN", help="the npm registry's token"),)

    # -- settings

    def check(self, settings: NpmSettings) -> None:
        """Raise `names.BadValue` unless the registry, the packages and who publishes them are well formed."""
        if settings.publish_at not in ("", "builder", APISERVER):
            raise names.BadValue(f"publish_at is builder or {APISERVER}, not {settings.publish_at[:100]!r}")
        names.registry(settings.registry)
        names.packages(settings.packages)

    def place(self, settings: NpmSettings) -> str:
        """Return the registry, as `names.place` has it."""
        return names.place(settings.registry)

    def place_name(self, settings: NpmSettings) -> str:
        """Return the registry as people read it."""
        return settings.registry or "the registry that npm is set up for"

    def notices(self, settings: NpmSettings) -> Sequence[str]:
        """Warn if the token would be sent without encryption."""
        if settings.paused or not names.open_road(settings.registry):
            return ()
        return (f"{settings.registry} isn't https: the npm_token that is sent there can be read by others on its way",)

    def describe(self, settings: NpmSettings) -> str:
        """Return what is published, and to which registry."""
        return self.what + (f" to {settings.registry}" if settings.registry else "")

    def details(self, settings: NpmSettings) -> Mapping[str, str]:
        """Return the packages that the project may publish."""
        return {
            "packages": ", ".join(settings.packages) or "the first that it publishes",
            **({"published by": "the apiserver"} if self.is_stored(settings) else {}),
        }

    def address(self, settings: NpmSettings, project: str, site: Callable[[str], str]) -> str:
        """Return the registry, or "" if only npm knows it."""
        return settings.registry

    def contacts(self, settings: NpmSettings) -> Sequence[str]:
        """Return the registry, if the project has one of its own."""
        return (settings.registry,) if settings.registry else ()

    def is_stored(self, settings: NpmSettings) -> bool:
        """Return whether the apiserver publishes."""
        return settings.publish_at == APISERVER

    # -- permits

    def moved(self, offered: NpmSettings, now: NpmSettings, project: str) -> str:
        """Return whether the registry is still the one to which the attempt was to publish."""
        if offered.registry == now.registry:
            return ""
        return (
            f"the registry of project {project} has changed since this build began, from "
            f"{offered.registry or 'the default'} to {now.registry or 'the default'}: build again"
        )

    def allow(self, settings: NpmSettings, packages: Sequence[Package], project: str) -> NpmSettings:
        """
        Whether all packages have names that npm takes and that the project may publish. Where an admin has named no
        package, those that are published first become the only ones.
        """
        if not all(names.is_package(package.name) for package in packages):
            raise NotAllowed("the package has no name that npm takes")
        allowed = settings.packages
        if not allowed:
            return replace(settings, packages=[package.name for package in packages])
        others = [each.name for each in packages if not any(_means(pattern, each.name) for pattern in allowed)]
        if not others:
            return settings
        what, it = ("this package is", "it") if len(packages) == 1 else ("this build also has", "that")
        raise NotAllowed(
            f"project {project} may publish {', '.join(allowed)}, and {what} {', '.join(others)}. To allow "
            f"{it}, an admin runs: twistedipc project set {project} "
            + " ".join(f"--package '{name}'" for name in (*allowed, *others))
        )

    # -- the runner

    def before_packing(self, tree: Tree, plan: Plan) -> Before:
        """
        The scripts that npm runs before it packs, in its order for a publication, as steps of the build: the package is
        then packed and published without any script, so none is near the registry's token. The last step of a package
        that only the project's own manager can pack is that.
        """
        selection = select(tree, plan)
        steps: list[PlannedStep] = []
        never: dict[str, None] = {}
        for candidate in selection.packages:
            scripts = candidate.package.scripts if candidate.package is not None else {}
            packer = packer_of(candidate.package, plan.recognised.manager)
            run = packer.manager.run if packer is not None else "npm run"
            runs = packer.runs if packer is not None else frozenset()
            commands = {name: f"{run} {name}" for name in BEFORE_PACKING if name in scripts and name not in runs}
            if packer is not None:
                commands[PACKING] = command_of(packer, candidate.folder)
            for name, command in commands.items():
                shown = f"{name} {candidate.folder}" if selection.several and candidate.folder else name
                steps.append(PlannedStep(name=shown, run=command, folder=candidate.folder))
            never |= dict.fromkeys(name for name in AFTER_PACKING if name in scripts and name not in runs)
        what = "packages are published as they were" if selection.several else "package is published as it was"
        remark = f"not run, since the {what} packed: {', '.join(never)}" if never else ""
        return Before(steps=steps, remark=remark)

    def prepare(self, settings: NpmSettings, built: Built) -> Prepared:
        """Pack the packages by npm, or take what the project's manager has packed, and check the tarballs."""
        from twistedipc.publish.targets.npm.pack import pack

        return pack(built.folder, built.out, built.plan, settings.registry)

    def deliver(self, settings: NpmSettings, delivery: Delivery) -> Iterable[Published]:
        """Publish the tarballs that were packed."""
        from twistedipc.publish.targets.npm.deliver import deliver

        return deliver(settings.registry, delivery)

    def compare(self, settings: NpmSettings, delivery: Delivery) -> Iterable[Compared]:
        """Compare the tarballs with what their tags lead to in the registry."""
        from twistedipc.publish.targets.npm.compare import compare

        return compare(settings.registry, delivery)


def _means(pattern: str, name: str) -> bool:
    """Return whether an entry of a project's packages, NAME or @SCOPE/*, means this name."""
    return name.startswith(pattern[:-1]) if pattern.endswith("/*") else name == pattern
