"""Statements that go to the driver: the same effects and errors as by SQLAlchemy's way, and few Python calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

from tests.storage_fixtures import add_build, add_project, database, run
from tests.test_storage_ledger import LedgerCase
from tests.test_storage_logs import item
from twistedipc.storage import logs
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.prepared import Prepared, _Form, command
from twistedipc.storage.tables import token_projects, tokens

INSERT = insert(token_projects).values(token_id=bindparam("token"), project=bindparam("name"))
RENAME = (
    update(token_projects)
    .where(token_projects.c.project == bindparam("name"), token_projects.c.token_id != 9)
    .values(project=bindparam("new"))
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        # What token_projects refers to.
        connection.execute(
            insert(tokens).values(id=1, name="", secret_sha256="", scopes="", all_projects=False, created=0)
        )
        yield connection


def names(connection: Connection) -> list[str]:
    return list(connection.execute(token_projects.select().order_by(token_projects.c.project)).scalars("project"))


def test_it_runs_for_each_row_and_counts_what_it_changed(connection: Connection) -> None:
    assert Prepared(INSERT).run(connection, [{"token": 1, "name": each, "else": None} for each in "abc"]) == 3
    assert names(connection) == ["a", "b", "c"]
    rename = Prepared(RENAME)
    assert rename.run(connection, [{"name": "a", "new": "x"}, {"name": "none", "new": "y"}]) == 1
    assert rename.run(connection, [{"name": "none", "new": "y"}]) == 0
    assert names(connection) == ["b", "c", "x"]


@pytest.mark.parametrize("row", [{"token": 1, "name": "a"}, {"token": 2, "name": "b"}, {"token": 1, "name": None}])
def test_its_errors_are_those_of_sqlalchemy(connection: Connection, row: dict[str, object]) -> None:
    prepared = Prepared(INSERT)
    prepared.run(connection, [{"token": 1, "name": "a"}])
    with pytest.raises(DBAPIError) as expected, connection.begin_nested():
        connection.execute(INSERT, [row])
    with pytest.raises(DBAPIError) as raised, connection.begin_nested():
        prepared.run(connection, [row])
    assert type(raised.value) is type(expected.value)
    assert str(raised.value.orig) == str(expected.value.orig)
    assert raised.value.__cause__ is raised.value.orig
    assert names(connection) == ["a"]


def test_a_commands_errors_are_those_of_sqlalchemy(connection: Connection) -> None:
    with pytest.raises(DBAPIError) as expected, connection.begin_nested():
        connection.exec_driver_sql("RELEASE SAVEPOINT none")
    with pytest.raises(DBAPIError) as raised, connection.begin_nested():
        command(connection, "RELEASE SAVEPOINT none")
    assert type(raised.value) is type(expected.value)
    assert str(raised.value) == str(expected.value)


@pytest.mark.sqlite
def test_what_a_row_lacks_is_an_error_and_not_null(connection: Connection) -> None:
    with pytest.raises(KeyError, match="token"):
        Prepared(INSERT).run(connection, [{"name": "a"}])
    assert names(connection) == []


def test_for_postgresql_parameters_go_by_name() -> None:
    form = _Form(RENAME, PGDialect_psycopg())
    (row,) = form.parameters([{"name": "a", "new": "x"}])
    assert row == {"name": "a", "new": "x", "token_id_1": 9}
    assert form.text % {name: f"<{name}>" for name in row} == (
        "UPDATE token_projects SET project=<new>::VARCHAR WHERE token_projects.project = <name>::VARCHAR "
        "AND token_projects.token_id != <token_id_1>::BIGINT"
    )
    assert "RETURNING" not in _Form(INSERT.inline(), PGDialect_psycopg()).text


class LedgerTests(LedgerCase):
    """Appends to logs, by a real ledger."""

    async def attempt(self, ledger: Ledger) -> str:
        await ledger.write(add_project)
        attempt = f"{(await ledger.write(add_build)).id}-1"
        await ledger.write(run, attempt)
        return attempt

    async def test_on_a_full_disk_nothing_is_appended_and_later_it_is(self) -> None:
        ledger = await self.open()
        attempt = await self.attempt(ledger)
        other = f"{(await ledger.write(add_build)).id}-1"
        await ledger.write(run, other, "b" * 16)
        pages = await ledger.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
        await ledger.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}").scalar())
        with self.assertRaises(LedgerUnavailable) as refused:
            await ledger.write(logs.append, [item(1, 1, other), item(1, 100, attempt, size=1000)])
        self.assertIn("full", str(refused.exception))
        self.assertIsNotNone(ledger.failing_since)
        for each in (attempt, other):
            self.assertEqual(await ledger.read(logs.bounds, each), (1, 0))
        await ledger.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar())
        await ledger.write(logs.append, [item(1, 1, other), item(1, 100, attempt, size=1000)])
        self.assertIsNone(ledger.failing_since)
        self.assertEqual((await ledger.read(logs.bounds, attempt))[0], 101)

    async def test_a_commit_of_one_logs_records_takes_few_python_calls(self) -> None:
        """What the writer's thread does from inside a commit to inside the next but one; SQLAlchemy's way takes 384."""
        ledger = await self.open()
        attempt = await self.attempt(ledger)
        await ledger.write(logs.append, [item(1, 1, attempt)])
        calls: list[str] = []

        def count(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                calls.append(frame.f_code.co_qualname)

        await ledger.write(lambda _: sys.setprofile(count))
        await ledger.write(logs.append, [item(2, 1, attempt)])
        await ledger.write(lambda _: sys.setprofile(None))
        self.assertLess(len(calls), 170)
