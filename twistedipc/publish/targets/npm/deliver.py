"""
Publishing npm packages: the step that delivers them, see `Target.deliver`. It is the only step that has the registry's
token.

It speaks with the registry by the platform's own client, so no npm is needed, and none of its settings counts but those
of the operator's variables: no file that a build could have written is read. What is published is exactly the tarball
that was packed. The token goes to the registry that the project names.

What the registry is asked, and in which order, is in ``course``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.attempt import Package, Published
from twistedipc.publish.targets.npm.course import Course
from twistedipc.publish.targets.npm.looking import Item, PublishFailed
from twistedipc.publish.targets.npm.opening import Registries
from twistedipc.publish.targets.npm.package import Tarball, check, integrity, read_tarball
from twistedipc.publish.targets.npm.places import Places
from twistedipc.publish.targets.npm.sets import check_set
from twistedipc.publish.targets.npm.tarballs import BadPackage, check_size
from twistedipc.publish.targets.target import Delivery

_ACCESS = frozenset({"public", "restricted"})


def _registries(places: Places, delivery: Delivery) -> Registries:
    """
    The project's registries, or that of the operator's variables, or the one that npm takes by itself; no file counts
    that a build could have written.
    """
    environment = {"NPM_CONFIG_GLOBALCONFIG": os.devnull, "NPM_CONFIG_USERCONFIG": os.devnull, **os.environ}
    return Registries(places, delivery.secrets, environment)


def _checked(folder: Path, package: Package) -> tuple[Path, Tarball]:
    """Return the tarball, which must be the one that was packed, and what is in it."""
    tarball = (folder / package.file).resolve()
    if not tarball.is_relative_to(folder.resolve()):
        raise PublishFailed("the package isn't the one that was packed")
    try:
        check_size(tarball)  # before it is read
    except BadPackage as error:
        raise PublishFailed(f"{package.name}: {error}") from error
    if integrity(tarball) != package.integrity:
        raise PublishFailed("the package isn't the one that was packed")
    found = read_tarball(tarball)
    if (found.description.name, found.description.version) != (package.name, package.version):
        raise PublishFailed("the package isn't the one that was packed")
    return tarball, found


def deliver(places: Places, staging: str, delivery: Delivery) -> Iterator[Published]:
    """
    Publish the attempt's packages to the registries. None is published if one of these already says of one that it
    can't be. Raises `PublishFailed`, `BadPackage`, `PersonNeeded`, `RecordLost`, or OSError.
    """
    rejects = delivery.what == "reject"
    told = threading.Event()
    if delivery.asks:
        signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    course = Course(
        _staged(places, delivery) if rejects else _items(places, delivery),
        delivery.record,
        set_tag=delivery.set_tag,
        staging=staging if delivery.asks else "never",
        otp=delivery.otp,
        asks=delivery.asks,
        sleep=told.wait if delivery.asks else time.sleep,
        stopped=told.is_set,
    )
    yield from course.reject() if rejects else course.run()


def _staged(places: Places, delivery: Delivery) -> list[Item]:
    """Return the packages, of which no tarball may be here any more."""
    registries = _registries(places, delivery)
    return [
        Item(position, package, delivery.folder / package.file, registries.of(package.name))
        for position, package in enumerate(delivery.packages)
    ]


def _items(places: Places, delivery: Delivery) -> list[Item]:
    """Check all packages, as far as that can be done here."""
    registries = _registries(places, delivery)
    items: list[Item] = []
    manifests = []
    for position, package in enumerate(delivery.packages):
        path, tarball = _checked(delivery.folder, package)
        client = registries.of(package.name)
        check(tarball, replace(places.of(package.name), registry=client.address), tag=package.tag)
        manifests.append(tarball.manifest)
        access = tarball.description.publish_config.get("access")
        items.append(Item(position, package, path, client, str(access) if access in _ACCESS else ""))
    check_set(manifests)
    return items
