"""One apiserver to a SQLite database; each guard here stands for an apiserver."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, make_url, select, text

from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerLost, LedgerTaken
from twistedipc.storage.guard import PATIENCE, PAUSE, FolderLock, Guard, is_free
from twistedipc.storage.tables import owner

NOW = 1_732_300_000_000


@pytest.fixture
def url(tmp_path: Path) -> URL:
    """The address of a new database."""
    (tmp_path / "ledger.sqlite").touch()
    return make_url(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


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
        guard.start(engine)
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
    """Its file isn't the database any more."""
    first, engine = owners.start(url)
    write(first, engine)
    path = Path(str(url.database))
    path.rename(path.with_suffix(".old"))
    path.touch()
    reason = "has been replaced by another file"
    owners.start(url)
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
