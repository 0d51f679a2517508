"""The first programs of docs/ipc.md are run as they stand there, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.node import need_node

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


def program(holding: str, language: str = "python") -> str:
    """The one program that holds this."""
    programs = re.findall(rf"^```{language}\n(.*?)^```$", _TEXT, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in programs if holding in text]
    return str(found)


def test_a_process_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "calculator.py").write_text(program('CALCULATOR = Interface("calculator"'))
    (tmp_path / "child.py").write_text(program('"stdio:"'))
    (tmp_path / "parent.py").write_text(program("spawn(reactor"))
    done = subprocess.run(
        [sys.executable, "parent.py"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert done.stdout == "Sum(value=5)\nhas exited with the code 0\n"
    assert done.stderr == "adding\n"


def test_a_tool_without_the_library(tmp_path: Path) -> None:
    node = need_node() / "node"
    (tmp_path / "calculator.py").write_text(program('CALCULATOR = Interface("calculator"'))
    service, _, _ = program('"stdio:"').partition("async def main")
    (tmp_path / "service.py").write_text(service)
    (tmp_path / "plain.py").write_text(program("listen_plain(reactor"))
    (tmp_path / "client.js").write_text(program("plain.sock", "javascript"))
    with subprocess.Popen([sys.executable, "-u", "plain.py"], cwd=tmp_path, stdout=subprocess.DEVNULL) as serving:
        try:
            deadline = time.monotonic() + DEADLINE
            while not (tmp_path / "plain.sock").is_socket() and time.monotonic() < deadline:
                time.sleep(0.01)
            done = subprocess.run(
                [node, "client.js"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=True
            )
            assert done.stdout == "5\n"
        finally:
            serving.kill()
