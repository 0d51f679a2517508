"""
Workspaces of npm, pnpm, yarn and bun: several packages in one repository, installed together at its top; and the tools
that build them in the right order: turbo, nx, lerna.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import msgspec

from twistedipc.builds.recognition.managers import Manager
from twistedipc.builds.recognition.paths import joined, matches, parents, relative
from twistedipc.builds.recognition.reading import (
    BadPlan,
    PackageJson,
    in_folder,
    read_package,
    read_text,
    yaml_list,
)
from twistedipc.builds.recognition.recognised import Finding, PlannedStep
from twistedipc.builds.recognition.tree import Tree

#: How many members are looked at, and how many folders while they are searched.
MAX_MEMBERS = 500
MAX_FOLDERS = 5000

#: The most patterns that name members, and how many folders one may have in it.
MAX_PATTERNS = 200
MAX_PARTS = 16

#: How deep below the workspace "**" is searched.
_DEPTH = 4

_NOT_SEARCHED = frozenset({"node_modules", "bower_components", "dist", "build"})


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace: its top, and which folders below it are its members."""

    top: str
    patterns: list[str]
    where: Finding


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A package of a workspace."""

    folder: str
    package: PackageJson

    @property
    def name(self) -> str:
        """The package's name, or its folder where it has none."""
        return self.package.name or self.folder


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A program that builds packages of a workspace in the right order."""

    name: str
    file: str  # at the workspace's top
    command: str  # builds one package; "{name}" is its name
    all: str  # builds all of them


TOOLS = (
    Tool(name="turbo", file="turbo.json", command="turbo run build --filter={name}", all="turbo run build"),
    Tool(name="nx", file="nx.json", command="nx run {name}:build", all="nx run-many -t build"),
    Tool(
        name="lerna",
        file="lerna.json",
        command="lerna run build --scope={name} --include-dependencies",
        all="lerna run build",
    ),
)

#: What says in a command that it is run for members of a workspace.
_FOR_MEMBERS = re.compile(
    r"\b(?:turbo|nx|lerna|rush|moon|wireit|wsrun|workspaces?|foreach)\b"
    r"|(?<!\S)(?:-r|-F|-ws|--recursive|--filter|--workspaces)(?=[\s=]|$)"
)

#: A program of the authors' own, which may build anything.
_OWN_PROGRAM = re.compile(r"(?:^|[\s;&|])(?:node|tsx|ts-node|zx|sh|bash|make|gulp|just|task|deno|esno|\./\S+)(?=\s|$)")

_WORD = re.compile(r"[^\s'\"=;&|(){}]+")

#: How deep applications are looked for that aren't of a workspace, and in how many folders.
_BELOW = 2
_MOST_BELOW = 200

_PLAIN_NAME = re.compile(r"[@A-Za-z0-9][\w@./-]{0,213}")  # npm's limit


def find(tree: Tree, root: str) -> Workspace | None:
    """Return the workspace that a folder is the top or a member of; None if there is none."""
    for top in [root, *parents(root)]:
        workspace = _at(tree, top)
        if workspace is not None and (top == root or matches(workspace.patterns, relative(root, top))):
            return workspace
    return None


def _at(tree: Tree, top: str) -> Workspace | None:
    names = tree.names(top)
    if "pnpm-workspace.yaml" in names:
        text = read_text(tree, in_folder(top, "pnpm-workspace.yaml"))
        if text is not None:
            patterns, line = yaml_list(text, "packages")
            if patterns:  # or it has settings of pnpm's alone
                return _workspace(top, patterns, text.path, line)
    package = _readable(tree, top) if "package.json" in names else None
    said = package.get("workspaces") if package is not None else None
    if isinstance(said, dict):
        said = said.get("packages")
    if package is not None and isinstance(said, list):
        patterns = [each for each in said if isinstance(each, str) and each]
        if patterns:
            return _workspace(top, patterns, package.path, package.line("workspaces"))
    return None


def _workspace(top: str, patterns: list[str], path: str, line: int) -> Workspace:
    if len(patterns) > MAX_PATTERNS or any(pattern.count("/") > MAX_PARTS for pattern in patterns):
        raise BadPlan(f"{path} has more than {MAX_PATTERNS} patterns of packages, or one with over {MAX_PARTS} folders")
    patterns = [pattern.replace("./", "", 1) if "./" in pattern[:3] else pattern for pattern in patterns]
    where = Finding(what="workspace", value=top or ".", why=", ".join(patterns)[:200], file=path, line=line)
    return Workspace(top=top, patterns=patterns, where=where)


def _readable(tree: Tree, folder: str) -> PackageJson | None:
    """The package.json of a folder that isn't the project's own: one that can't be read says nothing."""
    try:
        return read_package(tree, folder)
    except BadPlan:
        return None


def members(tree: Tree, workspace: Workspace) -> list[Member]:
    """Return the packages of a workspace, by folder."""
    folders = folders_of(tree, workspace.top, workspace.patterns)
    found = [(folder, _readable(tree, folder)) for folder in folders if "package.json" in tree.names(folder)]
    return [Member(folder=folder, package=package) for folder, package in found if package is not None]


def folders_of(tree: Tree, top: str, patterns: Sequence[str]) -> list[str]:
    """Return the folders that patterns mean, which are relative to ``top``; the first `MAX_MEMBERS` of them."""
    folders: dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        for folder in _expanded(tree, top, pattern.strip("/").split("/")):
            if matches(patterns, relative(folder, top)):
                folders[folder] = None
            if len(folders) >= MAX_MEMBERS:
                break
    return sorted(folders)


def _expanded(tree: Tree, top: str, parts: list[str]) -> list[str]:
    """The folders that a pattern, without what it takes out, may mean."""
    level = [top]
    for part in parts:
        if part == "**":
            level = _all_below(tree, level)
        else:
            found = (below for folder in level for below in _below(tree, folder, part))
            level = list(dict.fromkeys(found))[:MAX_FOLDERS]
    return level


def _all_below(tree: Tree, folders: list[str]) -> list[str]:
    """These folders, and those below them, each once."""
    found = dict.fromkeys(folders)
    level = folders
    for _ in range(_DEPTH):
        below = (in_folder(folder, name) for folder in level for name in _searched(tree, folder))
        level = [folder for folder in below if folder not in found][:MAX_FOLDERS]
        found.update(dict.fromkeys(level))
    return list(found)[:MAX_FOLDERS]


def _below(tree: Tree, folder: str, part: str) -> list[str]:
    """The folders that one part of a pattern may mean, in this one."""
    if any(character in part for character in "*?[{"):
        return [in_folder(folder, name) for name in _searched(tree, folder) if matches([part], name)]
    literal = joined(folder, part)
    return [literal] if literal is not None and (part in (".", "..") or part in tree.names(folder)) else []


def _searched(tree: Tree, folder: str) -> list[str]:
    return [name for name in tree.names(folder) if not name.startswith(".") and name not in _NOT_SEARCHED]


def is_named(member: Member, top: str, commands: str) -> bool:
    """Whether commands that run at the workspace's top name a member: by its folder, or by its package's name."""
    words = {word.removeprefix("./").removesuffix("...").rstrip("/") for word in _WORD.findall(commands)}
    return relative(member.folder, top) in words or member.package.name in words


def builds_all(top: PackageJson, member: Member, workspace: Workspace) -> bool:
    """Whether the script "build" of the workspace's top builds a member too, as far as can be known."""
    commands = top.commands("build")
    if is_named(member, workspace.top, commands) or _OWN_PROGRAM.search(commands):
        return True
    return _FOR_MEMBERS.search(commands) is not None and "build" in member.package.scripts


def below(tree: Tree, root: str, wanted: Callable[[str, PackageJson], bool]) -> list[str]:
    """Return the folders not far below the root whose packages are wanted, without any workspace."""
    found: list[str] = []
    level = [root]
    for _ in range(_BELOW):
        level = [in_folder(folder, name) for folder in level for name in sorted(_searched(tree, folder))][:_MOST_BELOW]
        packages = [(folder, _readable(tree, folder)) for folder in level if "package.json" in tree.names(folder)]
        found += [folder for folder, package in packages if package is not None and wanted(folder, package)]
    return found


def tool_of(tree: Tree, workspace: Workspace) -> tuple[Tool, Finding] | None:
    """The tool that builds the packages of this workspace."""
    names = tree.names(workspace.top)
    for tool in TOOLS:
        if tool.file in names:
            where = Finding(what="tool", value=tool.name, why="its file", file=in_folder(workspace.top, tool.file))
            return tool, where
    return None


def builds_before(members: list[Member], folder: str, manager: Manager) -> list[PlannedStep]:
    """
    Return the commands that build what a member needs of its workspace, in their order: the packages that it depends
    on, and those that they depend on, as far as they have a script "build".
    """
    return [step for step in builds(members, [folder], manager) if step.folder != folder]


def builds(members: list[Member], folders: Collection[str], manager: Manager) -> list[PlannedStep]:
    """Return the commands that build the members in these folders, and what they need, as `builds_before` does."""
    by_name = {member.name: member for member in members}
    order: list[Member] = []
    under_way: set[str] = set()

    def visit(member: Member) -> None:
        under_way.add(member.name)
        for name in sorted(member.package.dependencies):
            needed = by_name.get(name)
            if needed is not None and needed.name not in under_way:
                visit(needed)
        order.append(member)

    for member in members:
        if member.folder in folders and member.name not in under_way:
            visit(member)
    return [
        PlannedStep(name=f"build {member.name}", run=f"{manager.run} build", folder=member.folder)
        for member in order
        if "build" in member.package.scripts and _PLAIN_NAME.fullmatch(member.name)
    ]


def built_by(tool: Tool, member: Member, manager: Manager, top: str) -> PlannedStep | None:
    """The command by which a tool builds a member of a workspace, and what that needs; None if it has no plain name."""
    if not _PLAIN_NAME.fullmatch(member.package.name):
        return None
    run = f"{manager.execute} {tool.command.format(name=member.package.name)}"
    return PlannedStep(name="build", run=run, folder=top)
