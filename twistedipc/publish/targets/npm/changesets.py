"""
Projects whose versions are made by changesets: whether something is pending, and the command that makes the versions
and the changelogs, which is the project's own. Pure; used by ``target``.

What is pending is a Markdown file in ``.changeset``; in prerelease mode (``pre.json``) those that it doesn't list yet.
https://github.com/changesets/changesets/blob/main/docs/intro-to-using-changesets.md
"""

from __future__ import annotations

import re

import msgspec

from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition import workspaces
from twistedipc.builds.recognition.managers import BERRY, NPM, manager_of
from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read, read_package
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.builds.recognition.tree import Tree
from twistedipc.publish.targets.npm.selection import select
from twistedipc.publish.targets.npm.versioning import chosen_of, version_of
from twistedipc.publish.targets.target import Versioned

#: The name of the step in which the project's own tool makes versions.
STEP = "versions"

_FOLDER = ".changeset"
_TOOL = "@changesets/cli"
_VERSION = re.compile(r"\bchangeset\s+version\b")

#: A script that does more than making versions.
_MORE = re.compile(r"\bpublish\b|\bgit\s|\brelease\b")

#: Lock files, which a project's script for its versions may bring up to date.
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock")


class _Pre(msgspec.Struct):
    mode: str = ""
    changesets: list[str] = []


def planned(tree: Tree, plan: Plan) -> Versioned:
    """Return what is to be done so that all packages have the versions that changesets gives. Raises `BadPlan`."""
    top = _top(tree, plan)
    _config(tree, top)
    before = {c.package.name if c.package else "": version_of(c) for c in select(tree, plan).packages}
    names = _pending(tree, top)
    if names:
        said = [f"{len(names)} changesets are pending: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"]
        return Versioned(tool=_tool(tree, plan, top), before=before, said=said, files=release_files(tree, plan, top))
    said = ["no changesets are pending: what is published is what isn't in the registry yet"]
    return msgspec.structs.replace(made(tree, plan, before), said=said)


def made(tree: Tree, plan: Plan, before: dict[str, str]) -> Versioned:
    """Return the versions that the tool has made, of the packages that had those of ``before``. Raises `BadPlan`."""
    chosen = {}
    said = []
    for candidate in select(tree, plan).packages:
        name = candidate.package.name if candidate.package is not None else ""
        version = version_of(candidate)
        same = before.get(name) == version
        chosen[name] = chosen_of(candidate, version, settled=same)
        if not same:
            said.append(f"{name}: {before.get(name, 'no version')} becomes {version}")
    return Versioned(chosen=chosen, said=said)


def release_files(tree: Tree, plan: Plan, top: str) -> list[str]:
    """Return the paths of the files that the tool makes or changes, as far as they are there: of no others."""
    folders = [top, *(candidate.folder for candidate in select(tree, plan).packages)]
    workspace = workspaces.find(tree, top)
    if workspace is not None:
        folders += [member.folder for member in workspaces.members(tree, workspace)]
    paths = [in_folder(folder, name) for folder in folders for name in ("package.json", "CHANGELOG.md")]
    paths += [in_folder(top, name) for name in _LOCKS]
    within = in_folder(top, _FOLDER)
    paths += [in_folder(within, name) for name in sorted(tree.names(within)) if name.endswith((".md", ".json"))]
    return list(dict.fromkeys(paths))


def _top(tree: Tree, plan: Plan) -> str:
    """Return the folder that has changesets."""
    here = plan.packages_in if plan.packages else plan.root
    workspace = workspaces.find(tree, here)
    for folder in dict.fromkeys([here, *([workspace.top] if workspace is not None else []), ""]):
        if "config.json" in tree.names(in_folder(folder, _FOLDER)):
            return folder
    raise BadPlan(
        f"there is no {in_folder(here, _FOLDER)}/config.json, so changesets makes no versions here: "
        "`npx changeset init` makes it, or ask for patch, minor or major"
    )


def _config(tree: Tree, top: str) -> None:
    path = in_folder(top, f"{_FOLDER}/config.json")
    data = read(tree, path) or b""
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPlan(f"`{path}` can't be read, so changesets makes no versions: {error}") from error


def _pending(tree: Tree, top: str) -> list[str]:
    within = in_folder(top, _FOLDER)
    names = [name.removesuffix(".md") for name in sorted(tree.names(within)) if name.endswith(".md")]
    names = [name for name in names if name.lower() != "readme"]
    path = in_folder(within, "pre.json")
    data = read(tree, path)
    if data is None:
        return names
    try:
        pre = msgspec.json.decode(data, type=_Pre)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPlan(f"`{path}` can't be read, so changesets makes no versions: {error}") from error
    if pre.mode == "exit":
        return names or ["the end of prereleases"]
    return [name for name in names if name not in pre.changesets]


def _tool(tree: Tree, plan: Plan, top: str) -> PlannedStep:
    package = read_package(tree, top)
    manager = manager_of(plan.recognised.manager) if plan.recognised.manager is not None else NPM
    run = ""
    if "changeset" in tree.names(in_folder(top, "node_modules/.bin")):
        run = "node_modules/.bin/changeset version"
    elif manager is BERRY and package is not None and _TOOL in package.dependencies:
        run = f"{manager.execute} changeset version"
    if not run:
        raise BadPlan(
            f"changesets isn't installed, so there are no versions: {in_folder(top, 'package.json')} needs {_TOOL} in "
            "its devDependencies, and a step named install must have installed it"
        )
    script = _script(package)
    return PlannedStep(name=STEP, run=f"{manager.run} {script}" if script else run, folder=top)


def _script(package: PackageJson | None) -> str:
    """Return the project's own script for its versions, which may do more than the tool: a lock file, say."""
    scripts = package.scripts if package is not None else {}
    found = [
        name
        for name, command in scripts.items()
        if _VERSION.search(command) and not _MORE.search(command) and re.fullmatch(r"[\w:.-]+", name)
    ]
    return found[0] if found else ""
