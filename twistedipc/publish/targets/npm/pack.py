"""
Packing npm packages: a part of the pack step, see `Target.prepare`. No script of a package is run: what is to be run
before a package is packed were steps of the build (`Npm.before_packing`), and so was the packing by another package
manager than npm. All tarballs are checked, so that none is published if one can't be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.attempt import Package
from twistedipc.builds.names import shown
from twistedipc.builds.recognition.reading import BadPlan, in_folder
from twistedipc.builds.recognition.tree import CantRead
from twistedipc.builds.versions import Chosen
from twistedipc.publish.targets.npm.entry_points import find_unmatched
from twistedipc.publish.targets.npm.linting import lint
from twistedipc.publish.targets.npm.notes import MAX_NOTES, git_tag, notes_of
from twistedipc.publish.targets.npm.package import Description, check, integrity, read_tarball
from twistedipc.publish.targets.npm.packers import Packer, packer_of, tarball_folder
from twistedipc.publish.targets.npm.places import Places
from twistedipc.publish.targets.npm.selection import Candidate, Selection, select
from twistedipc.publish.targets.npm.tarballs import BadPackage
from twistedipc.publish.targets.target import Built, Prepared
from twistedipc.trees.folder import FolderTree

#: Where tarballs are made, in the step's folder; a folder for each package.
PACKAGE_FOLDER = "package"

#: The most bytes of a changelog that is read.
MAX_CHANGELOG = 8 << 20


def pack(built: Built, places: Places) -> Prepared:
    """
    Make the tarballs of the packages of the project in the attempt's folder, to be published to these places. They
    are in its ``out``. With a linter, it looks at them. Raises `BadPackage`.
    """
    folder, out, plan, linter = built.folder, built.out, built.plan, built.linter
    versioning = built.spec.versioning
    canaries = versioning is not None and versioning.canary is not None
    tree = FolderTree(folder / "work", MAX_CHANGELOG)
    try:
        selection = select(tree, plan)
    except BadPlan as error:
        raise BadPackage(str(error)) from error
    for remark in selection.remarks:
        print(remark)
    for warning in selection.warnings:
        print(f"warning: {warning}")
    shutil.rmtree(out / PACKAGE_FOLDER, ignore_errors=True)  # of a try for which the disk had no room
    packages: list[Package] = []
    files: set[str] = set()
    notes: list[str] = []
    for number, candidate in enumerate(selection.packages):
        packer = packer_of(candidate.package, plan.recognised.manager)
        try:
            target = out / (f"{PACKAGE_FOLDER}/{number}" if selection.several else PACKAGE_FOLDER)
            target.mkdir(parents=True)
            if packer is None:
                tarball = _by_npm(folder, candidate, target)
            else:
                tarball = _by_its_own(folder, candidate, packer, target)
            package = _checked(out, tarball, places, files, built.chosen)
            if not canaries:
                package = _noted(package, tree, candidate, several=selection.several)
                notes += package.notes.splitlines()
            packages.append(package)
        except BadPackage as error:
            raise _named(error, candidate, selection) from error
    linted = None if linter is None else lint(linter, out, packages)
    public = {"a file of the package": sorted(files), "a line of a changelog": notes}
    return Prepared(packages=packages, public=public, linted=linted)


def _noted(package: Package, tree: FolderTree, candidate: Candidate, *, several: bool) -> Package:
    """Return a package with what is said of it once it is published."""
    try:
        changelog = tree.read(in_folder(candidate.folder, "CHANGELOG.md")) or b""
    except CantRead as error:
        print(f"warning: {error}: there are no notes of it")
        changelog = b""
    notes = shown(notes_of(changelog.decode("utf-8", "replace"), package.version), MAX_NOTES, lines=True)
    return replace(package, git_tag=git_tag(package.name, package.version, several=several), notes=notes)


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


def _checked(out: Path, path: Path, places: Places, files: set[str], chosen: Mapping[str, Chosen]) -> Package:
    """Return the package that was packed, and add its files to these. Raises `BadPackage`."""
    tarball = read_tarball(path)
    description = tarball.description
    wanted = _wanted(description, chosen)
    check(tarball, places.of(description.name), tag=wanted.tag)
    files |= tarball.files
    for entry in find_unmatched(tarball.manifest, tarball.files):
        print(f"warning: `files` in package.json names {entry}, and there is no such file in the package")
    return Package(
        file=str(path.relative_to(out)),
        name=description.name,
        version=description.version,
        integrity=integrity(path),
        tag=wanted.tag or description.tag,
        settled=wanted.settled,
    )


def _wanted(description: Description, chosen: Mapping[str, Chosen]) -> Chosen:
    """Return the version that a package must have, which is the one that it has. Raises `BadPackage`."""
    if not chosen:
        return Chosen(version=description.version)
    wanted = chosen.get(description.name)
    if wanted is None:
        raise BadPackage(
            f"the package is named {description.name[:100]} now, and there was none of that name when versions were "
            f"given to {', '.join(sorted(chosen)[:5])}: a step of the build has changed package.json"
        )
    if wanted.version != description.version:
        raise BadPackage(
            f"package.json says version {description.version[:100]}, and this build gave the package "
            f"{wanted.version}: a step of the build has changed it"
        )
    return wanted
