"""A ledger that a released version made is migrated, says the same as before, and goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    insert,
    inspect,
    select,
    text,
)

from tests import make_ledger
from tests.postgres import PostgreSQL, running_postgresql
from tests.storage_fixtures import NOW, database
from twistedipc.builds.attempt import Publish, Result
from twistedipc.builds.logs import LogDigest
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.publish.permits import Granted, Refused
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.registry import from_flat
from twistedipc.storage import artifacts, attempts, builds, logs, migrations, permits, projects, releases, tokens
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.tables import metadata

DUMPS = sorted(make_ledger.FOLDER.glob("ledger-*.sql"))
ALL_DUMPS = pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem.removeprefix("ledger-"))

#: The states of 0.1.0, in each of which a build is in every dump.
STATES = {
    AttemptState(name)
    for name in (
        "queued",
        "offered",
        "accepted",
        "running",
        "disconnected",
        "publishing",
        "succeeded",
        "failed",
        "cancelled",
        "timed_out",
        "lost",
    )
}


def restored(dump: Path, folder: Path) -> Path:
    """The folder, with the ledger that the dump is of in it, as `database` finds it."""
    with sqlite3.connect(folder / "ledger.sqlite") as made:
        made.executescript(dump.read_text("utf-8"))
    made.close()
    return folder


def every_attempt(connection: Connection) -> list[AttemptRow]:
    page = builds.list_page(connection, projects=None, states=None, before=None, limit=1000)
    return [attempt for build in page for attempt in builds.attempts(connection, build.id)]


def test_there_are_some() -> None:
    assert "ledger-0.1.0" in [dump.stem for dump in DUMPS]


@ALL_DUMPS
def test_it_becomes_what_the_tables_say(dump: Path, tmp_path: Path) -> None:
    with database(restored(dump, tmp_path)) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One for all tests of this module."""
    with running_postgresql() as server:
        yield server


@ALL_DUMPS
def test_it_is_migrated_alike_on_postgresql(dump: Path, server: PostgreSQL, tmp_path: Path) -> None:
    """The same rows in that version's tables of PostgreSQL become the same rows, and what the tables say."""
    before = create_engine(f"sqlite:///{restored(dump, tmp_path) / 'ledger.sqlite'}")
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = create_engine(server.url)
    with engine.begin() as connection:
        with before.connect() as old:
            version = old.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            config = Config()
            config.set_main_option("script_location", str(Path(migrations.__file__).parent))
            config.attributes["connection"] = connection
            command.upgrade(config, version)
            _copy(old, connection)
        migrations.upgrade(connection)
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        with database(tmp_path) as migrated:
            for table in metadata.sorted_tables:
                assert _rows(connection, table) == _rows(migrated, table), table.name
        assert {release.target for release in releases.list_page(connection, "shop")} == {"static"}
    for each in (before, engine):
        each.dispose()


@ALL_DUMPS
def test_each_migration_on_postgresql_finds_rows_in_every_table(dump: Path, server: PostgreSQL, tmp_path: Path) -> None:
    """Also in the tables that came after that version: each later migration changes them with something in them."""
    before = create_engine(f"sqlite:///{restored(dump, tmp_path) / 'ledger.sqlite'}")
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = create_engine(server.url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection, before.connect() as old:
        config.attributes["connection"] = connection
        version = old.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        command.upgrade(config, version)
        _copy(old, connection)
        revisions = ScriptDirectory.from_config(config).walk_revisions(version, "head")
        known: set[str] = set()
        for revision in reversed([each.revision for each in revisions][:-1]):
            known = _fill_new_tables(connection, known)
            command.upgrade(config, revision)
        assert _fill_new_tables(connection, known) == set(metadata.tables)
        for name in metadata.tables:
            assert connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one(), name
    for each in (before, engine):
        each.dispose()


def _fill_new_tables(connection: Connection, known: set[str]) -> set[str]:
    """Put a row into each table that came since ``known`` and has none. Return the names of all tables."""
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    if names == known:
        return names
    tables = MetaData()
    tables.reflect(connection)
    for table in tables.sorted_tables:
        if table.name in known or table.name not in names or connection.execute(select(table).limit(1)).first():
            continue
        row: dict[str, object] = {column.name: _something(column) for column in table.columns}
        for key in table.foreign_key_constraints:
            there = connection.execute(select(*(each.column for each in key.elements)).limit(1)).first()
            row |= dict(zip(key.column_keys, there or [None] * len(key.elements), strict=True))
        connection.execute(insert(table).values(row))
    return names


def _something(column: Column[Any]) -> object:
    """A value that such a column may have."""
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, LargeBinary):
        return b"x"
    if isinstance(column.type, Text):
        comment = column.comment or ""
        return "[]" if "JSON: list" in comment else "{}" if "JSON" in comment else "x"
    return 1


def _copy(old: Connection, new: Connection) -> None:
    """Write all rows of one database into the tables of another, of the same version."""
    tables = MetaData()
    tables.reflect(new)
    for table in tables.sorted_tables:
        if table.name == "alembic_version":
            continue
        truths = [column.name for column in table.columns if isinstance(column.type, Boolean)]
        for row in old.execute(text(f"SELECT * FROM {table.name} ORDER BY 1")).mappings():
            new.execute(insert(table).values({**row, **{name: bool(row[name]) for name in truths}}))


def _rows(connection: Connection, table: Table) -> list[tuple[object, ...]]:
    return sorted((tuple(row) for row in connection.execute(select(table))), key=repr)


@ALL_DUMPS
def test_all_that_was_in_it_is_read(dump: Path, tmp_path: Path) -> None:
    with database(restored(dump, tmp_path)) as connection:
        assert [project.name for project in projects.list_all(connection, None)] == ["both", "shop", "ui"]
        shop, ui = projects.get(connection, "shop"), projects.get(connection, "ui")
        assert shop is not None
        assert shop.hold is not None
        assert shop.targets == from_flat(Publish(static=True))
        assert ui is not None
        # What said nothing of who publishes says now what that meant.
        assert ui.targets == (NpmSettings(registry=make_ledger.REGISTRY, packages=["@team/*"], publish_at="builder"),)
        assert projects.sealed_secret(connection, "ui", "npm_token") is not None

        found = every_attempt(connection)
        assert {attempt.state for attempt in found} >= STATES
        assert {attempt.reason for attempt in found} >= {"build: exit code 2", "cancelled by ann", "its runner died"}
        (published,) = [attempt for attempt in found if attempt.published]
        assert published.published[0].name == "@team/ui"

        states = {release.id: release.state for release in releases.list_page(connection, "shop")}
        assert states == {1: ReleaseState.SUPERSEDED, 2: ReleaseState.LIVE, 3: ReleaseState.ROLLED_BACK}
        artifact = artifacts.get(connection, "1-1")
        assert artifact is not None
        assert artifact.complete
        assert {token.name: token.scopes for token in tokens.list_all(connection)}["ci"] == {"build", "publish", "read"}


@ALL_DUMPS
def test_its_logs_are_verified(dump: Path, tmp_path: Path) -> None:
    with database(restored(dump, tmp_path)) as connection:
        ended = [attempt for attempt in every_attempt(connection) if attempt.sha256]
        assert len([attempt for attempt in ended if attempt.lines]) >= 4
        for attempt in ended:
            assert logs.verify(connection, attempt.name) == (attempt.lines, attempt.sha256)
        (failed,) = [attempt for attempt in ended if attempt.state is AttemptState.FAILED]
        assert (failed.gist.errors, failed.gist.warnings) == (1, 1)
        assert failed.summary.startswith("## Sizes")


@ALL_DUMPS
def test_builds_that_were_under_way_go_on(dump: Path, tmp_path: Path) -> None:
    """Each to its end, under the lease that its builder has; what waits is offered."""
    ends = Result(
        outcome="failed", reason="no", lines=0, sha256=LogDigest().hexdigest(), started=NOW, ended=NOW, commit=""
    )
    with database(restored(dump, tmp_path)) as connection:
        for attempt in attempts.leased(connection, None):
            if attempt.state is AttemptState.OFFERED:
                assert attempts.accept(connection, attempt.name, attempt.holder)
            assert attempts.finish(connection, attempt.name, attempt.holder, ends, False, NOW + 1000), attempt.name
        waiting = attempts.next_queued(connection, 10)
        assert len(waiting) == 3
        for offer in waiting:
            assert attempts.offer(connection, offer.name, "new", "one", NOW + 1000)
        assert not attempts.next_queued(connection, 10)


@ALL_DUMPS
def test_a_permit_that_was_given_is_good_for_the_same_package_alone(dump: Path, tmp_path: Path) -> None:
    with database(restored(dump, tmp_path)) as connection:
        asks = make_ledger.PUBLISHING, f"lease-{make_ledger.PUBLISHING}", "npm"
        answer = permits.give(connection, *asks, [make_ledger.PACKAGE], "one", NOW + 1000)
        assert isinstance(answer.decision, Granted)
        assert not answer.decision.new
        assert answer.sealed
        other = msgspec.structs.replace(make_ledger.PACKAGE, version="1.0.1")
        assert isinstance(permits.look(connection, *asks, [other], "one"), Refused)


def test_this_version_can_add_its_own(tmp_path: Path) -> None:
    make_ledger.make(tmp_path / "ledger.sql")
    folder = tmp_path / "restored"
    folder.mkdir()
    with database(restored(tmp_path / "ledger.sql", folder)) as connection:
        assert {attempt.state for attempt in every_attempt(connection)} >= STATES
