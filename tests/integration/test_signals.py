"""SIGHUP ends no service: what logrotate sends, and what a terminal sends when it is closed."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.integration.platform import BARE, DEADLINE, Platform, Service, wait_for


def said(file: Path, text: str) -> None:
    """Wait until the file has this text."""
    wait_for(f"{file} says {text!r}", lambda: file.is_file() and text in file.read_text())


def log_file_of(platform: Platform, service: Service, name: str) -> Path:
    """Restart it with a log file of twistd's own."""
    service.stop()
    file = platform.folder / name
    beside = Path(sys.executable).with_name("twistd")
    service.program = [str(beside), "-l", str(file)]
    service.start()
    said(file, "starting up")
    return file


@pytest.mark.long
def test_a_log_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    """Both services ended, without a line, when a log was rotated."""
    with Platform(tmp_path, isolation=BARE) as platform:
        for service, name in ((platform.apiserver, "a.log"), (platform.builder, "b.log")):
            file = log_file_of(platform, service, name)
            platform.linked()
            moved = file.rename(file.with_suffix(".1"))
            os.kill(service.pid, signal.SIGHUP)
            said(file, f"reopened {file}")
            size = moved.stat().st_size
            assert b"reopened" not in moved.read_bytes()
            # A folder that can't be written any more costs no line.
            old = file.rename(file.with_suffix(".2"))
            file.mkdir()
            os.kill(service.pid, signal.SIGHUP)
            said(old, "can't be reopened")
            assert moved.stat().st_size == size
            assert service.exited() is None
        platform.linked()


def test_without_a_log_file_it_goes_on(tmp_path: Path) -> None:
    with Platform(tmp_path, isolation=BARE) as platform:
        for service in (platform.apiserver, platform.builder):
            os.kill(service.pid, signal.SIGHUP)
            said(service.log, "there is no log file")
        platform.linked()


@pytest.mark.long
def test_a_terminal_that_is_closed_ends_nothing(tmp_path: Path) -> None:
    """A service in the foreground of a terminal stays when the terminal is closed; it can log nowhere, then."""
    with Platform(tmp_path, isolation=BARE) as platform, contextlib.ExitStack() as stack:
        platform.builder.crashes = platform.apiserver.crashes = True
        terminals: list[int] = []
        processes: list[subprocess.Popen[bytes]] = []
        for service in (platform.apiserver, platform.builder):
            service.stop()
            ours, theirs = pty.openpty()
            terminals.append(ours)
            beside = Path(sys.executable).with_name("twistd")
            process = subprocess.Popen(
                # In a session of its own, whose terminal this is.
                ["setsid", "--ctty", "--wait", beside, "-n", "--pidfile=", service.name, "--config", service.config],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=tmp_path,
            )
            stack.callback(process.wait, DEADLINE)
            stack.callback(process.terminate)
            processes.append(process)
            os.close(theirs)
            service.program = ["true"]
            service.start()  # only for `platform`, which asks how it is
        platform.linked()
        for terminal in terminals:
            os.close(terminal)
        repository = platform.repository({".twistedipc.toml": '[build]\nsteps = ["true"]\n'})
        platform.add_project("after", repository, publish={"static": False})
        platform.succeed(platform.build("after", publish=False))
        assert [process.poll() for process in processes] == [None, None]
        assert urllib.request.urlopen(f"{platform.url}/healthz", timeout=DEADLINE).status == 200


@pytest.mark.parametrize("name", ["apiserver", "buildipc"])
def test_a_start_is_not_ended_either(tmp_path: Path, name: str) -> None:
    """While the service's modules were imported, a second or more, a SIGHUP ended the process."""
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\nOptions = str\n")
    script = (
        f"from twisted.plugins.twistedipc_plugins import {name} as it\n"
        "it.module = 'slow'\n"
        "print('goes on', it.options())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stdout) == (0, "goes on \n"), done.stderr
