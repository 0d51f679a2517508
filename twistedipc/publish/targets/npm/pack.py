"""
Packing an npm package: a part of the pack step, see `Target.prepare`. No script of the package is run: what is to be
run before a package is packed were steps of the build (`Npm.before_packing`). The tarball is checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twistedipc.builds.attempt import Package
from twistedipc.publish.targets.npm.entry_points import find_unmatched
from twistedipc.publish.targets.npm.package import BadPackage, check, integrity, read_tarball
from twistedipc.publish.targets.target import Prepared

#: Where the tarball is made, in the attempt's folder.
PACKAGE_FOLDER = "package"


def pack(folder: Path, root: str, registry: str) -> Prepared:
    """
    Make the tarball of the package in ``root``, a folder of the working copy, in the attempt's folder, to be published
    to ``registry``. Raises `BadPackage`.
    """
    target = folder / PACKAGE_FOLDER
    shutil.rmtree(target, ignore_errors=True)  # of a try for which the disk had no room
    target.mkdir()
    command = ["npm", "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", str(target)]
    sys.stdout.flush()
    try:
        done = subprocess.run(command, cwd=folder / "work" / root, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise BadPackage("the builder has no npm on its PATH") from error
    tarballs = list(target.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise BadPackage(f"npm pack ended with exit code {done.returncode}")
    tarball = read_tarball(tarballs[0])
    check(tarball, registry)
    for entry in find_unmatched(tarball.manifest, tarball.files):
        print(f"warning: `files` in package.json names {entry}, and there is no such file in the package")
    description = tarball.description
    package = Package(
        file=f"{PACKAGE_FOLDER}/{tarballs[0].name}",
        name=description.name,
        version=description.version,
        integrity=integrity(tarballs[0]),
        tag=description.tag,
    )
    return Prepared(package=package, public={"a file of the package": sorted(tarball.files)})
