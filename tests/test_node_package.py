"""The package for Node, packages/node: its own tests on each Node that is here, and what is shipped of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.node import need_node, node_folders
from twistedipc import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "packages/node"
DESCRIPTION: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text("utf-8"))

DEADLINE = 120


@pytest.fixture(params=[*node_folders()] or [0], ids=lambda version: f"node{version}")
def node(request: pytest.FixtureRequest) -> Path:
    """The program: each that is here, in turn."""
    return (node_folders()[request.param] if request.param else need_node()) / "node"


def test_its_own_tests(node: Path) -> None:
    tests = sorted(str(path) for path in (PACKAGE / "test").glob("*.test.cjs"))
    done = subprocess.run([str(node), "--test", *tests], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
