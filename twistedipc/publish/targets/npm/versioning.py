"""
The versions that a build gives its packages, as changes of its files. Pure; used by ``target``.

The versions of package.json are raised before the steps that build, so that what they put into bundles is right. What
packages of the repository say of one another follows: an exact version and what begins with ``^`` or ``~`` become those
of the new version; other ranges must admit it. For a canary all of that is pinned to the canary's version, since a
range never admits another one's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from twistedipc.builds.names import BadValue
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition import workspaces
from twistedipc.builds.recognition.managers import BERRY, BUN, Manager, manager_of
from twistedipc.builds.recognition.paths import relative
from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read, read_package
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.versions import Chosen, Versioning, bumped, is_prerelease, next_free, tag_of
from twistedipc.publish.targets.npm.json_strings import with_strings
from twistedipc.publish.targets.npm.selection import Candidate, select
from twistedipc.publish.targets.target import Versioned

_GROUPS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")

_NUMBERS = r"[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_SIMPLE = re.compile(rf"(\^|~|>=|=|)\s*v?{_NUMBERS}")
_ALIAS = re.compile(r"((?:npm|workspace):(@?[^@\s]+)@)(.*)", re.DOTALL)
_TAG = re.compile(r"[A-Za-z][\w.-]*")


def version_of(candidate: Candidate) -> str:
    """Return the version in a package's package.json. Raises `BadPlan` if it has none."""
    if candidate.package is None:
        raise BadPlan(f"there is no {candidate.package_json}, so there is no version to raise")
    version = candidate.package.get("version")
    if not isinstance(version, str) or not version:
        raise BadPlan(f'{candidate.package_json} has no version to raise: give it one, for example "0.0.0"')
    return version


def chosen_of(candidate: Candidate, version: str, *, settled: bool = False) -> Chosen:
    """Return a package's version with its tag, which a prerelease needs. Raises `BadPlan` if it has none."""
    if not is_prerelease(version):
        return Chosen(version=version, settled=settled)
    config = candidate.package.get("publishConfig") if candidate.package is not None else None
    own = config.get("tag") if isinstance(config, dict) else None
    if isinstance(own, str) and own not in ("", "latest"):
        return Chosen(version=version, settled=settled)
    tag = tag_of(version)
    if not tag:
        raise BadPlan(
            f"{candidate.package_json}: {version} is a prerelease, and needs a tag, so that it doesn't become latest: "
            'ask for prerelease:ID, for example prerelease:beta, or set "publishConfig": {"tag": "next"}'
        )
    return Chosen(version=version, tag=tag, settled=settled)


def versioned(tree: Tree, plan: Plan, wanted: Versioning) -> Versioned:
    """
    Return what is to be changed so that all packages that are published have the versions that are wanted. Raises
    `BadPlan`.
    """
    chosen: dict[str, Chosen] = {}
    said: list[str] = []
    for candidate in select(tree, plan).packages:
        before = version_of(candidate)
        name = candidate.package.name if candidate.package is not None else ""
        try:
            new = wanted.fixed.get(name) or _new(before, wanted, wanted.taken.get(name, []))
        except BadValue as error:
            raise BadPlan(f"{candidate.package_json}: the version {error}") from error
        if wanted.canary is not None:
            chosen[name] = Chosen(version=new, tag=wanted.canary.tag)
        else:
            chosen[name] = chosen_of(candidate, new)
        why = ", as an earlier attempt of this build has it" if name in wanted.fixed else ""
        said.append(f"{name or candidate.package_json}: {before} becomes {new}{why}")
    versions = {name: each.version for name, each in chosen.items()}
    edits, warnings = _edits(tree, plan, versions, pinned=wanted.canary is not None)
    return Versioned(edits=edits, chosen=chosen, said=said, warnings=warnings)


def _new(before: str, wanted: Versioning, taken: list[str]) -> str:
    if wanted.canary is not None:
        bumped(before, "patch")  # it must be a version
        return wanted.canary.version(next_free(before, "patch", taken))
    return next_free(before, wanted.bump, taken)


def _edits(tree: Tree, plan: Plan, versions: Mapping[str, str], *, pinned: bool) -> tuple[dict[str, bytes], list[str]]:
    """Return the files that change, and what a person should know of them."""
    manager = manager_of(plan.recognised.manager) if plan.recognised.manager is not None else None
    edits: dict[str, bytes] = {}
    in_lock: dict[tuple[str, ...], str] = {}
    top = plan.packages_in if plan.packages else plan.root
    workspace = workspaces.find(tree, top)
    top = workspace.top if workspace is not None else top
    for folder in _folders(tree, plan, workspace):
        package = read_package(tree, folder)
        if package is None:
            continue
        strings = dict(_ranges(package, versions, manager, pinned=pinned))
        if package.name in versions:
            strings[("version",)] = versions[package.name]
        _edit(edits, package.path, read(tree, package.path), strings)
        key = relative(folder, top) if folder != top else ""
        in_lock |= {("packages", key, *keys): value for keys, value in strings.items()}
    if ("packages", "", "version") in in_lock:
        in_lock[("version",)] = in_lock[("packages", "", "version")]
    return edits, _edit_locks(edits, tree, top, in_lock) if edits else []


def _edit_locks(edits: dict[str, bytes], tree: Tree, top: str, strings: Mapping[tuple[str, ...], str]) -> list[str]:
    """Add npm's lock files to the files that change. Return a sentence for each that can't be changed."""
    warnings: list[str] = []
    for path in (in_folder(top, name) for name in _LOCKS if name in tree.names(top)):
        try:
            _edit(edits, path, read(tree, path), strings)
        except BadPlan as error:
            warnings.append(f"{error}: it has the versions as they were")
    return warnings


def _edit(edits: dict[str, bytes], path: str, data: bytes | None, strings: Mapping[tuple[str, ...], str]) -> None:
    """Add a file to those that change, unless it is as it should be."""
    new = with_strings(data or b"", strings)
    if new != (data or b""):
        edits[path] = new


def _folders(tree: Tree, plan: Plan, workspace: workspaces.Workspace | None) -> list[str]:
    """The folders of all packages of the repository that may depend on those that are published, and of these."""
    folders = [candidate.folder for candidate in select(tree, plan).packages]
    if workspace is not None:
        folders += [workspace.top, *(member.folder for member in workspaces.members(tree, workspace))]
    return list(dict.fromkeys(folders))


def _ranges(
    package: PackageJson, versions: Mapping[str, str], manager: Manager | None, *, pinned: bool
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what changes of what a package needs: the keys that lead there, and the new range."""
    for group in _GROUPS:
        entries = package.get(group)
        for name, spec in entries.items() if isinstance(entries, dict) else ():
            if not isinstance(spec, str):
                continue
            alias = _ALIAS.fullmatch(spec.strip())
            before, needed, inner = (alias[1], alias[2], alias[3]) if alias is not None else ("", name, spec.strip())
            version = versions.get(needed)
            if version is None:
                continue
            new = _pinned(inner, version, manager) if pinned else _raised(inner, version, manager, group)
            if new is None:
                raise BadPlan(
                    f'{package.path}: {group}["{name}"] is "{spec[:100]}", which doesn\'t admit {needed} {version}. '
                    + (
                        "yarn's lock file has it as it is: write workspace:^ there"
                        if manager is BERRY
                        else "Widen it, or write workspace:^"
                    )
                )
            if new != inner:
                yield (group, name), before + new


def _pinned(spec: str, version: str, manager: Manager | None) -> str | None:
    """Return a range that admits a canary and nothing else; None if it can't be written there."""
    if spec.startswith("workspace:"):
        if manager is BERRY:
            return spec  # which is in its lock file; yarn replaces it when it packs
        return version if manager is BUN else f"workspace:{version}"
    if not (_is_range(spec) or _TAG.fullmatch(spec)):
        return spec  # a path, another repository
    return None if manager is BERRY else version


def _raised(spec: str, version: str, manager: Manager | None, group: str) -> str | None:
    """Return a range that admits a version, of one that was written for an earlier one; None if it can't be had."""
    if spec.startswith("workspace:"):
        inner = spec.removeprefix("workspace:").strip()
        if inner in ("", "*", "^", "~"):
            # bun 1.2 packs the version that its lock file has, which is the one before.
            return (inner if inner in ("^", "~") else "") + version if manager is BUN else spec
        raised = _raised(inner, version, None, group)
        return spec if manager is BERRY or raised is None else f"workspace:{raised}"
    if spec in ("", "*", "x") or not _is_range(spec):
        return spec  # those are any version, to a person a prerelease too
    simple = _SIMPLE.fullmatch(spec)
    stays = simple is None or simple[1] == ">=" or group == "peerDependencies" or manager is BERRY
    if stays and _admits(spec, version):
        return spec
    if simple is None or manager is BERRY:
        return None
    return f"{simple[1]}{version}"


def _is_range(spec: str) -> bool:
    import nodesemver  # not above: few builds raise a version

    try:
        return nodesemver.make_range(spec, False) is not None
    except ValueError:
        return False


def _admits(spec: str, version: str) -> bool:
    import nodesemver

    return bool(nodesemver.make_range(spec, False).test(version))
