"""The package for Node, packages/node: its own tests on each Node that is here, and what is shipped of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import npm_environment
from tests.node import need_node, node_folders
from twistedipc import __version__
from twistedipc.builds.attempt import ToolSettings
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.machine import Machine, this_kind
from twistedipc.toolchains.wanted import Wanted

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "packages/node"
DESCRIPTION: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text("utf-8"))

DEADLINE = 120


@pytest.fixture(params=[*node_folders()] or [0], ids=lambda version: f"node{version}")
def node(request: pytest.FixtureRequest) -> Path:
    """The program: each that is here, in turn."""
    return (node_folders()[request.param] if request.param else need_node()) / "node"


def test_its_own_tests(node: Path) -> None:
    run_its_tests(node)


def run_its_tests(node: Path) -> None:
    tests = sorted(str(path) for path in (PACKAGE / "test").glob("*.test.cjs"))
    done = subprocess.run([str(node), "--test", *tests], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long  # it fetches them from the registry, as builds' tools are
@pytest.mark.parametrize("version", ["20.15", "22"])
def test_its_own_tests_on_other_versions(version: str, tmp_path: Path) -> None:
    """The oldest that it says it needs, and one between: a machine has one or two of its own."""
    npm = need_node() / "npm"
    found = subprocess.run([npm, "config", "get", "registry"], capture_output=True, check=True, text=True)
    settings = ToolSettings(folder=str(tmp_path / "tools"), registry=found.stdout.strip())
    machine, clock = Machine(this_kind(), os.defpath), lambda: time.time_ns() // 1_000_000
    fetching = Fetching(settings, npm_environment(), os.defpath, machine, tmp_path, say=print, now=clock)
    path = fetching.prepare(Wanted(manager="npm", node=version)).path
    other = shutil.which("node", path=os.pathsep.join(path))
    assert other is not None
    said = subprocess.run([other, "--version"], capture_output=True, check=True, text=True).stdout
    assert said.startswith(f"v{version}.")
    run_its_tests(Path(other))


def test_both_ways_of_importing_give_the_same(node: Path) -> None:
    program = """
        import { createRequire } from 'node:module';
        const require = createRequire(import.meta.url);
        for (const name of ['twistedipc']) {
          const [module, required] = [await import(name), require(name)];
          for (const each of new Set([...Object.keys(module), ...Object.keys(required)])) {
            if (module[each] !== required[each]) throw new Error(`${name}: ${each} differs`);
          }
        }
    """
    # A package may import itself by its name.
    command = [str(node), "--input-type=module", "--eval", program]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_publishes_it_by_accident_and_it_needs_nothing() -> None:
    assert DESCRIPTION["private"] is True
    assert "dependencies" not in DESCRIPTION
    assert DESCRIPTION["version"] == __version__
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
