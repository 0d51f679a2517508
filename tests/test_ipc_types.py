"""What mypy says of programs that use the library: of `tests/ipc_types.py`, and of the programs of the docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_ipc_docs import PROGRAMS

_ROOT = Path(__file__).parent.parent
_FILE = _ROOT / "tests" / "ipc_types.py"


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """
    What mypy says of both, strict and as users have it: without the plugin that the library itself is checked with. In
    one run, since what takes its time is Twisted.
    """
    programs = tmp_path_factory.mktemp("programs")
    for name, text in PROGRAMS.items():
        if name.endswith(".py"):
            (programs / name).parent.mkdir(parents=True, exist_ok=True)
            (programs / name).write_text(text, "utf-8")
    config = programs / "mypy.ini"
    # Twisted annotates only part of itself: trial's assertions and `ServiceMaker` aren't.
    options = f"strict = true\ndisallow_untyped_calls = false\nfollow_imports = silent\nmypy_path = {_ROOT}\n"
    config.write_text(f"[mypy]\n{options}")
    cache = f"--cache-dir={_ROOT / '.mypy_cache' / 'docs'}"
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), cache, "--hide-error-context"]
    files = [str(_FILE), *map(str, sorted(programs.rglob("*.py")))]
    run = subprocess.run([*command, *files], cwd=programs, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr + run.stdout
    return [line for line in run.stdout.splitlines() if ": error: " in line or ": note: Revealed" in line]


@pytest.mark.long
def test_the_programs_with_mistakes(complaints: list[str]) -> None:
    said: dict[int, list[str]] = {}
    for line in complaints:
        if (found := re.match(r".*ipc_types\.py:(\d+): error: (.*)", line)) is not None:
            said.setdefault(int(found[1]), []).append(found[2])
    expected = {
        number: line.split("# E: ")[1]
        for number, line in enumerate(_FILE.read_text("utf-8").splitlines(), 1)
        if "  # E: " in line
    }
    assert said.keys() == expected.keys()
    for number, words in expected.items():
        assert any(words in each for each in said[number]), (number, words, said[number])


@pytest.mark.long
def test_the_programs_of_the_docs(complaints: list[str]) -> None:
    assert not [line for line in complaints if "ipc_types.py" not in line]
