"""Several apiservers as real processes on one real PostgreSQL, and one builder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import BARE, Platform, Service, toml, wait_for
from tests.integration.test_crashpoints import OF_SEVERAL, lines_of
from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql
from twistedipc.attempts.crashpoints import CrashPoint

#: A build that goes on until it is told to end.
SCRIPT = (
    "i=1; while [ $i -le 30 ] || [ ! -e go ]; do echo line $i; i=$((i+1)); sleep 0.02; done; "
    "mkdir -p dist && echo done > dist/index.html"
)
LONG = {".twistedipc.toml": f"[build]\nsteps = ['''{SCRIPT}''']\n"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def database(server: PostgreSQL) -> str:
    """The address of an empty database."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server.url


class Second:
    """Another apiserver on a platform's database, which shares its files and dials its builder."""

    def __init__(self, platform: Platform, database: str) -> None:
        self.port, self.releases_port = free_port(), free_port()
        path = platform.folder / "second.toml"
        path.write_text(
            toml(
                {
                    "data": "second-data",
                    "cluster": {"name": "second", "shared": "apiserver-data"},
                    "http": {"listen": f"tcp:{self.port}:interface=127.0.0.1", "local_repositories": True},
                    "releases": {"listen": f"tcp:{self.releases_port}:interface=127.0.0.1"},
                    "link": {"dial": ["unix:link.sock"]},
                    "database": {"url": database},
                }
            )
        )
        self.service = Service("apiserver", path)

    def ask(self, platform: Platform) -> None:
        """From now on the platform's requests go here."""
        platform.port, platform.releases_port = self.port, self.releases_port
        platform.url = f"http://127.0.0.1:{self.port}"


def wait_until_it_says(service: Service, what: str) -> None:
    """Wait for words in a service's log."""
    wait_for(f"{service.config.stem} says {what}", lambda: what in service.text())


def test_a_build_goes_on_where_its_apiserver_was_killed(tmp_path: Path, database: str) -> None:
    """Another one gets the builder, and no line is lost or doubled; what is built is released there."""
    with Platform(tmp_path, isolation=BARE, database=database) as platform:
        platform.apiserver.crashes = True
        second = Second(platform, database)
        second.service.start()
        try:
            wait_until_it_says(second.service, "serving ")
            platform.add_project("long", platform.repository(LONG), publish={"static": True})
            build = platform.build("long")
            platform.wait(build, {"running"})
            wait_for("it says something", lambda: "line 10" in platform.log(build))
            assert second.service.exited() is None
            second.ask(platform)
            assert platform.api("GET", f"/api/v1/builds/{build}")["state"] == "running"
            wait_for("what comes is read at the other as well", lambda: "line 20" in platform.log(build))
            platform.apiserver.kill()
            platform.apiserver = second.service
            platform.linked()
            (held,) = (tmp_path / "builder-data" / "attempts").glob("*/work")
            (held / "go").touch()
            platform.succeed(build)
            lines = lines_of(platform, build)
            assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
            assert len(lines) >= 30
            assert platform.released("long") == "done\n"
        finally:
            second.service.end(signal.SIGTERM)


@pytest.mark.long
def test_a_build_goes_on_where_its_apiserver_was_frozen(tmp_path: Path, database: str) -> None:
    """The frozen one still has its link when it wakes, and what the builder had sent: it changes nothing, and ends."""
    with Platform(tmp_path, isolation=BARE, database=database) as platform:
        first = platform.apiserver
        first.crashes = True
        second = Second(platform, database)
        second.service.start()
        try:
            wait_until_it_says(second.service, "serving ")
            platform.add_project("long", platform.repository(LONG), publish={"static": True})
            build = platform.build("long")
            platform.wait(build, {"running"})
            os.kill(first.pid, signal.SIGSTOP)
            platform.apiserver = second.service
            second.ask(platform)
            wait_until_it_says(second.service, "apiserver apiserver-")  # is silent
            platform.linked()  # once the builder finds its link silent
            os.kill(first.pid, signal.SIGCONT)
            wait_for("the first ends", lambda: first.exited() is not None)
            assert first.exited() == 1
            assert "was silent for 10 s, and another goes on with what it had" in first.text()
            (held,) = (tmp_path / "builder-data" / "attempts").glob("*/work")
            (held / "go").touch()
            platform.succeed(build)
            lines = lines_of(platform, build)
            assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
            assert platform.released("long") == "done\n"
        finally:
            first.end(signal.SIGKILL)
            second.service.end(signal.SIGTERM)


class Cable:
    """Leads to the database's socket, until it is cut: then it stays open, and nothing goes through."""

    def __init__(self, folder: Path, socket_of: Path) -> None:
        self._whole = threading.Event()
        self._whole.set()
        self._to = str(socket_of)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / socket_of.name))
        self._listening.listen(50)
        threading.Thread(target=self._take, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through."""
        self._whole.clear()

    def mend(self) -> None:
        """Let everything through again."""
        self._whole.set()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _take(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(self._to)
            for ends in ((here, there), (there, here)):
                threading.Thread(target=self._lead, args=ends, daemon=True).start()

    def _lead(self, from_: socket.socket, to: socket.socket) -> None:
        try:
            while data := from_.recv(65536):
                self._whole.wait()
                to.sendall(data)
        except OSError:
            pass
        for end in (from_, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
def test_a_build_goes_on_where_its_apiserver_is_cut_off_from_the_database(tmp_path: Path, database: str) -> None:
    """It lets its builder go, which links at another; and it ends when it reaches the database again."""
    place = Path(database.split("host=")[1])
    (socket_of,) = (path for path in place.glob(".s.PGSQL.*") if path.suffix != ".lock")
    with tempfile.TemporaryDirectory() as folder:
        cable = Cable(Path(folder), socket_of)
        with Platform(tmp_path, isolation=BARE, database=database.replace(str(place), folder)) as platform:
            first = platform.apiserver
            first.crashes = True
            second = Second(platform, database)
            second.service.start()
            try:
                wait_until_it_says(second.service, "serving ")
                platform.add_project("long", platform.repository(LONG), publish={"static": True})
                build = platform.build("long")
                platform.wait(build, {"running"})
                cable.cut()
                platform.apiserver = second.service
                second.ask(platform)
                wait_until_it_says(first, "builder builder is let go")
                platform.linked()
                assert platform.api("GET", f"/api/v1/builds/{build}")["state"] == "running"
                (held,) = (tmp_path / "builder-data" / "attempts").glob("*/work")
                (held / "go").touch()
                platform.succeed(build)
                lines = lines_of(platform, build)
                assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
                cable.mend()
                wait_for("the first ends", lambda: first.exited() is not None)
                assert first.exited() == 1
            finally:
                cable.mend()
                first.end(signal.SIGKILL)
                second.service.end(signal.SIGTERM)
                cable.close()


@pytest.mark.long
@pytest.mark.parametrize("point", sorted(OF_SEVERAL), ids=lambda point: point.value)
def test_a_crash_at(point: CrashPoint, tmp_path: Path, database: str) -> None:
    """What was taken is taken again after the next start."""
    with Platform(tmp_path, isolation=BARE, database=database) as platform:
        platform.apiserver.crashes = True
        platform.add_project("long", platform.repository(LONG), publish={"static": False})
        build = platform.build("long", publish=False)
        platform.wait(build, {"running"})
        platform.apiserver.kill()
        platform.apiserver.start(crash_at=point.value)
        assert wait_for(f"a crash at {point}", platform.apiserver.exited) == -signal.SIGKILL
        platform.apiserver.start()
        platform.linked()
        (held,) = (tmp_path / "builder-data" / "attempts").glob("*/work")
        (held / "go").touch()
        platform.succeed(build)
        lines = lines_of(platform, build)
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
