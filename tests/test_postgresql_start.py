"""Opening a ledger on a real PostgreSQL: what keeps it from being there is said in a sentence that tells what to do."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from tests.pgbouncer import running_pgbouncer
from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql
from tests.storage_fixtures import NOW
from twistedipc.cli.ledger import Turns
from twistedipc.storage import postgresql, projects
from twistedipc.storage.apiservers import Identity
from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerUnavailable, LedgerUnreachable, LedgerUnusable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.migrations import is_behind, upgrade

#: The apiserver that opens the ledger.
ME = Identity(name="apiserver", folder="data", files="all", url="", host="here", pid=1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        server.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE ROLE weak LOGIN; CREATE ROLE nologin")
        server.sql("CREATE ROLE stranger LOGIN; CREATE ROLE unwanted LOGIN")
        server.sql("CREATE DATABASE closed")
        server.sql("CREATE DATABASE others ENCODING 'UTF8' TEMPLATE template0")
        server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        server.admit("local all guarded scram-sha-256", "local all unwanted reject", "local all stranger peer")
        yield server


@pytest.fixture
def address(server: PostgreSQL) -> URL:
    """Of a database with nothing in it."""
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return make_url(server.url)


def why_not(url: URL | str) -> LedgerUnavailable:
    """Open a ledger there as an apiserver does. Return what it is refused with."""
    turns = Turns()
    ledger = Ledger(turns, url, now=lambda: NOW, lost=lambda reason: None, identity=ME)
    with pytest.raises(LedgerUnavailable) as refused:
        turns.run(ledger.open())
    return refused.value


def use(url: URL | str, *, alone: bool = True) -> None:
    """Open a ledger there, read and write."""
    turns = Turns()
    lost = (lambda reason: None) if alone else None
    ledger = Ledger(turns, url, now=lambda: NOW, lost=lost, identity=ME if alone else None)

    async def work() -> None:
        await ledger.open()
        try:
            assert await ledger.write(projects.get, "shop") is None
            assert await ledger.read(projects.get, "shop") is None
        finally:
            await ledger.close()

    turns.run(work())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"database": "nowhere"},
            'PostgreSQL has no database "nowhere": make it (CREATE DATABASE "nowhere"), or correct',
        ),
        ({"username": "nobody-here"}, 'PostgreSQL has no user "nobody-here": make it (CREATE ROLE'),
        ({"username": "nologin"}, 'PostgreSQL doesn\'t let the user "nologin" log in: permit it (ALTER ROLE'),
        (
            {"username": "guarded", "password": "wrong"},
            'PostgreSQL refuses the password of the user "guarded": correct',
        ),
        ({"username": "guarded"}, "PostgreSQL asks for a password, and database.url has none: put it there"),
        ({"username": "stranger"}, "PostgreSQL takes the name of the system's user for the database's, and that isn't"),
        ({"username": "unwanted"}, "PostgreSQL's pg_hba.conf rejects"),
        ({"username": "weak", "database": "closed"}, 'PostgreSQL doesn\'t let this user into the database "closed"'),
        ({"username": "weak", "database": "others"}, "the user of database.url may make no tables: make it the owner"),
        ({"username": "weak"}, "the user of database.url may make no tables: make it the owner of the database"),
        (
            {"database": "latin"},
            'the database "latin" keeps text as LATIN1, and the ledger needs UTF8: make it again by',
        ),
    ],
)
def test_what_keeps_it_from_being_used(address: URL, change: dict[str, Any], said: str) -> None:
    refused = why_not(address.set(**change))
    assert isinstance(refused, LedgerUnusable)
    assert said in str(refused)
    assert "right" not in str(refused)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "/nowhere"])
def test_nothing_at_its_address(host: str) -> None:
    refused = why_not(f"postgresql+psycopg://tests@/postgres?host={host}&port={free_port()}")
    assert isinstance(refused, LedgerUnreachable)
    assert "PostgreSQL can't be reached: start it, or correct the host and the port in database.url" in str(refused)


def test_a_server_that_is_too_old(address: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 990000)
    refused = why_not(address)
    assert isinstance(refused, LedgerUnusable)
    assert re.fullmatch(
        r"the server is PostgreSQL \S.*, and the ledger needs 99 or newer: upgrade it, or put .*", str(refused)
    )


def test_a_database_that_may_only_be_read(server: PostgreSQL, address: URL) -> None:
    """As a standby is."""
    server.sql("ALTER ROLE weak SET default_transaction_read_only = on; GRANT ALL ON SCHEMA public TO weak")
    assert "the database can't be written now" in str(why_not(address.set(username="weak")))


def test_its_address_needs_no_name_of_a_driver(address: URL) -> None:
    use(str(address).replace("postgresql+psycopg:", "postgresql:"))


def test_an_owner_of_the_database_needs_no_other_rights(server: PostgreSQL) -> None:
    """What docs/operating.md says to do."""
    server.sql("CREATE ROLE builds LOGIN PASSWORD 'secret'")
    server.sql("CREATE DATABASE builds OWNER builds ENCODING 'UTF8' TEMPLATE template0")
    server.sql("REVOKE ALL ON DATABASE builds FROM PUBLIC")
    use(make_url(server.url).set(username="builds", password="secret", database="builds"))


def test_two_first_starts_at_once(address: URL) -> None:
    """Both would find that the tables are missing, and one of them would fail to make them."""
    ready = threading.Barrier(3)
    ended: list[BaseException | None] = []

    def start() -> None:
        engine = engine_for(address, writes=True, busy_timeout=5, clock=time)
        try:
            with engine.connect() as connection:
                ready.wait(30)
                with connection.begin():
                    upgrade(connection)
            ended.append(None)
        except BaseException as error:
            ended.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert ended == [None] * 3
    with create_engine(address).connect() as connection:
        assert not is_behind(connection)
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_keeps_no_session_is_refused(server: PostgreSQL, address: URL, mode: str) -> None:
    with running_pgbouncer(server, mode) as through:
        refused = why_not(through)
        assert isinstance(refused, LedgerUnusable)
        assert "it leads to a pooler in transaction mode, such as PgBouncer" in str(refused)
        assert "Put the address of PostgreSQL itself into database.url" in str(refused)


def test_a_pooler_that_keeps_sessions_works(server: PostgreSQL, address: URL) -> None:
    with running_pgbouncer(server, "session") as through:
        use(through)
        use(through, alone=False)
