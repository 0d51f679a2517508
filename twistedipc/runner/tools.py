"""
The Node and the package managers of an attempt's steps: what its project asks for -> PATH and variables. Used by
``course``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.attempt import Spec
from twistedipc.builds.settings import BuildSettings
from twistedipc.runner.aliases import without_colon
from twistedipc.toolchains.choose import Wanted
from twistedipc.toolchains.machine import Machine, this_kind
from twistedipc.toolchains.ready import Toolchain, ready

#: The files by which the step ``toolchain`` is told what is wanted, and tells what there is.
WANTED = "tools-wanted.json"
FOUND = "toolchain.json"


class Tools:
    """
    The tools of one attempt.

    :param now: milliseconds since the epoch
    """

    def __init__(self, folder: Path, spec: Spec, wanted: Wanted, *, now: Callable[[], int]) -> None:
        self._folder = folder
        self._spec = spec
        self.wanted = wanted
        self._now = now

    def ready(self) -> Toolchain | None:
        """
        Return what the steps get; None if the step ``toolchain`` has to look it up or fetch it. Raises `ToolProblem`.
        """
        spec = self._spec
        machine = Machine(this_kind(), spec.path)
        if spec.tools is None or (self._asks_for_nothing() and machine.find("node") and machine.find("npm")):
            return Toolchain()
        home = self._folder / "home"
        try:
            return ready(self.wanted, spec.tools, spec.environment, machine, home=home, now=self._now)
        except OSError:
            return None  # the step waits for the disk, if that is full

    def _asks_for_nothing(self) -> bool:
        """Whether what is on the PATH will do, whichever version it has."""
        wanted, tools = self.wanted, self._spec.tools
        asks = wanted.node or wanted.version or wanted.manager not in ("", "npm")
        return not asks and tools is not None and not tools.node and not tools.forbid


def wanted_by(settings: BuildSettings, *, has_package: bool) -> Wanted:
    """Return what a project asks for; one with a package.json needs Node and npm at least."""
    name, _, version = settings.manager.partition("@")
    return Wanted(manager=name or ("npm" if has_package else ""), version=version, node=settings.node)


def usable(toolchain: Toolchain) -> Toolchain:
    """Return the same with folders that can stand on a PATH. Raises OSError."""
    folders = [str(without_colon(Path(folder))) if os.path.isdir(folder) else folder for folder in toolchain.path]
    return replace(toolchain, path=folders)
