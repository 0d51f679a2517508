"""
A target of somebody's own, whole in this file: what was built is copied into a folder of the builder's machine.

``test_own_target`` installs it beside the platform, into whose registry it puts itself.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.names import BadValue
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import (
    Built,
    CantPrepare,
    Delivery,
    NotAllowed,
    Prepared,
    Secret,
    Settings,
    Target,
    option,
)


class FolderSettings(Settings, frozen=True, kw_only=True, tag="folder"):
    """A copy of the site in a folder."""

    path: Annotated[str, option("The folder to copy to.", flag="--folder-path", metavar="PATH")]
    keep: Annotated[int, option("How many earlier copies stay.", flag="--folder-keep", metavar="N")] = 0


class Folder(Target[FolderSettings]):
    """A folder; what is in it is sealed with the project's key."""

    name = "folder"
    what = "copy in a folder"
    settings = FolderSettings
    secrets = (Secret(name="folder_key", variable="FOLDER_KEY", help="the key by which copies are sealed"),)
    needs_site = True

    def check(self, settings: FolderSettings) -> None:
        """The folder has to be named in full."""
        if not settings.path.startswith("/"):
            raise BadValue("a folder's path begins with /")

    def place(self, settings: FolderSettings) -> str:
        """The folder."""
        return settings.path

    def address(self, settings: FolderSettings, project: str, site: Callable[[str], str]) -> str:
        """The folder."""
        return Path(settings.path).as_uri()

    def allow(self, settings: FolderSettings, packages: Sequence[Package], project: str) -> FolderSettings:
        """A project copies what is its own."""
        for package in packages:
            if package.name != project:
                raise NotAllowed(f"project {project} may not copy {package.name}")
        return settings

    def prepare(self, settings: FolderSettings, built: Built) -> Prepared:
        """The archive of the site is all."""
        if built.artifact is None:
            raise CantPrepare("there is no site")
        digest = built.artifact.sha256
        package = Package(
            file="archive.tar.gz", name=built.spec.project, version=digest[:12], integrity=f"sha256-{digest}"
        )
        return Prepared(packages=[package])

    def delivers_to(self, settings: FolderSettings) -> Sequence[str]:
        """The folder."""
        return [settings.path]

    def deliver(self, settings: FolderSettings, delivery: Delivery) -> Iterator[Published]:
        """Unpack the archive there, unless that was done."""
        from twistedipc.publish.archive import unpack

        (package,) = delivery.packages
        copy = Path(settings.path) / package.version
        print(f"Copying {package.name} to {copy} …", flush=True)
        there = copy.exists()
        if not there:
            unpack(delivery.folder / package.file, copy)
        seal = hmac.digest(delivery.secrets["folder_key"].encode(), package.integrity.encode(), hashlib.sha256)
        (Path(settings.path) / f"{package.version}.seal").write_bytes(seal)
        yield Published(
            name=package.name,
            version=package.version,
            integrity=package.integrity,
            status="already-published" if there else "published",
            registry=settings.path,
        )


TARGETS.add(Folder())
