"""
The examples, each as a user would run it: from a copy of its folder, by the commands of its README. And the log shipper
with its processes killed again and again.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node import need_node

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

#: Seconds for anything that is waited for.
DEADLINE = 180.0


def copy_of(name: str, folder: Path) -> Path:
    return shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def commands(name: str) -> str:
    """What the README says to run: its indented lines."""
    lines = re.findall(r"^    (.*)$", (EXAMPLES / name / "README.md").read_text("utf-8"), re.MULTILINE)
    assert lines
    return "\n".join(lines)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.002)


class Session:
    """A shell that runs an example's commands; what it starts belongs to its process group, and is ended with it."""

    def __init__(self, script: str, folder: Path, programs: list[Path]) -> None:
        self._output = folder / "output"
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        with self._output.open("wb") as output:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", script],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PATH": path},
                start_new_session=True,
            )

    def output(self) -> list[str]:
        """Whole lines of all that was printed."""
        return self._output.read_text("utf-8").splitlines()

    def wait(self) -> None:
        """Wait for the shell itself: what it left in the background goes on."""
        assert self._shell.wait(DEADLINE) == 0, self.output()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait(DEADLINE)


@contextlib.contextmanager
def run(name: str, folder: Path, *programs: Path) -> Iterator[Session]:
    session = Session(commands(name), copy_of(name, folder), [Path(sys.executable).parent, *programs])
    try:
        yield session
    finally:
        session.end()


def test_calculator(tmp_path: Path) -> None:
    with run("calculator", tmp_path) as session:
        session.wait()
        # The last word of the client, which doesn't wait for it to be read.
        wait_until(lambda: "client-1: thank you" in session.output(), "the service's output")
        assert sorted(session.output()) == [
            "1 / 0: can't divide by zero (code division, data {'dividend': 1.0})",
            "2 + 3 = 5.0",
            "cancelled",
            "client-1: thank you",
            "listening",
            "nobody waits for 1000 seconds of thought any more",
            "nobody waits for 2000 seconds of thought any more",
            "too slow: no reply to think in time",
        ]


def test_a_node_parent_with_a_python_child(tmp_path: Path) -> None:
    node = need_node()
    with run("node_parent", tmp_path, node) as session:
        session.wait()
        assert session.output() == [
            '"to be or not to be" has 6 words',
            '"ünïcödé 🙂" has 2 words',
            '"" has 0 words',
            "the child ended with 0",
        ]


def test_a_python_parent_with_a_node_child(tmp_path: Path) -> None:
    node = need_node()
    with run("node_child", tmp_path, node) as session:
        session.wait()
        assert session.output() == [
            "6 * 7 = 42",
            "[3, 1, 2].sort() = [1, 2, 3]",
            "'ü'.repeat(3) = üüü",
            "nonsense() = ReferenceError: nonsense is not defined",
            "has exited with the code 0",
        ]


def test_node_and_python_by_plain_lines(tmp_path: Path) -> None:
    # As `npm install` would make it.
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "twistedipc").symlink_to(EXAMPLES.parent / "packages" / "node")
    with run("node_lines", tmp_path, need_node()) as session:
        session.wait()
        # How often the client had to try depends on which of the two was faster.
        assert [line for line in session.output() if not line.startswith("not yet: ")] == [
            "Hello Ada 😀, from Python",
            "Hello Ada 😀, from Node",
            "Hello Ada 😀, from the package",
            "Hello Ada 😀, from the pair",
        ]


def kept(database: Path) -> list[tuple[int, str]]:
    """The lines that the collector keeps, in the order in which they came, each with its number."""
    if not database.exists():
        return []
    with contextlib.closing(sqlite3.connect(database, timeout=DEADLINE)) as connection:
        if not connection.execute("select 1 from sqlite_master where name = 'lines'").fetchone():
            return []
        assert connection.execute("select count(distinct id) from lines").fetchone()[0] <= 1
        return connection.execute("select number, text from lines order by rowid").fetchall()


def highest(database: Path) -> int:
    return len(kept(database))


def test_log_shipper(tmp_path: Path) -> None:
    with run("log_shipper", tmp_path) as session:
        session.wait()
        database = tmp_path / "log_shipper" / "lines.sqlite"
        wait_until(lambda: highest(database) == 1000, "a thousand lines")
        assert kept(database) == [(number, f"line {number}") for number in range(1, 1001)]
        assert session.output() == ["listening"]


class Program:
    """One of the log shipper's two, which is killed and started again."""

    def __init__(self, folder: Path, *command: str) -> None:
        self._folder = folder
        self._command = command
        self._errors = (folder / f"{command[0]}.errors").open("ab")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *self._command], cwd=self._folder, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def kill(self) -> None:
        """SIGKILL; it must have lived until then."""
        assert self._process.poll() is None, Path(self._errors.name).read_text("utf-8")
        self._process.kill()
        self._process.wait(DEADLINE)


@pytest.mark.parametrize("rounds", [3, pytest.param(15, marks=pytest.mark.long)])
def test_the_log_shipper_survives_kills(tmp_path: Path, rounds: int) -> None:
    """Every line arrives once, in order, although both processes are killed at random moments, many times."""
    chance = random.Random(rounds)
    folder = copy_of("log_shipper", tmp_path)
    log, database = folder / "app.log", folder / "lines.sqlite"
    collector = Program(folder, "collector.py", "collector.sock", "lines.sqlite")
    shipper = Program(folder, "shipper.py", "collector.sock", "app.log", "outbox", "web-1")
    lines: list[str] = []
    killed = 0

    def append(count: int) -> None:
        """Write so many lines, cut into pieces anyhow."""
        new = [f"{number} {chance.randbytes(chance.randint(0, 100)).hex()} ü" for number in range(count)]
        data = "".join(f"{line}\n" for line in new).encode()
        with log.open("ab", buffering=0) as file:
            while data:
                size = chance.randint(1, 20_000)
                file.write(data[:size])
                data = data[size:]
        lines.extend(new)

    try:
        for _ in range(rounds):
            append(chance.randint(1, 3000))
            victims = chance.choice([[shipper], [collector], [shipper, collector]])
            if chance.random() < 0.3:
                # While it starts, or in its first moments.
                deadline = time.monotonic() + chance.uniform(0.0, 0.5)
                wait_until(lambda: time.monotonic() >= deadline, "a moment")  # noqa: B023  (called at once)
            else:
                have = highest(database)
                assert have <= len(lines), "lines came twice"
                wanted = chance.randint(have, len(lines))
                wait_until(lambda: highest(database) >= wanted, f"line {wanted}")  # noqa: B023
            for victim in victims:
                victim.kill()
                killed += 1
            append(chance.randint(0, 1000))  # while nobody looks
            for victim in victims:
                victim.start()
        append(1)
        wait_until(lambda: highest(database) >= len(lines), f"all {len(lines)} lines")
    finally:
        shipper.kill()
        collector.kill()
    assert kept(database) == list(enumerate(lines, 1))
    assert killed >= rounds
