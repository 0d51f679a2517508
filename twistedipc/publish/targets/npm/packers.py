"""
Which program packs a package: npm, or the package manager of its project where package.json has something in it that
only that one replaces. Pure; used by ``target`` and ``pack``.

npm packs without running anything of the project's, so the platform calls it in the pack step. The others run plugins
and hooks of the project (``.pnpmfile.cjs``, Yarn's plugins), so each of them is a step of the build: what it made is
looked at when no process of the build is alive any more.
"""

from __future__ import annotations

import re
import shlex

import msgspec

from twistedipc.builds.recognition.managers import BERRY, BUN, PNPM, Manager, manager_of
from twistedipc.builds.recognition.reading import PackageJson
from twistedipc.builds.recognition.recognised import ManagerWanted
from twistedipc.publish.targets.npm.dependencies import GROUPS

#: Where package managers put the tarballs, below TMPDIR; a folder for each package.
PACKED_FOLDER = "packed"

#: Keys of ``publishConfig`` that pnpm and yarn put in the place of package.json's own when they pack. npm ignores them.
REPLACING = frozenset(
    "bin browser cpu engines es2015 esnext exports imports libc main module name os type types typesVersions typings"
    " umd:main unpkg".split()
)

_REPLACED = re.compile(r"(?:workspace|catalog):")


class Packer(msgspec.Struct, frozen=True, kw_only=True):
    """A package manager that packs packages."""

    manager: Manager
    command: str  # packs the package of the folder in which it runs into the folder {}
    runs: frozenset[str] = frozenset()  # the scripts that it runs itself, and can't be kept from running


PACKERS = (
    Packer(manager=PNPM, command="pnpm pack --config.ignore-scripts=true --pack-destination {}"),
    Packer(manager=BERRY, command="yarn pack --out {}/package.tgz", runs=frozenset({"prepack", "postpack"})),
    Packer(manager=BUN, command="bun pm pack --ignore-scripts --destination {}"),
)


def packer_of(package: PackageJson | None, wanted: ManagerWanted | None) -> Packer | None:
    """Return the project's own manager, if it must pack this package; None if npm does."""
    if package is None or wanted is None or not _needs_its_own(package):
        return None
    manager = manager_of(wanted)
    return next((packer for packer in PACKERS if packer.manager is manager), None)


def _needs_its_own(package: PackageJson) -> bool:
    """Return whether package.json has something in it that npm wouldn't replace."""
    for group in GROUPS:
        entries = package.get(group)
        specs = entries.values() if isinstance(entries, dict) else ()
        if any(isinstance(spec, str) and _REPLACED.match(spec.strip()) for spec in specs):
            return True
    settings = package.get("publishConfig")
    return isinstance(settings, dict) and any(
        key in REPLACING and package.get(key) != value for key, value in settings.items()
    )


def command_of(packer: Packer, folder: str) -> str:
    """Return the command that packs the package in a folder of the working copy, to be run there."""
    place = f'"$TMPDIR"/{shlex.quote(tarball_folder(folder))}'
    return f"mkdir -p {place} && {packer.command.format(place)}"


def tarball_folder(folder: str) -> str:
    """Return where the tarball of the package in a folder of the working copy is put, relative to TMPDIR."""
    return f"{PACKED_FOLDER}/{folder}" if folder else PACKED_FOLDER
