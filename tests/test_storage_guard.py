"""One apiserver to a database, on SQLite and on a real PostgreSQL; each guard here stands for an apiserver."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, make_url, select, text
from sqlalchemy.exc import DBAPIError

from tests.postgres import DEADLINE, PostgreSQL, running_postgresql
from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerLost, LedgerTaken
from twistedipc.storage.guard import PATIENCE, PAUSE, FolderLock, Guard, is_free
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.tables import owner

NOW = 1_732_300_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of a new database."""
    if request.param == "sqlite":
        (tmp_path / "ledger.sqlite").touch()
        return make_url(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    server: PostgreSQL = request.getfixturevalue("server")
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return make_url(server.url)


class Owners:
    """Makes guards, and lets go of what they have at the end."""

    def __init__(self) -> None:
        self._made: list[tuple[Guard, Engine]] = []

    def make(self, url: URL) -> tuple[Guard, Engine]:
        """A guard, and an engine of the same apiserver."""
        engine = engine_for(url, writes=True, busy_timeout=1, clock=time)
        made = Guard(url, engine, lambda: NOW), engine
        self._made.append(made)
        return made

    def start(self, url: URL) -> tuple[Guard, Engine]:
        """An apiserver that has the database."""
        guard, engine = self.make(url)
        guard.acquire(0)
        with engine.connect() as connection, connection.begin():
            upgrade(connection)
            guard.own(connection)
        return guard, engine

    def end(self) -> None:
        """All end."""
        for guard, engine in self._made:
            engine.dispose()
            guard.release()


@pytest.fixture
def owners() -> Iterator[Owners]:
    """For one test."""
    owners = Owners()
    try:
        yield owners
    finally:
        owners.end()


def write(guard: Guard, engine: Engine) -> None:
    """Write as the ledger does."""
    with engine.connect() as connection, connection.begin():
        guard.check(connection)
        connection.execute(text("UPDATE owner SET pid = pid"))


def test_a_second_one_is_refused_by_a_sentence(url: URL, owners: Owners) -> None:
    """The start of a second apiserver made the running builds of the first `disconnected`, and later `lost`."""
    guard, engine = owners.start(url)
    second, _ = owners.make(url)
    with pytest.raises(LedgerTaken) as refused:
        second.acquire(0.1)
    assert str(refused.value) == (
        f"another apiserver has this database: process {os.getpid()} on {socket.gethostname()}, since "
        "2024-11-22 18:26:40 UTC. Stop that one first, or give this one a database and a data folder of its own"
    )
    write(guard, engine)
    guard.watch()
    assert guard.lost == ""


def test_a_successor_starts_at_once(url: URL, owners: Owners) -> None:
    """Whether it ended well or was killed: its lock ends with it."""
    first, engine = owners.start(url)
    engine.dispose()
    first.release()
    second, engine = owners.start(url)
    write(second, engine)
    with engine.connect() as connection:
        assert connection.execute(select(owner.c.epoch)).scalar() == 2


def test_one_that_has_lost_the_database_writes_nothing_more(url: URL, owners: Owners) -> None:
    """However it lost its lock: its transactions find another's epoch."""
    first, engine = owners.start(url)
    write(first, engine)
    if url.get_backend_name() == "sqlite":
        path = Path(str(url.database))
        path.rename(path.with_suffix(".old"))
        path.touch()
        reason = "has been replaced by another file"
    else:
        first.release()
        reason = f"another apiserver has this database: process {os.getpid()}"
    owners.start(url)
    if url.get_backend_name() == "sqlite":
        first.watch()
    with pytest.raises(LedgerLost, match=reason):
        write(first, engine)
    first.watch()
    assert reason in first.lost


def test_every_way_to_a_file_is_the_same_database(tmp_path: Path, owners: Owners) -> None:
    """Links, and a folder's other name."""
    path = tmp_path / "real" / "ledger.sqlite"
    path.parent.mkdir()
    path.touch()
    owners.start(make_url(f"sqlite:///{path}"))
    (tmp_path / "link").symlink_to(path.parent)
    (tmp_path / "soft.sqlite").symlink_to(path)
    (tmp_path / "hard.sqlite").hardlink_to(path)
    for other in ("link/ledger.sqlite", "soft.sqlite", "hard.sqlite", "real/../real/ledger.sqlite"):
        guard, _ = owners.make(make_url(f"sqlite:///{tmp_path / other}"))
        with pytest.raises(LedgerTaken):
            guard.acquire(0)


def test_whether_a_database_is_free(url: URL, owners: Owners) -> None:
    """Asked by a program that would change its schema; asking takes nothing away."""
    assert is_free(url)
    first, engine = owners.start(url)
    assert not is_free(url)
    engine.dispose()
    first.release()
    assert is_free(url)


def test_it_waits_a_little_for_an_apiserver_that_is_ending(url: URL, owners: Owners) -> None:
    first, engine = owners.start(url)
    second, _ = owners.make(url)

    def end() -> None:
        engine.dispose()
        first.release()

    threading.Timer(0.2, end).start()
    second.acquire()


def test_a_restart_of_the_database_ends_no_apiserver(server: PostgreSQL, owners: Owners) -> None:
    """The lock is gone with its connection. Its holder takes it again, if no other apiserver has had it meanwhile."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    url = make_url(server.url)
    first, engine = owners.start(url)
    server.stop()
    first.watch()
    assert first.lost == ""
    server.start()
    engine.dispose()
    write(first, engine)
    first.watch()
    assert first.lost == ""
    assert not is_free(url)


def test_one_whose_lock_was_ended_by_itself_ends(server: PostgreSQL, owners: Owners) -> None:
    """The server runs on, and only the lock's connection is gone: it was taken again, as if nothing had been."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    first, engine = owners.start(make_url(server.url))
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    first.watch()
    assert first.lost == "PostgreSQL has ended the connection that held this database's lock, and runs on"
    with pytest.raises(LedgerLost):
        write(first, engine)


def test_the_apiserver_that_took_a_lost_lock_has_the_database(server: PostgreSQL, owners: Owners) -> None:
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    url = make_url(server.url)
    first, _ = owners.start(url)
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    second, engine = owners.start(url)
    first.watch()
    assert first.lost.startswith("another apiserver has this database")
    write(second, engine)
    engine.dispose()
    second.release()
    # Also when the second has gone already: what the first knows of the database isn't true any more.
    third, third_engine = owners.start(url)
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    fourth, fourth_engine = owners.start(url)
    fourth_engine.dispose()
    fourth.release()
    third.watch()
    assert third.lost.startswith("another apiserver has this database")
    with pytest.raises(LedgerLost):
        write(third, third_engine)


def test_a_transaction_that_is_under_way_ends_before_another_has_the_database(
    server: PostgreSQL, owners: Owners
) -> None:
    """No moment between the look at the epoch and the commit belongs to two."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    url = make_url(server.url)
    first, engine = owners.start(url)
    second, other = owners.make(url)
    owned = threading.Event()
    first.release()
    second.acquire(1)

    def take_over() -> None:
        with other.connect() as connection, connection.begin():
            second.own(connection)
        owned.set()

    with engine.connect() as connection, connection.begin():
        first.check(connection)
        thread = threading.Thread(target=take_over)
        thread.start()
        assert not owned.wait(0.3)
    assert owned.wait(10)
    thread.join()
    with pytest.raises(LedgerLost):
        write(first, engine)


def test_a_successor_does_not_wait_for_one_that_stopped_in_a_transaction(server: PostgreSQL, owners: Owners) -> None:
    """Its machine was cut off after it had looked at the epoch: the row stayed locked, for as long as that lasted."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    url = make_url(server.url)
    first, engine = owners.start(url)
    with engine.connect() as connection:
        connection.begin()
        first.check(connection)
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        started: list[tuple[Guard, Engine]] = []
        thread = threading.Thread(target=lambda: started.append(owners.start(url)), daemon=True)
        thread.start()
        thread.join(DEADLINE)
        assert started
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1"))
    with pytest.raises(LedgerLost):
        write(first, engine)


def test_a_migration_may_compute_for_longer_than_a_transaction_may_idle(server: PostgreSQL) -> None:
    """On a busy machine it was ended in the middle, as if its apiserver had stopped."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = engine_for(make_url(server.url), writes=True, busy_timeout=1, clock=time)
    setting = text("SHOW idle_in_transaction_session_timeout")
    with engine.begin() as connection:
        upgrade(connection)
        assert connection.scalar(setting) == "1min"
    with engine.begin() as connection:
        assert connection.scalar(setting) == "1s"
    engine.dispose()


def test_two_schemas_of_one_database_are_two(server: PostgreSQL, owners: Owners) -> None:
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS one CASCADE; CREATE SCHEMA one")
    owners.start(make_url(server.url))
    owners.start(make_url(server.url + "&options=-csearch_path%3Done"))


class SleepClock:
    """A clock on which time passes only by `sleep`."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_a_data_folder_has_one_apiserver(tmp_path: Path) -> None:
    """With a database each, they would delete one another's releases."""
    clock = SleepClock()
    first, second = FolderLock(tmp_path, clock), FolderLock(tmp_path, clock)
    first.acquire()
    first.acquire()
    assert clock.time == 1000.0
    with pytest.raises(LedgerTaken, match="another apiserver works in the data folder"):
        second.acquire()
    assert clock.time == pytest.approx(1000.0 + PATIENCE, abs=PAUSE)
    first.release()
    second.acquire()
    second.release()
