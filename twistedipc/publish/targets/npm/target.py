"""The target ``npm``: what it is for the rest of the platform."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec.structs import replace

from twistedipc.builds import names
from twistedipc.builds.attempt import Package, Packages, Published, Registry
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.versions import CHANGESETS, Versioning
from twistedipc.publish.asking import Answered, Question
from twistedipc.publish.compared import Compared
from twistedipc.publish.targets.npm.places import OIDC, THE_TOKEN, TOKEN, Place, Places, check_scopes, places, token_of
from twistedipc.publish.targets.target import (
    Before,
    Built,
    Delivery,
    NotAllowed,
    Prepared,
    Secret,
    Settings,
    Target,
    Versioned,
    option,
)

#: The scripts that npm runs before it packs a package that is to be published, in its order, and those that it runs
#: afterwards (https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order).
BEFORE_PACKING = ("prepublishOnly", "prepack", "prepare")
AFTER_PACKING = ("postpack", "publish", "postpublish")

#: `NpmSettings.publish_at`: who publishes; "" is the apiserver.
APISERVER = "apiserver"
BUILDER = "builder"

#: The features of builders that can sign in by an ID token, and that know of registries by scope.
ID_TOKENS = "id-tokens"
SCOPES = "scopes"

#: For whom an ID token is.
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,200}")

#: The author of commits with versions, where a project names none.
AUTHOR = "twistedipc <releases@twistedipc.invalid>"

#: A name and an address, as git has an author.
_AUTHOR = re.compile(r"[^<>\x00-\x1f\x7f]*[^<>\s\x00-\x1f\x7f] <[^<>\s\x00-\x1f\x7f]+>")

#: The variable, in lower case, that names the registry where a project names none.
_REGISTRY = "npm_config_registry"

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
    auth: Annotated[
        str,  # `places.TOKEN`, `places.OIDC`
        option(
            "By what packages are published: token, the secret npm_token, or oidc, the apiserver's own word, for which "
            "a registry that trusts it gives a token for some minutes.",
            flag="--auth",
            label="Published by",
            metavar="token|oidc",
            unset="for the token",
        ),
    ] = ""
    audience: Annotated[
        str,
        option(
            "By which name the registry knows itself in that word.",
            flag="--audience",
            metavar="NAME",
            unset="for npm: and its host",
        ),
    ] = ""
    scopes: Annotated[
        list[str],
        option(
            "The registry of a scope's packages, if it is another one; @SCOPE=oidc+ADDRESS where it takes the "
            "apiserver's word. Its token is the secret npm_token@SCOPE.",
            flag="--scope-registry",
            label="Registries of scopes",
            metavar="@SCOPE=ADDRESS",
            unset="for none",
        ),
    ] = msgspec.field(default_factory=list)
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
            "Who publishes: apiserver, which keeps the token to itself, or builder, where the packages were built.",
            flag="--publish-at",
            label="Who publishes",
            metavar="apiserver|builder",
            unset="for the apiserver",
        ),
    ] = ""
    versions: Annotated[
        str,
        option(
            "What makes versions on protected refs: changesets, or else package.json has them.",
            flag="--versions",
            label="Versions made by",
            metavar="changesets",
            unset="for those of package.json",
        ),
    ] = ""
    push: Annotated[
        bool,
        option(
            "Whether a commit with the versions that a build has made is pushed to the ref that was built.",
            flag="--push-versions",
            label="Push the versions",
            metavar="true|false",
        ),
    ] = False
    canary: Annotated[
        bool,
        option(
            "Whether builds of other refs than protected ones publish previews of packages, under tags of their own.",
            flag="--canary",
            label="Publish canaries",
            metavar="true|false",
        ),
    ] = False
    author: Annotated[
        str,
        option(
            "The author of that commit.",
            flag="--release-author",
            label="Author of the commit with versions",
            metavar="'NAME <EMAIL>'",
            unset=f"for {AUTHOR}",
        ),
    ] = ""
    staging: Annotated[
        str,
        option(
            "Whether packages are staged, for a person to approve with a one-time password: always, never, or (unset) "
            "where the registry has stages.",
            flag="--staging",
            metavar="always|never",
            unset="where the registry has stages",
        ),
    ] = ""


class Npm(Target[NpmSettings]):
    """The packages of the repository, published to an npm registry."""

    name = "npm"
    what = "npm package"
    linted = True
    has_versions = True
    settings = NpmSettings
    secrets = (THE_TOKEN,)

    # -- settings

    def check(self, settings: NpmSettings) -> None:
        """Raise `names.BadValue` unless the registry, the packages and who publishes them are well formed."""
        if settings.versions not in ("", CHANGESETS):
            raise names.BadValue(f"versions is {CHANGESETS}, or nothing, not {settings.versions[:100]!r}")
        if settings.author and (len(settings.author) > 200 or not _AUTHOR.fullmatch(settings.author)):
            raise names.BadValue(
                "author is a name and an address for mail, for example 'Release <release@example.org>'"
            )
        if settings.publish_at not in ("", BUILDER, APISERVER):
            raise names.BadValue(f"publish_at is {APISERVER} or {BUILDER}, not {settings.publish_at[:100]!r}")
        if settings.staging not in ("", "always", "never"):
            raise names.BadValue(f"staging is always or never, not {settings.staging[:100]!r}")
        if settings.staging == "always" and not self.is_stored(settings):
            raise names.BadValue(
                "a builder publishes directly, so staging can't be always unless the apiserver publishes: nobody could "
                "be asked for the one-time password"
            )
        names.registry(settings.registry)
        names.packages(settings.packages)
        if settings.auth not in ("", TOKEN, OIDC):
            raise names.BadValue(f"auth is {TOKEN} or {OIDC}, not {settings.auth[:100]!r}")
        check_scopes(settings.scopes)
        if settings.auth == OIDC and not settings.registry:
            raise names.BadValue(
                "with oidc the project must name its registry (--registry), which trusts the apiserver"
            )
        if settings.audience and not _AUDIENCE.fullmatch(settings.audience):
            raise names.BadValue("audience is 1 to 200 characters of printable ASCII without spaces")

    def place(self, settings: NpmSettings) -> str:
        """Return the registry of all packages whose scope has none of its own, as `names.place` has it."""
        return names.place(settings.registry)

    def secret(self, name: str) -> Secret | None:
        """Return the registry's token, or that of the registry of a scope."""
        return THE_TOKEN if name == THE_TOKEN.name else token_of(name)

    def secret_place(self, settings: NpmSettings, secret: str) -> str | None:
        """Return the registry of a token."""
        found = _places(settings).by_secret(secret)
        return None if found is None else names.place(found.registry)

    def package_place(self, settings: NpmSettings, package: str) -> str:
        """Return the registry of a package."""
        return names.place(_places(settings).of(package).registry)

    def place_name(self, settings: NpmSettings) -> str:
        """Return the registry as people read it."""
        return settings.registry or "the registry that npm is set up for"

    def notices(self, settings: NpmSettings) -> Sequence[str]:
        """Warn if a token would be sent without encryption."""
        if settings.paused:
            return ()
        return [
            f"{place.registry} isn't https: the {'ID token' if place.by_oidc else place.secret.name} that is sent "
            "there can be read by others on its way"
            for place in _places(settings).all
            if names.open_road(place.registry)
        ]

    def describe(self, settings: NpmSettings) -> str:
        """Return what is published, and to which registries."""
        addresses = [place.registry for place in _places(settings).all if place.registry]
        return self.what + (f" to {', '.join(dict.fromkeys(addresses))}" if addresses else "")

    def details(self, settings: NpmSettings) -> Mapping[str, str]:
        """Return the packages that the project may publish."""
        return {
            "packages": ", ".join(settings.packages) or "the first that it publishes",
            **({} if self.is_stored(settings) else {"published by": "the builder"}),
            **(
                {"signs in": f"by OIDC, for {place.secret.audience}"}
                if (place := _places(settings).default).by_oidc
                else {}
            ),
            **{f"packages of {place.scope}": _described(place) for place in _places(settings).by_scope.values()},
            **({"versions": f"made by {settings.versions}"} if settings.versions else {}),
            **({"their commit": f"pushed, by {settings.author or AUTHOR}"} if settings.push else {}),
            **({"canaries": "published from other refs than protected ones"} if settings.canary else {}),
            **({"staging": settings.staging} if settings.staging else {}),
        }

    def address(self, settings: NpmSettings, project: str, site: Callable[[str], str]) -> str:
        """Return the registry, or "" if only npm knows it."""
        return settings.registry or next((each.registry for each in _places(settings).by_scope.values()), "")

    def contacts(self, settings: NpmSettings) -> Sequence[str]:
        """Return the registries that the project names."""
        return list(dict.fromkeys(place.registry for place in _places(settings).all if place.registry))

    def is_stored(self, settings: NpmSettings) -> bool:
        """Return whether the apiserver publishes."""
        return settings.publish_at != BUILDER

    def lacks(self, settings: NpmSettings, environment: Mapping[str, str]) -> str:
        """Return that nothing says which registry it is, unless the project, a variable or npm does."""
        import shutil  # not above: it is large, and a runner imports this module

        known = _places(settings)
        if all(known.of(each).registry for each in settings.packages or [""]):
            return ""
        if any(value for name, value in environment.items() if name.lower() == _REGISTRY):
            return ""
        if shutil.which("npm", path=environment.get("PATH", os.defpath)) is not None:
            return ""
        return (
            "no registry is named, there is no npm whose registry would be taken, and NPM_CONFIG_REGISTRY isn't set: "
            "name the registry (--registry ADDRESS)"
        )

    def secrets_for(self, settings: NpmSettings, packages: Collection[str] | None = None) -> Sequence[Secret]:
        """Return the registries' tokens, or the ID tokens that are exchanged for these."""
        return [place.secret for place in _places(settings).needed(packages)]

    def features(self, settings: NpmSettings) -> Collection[str]:
        """Return what a builder must know: that scopes have registries, and ID tokens if it publishes by one."""
        by_oidc = any(place.by_oidc for place in _places(settings).all) and not self.is_stored(settings)
        return [*([ID_TOKENS] if by_oidc else []), *([SCOPES] if settings.scopes else [])]

    def makes_versions(self, settings: NpmSettings) -> bool:
        """Return whether changesets makes the versions."""
        return settings.versions == CHANGESETS

    def makes_canaries(self, settings: NpmSettings) -> bool:
        """Return whether the project wants them."""
        return settings.canary

    # -- permits

    def moved(self, offered: NpmSettings, now: NpmSettings, project: str) -> str:
        """Return whether the registries are still those to which the attempt was to publish."""
        then, by_now = _places(offered), _places(now)
        for scope in dict.fromkeys([*then.by_scope, *by_now.by_scope]):
            before, after = then.of(f"{scope}/"), by_now.of(f"{scope}/")
            if before.registry != after.registry:
                return (
                    f"the registry of the packages of {scope} of project {project} has changed since this build began, "
                    f"from {before.name} to {after.name}: build again"
                )
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

    def versions(
        self, settings: NpmSettings, tree: Tree, plan: Plan, wanted: Versioning, *, production: bool
    ) -> Versioned | None:
        """The versions of package.json raised, or made by changesets, as the request and the project say."""
        from twistedipc.publish.targets.npm import changesets, versioning

        by_tool = settings.versions == CHANGESETS and production and not wanted.bump and wanted.canary is None
        if wanted.bump == CHANGESETS or by_tool:
            return changesets.planned(tree, plan)
        if wanted.bump or wanted.canary is not None:
            return versioning.versioned(tree, plan, wanted)
        return None

    def versions_made(self, settings: NpmSettings, tree: Tree, plan: Plan, before: dict[str, str]) -> Versioned:
        """The versions that changesets has made."""
        from twistedipc.publish.targets.npm import changesets

        return changesets.made(tree, plan, before)

    def release_author(self, settings: NpmSettings) -> str:
        """Return the author, if the project wants such commits."""
        return (settings.author or AUTHOR) if settings.push else ""

    def before_packing(self, tree: Tree, plan: Plan) -> Before:
        """
        The scripts that npm runs before it packs, in its order for a publication, as steps of the build: the package is
        then packed and published without any script, so none is near the registry's token. The last step of a package
        that only the project's own manager can pack is that.
        """
        from twistedipc.publish.targets.npm.packers import command_of, packer_of
        from twistedipc.publish.targets.npm.selection import select

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

        return pack(built, _places(settings))

    def deliver(self, settings: NpmSettings, delivery: Delivery) -> Iterable[Published]:
        """Publish the tarballs that were packed."""
        from twistedipc.publish.targets.npm.deliver import deliver

        return deliver(_places(settings), settings.staging, delivery)

    def compare(self, settings: NpmSettings, delivery: Delivery) -> Iterable[Compared]:
        """Compare the tarballs with what their tags lead to in the registry."""
        from twistedipc.publish.targets.npm.compare import compare

        return compare(_places(settings), delivery)

    # -- what is published

    def ask(self, settings: NpmSettings, question: Question) -> Answered:
        """Ask the registry about packages that are there, and change their tags."""
        from twistedipc.publish.targets.npm.asking import ask

        return ask(_places(settings), question)


def _places(settings: NpmSettings) -> Places:
    """Return to which registries packages go."""
    return places(registry=settings.registry, auth=settings.auth, audience=settings.audience, scopes=settings.scopes)


def _described(place: Place) -> str:
    return f"{place.registry} (by OIDC, for {place.secret.audience})" if place.by_oidc else place.registry


def _means(pattern: str, name: str) -> bool:
    """Return whether an entry of a project's packages, NAME or @SCOPE/*, means this name."""
    return name.startswith(pattern[:-1]) if pattern.endswith("/*") else name == pattern
