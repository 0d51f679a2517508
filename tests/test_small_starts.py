"""What a build waits for starts with what it needs: each import of a process is a part of every build's time."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What is large, and what only another process needs.
LARGE = "dataclasses inspect random tempfile twisted twistedipc.publish.targets.npm.selection".split()


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("twistedipc.runner.course", ()),
        ("twistedipc.runner.checkout.__main__", ("twistedipc.attempts.handover",)),
        ("twistedipc.publish.pack", ("socket", "twistedipc.publish.deliver", "twistedipc.publish.compare")),
    ],
)
def test_a_process_of_a_build_imports_nothing_large(module: str, others: tuple[str, ...]) -> None:
    # As `own_command` has it.
    program = f"import sys; sys.modules['typing_extensions'] = None; import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert {*LARGE, *others}.isdisjoint(done.stdout.split())
