"""
Makes the repository of a row: what the scaffold makes, the row's files over it, a lock file, and one commit.

Scaffolds and managers are run by ``npx``, each of an exact version. All that is kept of what they install is the lock
file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.corpus.rows import VERSIONS, Row
from tests.integration.platform import git

#: Seconds for a scaffold, or for the making of a lock file.
_DEADLINE = 300.0

#: manager -> (the package that is the manager, the arguments that make its lock file, what else is said to it)
_LOCKS: Mapping[str, tuple[str, Sequence[str], Mapping[str, str]]] = {
    "npm": ("npm", ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"], {}),
    "pnpm": ("pnpm", ["install", "--lockfile-only", "--ignore-scripts"], {}),
    "yarn 1": ("yarn", ["install", "--ignore-scripts", "--no-progress", "--non-interactive"], {}),
    "yarn 4": ("@yarnpkg/cli-dist", ["install", "--mode=update-lockfile"], {"YARN_ENABLE_IMMUTABLE_INSTALLS": "false"}),
    "bun": ("bun", ["install", "--lockfile-only", "--ignore-scripts"], {}),
}

#: What an install leaves that isn't the project's.
_LEFT = ("node_modules", ".yarn", ".pnp.cjs", ".pnp.loader.mjs")


class NotMade(Exception):
    """The repository couldn't be made. ``str()`` of it is what the scaffold or the manager printed."""


def make(row: Row, folder: Path, cache: Path) -> Path:
    """Make a row's repository in a folder, and return its path. Raises `NotMade`."""
    folder.mkdir(parents=True)
    environment = environment_of(folder, cache)
    app = folder / row.scaffold_folder
    if row.scaffold:
        _run(["npx", "-y", *row.scaffold], folder, environment)
    app.mkdir(exist_ok=True)
    for name, content in row.files.items():
        path = app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    _name_manager(row, app)
    if row.lock and row.manager:
        _lock(row, app, environment)
    shutil.rmtree(app / ".git", ignore_errors=True)
    git(app, "init", "-q", "-b", "main")
    git(app, "add", "-A")
    git(app, "commit", "-q", "-m", f"{row.name}, as it was made")
    return app


def npm_registry() -> str:
    """Return the registry that npm uses here."""
    command = ["npm", "config", "get", "registry"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_DEADLINE).stdout.strip()


def environment_of(folder: Path, cache: Path) -> dict[str, str]:
    """Return the environment in which scaffolds and managers run: a home of their own, and the registry of npm."""
    registry = npm_registry()
    return {
        **os.environ,
        "CI": "true",
        "HOME": str(folder),
        "npm_config_cache": str(cache),
        "npm_config_registry": registry,
        "YARN_REGISTRY": registry,
        "YARN_NPM_REGISTRY_SERVER": registry.rstrip("/"),
        "YARN_ENABLE_TELEMETRY": "0",
        "NEXT_TELEMETRY_DISABLED": "1",
        "NG_CLI_ANALYTICS": "false",
    }


def _name_manager(row: Row, app: Path) -> None:
    """Say the manager and its version as Corepack has it, where a lock file alone doesn't tell them."""
    path = app / "package.json"
    if row.manager in ("", "npm") or not path.exists():
        return
    package = json.loads(path.read_text())
    package.setdefault("packageManager", f"{row.manager.partition(' ')[0]}@{VERSIONS[row.manager]}")
    path.write_text(json.dumps(package, indent=2) + "\n")


def _lock(row: Row, app: Path, environment: Mapping[str, str]) -> None:
    package, arguments, more = _LOCKS[row.manager]
    command = ["npx", "-y", f"--package={package}@{VERSIONS[row.manager]}", row.manager.partition(" ")[0]]
    _run([*command, *arguments], app, {**environment, **more})
    for left in _LEFT:
        path = app / left
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_DEADLINE,
    )
    if done.returncode != 0:
        raise NotMade(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
