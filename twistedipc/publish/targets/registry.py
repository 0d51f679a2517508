"""
The targets that there are, and the settings of a project's targets read and written by them. Used by every part of the
platform that publishes, or that shows what is published.

`TARGETS` is the one registry. To add a target: write its folder, and add it at the end of this file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.builds.attempt import Publish
from twistedipc.builds.names import BadValue, is_here, open_road
from twistedipc.publish.targets.npm.target import Npm
from twistedipc.publish.targets.static.target import Static
from twistedipc.publish.targets.target import Releases, Secret, Settings, Target
from twistedipc.publish.targets.unknown import Unknown, UnknownSettings

#: All targets of a project, at most one of each, in the registry's order, and then those that aren't known here.
ProjectTargets = tuple[Settings, ...]

#: What a builder must be able to do whose packages the apiserver publishes: see `builds.messages.FEATURES`.
STORED = "stored"

#: Begins the name of a feature of builders (`builds.messages.Sync`); a target's name follows. The targets of the flat
#: form have none, since every builder can publish to them.
FEATURE = "target:"


class Targets:
    """Targets by their names."""

    def __init__(self) -> None:
        self._targets: dict[str, Target[Any]] = {}

    def __iter__(self) -> Iterator[Target[Any]]:
        return iter(self._targets.values())

    def add(self, target: Target[Any]) -> None:
        """Add a target. Raises `ValueError` if a name of it is taken."""
        if target.settings.__struct_config__.tag != target.name:
            raise ValueError(f"the settings of {target.name} need the tag {target.name!r}")
        taken = self._targets.keys() & {target.name}, self.secrets.keys() & {secret.name for secret in target.secrets}
        if any(taken):
            raise ValueError(f"taken by another target: {taken}")
        self._targets[target.name] = target

    def remove(self, name: str) -> None:
        """Remove the target of this name."""
        del self._targets[name]

    def get(self, name: str) -> Target[Any] | None:
        """Return the target of this name, or None."""
        return self._targets.get(name)

    def of(self, settings: Settings) -> Target[Any]:
        """Return the target of these settings."""
        return Unknown(settings.name) if isinstance(settings, UnknownSettings) else self._targets[name_of(settings)]

    @property
    def features(self) -> frozenset[str]:
        """What a builder that has these targets can do, as `needed_for` says it."""
        return frozenset(_feature(name) for name in self._targets.keys() - FLAT)

    @property
    def secrets(self) -> dict[str, tuple[Target[Any], Secret]]:
        """All secrets that a project can have, by name."""
        return {secret.name: (target, secret) for target in self for secret in target.secrets}

    def secret(self, name: str) -> tuple[Target[Any], Secret] | None:
        """Return the secret of this name that a project can have, and whose it is; None if it can have none."""
        return next(((target, found) for target in self if (found := target.secret(name)) is not None), None)

    def releases(self, data: Path) -> dict[str, Releases]:
        """
        What each target that can be rolled back keeps in this folder, the apiserver's data, by the target's name.
        Raises `ValueError` if one that is delivered by the apiserver keeps nothing.
        """
        found = {target.name: target.releases(data / (target.folder or f"releases-{target.name}")) for target in self}
        for target in self:
            if target.delivered_by == "apiserver" and found[target.name] is None:
                raise ValueError(f"the target {target.name} is delivered by the apiserver, so it needs `releases`")
        return {name: releases for name, releases in found.items() if releases is not None}

    @property
    def default(self) -> ProjectTargets:
        """What a project has that says nothing of its targets."""
        return tuple(target.settings() for target in self if target.default)

    @property
    def union(self) -> Any:
        """The type of one target's settings, as msgspec reads it: any of them, told apart by the tag."""
        return reduce(or_, (target.settings for target in self))

    def ordered(self, targets: Iterable[Settings]) -> ProjectTargets:
        """These settings in the registry's order. Raises `BadValue` if there are two of one target."""
        by_name: dict[str, Settings] = {}
        for settings in targets:
            if by_name.setdefault(name_of(settings), settings) is not settings:
                raise BadValue(f"targets: {name_of(settings)} is there twice")
        known = [by_name.pop(target.name) for target in self if target.name in by_name]
        return (*known, *by_name.values())

    def read(self, listed: Sequence[object]) -> ProjectTargets:
        """
        Settings as a link, a file or the ledger has them: fields that aren't known are ignored. Raises `BadValue`,
        above all for a target that isn't known here.
        """
        try:
            return self.ordered(msgspec.convert(each, self.union) for each in listed)
        except msgspec.ValidationError as error:
            raise BadValue(f"targets: {error}") from error

    def read_kept(self, listed: Sequence[object]) -> ProjectTargets:
        """
        Settings as the ledger or an answer has them, which somebody has checked: a target that isn't known here is kept
        as `UnknownSettings`. Raises `BadValue`.
        """
        unknown = [
            UnknownSettings(said=each, paused=each.get("paused") is True)
            for each in listed
            if isinstance(each, dict) and isinstance(each.get("type"), str) and each["type"] not in self._targets
        ]
        known = self.read([each for each in listed if all(each is not settings.said for settings in unknown)])
        return self.ordered([*known, *unknown])

    def read_request(self, listed: Sequence[Mapping[str, object]], before: ProjectTargets = ()) -> ProjectTargets:
        """
        Settings as a person gives them: an unknown field may be misspelt, so it is an error. A target that isn't known
        here can only stay as the project has it ``before``. Raises `BadValue`.
        """
        kept = [each for each in before if isinstance(each, UnknownSettings) and each.said in listed]
        listed = [each for each in listed if all(each != settings.said for settings in kept)]
        targets = self.read(listed)
        for settings in targets:
            given = next(each for each in listed if each.get("type") == name_of(settings))
            unknown = given.keys() - {"type", *settings.__struct_fields__}
            if unknown:
                raise BadValue(f"targets: {name_of(settings)} has no {sorted(unknown)[0][:100]!r}")
        return self.ordered([*targets, *kept])

    def schemas(self, ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The JSON Schema of one target's settings in a request, and the schemas that it refers to."""
        (schema,), components = msgspec.json.schema_components([self.union], ref_template=ref_template)
        for component in components.values():
            component["additionalProperties"] = False
        return schema, components

    def write(self, targets: ProjectTargets) -> list[dict[str, Any]]:
        """Return settings as `read` takes them."""
        return [
            settings.said if isinstance(settings, UnknownSettings) else msgspec.to_builtins(settings)
            for settings in targets
        ]

    def check(self, targets: ProjectTargets) -> None:
        """Raise `BadValue` if one of these settings can't be."""
        for settings in targets:
            self.of(settings).check(settings)

    # -- what a project's targets say together

    def active(self, targets: ProjectTargets) -> ProjectTargets:
        """Return the settings of the targets that aren't paused."""
        return tuple(settings for settings in targets if not settings.paused)

    def why_not(self, targets: ProjectTargets) -> str:
        """Return why nothing can be published to these, in a sentence; "" if it can be, as far as is known here."""
        unknown = [settings.name for settings in targets if isinstance(settings, UnknownSettings)]
        if not unknown:
            return ""
        return (
            f"the project publishes to {', '.join(unknown)}, and this apiserver has no such target: install it, or "
            "remove it from the project's targets. A build that doesn't publish can be made"
        )

    def why_no_word(self, settings: Settings, issuer: str, packages: Collection[str] | None = None) -> str:
        """
        Return why the services of a target can't believe what the apiserver says of attempts; "" if they can, or aren't
        told anything.

        :param issuer: the apiserver's address, at which they find its key
        :param packages: those that are to be published; None: any
        """
        target = self.of(settings)
        if not any(secret.audience for secret in target.secrets_for(settings, packages)):
            return ""
        how = "set http.public_url in apiserver.toml to the https address at which registries reach the apiserver"
        if open_road(issuer):
            return f"no registry trusts the word of an apiserver at {issuer}, which isn't https: {how}"
        if is_here(issuer) and not all(map(is_here, target.contacts(settings))):
            return f"no registry elsewhere can check the word of an apiserver at {issuer}, on this machine alone: {how}"
        return ""

    def with_versions(self, targets: ProjectTargets) -> ProjectTargets:
        """Return those that aren't paused and to which what is published has a version of its own."""
        return tuple(settings for settings in self.active(targets) if self.of(settings).has_versions)

    def make_versions(self, targets: ProjectTargets) -> bool:
        """Return whether the builds for one of these make versions without being asked to."""
        return any(self.of(settings).makes_versions(settings) for settings in self.active(targets))

    def with_canaries(self, targets: ProjectTargets) -> ProjectTargets:
        """Return those that aren't paused and to which previews of packages are published."""
        return tuple(settings for settings in self.active(targets) if self.of(settings).makes_canaries(settings))

    def need_site(self, targets: ProjectTargets) -> bool:
        """Return whether what is built must be a site, for one of those that aren't paused."""
        return any(self.of(settings).needs_site for settings in self.active(targets))

    def delivered_by_apiserver(self, targets: ProjectTargets) -> ProjectTargets:
        """Those that aren't paused and for which what is built becomes a release that the apiserver keeps."""
        return tuple(settings for settings in self.active(targets) if self.of(settings).delivered_by == "apiserver")

    def take_parts(self, targets: ProjectTargets) -> bool:
        """Return whether an archive may leave out what is stored: all that take it look for that where it is stored."""
        found = self.delivered_by_apiserver(targets)
        return bool(found) and all(self.of(settings).takes_parts for settings in found)

    def stored(self, targets: ProjectTargets) -> ProjectTargets:
        """Those that aren't paused and to which the apiserver publishes what was stored."""
        return tuple(settings for settings in self.active(targets) if self.of(settings).is_stored(settings))

    def not_stored(self, targets: ProjectTargets) -> ProjectTargets:
        """Those that aren't paused and to which a builder publishes, so that nobody can be asked before."""
        return tuple(
            settings for settings in self.delivered_by_runner(targets) if not self.of(settings).is_stored(settings)
        )

    def delivered_by_runner(self, targets: ProjectTargets) -> ProjectTargets:
        """Return the settings of the targets that aren't paused and that a runner delivers to."""
        return tuple(settings for settings in self.active(targets) if self.of(settings).delivered_by == "runner")


def name_of(settings: Settings) -> str:
    """Return the name of the target of these settings."""
    return settings.name if isinstance(settings, UnknownSettings) else str(settings.__struct_config__.tag)


def needed_for(targets: ProjectTargets) -> frozenset[str]:
    """
    Return what a builder must be able to do to publish to these, beside what every builder can: features of the link.
    """
    stored = {STORED} if TARGETS.stored(targets) else set()
    special = {each for settings in TARGETS.active(targets) for each in TARGETS.of(settings).features(settings)}
    return frozenset(stored | special) | (TARGETS.features & {_feature(name_of(settings)) for settings in targets})


def _feature(name: str) -> str:
    return f"{FEATURE}{name}"


def find(targets: ProjectTargets, name: str) -> Settings | None:
    """Return the settings of the target of this name, paused or not; None if there are none."""
    return next((settings for settings in targets if name_of(settings) == name), None)


def replaced(targets: ProjectTargets, new: Settings) -> ProjectTargets:
    """These settings with ``new`` in the place of those of the same target, or beside them."""
    others = [settings for settings in targets if name_of(settings) != name_of(new)]
    return TARGETS.ordered([*others, new])


TARGETS = Targets()
TARGETS.add(Static())
TARGETS.add(Npm())


# -- the flat form, which has no target but these two: links to older peers, and callers of the API, still use it


#: The targets of the flat form.
FLAT = frozenset({Static.name, Npm.name})


def offered(targets: Sequence[object] | None, publish: Publish) -> ProjectTargets:
    """What an offer or an attempt's spec says is to be published; None: it is by an older version, in the flat form."""
    return from_flat(publish) if targets is None else TARGETS.read(targets)


def from_flat(publish: Publish) -> ProjectTargets:
    """The targets that the flat form says."""
    npm = Npm.settings(paused=not publish.npm, registry=publish.registry, packages=publish.packages)
    static = [Static.settings()] if publish.static else []
    return (*static, *([] if npm == Npm.settings(paused=True) else [npm]))


def with_flat(targets: ProjectTargets, publish: Publish) -> ProjectTargets:
    """Return these targets, but those that the flat form knows as ``publish`` has them."""
    others = [settings for settings in targets if name_of(settings) not in FLAT]
    said = tuple(_with_more(each, targets) for each in from_flat(publish))
    npm = find(targets, Npm.name)
    if npm is not None and find(said, Npm.name) is None:
        left = _with_more(Npm.settings(paused=True), targets)  # it doesn't count now, and stays for the next time
        said += (left,) if left != Npm.settings(paused=True) else ()
    return TARGETS.ordered([*others, *said])


def _with_more(said: Settings, targets: ProjectTargets) -> Settings:
    """What the flat form says of a target, with what it can't say as it was: for whom releases are, say."""
    before = find(targets, name_of(said))
    if isinstance(before, Static.settings):
        return msgspec.structs.replace(before, paused=False)
    if isinstance(before, Npm.settings) and isinstance(said, Npm.settings):
        return msgspec.structs.replace(before, paused=said.paused, registry=said.registry, packages=said.packages)
    return said


def to_flat(targets: ProjectTargets) -> Publish:
    """Return what the flat form can say of these targets."""
    static, npm = find(targets, Static.name), find(targets, Npm.name)
    said = npm if isinstance(npm, Npm.settings) else Npm.settings(paused=True)
    return Publish(
        static=static is not None and not static.paused,
        npm=not said.paused,
        registry=said.registry,
        packages=said.packages,
    )
