"""A second apiserver on a database that has one, as real processes, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import BARE, Platform, Service, toml, wait_for
from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql
from twistedipc.storage.apiservers import DEAD_AFTER

SLOW = {".twistedipc.toml": '[build]\nsteps = ["echo begun; until [ -e go ]; do sleep 0.05; done; echo done"]\n'}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def database(request: pytest.FixtureRequest) -> PostgreSQL | None:
    """A server whose database is empty, or None for SQLite."""
    if request.param == "sqlite":
        return None
    server: PostgreSQL = request.getfixturevalue("server")
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server


def second(platform: Platform, name: str, database: PostgreSQL | None) -> Service:
    """Another apiserver on the platform's database, with a folder and ports of its own."""
    ledger = platform.folder / "apiserver-data" / "ledger.sqlite"
    (platform.folder / f"{name}.toml").write_text(
        toml(
            {
                "data": f"{name}-data",
                "http": {"listen": f"tcp:{free_port()}:interface=127.0.0.1"},
                "releases": {"listen": f"tcp:{free_port()}:interface=127.0.0.1"},
                "link": {"name": name, "dial": ["unix:nobody.sock"]},
                "database": {"url": f"sqlite:///{ledger}" if database is None else database.url},
            }
        )
    )
    return Service("apiserver", platform.folder / f"{name}.toml")


def refused(service: Service) -> str:
    """Wait until the service has ended by itself, with 1. Return its output."""
    wait_for("it is refused", lambda: service.exited() is not None)
    assert service.exited() == 1
    return service.text()


def ask(platform: Platform, database: PostgreSQL | None, query: str) -> str:
    """Look into the database itself."""
    if database is not None:
        return database.sql(query)
    path = platform.folder / "apiserver-data" / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return str((connection.execute(query).fetchone() or [""])[0])


def beginning(database: PostgreSQL | None) -> str:
    """Ask when the apiserver has begun that has the database."""
    return f"SELECT started FROM {'owner' if database is None else 'apiservers'}"


def test_a_second_apiserver_is_refused_before_it_touches_anything(tmp_path: Path, database: PostgreSQL | None) -> None:
    """
    Within a second the running build of the first was `disconnected`, and `lost` after `link.lost_after`: by a start
    with another configuration, or with the same one by mistake.
    """
    with Platform(tmp_path, isolation=BARE, database="" if database is None else database.url) as platform:
        platform.add_project("slow", platform.repository(SLOW), publish={"static": False})
        build = platform.build("slow", publish=False)
        platform.wait(build, {"running"})
        started = ask(platform, database, beginning(database))
        twin = Service("apiserver", platform.apiserver.config)
        twin.log = tmp_path / "twin.log"
        for service in (twin, second(platform, "other", database)):
            service.start()
            said = refused(service)
            if database is None:
                assert f"another apiserver has this database: process {platform.apiserver.pid} on " in said
            elif service is twin:
                assert "another apiserver works in the data folder" in said
            else:
                assert f"(process {platform.apiserver.pid} on " in said
                assert "has this database, and its artifacts and releases in another folder" in said
            assert "Stop that one first" in said or "cluster.shared" in said
            assert "Traceback" not in said
        assert ask(platform, database, beginning(database)) == started
        found = platform.api("GET", f"/api/v1/builds/{build}")
        assert found["state"] == "running"
        # What the operator does beside it goes on working.
        platform.make_token("beside", "read")
        (held,) = (tmp_path / "builder-data" / "attempts").glob("*/work")
        (held / "go").touch()
        platform.succeed(build)

        # Its successor doesn't wait for a killed one.
        platform.apiserver.kill()
        begun = time.monotonic()
        platform.apiserver.start()
        platform.linked()
        assert "another apiserver" not in platform.apiserver.text()
        assert time.monotonic() - begun < 90  # a start on a busy machine, and no lease that has to run out


def test_an_apiserver_that_has_lost_its_database_ends(tmp_path: Path, database: PostgreSQL | None) -> None:
    """Two that write into one database would undo what the other does."""
    with Platform(tmp_path, isolation=BARE, database="" if database is None else database.url) as platform:
        platform.apiserver.crashes = True
        other = second(platform, "other", database)
        if database is None:
            folder = tmp_path / "apiserver-data"
            (folder / "ledger.sqlite").rename(folder / "old.sqlite")
        else:
            # Its host was cut off, and another has the database before it is back.
            os.kill(platform.apiserver.pid, signal.SIGSTOP)
            database.sql(f"UPDATE apiservers SET seen = seen - {DEAD_AFTER}")
            try:
                other.start()
                wait_for("the other has the database", lambda: "serving" in other.text())
            finally:
                os.kill(platform.apiserver.pid, signal.SIGCONT)
        try:
            wait_for("it ends", lambda: platform.apiserver.exited() is not None)
            assert platform.apiserver.exited() == 1
            assert "twistd apiserver must end: " in platform.apiserver.text()
            if database is not None:
                assert "was silent for 10 s, and another goes on with what it had" in platform.apiserver.text()
        finally:
            other.kill() if database is not None else None
