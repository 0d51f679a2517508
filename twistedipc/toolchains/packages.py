"""
Which package of the registry has a tool, and what its commands are. No I/O. Used by ``choose`` and ``store``.

A tool may come from several packages: yarn from version 2 on is another one than before, and pnpm from 12 on is a
program for each kind of machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from twistedipc.toolchains.problems import NoTool
from twistedipc.toolchains.versions import Range, Version, version

#: What can be brought.
TOOLS = ("node", "npm", "pnpm", "yarn", "bun")


class Kind(NamedTuple):
    """A kind of machine, in Node's words."""

    os: str  # "linux", "darwin"
    cpu: str  # "x64", "arm64"
    libc: Literal["glibc", "musl", ""]
    modern: bool = True  # whether an x64 processor has AVX2

    def __str__(self) -> str:
        return f"{self.os}-{self.cpu}" + (" with musl" if self.libc == "musl" else "")


class Launcher(NamedTuple):
    """How a command of a tool starts."""

    file: str  # in the package
    script: bool  # whether Node runs it
    first: str = ""  # what its first argument is


class Source(NamedTuple):
    """A package that has a tool, for some versions of it."""

    package: str
    since: int  # the first major version that it has
    before: int | None  # the first major version that it hasn't; None: it has all others
    commands: Mapping[str, str]  # command -> the file in the package, or the name in the `bin` of its package.json
    script: bool = True  # whether Node runs the commands
    hashed: str = ""  # the file of which packageManager has the hash; "": the package's archive
    hashed_package: str = ""  # the package of which packageManager has the hash, where it is another

    def has(self, candidate: Version) -> bool:
        """Return whether a version comes from this package, if the registry has it."""
        return candidate.major >= self.since and (self.before is None or candidate.major < self.before)

    def may_have(self, wanted: Range) -> bool:
        """Return whether a range is likely to admit a version of this package: what is no sure sign of it."""
        if wanted.exact is not None:
            return self.has(wanted.exact)
        end = self.before if self.before is not None else self.since + 20
        tried = (version(f"{major}.{minor}.0") for major in range(self.since, end) for minor in (0, 1, 99))
        return any(wanted.admits(each) for each in tried if each is not None)


#: The npm that comes with a Node, by its major version. Node's packages in the registry have none.
_BUNDLED = {8: 6, 10: 6, 12: 6, 14: 6, 15: 7, 16: 8, 17: 8, 18: 10, 19: 9, 20: 10, 21: 10, 22: 10, 23: 10, 24: 11}


def bundled_npm(node: Version) -> str:
    """Return the range of the npm that comes with a Node."""
    major = _BUNDLED.get(node.major, 11 if node.major > max(_BUNDLED) else 6)
    return f"^{major}.0.0"


def sources(tool: str, kind: Kind) -> list[Source]:
    """Return the packages of a tool for a kind of machine, that of the newest versions first. Raises `NoTool`."""
    musl = "-musl" if kind.libc == "musl" else ""
    match tool:
        case "node":
            if musl:
                raise NoTool(
                    f"the package registry has no Node for a machine like this one ({kind}): put a Node on the PATH of "
                    "the builder"
                )
            return [Source(f"node-{kind.os}-{kind.cpu}", 4, None, {"node": "bin/node"}, script=False)]
        case "npm":
            return [Source("npm", 1, None, {"npm": "npm", "npx": "npx"})]
        case "pnpm":
            native = {"pnpm": "pnpm", "pnpx": "pnpm dlx"}
            return [
                Source(f"@pnpm/exe.{kind.os}-{kind.cpu}{musl}", 12, None, native, script=False, hashed_package="pnpm"),
                Source("pnpm", 1, 12, {"pnpm": "pnpm", "pnpx": "pnpx"}),
            ]
        case "yarn":
            commands = {"yarn": "yarn", "yarnpkg": "yarnpkg"}
            return [
                Source("@yarnpkg/cli-dist", 2, None, commands, hashed="bin/yarn.js"),
                Source("yarn", 0, 2, commands),
            ]
        case "bun":
            cpu = {"arm64": "aarch64"}.get(kind.cpu, kind.cpu)
            old = "" if kind.modern or kind.cpu != "x64" else "-baseline"
            native = {"bun": "bin/bun", "bunx": "bin/bun x"}
            return [
                Source(f"@oven/bun-{kind.os}-{cpu}{musl}{old}", 0, None, native, script=False, hashed_package="bun")
            ]
        case _:
            raise NoTool(f'"{tool}" is no package manager that the builder can bring: it has {", ".join(TOOLS[1:])}')


#: How the names of packages begin that have a tool for some kind of machine, or some versions of it.
_PACKAGES = {"node-": "node", "@pnpm/exe.": "pnpm", "@yarnpkg/cli-dist": "yarn", "@oven/bun-": "bun"}


def tool_of(package: str) -> str:
    """Return which tool a fetched package has, in the word that projects ask for it by."""
    return next((tool for start, tool in _PACKAGES.items() if package.startswith(start)), package)


def launchers(source: Source, bin: Mapping[str, str]) -> dict[str, Launcher]:
    """
    Return how the commands of a tool start. ``bin`` is that of the package's package.json. Raises `NoTool` if the
    package hasn't one of them.
    """
    found: dict[str, Launcher] = {}
    for command, place in source.commands.items():
        if not source.script:
            file, _, first = place.partition(" ")
            found[command] = Launcher(file, False, first)
        elif place in bin:
            found[command] = Launcher(bin[place], True)
    if source.commands and next(iter(source.commands)) not in found:
        raise NoTool(f"{source.package} has no command {next(iter(source.commands))} in it")
    return found


def variables(tool: str, chosen: Version, operator: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables for the steps of a build whose manager is ``tool``: no manager puts itself in place of the one
    that was chosen, and each uses the registry that the operator has set for npm.
    """
    found = {
        "COREPACK_ENABLE_STRICT": "0",
        "COREPACK_ENABLE_AUTO_PIN": "0",
        "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
    }
    registry = next((value for name, value in operator.items() if name.lower() == "npm_config_registry"), "")
    if tool == "pnpm" and chosen.major < 11:
        found["npm_config_manage_package_manager_versions"] = "false"
        found["npm_config_package_manager_strict"] = "false"
    elif tool == "pnpm":
        found["pnpm_config_pm_on_fail"] = "ignore"
        if registry:
            found["pnpm_config_registry"] = registry
    elif tool == "yarn" and registry:
        found["YARN_NPM_REGISTRY_SERVER" if chosen.major >= 2 else "YARN_REGISTRY"] = registry.rstrip("/")
    return found
