"""Apiservers on one real PostgreSQL: each `Presence` here stands for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from tests.postgres import DEADLINE, PostgreSQL, running_postgresql
from twistedipc.storage import apiservers, changes
from twistedipc.storage.apiservers import DEAD_AFTER, Identity, database_now
from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerLost, LedgerTaken
from twistedipc.storage.guard import is_free
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.presence import Beside, Presence


@pytest.fixture(scope="module")
def running() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        yield server


class Clock:
    """Of an apiserver's own: it goes on as that of the database does, and further where that is put forward."""

    later = 0.0

    def monotonic(self) -> float:
        """As that of the module ``time``."""
        return time.monotonic() + self.later

    sleep = staticmethod(time.sleep)


class World:
    """A server, a clock of its database that can be put forward, and the apiservers that were started."""

    def __init__(self, server: PostgreSQL) -> None:
        self.server = server
        self.later = 0
        self.clock = Clock()
        self._made: list[tuple[Presence, Engine]] = []

    def time(self, connection: Connection) -> int:
        """The database's clock."""
        return database_now(connection) + self.later

    def start(
        self, name: str, *, folder: str = "", files: str = "all", link: str = "", options: str = ""
    ) -> tuple[Presence, Engine]:
        """An apiserver that has started."""
        url = make_url(self.server.url + options)
        me = Identity(
            name=name, folder=folder or name, files=files, url="", host="here", pid=len(self._made), link=link
        )
        presence = Presence(url, me, busy_timeout=1, clock=self.clock, database_time=self.time)
        engine = engine_for(url, writes=True, busy_timeout=1, clock=time)
        self._made.append((presence, engine))
        presence.start(engine)
        return presence, engine

    def sleep(self, *awake: Presence) -> None:
        """So much time passes that only those live that say so meanwhile."""
        for _ in range(DEAD_AFTER // 2000 + 1):
            self.later += 2000
            self.clock.later += 2
            for each in awake:
                each.watch()

    def end(self) -> None:
        """All end."""
        for presence, engine in self._made:
            engine.dispose()
            presence.release()


@pytest.fixture
def world(running: PostgreSQL) -> Iterator[World]:
    """The server with nothing in its database."""
    running.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    made = World(running)
    try:
        yield made
    finally:
        made.end()


def write(presence: Presence, engine: Engine) -> None:
    """Write as the ledger does."""
    with engine.connect() as connection, connection.begin():
        presence.check(connection)
        changes.note_write(connection)
        presence.end(connection)


def bury(presence: Presence, engine: Engine, world: World) -> list[str]:
    """Give up those that are silent."""
    assert presence.incarnation is not None
    with engine.connect() as connection, connection.begin():
        presence.check(connection)
        return [each.name for each in apiservers.bury(connection, presence.incarnation, world.time(connection))]


def test_one_of_another_name_starts_beside_the_first(world: World) -> None:
    one, two = world.start("one"), world.start("two")
    for _ in range(2):
        write(*one)
        write(*two)


def test_one_of_the_same_name_has_another_data_folder(world: World) -> None:
    """It is the same configuration by mistake, on another machine."""
    one = world.start("one")
    with pytest.raises(
        LedgerTaken, match=r"another apiserver named one has this database: process 0 on here, .*cluster.name"
    ):
        world.start("one", folder="other")
    write(*one)
    world.sleep()
    write(*world.start("one", folder="other"))
    with pytest.raises(LedgerLost, match="another apiserver has the name one in this database: process 2"):
        write(*one)


def test_all_have_one_folder_for_what_they_serve(world: World) -> None:
    """A release that one has made the other couldn't serve. One that was silent doesn't come back beside another."""
    one = world.start("one")
    with pytest.raises(LedgerTaken, match=r"apiserver one .* artifacts and releases in another folder"):
        world.start("two", files="others")
    world.sleep()
    write(*world.start("two", files="others"))
    with pytest.raises(LedgerLost):
        write(*one)


def test_two_that_live_have_two_names_for_their_builders(world: World) -> None:
    """A builder took the second for the first that links again: each ended the other's link, for ever."""
    one = world.start("one", link="apiserver")
    with pytest.raises(LedgerTaken, match=r"apiserver one .* has the name apiserver for its builders too.*link\.name"):
        world.start("two", link="apiserver")
    world.start("one", link="apiserver")  # its successor
    world.start("three", link="third")
    world.sleep()
    write(*world.start("two", link="apiserver"))
    with pytest.raises(LedgerLost):
        write(*one)


def test_a_start_reads_who_lives_before_it_brings_the_schema_up_to_date(world: World) -> None:
    """With the columns that the first version had that knew of several."""
    world.start("one")[0].release()
    world.server.sql("ALTER TABLE apiservers DROP COLUMN link; UPDATE alembic_version SET version_num = '0051'")
    write(*world.start("two", link="two"))


def test_a_successor_starts_at_once(world: World) -> None:
    """It has the data folder's lock, so the one before has ended, also if it was killed."""
    _, engine = world.start("one")
    engine.dispose()
    write(*world.start("one"))


def test_a_silent_one_is_given_up_once(world: World) -> None:
    one, two, three = world.start("one"), world.start("two"), world.start("three")
    world.sleep(two[0], three[0])
    assert bury(*two, world) == ["one"]
    assert bury(*three, world) == []
    with pytest.raises(LedgerLost, match="apiserver one was silent for 10 s, and another goes on with what it had"):
        write(*one)
    one[0].watch()
    assert one[0].lost.startswith("apiserver one was silent")


def test_one_that_was_silent_itself_gives_nobody_up(world: World) -> None:
    """The database had stopped: all were silent, and the first to be back must not end the others."""
    one, two = world.start("one"), world.start("two")
    world.sleep()
    two[0].watch()
    assert bury(*two, world) == []
    one[0].watch()
    world.sleep(one[0], two[0])
    assert bury(*two, world) == []


def test_one_that_cannot_say_that_it_is_there_knows_that_others_may_have_given_it_up(world: World) -> None:
    one, two = world.start("one"), world.start("two")
    write(*one)
    assert not one[0].cut_off()
    world.sleep(two[0])
    assert one[0].cut_off()
    assert not two[0].cut_off()
    one[0].watch()
    assert not one[0].cut_off()
    two[0].release()
    one[0].watch()
    world.sleep()
    assert not one[0].cut_off()  # there is nobody who could


def test_one_that_has_ended_is_gone_at_once(world: World) -> None:
    one, two = world.start("one"), world.start("two")
    with two[1].connect() as connection:
        assert [row.name for row in apiservers.living(connection)] == ["one", "two"]
    one[0].release()
    with two[1].connect() as connection:
        assert [row.name for row in apiservers.living(connection)] == ["two"]
    write(*two)


def test_a_restart_of_the_database_ends_no_apiserver(world: World) -> None:
    one = world.start("one")
    world.server.stop()
    one[0].watch()
    assert one[0].lost == ""
    world.server.start()
    one[1].dispose()
    one[0].watch()
    write(*one)
    assert one[0].lost == ""


def test_writes_come_one_after_another(world: World) -> None:
    """The functions of the storage look before they write: what they saw must still be so."""
    one, two = world.start("one"), world.start("two")
    written = threading.Event()

    def write_too() -> None:
        write(*two)
        written.set()

    with one[1].connect() as connection, connection.begin():
        one[0].check(connection)
        thread = threading.Thread(target=write_too)
        thread.start()
        assert not written.wait(0.3)
    assert written.wait(DEADLINE)
    thread.join()


def test_nobody_waits_for_one_that_stopped_in_a_transaction(world: World) -> None:
    """Its machine was cut off when it was its turn to write."""
    one, two = world.start("one"), world.start("two")
    with one[1].connect() as connection:
        connection.begin()
        one[0].check(connection)
        write(*two)
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1"))


def test_a_change_is_read_by_the_others_in_the_order_of_the_commits(world: World) -> None:
    one = world.start("one")
    write(*one)
    two = world.start("two")
    with two[1].connect() as connection:
        last = changes.newest(connection)
        assert last == 0  # nobody was there to read it
    write(*one)
    with two[1].connect() as connection, connection.begin():
        Beside().check(connection)
        changes.note_attempt(connection, "1-1")
        changes.note_attempt(connection, "1-1")
        changes.note_write(connection)
        Beside().end(connection)
    with two[1].connect() as connection:
        heard = changes.after(connection, last, "two")
        assert heard.any
        assert list(heard.attempts) == ["1-1"]
        assert not changes.after(connection, heard.last, "two").any
        assert list(changes.after(connection, last, "one").attempts) == ["1-1"]


def test_a_version_that_has_a_database_for_itself_is_neither_joined_nor_let_in(world: World) -> None:
    """It holds a lock of its connection, and looks at nothing else."""
    engine = engine_for(make_url(world.server.url), writes=True, busy_timeout=1, clock=time)
    lock = (
        "SELECT pg_advisory_lock(('x' || left(encode(sha256('twistedipc ledger public'), 'hex'), 16))::bit(64)::bigint)"
    )
    with engine.connect() as connection:
        connection.execute(text(lock))
        connection.commit()
        with pytest.raises(LedgerTaken, match="another apiserver has this database"):
            world.start("one")
        assert not is_free(make_url(world.server.url))
        connection.invalidate()
    engine.dispose()
    world.start("one")


def test_whether_a_database_is_free(world: World) -> None:
    """Asked by a program that would change its schema; asking takes nothing away."""
    url = make_url(world.server.url)
    assert is_free(url)
    one = world.start("one")
    assert not is_free(url)
    write(*one)
    one[0].release()
    assert is_free(url)


def test_no_schema_is_changed_below_one_that_lives(world: World) -> None:
    """Of an older version, which knows the old one."""
    world.start("one")
    world.server.sql("UPDATE alembic_version SET version_num = '0048'; DROP TABLE changes")
    with pytest.raises(LedgerTaken, match="with the schema of an older version: stop all apiservers"):
        world.start("two")


def test_an_older_version_that_was_silent_writes_nothing_on_a_newer_schema(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended, and the others saw nobody who knew the old schema."""
    old = world.start("old")
    world.sleep()
    monkeypatch.setattr("twistedipc.storage.presence.is_behind", lambda connection: True)
    write(*world.start("new"))
    with pytest.raises(LedgerLost, match="apiserver old was silent"):
        write(*old)


def test_a_migration_may_compute_for_longer_than_a_transaction_may_idle(world: World) -> None:
    """On a busy machine it was ended in the middle, as if its apiserver had stopped."""
    engine = engine_for(make_url(world.server.url), writes=True, busy_timeout=1, clock=time)
    setting = text("SHOW idle_in_transaction_session_timeout")
    with engine.begin() as connection:
        upgrade(connection)
        assert connection.scalar(setting) == "1min"
    with engine.begin() as connection:
        assert connection.scalar(setting) == "1s"
    engine.dispose()


def test_two_schemas_of_one_database_are_two(world: World) -> None:
    world.server.sql("DROP SCHEMA IF EXISTS one CASCADE; CREATE SCHEMA one")
    one = world.start("one")
    other = world.start("two", options="&options=-csearch_path%3Done")
    with one[1].connect() as connection, connection.begin():
        one[0].check(connection)
        write(*other)
