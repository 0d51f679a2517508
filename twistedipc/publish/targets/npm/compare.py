"""
The packages of an attempt against what the registry has of them: a step of the apiserver's process, before somebody
approves. npm fetches what is published, and checks it; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import resource
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.builds.attempt import Package
from twistedipc.publish.compared import Compared, File, compared
from twistedipc.publish.targets.npm.answers import explain, read_tags
from twistedipc.publish.targets.npm.deliver import Npm, registry_of
from twistedipc.publish.targets.npm.manifests import differences
from twistedipc.publish.targets.npm.package import BadPackage, read_tarball
from twistedipc.publish.targets.npm.publishing import PublishFailed
from twistedipc.publish.targets.target import Delivery

#: The most bytes of a package that is fetched, and of all that is in it.
MAX_FETCHED = 512 << 20
MAX_UNPACKED = 2 << 30

_READ_BYTES = 1 << 20


class Contents(msgspec.Struct, frozen=True):
    """What is in a package."""

    files: dict[str, File]
    manifest: dict[str, Any]


def compare(registry: str, delivery: Delivery) -> Iterator[Compared]:
    """Compare each of the packages with what its tag leads to in the registry. Raises `BadPackage`, or OSError."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FETCHED, MAX_FETCHED))
    with tempfile.TemporaryDirectory(prefix="compare-", dir=delivery.out) as home:
        for package in delivery.packages:
            now = contents_of(delivery.folder / package.file)
            folder = Path(tempfile.mkdtemp(dir=home))
            try:
                version, tarball = _published(registry, package, folder)
                before = contents_of(tarball) if tarball is not None else Contents({}, {})
            except (PublishFailed, BadPackage) as error:
                yield compared(package.name, package.version, now.files, {}, unknown=str(error))
                continue
            notes = list(differences(now.manifest, before.manifest)) if version else []
            yield compared(package.name, package.version, now.files, before.files, published=version, notes=notes)


def _published(registry: str, package: Package, folder: Path) -> tuple[str, Path | None]:
    """Return the version to which a package's tag leads, and its file. Raises `PublishFailed`."""
    scope = package.name.partition("/")[0] if package.name.startswith("@") else ""
    asking, fetched = folder / "asking", folder / "fetched"
    for each in (asking, fetched, folder / "npm"):
        each.mkdir()
    npm = Npm(folder / "npm", registry_of(registry, scope, Npm(asking, "", "")), scope)
    ran = npm.ask("view", package.name, "dist-tags", "--json", "--prefer-online")
    if ran.code != 0 and ran.error != "E404" and '"E404"' not in ran.output:
        raise PublishFailed(f"the registry can't be asked what it has of {package.name}: {explain(ran)}")
    tags = read_tags(ran)
    version = tags.get(package.tag or "latest") or tags.get("latest", "")
    if not version:
        return "", None
    ran = npm.ask("pack", f"{package.name}@{version}", "--ignore-scripts", f"--pack-destination={fetched}")
    tarballs = list(fetched.glob("*.tgz"))
    if ran.code != 0 or len(tarballs) != 1:
        raise PublishFailed(f"{package.name}@{version} can't be fetched: {explain(ran)}")
    return version, tarballs[0]


def contents_of(tarball: Path) -> Contents:
    """Look into a package. Raises `BadPackage`."""
    manifest = read_tarball(tarball).manifest
    files: dict[str, File] = {}
    left = MAX_UNPACKED
    try:
        with tarfile.open(tarball, "r|gz") as members:
            for member in members:
                file = members.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                left -= member.size
                if left < 0:
                    raise BadPackage(f"the package has more than {MAX_UNPACKED} bytes in it")
                digest = hashlib.sha256()
                while block := file.read(_READ_BYTES):
                    digest.update(block)
                # The first folder is "package" by custom; npm takes it off whatever its name is.
                path = member.name.partition("/")[2] or member.name
                files[path] = File(size=member.size, sha256=digest.hexdigest())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadPackage(f"the package's tarball can't be read: {error}") from error
    return Contents(files, manifest)
