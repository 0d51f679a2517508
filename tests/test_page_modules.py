"""The page's modules that need no browser, under Node: each file in tests/page is a test of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.node import need_node

TESTS = Path(__file__).parent / "page"
STATIC = Path(__file__).parent.parent / "twistedipc" / "web" / "page" / "static"


@pytest.mark.parametrize("name", sorted(path.stem for path in TESTS.glob("*.mjs")))
def test_of_the_page(name: str, tmp_path: Path) -> None:
    """It imports a copy of the page's files, since Node takes a .js for a module only where a package says so."""
    node = need_node() / "node"
    shutil.copytree(STATIC, tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    test = tmp_path / f"{name}.mjs"
    shutil.copy(TESTS / test.name, test)
    done = subprocess.run([node, "--test", test], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
