"""
Whether the packages of a set fit one another: no two whose names nobody can tell apart, and none that needs a version
of another that this set doesn't bring. Pure; used by ``deliver``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twistedipc.publish.targets.npm.naming import same_looking
from twistedipc.publish.targets.npm.package import older
from twistedipc.publish.targets.npm.tarballs import BadPackage

#: The groups whose ranges count where the package is installed.
GROUPS = ("dependencies", "optionalDependencies", "peerDependencies")

_EXACT = re.compile(r"[=v]?\s*(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)(?:\+[0-9A-Za-z.-]+)?\Z")
_SIMPLE = re.compile(r"([\^~]|>=)\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(-[0-9A-Za-z.-]+)?\Z")


def check_set(manifests: Sequence[Mapping[str, Any]]) -> None:
    """Check that these packages fit one another. Raises `BadPackage`."""
    names: dict[str, str] = {}
    for manifest in manifests:
        name = str(manifest.get("name", ""))
        other = names.setdefault(same_looking(name), name)
        if other != name:
            raise BadPackage(f"the packages {other} and {name} have names that nobody can tell apart")
    if len({str(manifest.get("name", "")) for manifest in manifests}) != len(manifests):
        raise BadPackage("two packages of this set have the same name")
    versions = {str(manifest.get("name", "")): str(manifest.get("version", "")) for manifest in manifests}
    for manifest in manifests:
        for group in GROUPS:
            needs = manifest.get(group)
            if not isinstance(needs, dict):
                continue
            for needed, wanted in needs.items():
                version = versions.get(needed)
                if version is not None and isinstance(wanted, str) and fits(version, wanted) is False:
                    raise BadPackage(
                        f"{manifest.get('name')} needs {needed} {wanted[:100]} ({group}), and this set brings "
                        f"{version}: who installs it would get another version, or none. Bump the range"
                    )


def fits(version: str, wanted: str) -> bool | None:
    """
    Return whether a version is in a range as npm reads it, of the forms that package managers write; None for one of
    another form, which is left to npm.
    """
    wanted = wanted.strip()
    version = version.partition("+")[0]
    if wanted in ("", "*", "latest"):
        return None
    if exact := _EXACT.match(wanted):
        return exact[1] == version
    simple = _SIMPLE.match(wanted)
    if simple is None:
        return None
    kind, major, minor, patch, prerelease = simple.groups()
    if older(version, f"{major}.{minor or 0}.{patch or 0}{prerelease or ''}"):
        return False
    if "-" in version:
        # A prerelease is only in ranges that name one of the same version.
        return prerelease is not None and version.startswith(f"{major}.{minor}.{patch}-")
    return kind == ">=" or version.split(".")[: _fixed(kind, major, minor, patch)] == _said(kind, major, minor, patch)


def _fixed(kind: str, *said: str | None) -> int:
    """Return how many of a version's three numbers a range leaves as they are."""
    given = sum(number is not None for number in said)
    if kind == "~":
        return min(given, 2)
    leading = next((place for place, number in enumerate(said) if number is None or int(number)), 2)
    return min(given, leading + 1)


def _said(kind: str, *said: str | None) -> list[str]:
    return [str(int(number)) for number in said[: _fixed(kind, *said)] if number is not None]
