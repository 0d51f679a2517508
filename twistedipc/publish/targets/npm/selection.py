"""
Which packages of a project are published, and in which order. Pure: it is given the project's files. Used by
``target``, in the runner, and by ``pack``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from twistedipc.builds.names import MAX_PACKAGES
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read_package
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.recognition.workspaces import folders_of
from twistedipc.publish.targets.npm.dependencies import GROUPS

#: What is said of a dependency that has another name there: "npm:NAME@RANGE", "workspace:NAME@RANGE".
_ALIAS = re.compile(r"(?:npm|workspace):(@?[^@\s]+)@")

#: How many names one sentence lists.
_MOST_SHOWN = 10


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A package of the project that is to be published."""

    folder: str  # relative to the working copy
    package: PackageJson | None  # None: there is none, which the packing reports

    @property
    def package_json(self) -> str:
        """The path of its package.json."""
        return in_folder(self.folder, "package.json")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of a project that are to be published, each after those that it depends on."""

    packages: Sequence[Candidate]
    several: bool = False  # whether the project names folders, so that there may be any number
    remarks: Sequence[str] = ()  # sentences for the log
    warnings: Sequence[str] = ()


def select(tree: Tree, plan: Plan) -> Selection:
    """
    Return the packages that a project publishes: the public ones in the folders that it names, or its own. Raises
    `BadPlan` if there is none in them, if there are too many, or if two of them have one name.
    """
    if not plan.packages:
        return Selection(packages=[Candidate(folder=plan.root, package=read_package(tree, plan.root))])
    found: dict[str, Candidate] = {}
    private: list[str] = []
    for folder in folders_of(tree, plan.packages_in, plan.packages):
        package = read_package(tree, folder)
        if package is None:
            continue
        if not folder.isprintable():
            raise BadPlan(f"the folder {folder!a} has characters in its name that can't be printed: rename it")
        if not is_public(package):
            private.append(folder or ".")
        elif package.name in found:
            other = found[package.name].package_json
            raise BadPlan(f"{other} and {package.path} have the same name, {package.name[:100]}: a registry has one")
        else:
            found[package.name] = Candidate(folder=folder, package=package)
    named = ", ".join(plan.packages[:_MOST_SHOWN])
    if not found:
        raise BadPlan(
            f"packages = {named}: no public package is there, which has a name and a version in its package.json, and "
            'no "private": true'
        )
    if len(found) > MAX_PACKAGES:
        raise BadPlan(f"packages = {named}: there are {len(found)} public packages, and {MAX_PACKAGES} is the most")
    order, circles = in_order({name: _needed(candidate) for name, candidate in found.items()})
    return Selection(
        packages=[found[name] for name in order],
        several=True,
        remarks=[f"Not published, since they are private or have no name and version: {_listed(private)}"]
        if private
        else [],
        warnings=[
            f"these packages depend on one another in a circle: {' → '.join([*circle, circle[0]])}. Until all of them "
            "are published, none can be installed"
            for circle in circles
        ],
    )


def is_public(package: PackageJson) -> bool:
    """Return whether a package is meant to be published: it isn't private, and has a name and a version."""
    version = package.get("version")
    return bool(package.name) and isinstance(version, str) and bool(version) and not package.get("private")


def _needed(candidate: Candidate) -> Iterable[str]:
    """The names of what must be in the registry before this package can be installed from there."""
    package = candidate.package
    for group in GROUPS if package is not None else ():
        entries = package.get(group) if package is not None else None
        for name, spec in entries.items() if isinstance(entries, dict) else ():
            alias = _ALIAS.match(spec) if isinstance(spec, str) else None
            yield alias[1] if alias is not None else name


def in_order(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], list[list[str]]]:
    """
    Return names in an order in which each comes after those that it needs, as far as there is one; and the circles for
    which there is none, each a list of names of which each needs the next and the last needs the first. The same needs
    give the same order. Names that aren't keys don't matter.

    These are the strongly connected components of a graph, by Tarjan's algorithm, which finds them in that order.
    """
    edges = {name: sorted(set(needed) & needs.keys() - {name}) for name, needed in sorted(needs.items())}
    order: list[str] = []
    circles: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []  # visited, and not in a component yet

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        open_.append(name)
        for needed in edges[name]:
            if needed not in number:
                visit(needed)
                lowest[name] = min(lowest[name], lowest[needed])
            elif needed in open_:
                lowest[name] = min(lowest[name], number[needed])
        if lowest[name] == number[name]:
            at = open_.index(name)
            component = sorted(open_[at:])
            del open_[at:]
            order.extend(component)
            if len(component) > 1:
                circles.append(_circle(component, edges))

    for name in edges:
        if name not in number:
            visit(name)
    return order, circles


def _circle(component: Sequence[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a circle among names each of which needs, by way of others, every other one."""
    path = [component[0]]
    while True:
        following = next(needed for needed in edges[path[-1]] if needed in component)
        if following in path:
            return path[path.index(following) :]
        path.append(following)


def _listed(folders: Sequence[str]) -> str:
    more = len(folders) - _MOST_SHOWN
    return ", ".join(folders[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
