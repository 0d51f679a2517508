"""
Packing npm packages: a part of the pack step, see `Target.prepare`. No script of a package is run: what is to be run
before a package is packed were steps of the build (`Npm.before_packing`), and so was the packing by another package
manager than npm. All tarballs are checked, so that none is published if one can't be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twistedipc.builds.attempt import Package
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.publish.targets.npm.entry_points import find_unmatched
from twistedipc.publish.targets.npm.package import BadPackage, check, integrity, read_tarball
from twistedipc.publish.targets.npm.packers import Packer, packer_of, tarball_folder
from twistedipc.publish.targets.npm.selection import Candidate, Selection, select
from twistedipc.publish.targets.target import Prepared
from twistedipc.trees.folder import FolderTree

#: Where tarballs are made, in the step's folder; a folder for each package.
PACKAGE_FOLDER = "package"


def pack(folder: Path, out: Path, plan: Plan, registry: str) -> Prepared:
    """
    Make the tarballs of the packages of the project in the attempt's ``folder``, to be published to ``registry``. They
    are in ``out``. Raises `BadPackage`.
    """
    try:
        selection = select(FolderTree(folder / "work"), plan)
    except BadPlan as error:
        raise BadPackage(str(error)) from error
    for remark in selection.remarks:
        print(remark)
    for warning in selection.warnings:
        print(f"warning: {warning}")
    shutil.rmtree(out / PACKAGE_FOLDER, ignore_errors=True)  # of a try for which the disk had no room
    packages: list[Package] = []
    files: set[str] = set()
    for number, candidate in enumerate(selection.packages):
        packer = packer_of(candidate.package, plan.recognised.manager)
        try:
            target = out / (f"{PACKAGE_FOLDER}/{number}" if selection.several else PACKAGE_FOLDER)
            target.mkdir(parents=True)
            if packer is None:
                tarball = _by_npm(folder, candidate, target)
            else:
                tarball = _by_its_own(folder, candidate, packer, target)
            packages.append(_checked(out, tarball, registry, files))
        except BadPackage as error:
            raise _named(error, candidate, selection) from error
    return Prepared(packages=packages, public={"a file of the package": sorted(files)})


def _named(error: BadPackage, candidate: Candidate, selection: Selection) -> BadPackage:
    """What is wrong with a package, with its name where there are several."""
    return BadPackage(f"{candidate.folder}: {error}") if selection.several and candidate.folder else error


def _by_npm(folder: Path, candidate: Candidate, target: Path) -> Path:
    """Have npm pack a package, without running anything of it."""
    command = ["npm", "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", str(target)]
    sys.stdout.flush()
    try:
        work = folder / "work" / candidate.folder
        done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise BadPackage("the builder has no npm on its PATH") from error
    tarballs = list(target.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise BadPackage(f"npm pack ended with exit code {done.returncode}")
    return tarballs[0]


def _by_its_own(folder: Path, candidate: Candidate, packer: Packer, target: Path) -> Path:
    """Take what the project's package manager has packed in a step of the build."""
    place = folder / "tmp" / tarball_folder(candidate.folder)
    tarballs = [path for path in place.glob("*.tgz") if path.is_file() and not path.is_symlink()]
    if len(tarballs) != 1:
        raise BadPackage(f"{packer.manager.name} has packed {len(tarballs)} tarballs, not one")
    return Path(shutil.copyfile(tarballs[0], target / tarballs[0].name, follow_symlinks=False))


def _checked(out: Path, path: Path, registry: str, files: set[str]) -> Package:
    """Return the package that was packed, and add its files to these. Raises `BadPackage`."""
    tarball = read_tarball(path)
    check(tarball, registry)
    files |= tarball.files
    description = tarball.description
    for entry in find_unmatched(tarball.manifest, tarball.files):
        print(f"warning: `files` in package.json names {entry}, and there is no such file in the package")
    return Package(
        file=str(path.relative_to(out)),
        name=description.name,
        version=description.version,
        integrity=integrity(path),
        tag=description.tag,
    )
