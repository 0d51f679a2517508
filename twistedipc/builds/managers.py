"""
Which package manager a project uses, and npm's steps for it. Bottom layer, pure: it is given names and contents.

npm is the only manager whose steps the platform knows. Another manager's lock file is never ignored, since npm would
silently install other versions. So a project with another manager's lock file, or with another manager named in
package.json, needs ``build.steps`` of its own, and `npm_steps` raises a sentence that says so.

Where package.json names its manager: ``packageManager`` ("pnpm@9.1.0+sha512.…", the field of Corepack) and
``devEngines.packageManager`` (npm's documentation of package.json, "devEngines").
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec


class Unsupported(Exception):
    """npm's steps don't fit the project; ``str()`` of the exception is a sentence for the project's authors."""


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """A package manager, and how a project's own steps run it, for an example in a sentence."""

    name: str
    locks: tuple[str, ...]
    package: str = ""  # its name in the npm registry, where that isn't its own name
    release: str = ""  # the version for the example where the project names none
    install: str = "install"
    run: str = "run build"

    def example(self, version: str, build: bool) -> str:
        """Return steps that work, as they are written in ``build.steps``."""
        command = f"npx -y {self.package or self.name}@{version or self.release}"
        steps = [f"{command} {self.install}", f"{command} {self.run}"]
        return ", ".join(f'"{step}"' for step in (steps if build else steps[:1]))


NPM = Manager(name="npm", locks=("package-lock.json", "npm-shrinkwrap.json"))

_YARN = Manager(name="yarn", locks=("yarn.lock",), release="1", install="install --frozen-lockfile")

#: Yarn from version 2 on: another program, under another name in the registry.
_YARN_BERRY = Manager(
    name="yarn", locks=("yarn.lock",), package="@yarnpkg/cli-dist", release="4", install="install --immutable"
)
_BERRY_FILES = (".yarnrc.yml", ".pnp.cjs")

_DENO = Manager(name="deno", locks=("deno.lock",), release="2", install="install --frozen", run="task build")

#: The managers, each with its lock files. One of Deno counts only where there is no other sign: it is also written by
#: programs that install nothing.
MANAGERS = (
    NPM,
    Manager(name="pnpm", locks=("pnpm-lock.yaml",), release="10", install="install --frozen-lockfile"),
    _YARN,
    Manager(name="bun", locks=("bun.lock", "bun.lockb"), release="1", install="install --frozen-lockfile"),
    _DENO,
)

#: The names of the files beside package.json on which `npm_steps` depends.
LOOKED_AT = frozenset(lock for manager in MANAGERS for lock in manager.locks) | frozenset(_BERRY_FILES)

#: What `.twistedipc.toml` needs, in the sentences here.
_STEPS = "build.steps in .twistedipc.toml"

_VERSION = re.compile(r"[0-9]+(?:\.[0-9A-Za-z-]+)*")


class _Scripts(msgspec.Struct):
    build: Any = msgspec.UNSET


class PackageJson(msgspec.Struct, rename="camel"):
    """
    The fields that are read of a package.json. As in npm, all others may have any value. Fields are kept as they are
    written until they are needed.
    """

    scripts: msgspec.Raw = msgspec.Raw(b"null")
    package_manager: msgspec.Raw = msgspec.Raw(b"null")
    dev_engines: msgspec.Raw = msgspec.Raw(b"null")

    def build_script(self) -> bool:
        """Return whether there is a script ``build``. Raises `msgspec.DecodeError` if it isn't a string."""
        if not bytes(self.scripts).startswith(b"{"):
            return False  # npm treats what isn't an object as no scripts
        build = msgspec.json.decode(self.scripts, type=_Scripts).build
        if build is not msgspec.UNSET and not isinstance(build, str):
            raise msgspec.ValidationError("Expected `str` - at `$.scripts.build`")
        return build is not msgspec.UNSET

    def named(self) -> list[tuple[str, str, str]]:
        """The managers that it names: the key, the manager's name, and its version or ""."""
        found: list[tuple[str, str, str]] = []
        manager = _decoded(self.package_manager)
        if isinstance(manager, str) and manager.strip():
            said = manager.strip()
            at = said.find("@", 1)  # the first is a scope's
            name, version = (said[:at], said[at + 1 :]) if at > 0 else (said, "")
            found.append(("packageManager", name, version.partition("+")[0]))
        engines = _decoded(self.dev_engines)
        wanted = engines.get("packageManager") if isinstance(engines, dict) else None
        for engine in wanted if isinstance(wanted, list) else [wanted]:
            if isinstance(engine, dict) and isinstance(engine.get("name"), str) and engine["name"].strip():
                exact = engine.get("version")
                name = engine["name"].strip()
                found.append(("devEngines.packageManager", name, exact if isinstance(exact, str) else ""))
        return found


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def npm_steps(package: PackageJson, present: Collection[str]) -> list[tuple[str, str]]:
    """
    Return the names and commands of npm's steps, for a project with these files ``present`` beside its package.json.
    Raises `Unsupported` if another manager has locked what is to be installed, `msgspec.DecodeError` if the build
    script isn't a string.
    """
    build = package.build_script()
    _check_npm(package.named(), present, build)
    locked = any(name in present for name in NPM.locks)
    steps = [("install", "npm ci --prefer-offline" if locked else "npm install --prefer-offline")]
    return [*steps, ("build", "npm run build")] if build else steps


def _check_npm(named: list[tuple[str, str, str]], present: Collection[str], build: bool) -> None:
    """
    Raise `Unsupported` unless npm is the project's manager. What package.json says comes first: if it names npm, and
    npm's lock file is there, another manager's beside it does no harm.
    """
    says_npm = any(name == NPM.name for _key, name, _version in named)
    if named and not says_npm:
        key, name, version = named[0]
        raise Unsupported(_unsupported(f'{key} in package.json names "{name[:60]}"', name, version, present, build))
    ours = _locks_of(NPM, present)
    foreign = _foreign_locks(present, other_signs=bool(ours or named))
    if not foreign or (says_npm and ours):
        return
    name, found = next(iter(foreign.items()))
    if says_npm:
        raise Unsupported(
            f"package.json names npm as its manager, but the lock file {found[0]} is {name}'s: npm would ignore it. "
            f"Delete {found[0]} and commit npm's package-lock.json, or set {_STEPS}"
        )
    if ours or len(foreign) > 1:
        names = sum(foreign.values(), ours)
        raise Unsupported(
            f"there are lock files of several package managers, {' and '.join(names)}, and nothing says which one "
            f"counts: delete those that don't, or name the manager as packageManager in package.json, or set {_STEPS}"
        )
    raise Unsupported(_unsupported(f"{found[0]} is a lock file of {name}", name, "", present, build))


def _locks_of(manager: Manager, present: Collection[str]) -> list[str]:
    return [lock for lock in manager.locks if lock in present]


def _foreign_locks(present: Collection[str], *, other_signs: bool) -> dict[str, list[str]]:
    """The lock files of other managers than npm, by their names. Deno's counts only where there is no other sign."""
    locks = {manager.name: _locks_of(manager, present) for manager in MANAGERS if manager is not NPM}
    foreign = {name: found for name, found in locks.items() if found}
    if other_signs or len(foreign) > 1:
        foreign.pop(_DENO.name, None)
    return foreign


def _unsupported(sign: str, name: str, version: str, present: Collection[str], build: bool) -> str:
    sentence = (
        f"{sign}, and a project without build.steps is installed by npm, which doesn't read what {name[:60]} locks"
    )
    manager = next((known for known in MANAGERS if known.name == name), None)
    if manager is None:
        return f"{sentence}. Set {_STEPS} to the commands that install and build"
    exact = version if _VERSION.fullmatch(version) else ""
    if manager is _YARN and ((exact and exact.partition(".")[0] not in ("0", "1")) or _is_berry(present)):
        manager = _YARN_BERRY
    return f"{sentence}. Set {_STEPS}, for example steps = [{manager.example(exact, build)}]"


def _is_berry(present: Collection[str]) -> bool:
    return any(name in present for name in _BERRY_FILES)
