"""The programs of docs/ipc.md are run as they stand there, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node import need_node, node_folders
from tests.ports import free_port

_DOCS = Path(__file__).parent.parent / "docs"
_TEXT = (_DOCS / "ipc.md").read_text("utf-8")

#: Each program by the name on its first line.
PROGRAMS = {name: text for text, name in re.findall(r"^```\w+\n((?:#|//) (\S+\.\w+)\n.*?)^```$", _TEXT, re.M | re.S)}

DEADLINE = 180

Start = Callable[..., subprocess.Popen[str]]


def _path(first: Path | None = None) -> str:
    """PATH with this folder, if it is given, and this environment's Python first."""
    folders = [*([first] if first else []), Path(sys.executable).parent]
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


@pytest.fixture(params=[*node_folders()] or [0], ids=lambda version: f"node{version}")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but node in it: each that is here, in turn."""
    if not request.param:
        need_node()
    folder = tmp_path_factory.mktemp("node")
    (folder / "node").symlink_to(node_folders()[request.param] / "node")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts one of the page's programs, in a folder that holds them all."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    with contextlib.ExitStack() as programs:

        def start(program: str, node: Path | None = None) -> subprocess.Popen[str]:
            environment = os.environ | {"PATH": _path(node)}
            command = [sys.executable, "-u", program] if program.endswith(".py") else ["node", program]
            process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment)
            programs.callback(process.wait)
            programs.callback(process.kill)
            assert process.stdout is not None
            programs.callback(process.stdout.close)
            return process

        yield start


def said(process: subprocess.Popen[str]) -> str:
    """What a program has printed when it has ended, as it should."""
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    return output


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_every_program_is_run_here() -> None:
    """A program that is new on the page needs a test below."""
    run = "answers.py asks.py answers_securely.py asks_securely.py shop.py collector.py".split()
    run += ["asks.mjs", "spawns_node.py", "answers.mjs"]
    run += "spawns.py plain.py client.cjs lines.cjs asks_lines.py hovers.py starts_node.py forks.mjs".split()
    run += "asks_on_asyncio.py answers_on_asyncio.py asks_in_threads.py".split()
    run += ["twisted/plugins/calculator_plugin.py", "calculator_tap.py"]
    run += "finds_primes.py asks_for_primes.py accepts.py keeps.py brings.py".split()
    run += ["answers_both.py", "asks_both.py"]
    used_by_those = "calculator.py counter.py events.py primes.py shelf.py hover.py language_server.py".split()
    used_by_those += "script.mjs forked.py child.py".split()
    assert sorted(PROGRAMS) == sorted([*run, *used_by_those, "test_calculator.py"])


def test_all_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _TEXT):
        if ":" in target:
            continue  # another site
        name, _, anchor = target.partition("#")
        path = _DOCS / (name or "ipc.md")
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M) if anchor else [""]
        assert anchor in {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
            target
        )


@pytest.mark.parametrize("program", ["answers.py", "accepts.py"])
def test_the_calculator(start: Start, program: str) -> None:
    # In the order that is harder: the call waits for a link.
    asks = start("asks.py")
    answers = start(program)
    assert said(asks) == "Sum(value=5)\n"
    assert re.fullmatch(r"calculator-client\.\d+ says thank you\n", line(answers))


def test_the_calculator_on_asyncio(start: Start) -> None:
    asks = start("asks_on_asyncio.py")
    answers = start("answers_on_asyncio.py")
    assert said(asks) == "Sum(value=5)\n"
    assert re.fullmatch(r"calculator-client\.\d+ says thank you\n", line(answers))


def test_a_command_of_twistd(start: Start, tmp_path: Path) -> None:
    (command,) = re.findall(r"^twistd .+$", _TEXT, re.M)
    environment = os.environ | {"PATH": _path(), "PYTHONPATH": str(tmp_path)}

    def run(command: str) -> subprocess.Popen[str]:
        words = command.split()
        return subprocess.Popen(words, cwd=tmp_path, stdout=-1, stderr=subprocess.STDOUT, text=True, env=environment)

    asks = start("asks.py")
    with run(command) as twistd:
        try:
            assert said(asks) == "Sum(value=5)\n"
        finally:
            twistd.terminate()
        log, _ = twistd.communicate(timeout=DEADLINE)
        assert "Main loop terminated" in log
        assert "says thank you" in log
    # What keeps it from starting is said, and nothing else.
    for wrong in ("unix:no/such/folder/socket", "tcp:8700", "nowhere"):
        with run(command.replace("unix:calculator.sock", wrong)) as twistd:
            log, _ = twistd.communicate(timeout=DEADLINE)
        assert twistd.returncode == 1
        assert "Traceback" not in log
        assert f"[stderr#error] '{wrong}': " in log.splitlines()[-1], log


def test_several_services(start: Start) -> None:
    asks = start("asks_both.py")
    answers = start("answers_both.py")
    assert said(asks) == "5\n"
    assert line(answers) == "clerk counts\n"


def test_the_calculator_in_threads(start: Start) -> None:
    asks = start("asks_in_threads.py")
    start("answers.py")
    assert said(asks) == "Sum(value=5)\n"


def test_a_streamed_reply(start: Start) -> None:
    asks = start("asks_for_primes.py")
    start("finds_primes.py")
    assert said(asks).split() == ["10007", "10009", "10037", "10039", "10061"]


def test_large_bodies(start: Start) -> None:
    brings = start("brings.py")
    start("keeps.py")
    assert said(brings).split() == ["1088890", "1088890", "1088890"]


def test_the_calculator_between_machines(start: Start, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    commands = re.findall(r"^```sh\n(.*?)^```$", _TEXT, re.M | re.S)[0]
    environment = os.environ | {"PATH": _path()}
    subprocess.run(["/bin/sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, env=environment)
    port = free_port()
    for name in ("answers_securely.py", "asks_securely.py"):
        program = tmp_path / name
        program.write_text(program.read_text("utf-8").replace("8701", str(port)), "utf-8")
    start("answers_securely.py")
    assert said(start("asks_securely.py")) == "Sum(value=5)\n"


def test_the_stream(start: Start, tmp_path: Path) -> None:
    killed = start("shop.py")
    assert [line(killed) for _ in range(3)] == ["1\n", "2\n", "3\n"]
    killed.kill()
    killed.wait(DEADLINE)
    shop = start("shop.py")
    start("collector.py")
    assert said(shop) == "4\n5\n6\n"
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as database:
        rows = database.execute("select number, what, price from events order by rowid").fetchall()
    assert rows == [(number, "sold", (3, 5, 8)[(number - 1) % 3]) for number in range(1, 7)]


def test_a_process_of_ones_own(start: Start) -> None:
    assert said(start("spawns.py")) == "Sum(value=5)\nhas exited with the code 0\n"


def test_a_tool_without_the_library(start: Start, tmp_path: Path, node: Path) -> None:
    start("plain.py")
    deadline = time.monotonic() + DEADLINE
    while not (tmp_path / "plain.sock").is_socket() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said(start("client.cjs", node)) == "5\n"


def test_a_server_of_plain_lines(start: Start, node: Path) -> None:
    asks = start("asks_lines.py")
    start("lines.cjs", node)
    assert said(asks) == "Sum(value=5)\n"


def test_a_language_server(start: Start) -> None:
    assert said(start("hovers.py")) == "Contents(contents='let y = 2;')\n-32050 there is no such line\n"


def test_node_as_a_child(start: Start, node: Path) -> None:
    """Node 20 crashed in the script as it stood: the exit's code was 1, ten times of ten."""
    assert said(start("starts_node.py", node)) == "{'you said': {'hello': 'world'}}\nhas exited with the code 0\n"


def test_node_as_the_parent(start: Start, node: Path) -> None:
    assert said(start("forks.mjs", node)) == "ready\n"


def test_the_users_test(start: Start, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "test_calculator"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert "PASSED (successes=2)" in done.stdout, done.stdout + done.stderr


def test_the_package_for_node(start: Start, tmp_path: Path, node: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/twistedipc").symlink_to(_DOCS.parent / "packages/node")
    start("answers.py")
    assert said(start("asks.mjs", node)) == "{ value: 5 }\n"
    assert said(start("spawns_node.py", node)) == "Sum(value=5)\n"
