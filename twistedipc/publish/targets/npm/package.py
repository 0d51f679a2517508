"""
What an npm package's tarball says of itself, and the rules by which it may be published. Pure but for reading the
tarball; used by ``pack`` (so that a hopeless package fails before anyone is asked) and by ``npm``.

A version can't be taken back. So a package is refused that isn't what its author meant: one whose package.json names
entry points that its tarball doesn't have (``entry_points``), whose dependencies can't be installed (``dependencies``),
or that counts on what only another package manager does when it packs (`check_settings`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.builds import names
from twistedipc.publish.targets.npm.dependencies import find_uninstallable
from twistedipc.publish.targets.npm.entry_points import find_missing, find_unmatched, is_empty
from twistedipc.publish.targets.npm.naming import why_none
from twistedipc.publish.targets.npm.packers import REPLACING
from twistedipc.publish.targets.npm.places import Place
from twistedipc.publish.targets.npm.tarballs import BadPackage, check_size, read_contents

_VERSION = re.compile(
    r"(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}\Z")

# npm takes every key of publishConfig for a setting, over all others: a proxy or a lax TLS would give the token away.
# These are harmless.
_ALLOWED = frozenset("access registry tag provenance linkDirectory".split())

#: A registry for the packages of a scope, among npm's settings.
_SCOPED_REGISTRY = re.compile(r"@[^/:]+:registry\Z")

#: How many faults of a package one message names, and how many of its files.
_MOST_SHOWN = 5


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a package.json that decides about publishing."""

    name: str = ""
    version: str = ""
    private: bool | str | None = False
    settings: dict[str, object] | None = msgspec.field(default=None, name="publishConfig")

    @property
    def publish_config(self) -> dict[str, object]:
        """publishConfig; empty without one. npm takes null for none."""
        return self.settings or {}

    @property
    def scope(self) -> str:
        """ "@scope", or "" if it has none."""
        return self.name.partition("/")[0] if self.name.startswith("@") else ""

    @property
    def tag(self) -> str:
        """publishConfig's dist-tag; "" if it has none."""
        return self._setting("tag")

    @property
    def registry(self) -> str:
        """publishConfig's registry; "" if it has none."""
        return self._setting("registry")

    def _setting(self, name: str) -> str:
        value = self.publish_config.get(name, "")
        return value if isinstance(value, str) else ""


def integrity(tarball: Path) -> str:
    """The tarball's integrity as npm has it: "sha512-" and base64."""
    with tarball.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


class Tarball(msgspec.Struct, frozen=True):
    """What is in a package's tarball."""

    description: Description
    manifest: dict[str, Any]  # all of package.json
    files: frozenset[str]  # the paths of its files, below the package's folder


def read_tarball(tarball: Path) -> Tarball:
    """Look into a tarball that was packed here. Raises `BadPackage`."""
    check_size(tarball)
    contents = read_contents(tarball)
    if contents.twice:
        raise BadPackage(f"the package's tarball has {_listed(contents.twice)} in it twice")
    if contents.outside:
        raise BadPackage(f"the package has files whose paths lead out of it: {_listed(contents.outside)}")
    try:
        description = msgspec.json.decode(contents.package_json, type=Description)
    except msgspec.DecodeError as error:
        raise BadPackage(f"the package's package.json can't be read: {error}") from error
    return Tarball(description, contents.manifest, frozenset(contents.files))


def check(tarball: Tarball, place: Place | None = None, *, tag: str = "") -> None:
    """
    Check that the package may be published (to ``place``, where it is known), by all that is known without asking
    the registry. Raises `BadPackage`.

    :param tag: the dist-tag; "": as package.json says
    """
    check_description(tarball.description, place, tag=tag)
    check_settings(tarball.manifest)
    check_dependencies(tarball.manifest)
    check_contents(tarball.manifest, tarball.files)


def check_identity(description: Description) -> re.Match[str]:
    """Return the parts of the version of a package that can be published. Raises `BadPackage` if it can't be."""
    if description.private:
        raise BadPackage('package.json says "private": true, so it isn\'t published')
    if not names.is_package(description.name):
        raise BadPackage(f"package.json needs a name that npm takes: {why_none(description.name)}")
    version = _VERSION.match(description.version)
    if version is None:
        raise BadPackage("package.json needs a version like 1.2.3")
    return version


def check_description(description: Description, place: Place | None = None, *, tag: str = "") -> None:
    """Check that npm takes what package.json says of the package itself. Raises `BadPackage`."""
    version = check_identity(description)
    if "tag" in description.publish_config and not _TAG.match(description.tag):
        raise BadPackage("package.json: publishConfig.tag can't be the name of a tag")
    if version[4] is not None and not (tag or description.tag):
        raise BadPackage(
            f"{description.version} is a prerelease: it needs a tag of its own, so that it doesn't become latest"
            ' ("publishConfig": {"tag": "next"} in package.json)'
        )
    for key, value in description.publish_config.items():
        if key != "registry" and not _SCOPED_REGISTRY.match(key):
            continue
        registry = "" if place is None else place.registry
        if not isinstance(value, str) or (registry and _address(value) != _address(registry)):
            what = f" packages of {place.scope}" if place is not None and place.scope else ""
            raise BadPackage(
                f"package.json: publishConfig.{key[:100]} is {str(value)[:200]}, but this project publishes{what} to "
                f"{registry or 'the registry that npm is set up for'}"
            )


def check_settings(manifest: Mapping[str, Any]) -> None:
    """
    Check that npm does what package.json's ``publishConfig`` asks for. Raises `BadPackage`. What another package
    manager would put in the place of package.json's own values is no matter if it is there already.
    """
    settings = manifest.get("publishConfig") or {}
    for key, value in settings.items():
        shown = f"package.json: publishConfig.{key[:100]}"
        if key in REPLACING and manifest.get(key) != value:
            raise BadPackage(
                f"{shown} is for pnpm and yarn, which replace `{key}` by it when they pack; npm doesn't, so another "
                f"package would be published than is meant. Let a `prepack` script write `{key}` into package.json"
            )
        if key == "directory" and value not in (".", "./"):
            raise BadPackage(
                f"{shown} is for pnpm and lerna, which pack the folder {str(value)[:100]} instead; npm doesn't, so "
                "another package would be published than is meant"
            )
        if key == "executableFiles" and value:
            raise BadPackage(f"{shown} is for pnpm; npm makes only the files of `bin` executable")
        known = key in _ALLOWED or key in REPLACING or key in ("directory", "executableFiles")
        if not known and not _SCOPED_REGISTRY.match(key):
            raise BadPackage(f"{shown} isn't allowed here")


def check_dependencies(manifest: Mapping[str, Any]) -> None:
    """Check that what the package depends on can be installed with it. Raises `BadPackage`."""
    bad = list(find_uninstallable(manifest))
    if bad:
        raise BadPackage("the package couldn't be installed: package.json's " + _joined(bad))


def check_contents(manifest: Mapping[str, Any], files: frozenset[str]) -> None:
    """Check that the tarball's ``files`` have what package.json says of them. Raises `BadPackage`."""
    missing = list(find_missing(manifest, files))
    if missing:
        raise BadPackage(
            f"the package isn't what its package.json says: {_joined(missing)}. No such file is in it; it has "
            f"{_listed(sorted(files))}. A build step or a `prepack` script must make what is missing, and `files` in "
            "package.json name it"
        )
    unmatched = find_unmatched(manifest, files)
    if unmatched and is_empty(files):
        raise BadPackage(
            f"the package is empty: `files` in package.json names {_listed(unmatched)}, and there is no such file; it "
            f"has {_listed(sorted(files))}"
        )


def _joined(clauses: list[str]) -> str:
    more = len(clauses) - _MOST_SHOWN
    return "; ".join(clauses[:_MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _listed(paths: list[str]) -> str:
    more = len(paths) - _MOST_SHOWN
    shown = ", ".join(path[:100] for path in paths[:_MOST_SHOWN])
    return shown + (f" and {more} more" if more > 0 else "")


def older(version: str, than: str) -> bool:
    """Return whether a version comes before another, by semver. False if one of them isn't a version."""
    first, second = _VERSION.match(version), _VERSION.match(than)
    if first is None or second is None:
        return False
    return _order(first) < _order(second)


def _order(version: re.Match[str]) -> tuple[tuple[int, ...], bool, list[tuple[bool, int, str]]]:
    prerelease = version[4].split(".") if version[4] is not None else []
    # Numbers come before words; a prerelease before the version itself.
    parts = [(False, int(part), "") if part.isdigit() else (True, 0, part) for part in prerelease]
    return (int(version[1]), int(version[2]), int(version[3])), version[4] is None, parts


def _address(registry: str) -> str:
    return registry.rstrip("/").lower()
