"""
The packages of an attempt against what the registry has of them: a step of the apiserver's process, before somebody
approves. What is published is fetched and looked at; nothing of it is run.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from twistedipc.builds.attempt import Package
from twistedipc.publish.compared import Compared, compared
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.evidence import evidence
from twistedipc.publish.targets.npm.opening import Registries
from twistedipc.publish.targets.npm.places import Places
from twistedipc.publish.targets.npm.registry import Answer, Kind
from twistedipc.publish.targets.npm.tarballs import BadPackage, Contents, read_contents
from twistedipc.publish.targets.target import Delivery

#: The most bytes of a package that is fetched.
MAX_FETCHED = 512 << 20


class _NotKnown(Exception):
    """What is published isn't known. ``str()`` of it says why."""


def compare(places: Places, delivery: Delivery) -> Iterator[Compared]:
    """
    Compare each of the packages with what its tag leads to in the registry. Raises `BadPackage`, `CantDeliver`, or
    OSError.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FETCHED, MAX_FETCHED))
    registries = Registries(places, delivery.secrets, os.environ, openly=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=delivery.out) as folder:
        for package in delivery.packages:
            now = read_contents(delivery.folder / package.file)
            version, unknown, before = "", "", None
            try:
                version, before = _published(registries.of(package.name), package, Path(folder) / "published.tgz")
            except (_NotKnown, BadPackage) as error:
                unknown = str(error)
            yield compared(
                package.name,
                package.version,
                now.files,
                {} if before is None else before.files,
                published=version,
                unknown=unknown,
                remarks=evidence(now, before, version=package.version, published=version),
            )


def _published(registry: Client, package: Package, place: Path) -> tuple[str, Contents | None]:
    """Return the version to which a package's tag leads, and what is in it. Raises `_NotKnown`, `BadPackage`."""
    found = registry.look(package.name)
    if isinstance(found, Answer):
        if found.kind is Kind.ABSENT:
            return "", None
        raise _NotKnown(f"the registry can't be asked what it has of {package.name}: {found.said}")
    version = found.tags.get(package.tag or "latest") or found.tags.get("latest", "")
    if not version:
        return "", None
    answer = registry.fetch(package.name, version, place, MAX_FETCHED)
    if answer.kind is not Kind.DONE:
        raise _NotKnown(f"{package.name}@{version} can't be fetched: {answer.said}")
    return version, read_contents(place)
