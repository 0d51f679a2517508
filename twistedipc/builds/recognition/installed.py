"""
Whether what an install puts into ``node_modules`` depends on nothing but files that can be named: then it can be kept,
and put back in place of the next install.

Only npm's: pnpm's and Yarn's own installs are quick where their store is, and what they put there has absolute paths.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.recognition import workspaces
from twistedipc.builds.recognition.managers import NPM
from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read_package
from twistedipc.builds.recognition.recognised import Recognised
from twistedipc.builds.recognition.tree import Tree

#: The scripts of a package that npm runs when it installs in it, in its order
#: (https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order).
LIFECYCLE = ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare")

#: Commands of those scripts that only set up hooks of git, which a build doesn't need.
HOOKS_ONLY = frozenset(
    {
        "husky",
        "husky install",
        "husky || true",
        "husky install || true",
        "is-ci || husky",
        "is-ci || husky install",
        "lefthook install",
        "simple-git-hooks",
        "npx simple-git-hooks",
    }
)


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an install makes. Paths are relative to the repository's top."""

    folders: list[str]  # the folders node_modules that there may be, the outer ones first
    files: list[str]  # on which they depend; some may not be there
    lock: str  # the lock file


def installed(tree: Tree, recognised: Recognised) -> Installed | None:
    """Return what the project's install makes; None if it may do more, or depend on more, than can be told."""
    manager, install = recognised.manager, recognised.install
    if manager is None or not manager.lock or install is None or install.run != NPM.frozen:
        return None
    top = install.folder
    packages = _packages(tree, top)
    if packages is None or any(_does_more(tree, folder, each, top=top) for folder, each in packages.items()):
        return None
    return Installed(
        folders=[in_folder(folder, "node_modules") for folder in packages],
        files=[manager.lock, in_folder(top, ".npmrc"), *(package.path for package in packages.values())],
        lock=manager.lock,
    )


def _packages(tree: Tree, top: str) -> dict[str, PackageJson] | None:
    """The package at the top and those of its workspace, by folder; None if the top's can't be read."""
    try:
        package = read_package(tree, top)
    except BadPlan:
        return None
    if package is None:
        return None
    workspace = workspaces.find(tree, top)
    members = workspaces.members(tree, workspace) if workspace is not None and workspace.top == top else []
    return {top: package, **{member.folder: member.package for member in members}}


def _does_more(tree: Tree, folder: str, package: PackageJson, *, top: str) -> bool:
    """Whether npm does something in this package, or in another folder of the repository, when it installs."""
    if "binding.gyp" in tree.names(folder):
        return True  # npm builds it
    if folder != top and (package.get("bin") or package.get("directories")):
        return True  # npm makes its programs executable where they are
    if any(_is_folder(package.version_of(name)) for name in package.dependencies):
        return True  # the same of a folder that is linked
    return any(package.scripts.get(script, "husky").strip() not in HOOKS_ONLY for script in LIFECYCLE)


def _is_folder(version: str) -> bool:
    return version.startswith(("file:", "link:", ".", "/", "~/")) and not version.endswith((".tgz", ".tar.gz", ".tar"))
