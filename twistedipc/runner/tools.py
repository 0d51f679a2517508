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
from twistedipc.builds.lint import Linter
from twistedipc.builds.recognition.recognised import ManagerWanted, Recognised
from twistedipc.runner.aliases import without_colon
from twistedipc.toolchains.wanted import Toolchain, Wanted

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
        if spec.tools is None:
            return Toolchain(linter=Linter(why="this builder brings no tools") if self.wanted.linter else None)
        if self._asks_for_nothing():
            if not self.wanted.linter:
                return Toolchain()
            self.wanted = Wanted(linter=True)
        # Not above: it is half as large as the runner itself, and most attempts don't need it.
        from twistedipc.toolchains.machine import Machine, this_kind
        from twistedipc.toolchains.ready import ready

        machine, home = Machine(this_kind(), spec.path), self._folder / "home"
        try:
            return ready(self.wanted, spec.tools, spec.environment, machine, home=home, now=self._now)
        except OSError:
            return None  # the step waits for the disk, if that is full

    def _asks_for_nothing(self) -> bool:
        """Whether what is on the PATH will do, whichever version it has."""
        wanted, tools = self.wanted, self._spec.tools
        if wanted.node or wanted.version or wanted.manager not in ("", "npm") or tools is None:
            return False
        here = all(_is_on(self._spec.path, name) for name in ("node", "npm"))
        return not wanted.manager or (here and not tools.node and not tools.forbid)


def _is_on(path: str, name: str) -> bool:
    files = [os.path.join(folder or ".", name) for folder in path.split(":")]
    return any(os.path.isfile(file) and os.access(file, os.X_OK) for file in files)


def wanted_by(recognised: Recognised) -> Wanted:
    """Return what a project asks for; one with a package.json needs Node and npm at least."""
    manager = recognised.manager or ManagerWanted(name="")
    return Wanted(
        manager=manager.name,
        version=manager.version,
        integrity=manager.integrity,
        manager_why=_why(recognised, "manager"),
        node=recognised.node,
        node_why=_why(recognised, "node"),
    )


def _why(recognised: Recognised, what: str) -> str:
    """What says that something is wanted: the last finding is the one that counts for its version."""
    found = [finding for finding in recognised.findings if finding.what == what]
    return " ".join(each for each in (found[-1].place, found[-1].why) if each) if found else ""


def usable(toolchain: Toolchain) -> Toolchain:
    """Return the same with folders that can stand on a PATH. Raises OSError."""
    folders = [str(without_colon(Path(folder))) if os.path.isdir(folder) else folder for folder in toolchain.path]
    return replace(toolchain, path=folders)
