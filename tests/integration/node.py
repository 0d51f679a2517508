"""What npm and node need in tests on real services: an environment of their own, and npm's registry."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.platform import DEADLINE, npm_environment
from tests.node import need_node, node_path


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
