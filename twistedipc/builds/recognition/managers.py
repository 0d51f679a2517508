"""
The package managers that are known, as data, and which one a project wants.

In this order that is said by: the project's setting, ``packageManager`` in package.json ("pnpm@9.1.0+sha512.…", the
field of Corepack), ``devEngines.packageManager`` (npm's documentation of package.json, "devEngines"), the lock file. A
lock file of another manager than the one that is named is never ignored without a word, since that manager would
silently install other versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from twistedipc.builds.recognition.reading import PackageJson, in_folder, read_text
from twistedipc.builds.recognition.recognised import Finding, ManagerWanted
from twistedipc.builds.recognition.tree import Tree


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """A package manager, and how it is run."""

    name: str
    locks: tuple[str, ...]
    frozen: str  # the command that installs what is locked, and fails if the lock file is out of date
    install: str  # the command that installs where there is no lock file
    run: str  # before the name of a script
    execute: str  # before a program of a package that is installed


NPM = Manager(
    name="npm",
    locks=("package-lock.json", "npm-shrinkwrap.json"),
    frozen="npm ci --prefer-offline",
    install="npm install --prefer-offline",
    run="npm run",
    execute="npx --no-install",
)
PNPM = Manager(
    name="pnpm",
    locks=("pnpm-lock.yaml",),
    frozen="pnpm install --frozen-lockfile --prefer-offline",
    install="pnpm install --no-frozen-lockfile --prefer-offline",
    run="pnpm run",
    execute="pnpm exec",
)
YARN = Manager(
    name="yarn",
    locks=("yarn.lock",),
    frozen="yarn install --frozen-lockfile --non-interactive --prefer-offline",
    install="yarn install --no-lockfile --non-interactive --prefer-offline",
    run="yarn run",
    execute="yarn run",
)

#: Yarn from version 2 on: another program with the same name.
BERRY = Manager(
    name="yarn",
    locks=("yarn.lock",),
    frozen="yarn install --immutable",
    install="yarn install --no-immutable",
    run="yarn run",
    execute="yarn run",
)
BUN = Manager(
    name="bun",
    locks=("bun.lock", "bun.lockb"),
    frozen="bun install --frozen-lockfile",
    install="bun install",
    run="bun run",
    execute="bun x --no-install",
)

#: The managers, in the order in which their lock files count where several have one and nothing says which one is
#: meant: npm's comes last, since it is the one that is made by mistake.
MANAGERS = (PNPM, YARN, BUN, NPM)
_NAMES = frozenset(manager.name for manager in MANAGERS)

#: A manager that isn't one of ours. Its lock file counts only where there is no other sign: it is also written by
#: programs that install nothing.
DENO_LOCK = "deno.lock"

_BERRY_FILES = (".yarnrc.yml", ".pnp.cjs")

_NAMED = re.compile(r"(@?[A-Za-z0-9][A-Za-z0-9._/-]*)(?:@([^+]*)(?:\+(.*))?)?")
_VERSION = re.compile(r"[0-9A-Za-z.^~<>=*| -]{1,100}")
_HASH = re.compile(r"sha[0-9]+\.[0-9a-f]+")

#: What the first lines of a lock file say of the manager that wrote it: a version that reads it, as a range.
_LOCK_VERSIONS = {
    "pnpm-lock.yaml": (
        (r"(?m:^)lockfileVersion: '?\"?9\.", "^10"),
        (r"(?m:^)lockfileVersion: '?\"?6\.", "^8"),
        (r"(?m:^)lockfileVersion: '?\"?5\.", "^7"),
    ),
    "yarn.lock": (
        (r"# yarn lockfile v1", "^1"),
        (r"__metadata:\s+version: [1-4]\b", "^2"),
        (r"__metadata:\s+version: [56]\b", "^3"),
        (r"__metadata:", "^4"),
    ),
}

_SETTING = 'set manager in .twistedipc.toml (manager = "pnpm@10"), or build.steps to the commands of your own'


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one place says of the manager."""

    name: str
    version: str
    integrity: str
    where: Finding


class Choice(msgspec.Struct, kw_only=True):
    """Which manager a project wants."""

    manager: Manager = NPM
    wanted: ManagerWanted = ManagerWanted(name="npm")
    findings: list[Finding] = []
    advice: list[str] = []
    refusal: str = ""


def choose(tree: Tree, folders: Sequence[str], packages: Iterable[PackageJson], setting: Finding | None) -> Choice:
    """
    Return which manager installs a project.

    :param folders: where its lock file may be, and the top of its workspace last
    :param packages: the package.json of the project, and of the top of its workspace
    :param setting: what the project says, such as "pnpm@9"; None: nothing
    """
    locks = _locks(tree, folders)
    said, refusal = ([_of_setting(setting)], "") if setting is not None else _named(packages)
    choice = Choice(refusal=refusal)
    if refusal:
        return choice
    ours = next((one for one in said if one.name in locks), said[0] if said else None)
    if ours is not None:
        if ours.name not in _NAMES:
            choice.refusal = (
                f'{ours.where.why} "{ours.name[:60]}", and the platform knows {", ".join(sorted(_NAMES))}: {_SETTING}'
            )
            return choice
        choice.findings.append(ours.where)
        if locks and ours.name not in locks:
            _other_lock(choice, ours, locks, setting=setting is not None)
    elif not locks:
        if any(DENO_LOCK in tree.names(folder) for folder in folders):
            choice.refusal = (
                f"{DENO_LOCK} is a lock file of Deno, which the platform doesn't install with: set build.steps in "
                '.twistedipc.toml, for example steps = ["npx -y deno@2 install --frozen", "npx -y deno@2 task build"]'
            )
            return choice
        choice.findings.append(Finding(what="manager", value="npm", why="nothing says otherwise"))
    elif len(locks) > 1:
        named = " and ".join(path for paths in locks.values() for path in paths[:1])
        first = next(iter(locks))
        choice.advice.append(
            f"There are lock files of several package managers, {named}: {first}'s counts. Delete the others, or name "
            "the manager as packageManager in package.json."
        )
    _settle(choice, tree, folders, ours, locks)
    return choice


def _settle(choice: Choice, tree: Tree, folders: Sequence[str], said: Said | None, locks: dict[str, list[str]]) -> None:
    name = said.name if said is not None else next(iter(locks), NPM.name)
    lock = next(iter(locks.get(name, ())), "")
    version = said.version if said is not None else ""
    if lock and said is None:
        choice.findings.append(Finding(what="manager", value=name, why="its lock file", file=lock))
    if not version:
        version, finding = _version_of(tree, folders, name, lock)
        if finding is not None:
            choice.findings.append(finding)
    integrity = said.integrity if said is not None else ""
    choice.wanted = ManagerWanted(name=name, version=version, lock=lock, integrity=integrity)
    choice.manager = manager_of(choice.wanted)
    if not lock:
        choice.advice.append(
            f"There is no lock file of {name}: the newest versions are installed that package.json allows, "
            "and another build may get others. Commit one."
        )


def manager_of(wanted: ManagerWanted) -> Manager:
    """Return how the manager that a project wants is run."""
    manager = next(manager for manager in MANAGERS if manager.name == wanted.name)
    return BERRY if manager is YARN and _is_berry(wanted.version) else manager


def _other_lock(choice: Choice, said: Said, locks: dict[str, list[str]], *, setting: bool) -> None:
    other, paths = next(iter(locks.items()))
    sentence = (
        f"{said.where.why} {said.name}, but {paths[0]} is a lock file of {other}, which {said.name} doesn't read: it "
        "would install other versions than were tested"
    )
    if setting:
        choice.advice.append(f"{sentence}.")
    else:
        choice.refusal = f"{sentence}. Commit a lock file of {said.name}, or name {other} as packageManager"


def _locks(tree: Tree, folders: Sequence[str]) -> dict[str, list[str]]:
    """The lock files by their managers' names: those in the first folder that has any."""
    for folder in folders:
        names = tree.names(folder)
        found = {
            manager.name: [in_folder(folder, lock) for lock in manager.locks if lock in names] for manager in MANAGERS
        }
        if any(found.values()):
            return {name: paths for name, paths in found.items() if paths}
    return {}


def _of_setting(setting: Finding) -> Said:
    name, _, version = setting.value.partition("@")
    return Said(name=name, version=version, integrity="", where=setting)


def _named(packages: Iterable[PackageJson]) -> tuple[list[Said], str]:
    """What the first package.json says that says something, and why that can't be followed."""
    for package in packages:
        manager = package.get("packageManager")
        if isinstance(manager, str) and manager.strip():
            value = manager.strip()
            found = _NAMED.fullmatch(value)
            name, version, integrity = (found[1], found[2] or "", found[3] or "") if found else ("", "", "")
            if not name or (version and not _VERSION.fullmatch(version)):
                return [], (
                    f"packageManager in {package.path} is {value[:100]!r}, and nothing is run that is fetched from an "
                    "address: it must be a name and a version, for example pnpm@10.4.1"
                )
            where = Finding(
                what="manager",
                value=value.partition("+")[0],
                why="packageManager names",
                file=package.path,
                line=package.line("packageManager"),
            )
            integrity = integrity if _HASH.fullmatch(integrity) else ""
            return [Said(name=name, version=version, integrity=integrity, where=where)], ""
        engines = _dev_engines(package)
        if engines:
            return engines, ""
    return [], ""


def _dev_engines(package: PackageJson) -> list[Said]:
    engines = package.get("devEngines")
    wanted = engines.get("packageManager") if isinstance(engines, dict) else None
    found: list[Said] = []
    for engine in wanted if isinstance(wanted, list) else [wanted]:
        if not isinstance(engine, dict):
            continue
        name, said = engine.get("name"), engine.get("version")
        if not isinstance(name, str) or not name.strip():
            continue
        version = said.strip() if isinstance(said, str) and _VERSION.fullmatch(said.strip()) else ""
        where = Finding(
            what="manager",
            value=f"{name.strip()}@{version}" if version else name.strip(),
            why="devEngines.packageManager names",
            file=package.path,
            line=package.line("devEngines", "packageManager"),
        )
        found.append(Said(name=name.strip(), version=version, integrity="", where=where))
    return found


def _version_of(tree: Tree, folders: Sequence[str], name: str, lock: str) -> tuple[str, Finding | None]:
    """The version of a manager that the project's files need though none says it, and which file shows that."""
    if name == YARN.name:
        for folder in folders:
            settings = read_text(tree, in_folder(folder, ".yarnrc.yml"))
            found = (
                settings.find(r"(?m:^)yarnPath:.{0,1000}\byarn-([0-9][0-9A-Za-z.-]{0,100})\.c?js") if settings else None
            )
            if settings is not None and found is not None:
                line = settings.line(found)
                why = "yarnPath names"
                return found[1], Finding(what="manager", value=found[1], why=why, file=settings.path, line=line)
    head = tree.head(lock).decode("utf-8", "replace") if lock else ""
    for expression, version in _LOCK_VERSIONS.get(lock.rpartition("/")[2], ()):
        found = re.search(expression, head)
        if found is not None:
            line = head.count("\n", 0, found.start()) + 1
            why = "the lock file's format is read by"
            return version, Finding(what="manager", value=f"{name}@{version}", why=why, file=lock, line=line)
    if name == YARN.name:
        for folder in folders:
            for file in _BERRY_FILES:
                if file in tree.names(folder):
                    where = in_folder(folder, file)
                    return "^4", Finding(what="manager", value="yarn@^4", why="only Yarn from 2 on has", file=where)
        return "^1", None
    return "", None


def _is_berry(version: str) -> bool:
    major = re.search(r"[0-9]+", version)
    return major is not None and int(major[0][:4]) >= 2
