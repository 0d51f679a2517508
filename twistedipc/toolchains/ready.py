"""
What was chosen -> PATH and variables of a build's steps. Used by the runner, and by ``fetch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.attempt import Tool, ToolSettings
from twistedipc.builds.provenance import package_name
from twistedipc.registries.npmrc import global_config
from twistedipc.toolchains.choose import Choice, Chooser, Pick
from twistedipc.toolchains.linter import find
from twistedipc.toolchains.machine import Machine
from twistedipc.toolchains.packages import variables
from twistedipc.toolchains.store import Index, Store
from twistedipc.toolchains.wanted import Toolchain, Wanted

#: The folder of what a build installs globally, in its home.
GLOBAL = ".npm-global"


class _MustFetch(Exception):
    """The registry has to be asked."""


def ready(
    wanted: Wanted,
    settings: ToolSettings,
    operator: Mapping[str, str],
    machine: Machine,
    *,
    home: Path,
    now: Callable[[], int],
) -> Toolchain | None:
    """
    Return what the steps of a build get; None if something has to be looked up or fetched for that. Raises
    `ToolProblem`, or OSError of the disk.

    :param operator: the operator's variables for all steps
    :param home: the build's home
    :param now: milliseconds since the epoch
    """
    store = Store(Path(settings.folder), now=now)

    def refuse(package: str) -> Index:
        raise _MustFetch(package)

    try:
        choice = Chooser(settings, store, machine, look_up=refuse, now=now).choose(wanted)
    except _MustFetch:
        return None
    if any(pick.place == "registry" for pick in choice.picks):
        return None
    for pick in choice.picks:
        if pick.source is not None and not store.use(pick.source.package, pick.version.text):
            return None  # deleted in this moment
    found = toolchain(choice, store, operator, machine, home)
    if not wanted.linter:
        return found
    linter = find(settings, store, now)
    return None if linter is None else replace(found, linter=linter)


def toolchain(choice: Choice, store: Store, operator: Mapping[str, str], machine: Machine, home: Path) -> Toolchain:
    """Return what the steps get for a choice, all of whose picks are on the PATH or in the store."""
    folders: list[str] = []
    environment: dict[str, str] = {}
    for pick in choice.picks:
        if pick.source is not None:
            folders.append(str(store.bin(pick.source.package, pick.version.text)))
        environment |= variables(pick.tool, pick.version, operator)
        if pick.tool == "node" and pick.source is not None:
            # npm's "global" folder is the one that Node is in: a build's own, instead of one that all builds share.
            environment["npm_config_prefix"] = str(home / GLOBAL)
            folders.append(str(home / GLOBAL / "bin"))
            if (config := global_config(machine.find("node"))) is not None:
                environment["npm_config_globalconfig"] = config
    return Toolchain(
        path=folders,
        environment=environment,
        said=[pick.said() for pick in choice.picks],
        remarks=choice.remarks,
        tools=[_tool(pick, store) for pick in choice.picks],
    )


def _tool(pick: Pick, store: Store) -> Tool:
    version = str(pick.version)
    if pick.source is None:
        return Tool(name=pick.tool, version=version)
    entry = store.entry(pick.source.package, pick.version.text)
    digests = {} if entry is None else entry.digests
    return Tool(name=pick.tool, version=version, uri=package_name("npm", pick.source.package, version), digests=digests)
