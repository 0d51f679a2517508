"""The first programs of docs/ipc.md are run as they stand there, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_TEXT = (Path(__file__).parent.parent / "docs" / "ipc.md").read_text("utf-8")

DEADLINE = 60


def start(folder: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-u", program], cwd=folder, stdout=subprocess.PIPE, text=True)


def test_the_calculator(tmp_path: Path) -> None:
    declared, answers, asks = re.findall(r"^```python\n(.*?)^```$", _TEXT, re.DOTALL | re.MULTILINE)[:3]
    (tmp_path / "calculator.py").write_text(declared)
    (tmp_path / "answers.py").write_text(answers)
    (tmp_path / "asks.py").write_text(asks)
    # In the order that is harder: the call waits for a link.
    with (
        subprocess.Popen([sys.executable, "asks.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as asking,
        subprocess.Popen(
            [sys.executable, "-u", "answers.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as there,
    ):
        try:
            assert asking.communicate(timeout=DEADLINE)[0] == "Sum(value=5)\n"
            assert asking.returncode == 0
            assert there.stdout is not None
            assert re.fullmatch(r"calculator-client\.\d+ says thank you\n", there.stdout.readline())
        finally:
            asking.kill()
            there.kill()
