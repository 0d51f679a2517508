"""The migrations make what the tables say, and run from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import CheckConstraint, Connection, create_engine, insert, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.storage_fixtures import NOW, add_build, add_project, as_of_0007, database, run
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import Annotation, Lines, Progress, Record, StepEnded, StepStarted, Summary, encoder
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.storage import attempts, builds, logs, projects, tables
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.migrations.versions import r0037_builders_publish
from twistedipc.storage.migrations.versions.r0003_bound_secrets import down_revision as BEFORE_0003
from twistedipc.storage.migrations.versions.r0004_newest import down_revision as BEFORE_0004
from twistedipc.storage.rows import GistRow, Holder
from twistedipc.storage.tables import deliveries, metadata


def test_migrations_and_tables_agree(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


@pytest.mark.sqlite
def test_what_alembic_does_not_compare_agrees_too(tmp_path: Path) -> None:
    """Partial indexes' conditions, and AUTOINCREMENT: as SQLite has them written down."""
    with database(tmp_path) as connection:
        migrated = _statements(connection)
        del migrated["alembic_version"]
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.sqlite'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        direct = _statements(connection)
    engine.dispose()
    assert migrated.keys() == direct.keys()
    for name, sql in migrated.items():
        assert _words(sql) == _words(direct[name])


def _statements(connection: Connection) -> dict[str, str]:
    found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"))
    return {row.name: row.sql for row in found}


def _words(sql: str) -> list[str]:
    """A statement's clauses in any order: what Alembic and SQLAlchemy write down differs only in that."""
    return sorted(sql.replace('"', "").replace(",", " ").replace("(", " ( ").replace(")", " ) ").split())


def test_upgrading_again_changes_nothing(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        before = inspect(connection).get_table_names()
        upgrade(connection)
        assert inspect(connection).get_table_names() == before


@pytest.mark.sqlite
def test_what_builds_have_said_is_read_from_their_logs(tmp_path: Path) -> None:
    """A database of the first schema: its logs tell what the table that came later is to hold."""
    progress, error = Progress(0.5, "half\0"), Annotation("error", "no")
    told: dict[str, list[Record]] = {
        "1-1": ["a", StepStarted(0, "x", ""), progress, error, Annotation("warning", "x"), Summary("1"), Summary("2")],
        "2-1": [progress, StepEnded(0, "succeeded", 1, 0), error],
        "3-1": ["plain", '{"type":"annotation","level":"error","message":"of a line"}', StepStarted(0, "x", "")],
    }
    with database(tmp_path) as connection:
        add_project(connection)
        for attempt, records in told.items():
            add_build(connection)
            run(connection, attempt, lease=attempt)
            for number, record in enumerate(records, 1):
                data = encoder.encode(Lines(number, NOW, 0, [record])) + b"\n"
                logs.append(connection, [ChunkItem(attempt=attempt, first=number, count=1, data=data)])
        connection.execute(text("DROP TABLE said"))
        _without_what_came_later(connection)
        _without_columns_of_0004(connection)
        _without_columns_of_0003(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        upgrade(connection)
        said = {
            row.name: (row.gist, row.summary) for number in (1, 2, 3) for row in builds.attempts(connection, number)
        }
        assert said == {
            "1-1": (GistRow(progress=Progress(0.5, "half\ufffd"), errors=1, warnings=1), "2"),
            "2-1": (GistRow(errors=1), ""),
            "3-1": (GistRow(), ""),
        }
        assert connection.execute(text("SELECT count(*) FROM said")).scalar_one() == 2


def _without_columns_of_0003(connection: Connection) -> None:
    for table, column in (("secrets", "bound_to"), ("attempts", "target"), ("audit", "address")):
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))


@pytest.mark.sqlite
def test_secrets_that_there_are_stay_good_for_what_their_projects_say(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        add_project(connection)
        projects.set_secret(connection, "shop", "npm_token", b"sealed", NOW)
        before = connection.execute(text("SELECT max(version_num) FROM alembic_version")).scalar_one()
        _without_what_came_later(connection)
        _without_columns_of_0004(connection)
        _without_columns_of_0003(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": BEFORE_0003})
        upgrade(connection)
        assert connection.execute(text("SELECT max(version_num) FROM alembic_version")).scalar_one() == before
        assert projects.sealed_secret(connection, "shop", "npm_token") == b"sealed"


@pytest.mark.sqlite
def test_when_refs_were_resolved_is_filled_in(tmp_path: Path) -> None:
    """A database of before: an attempt that repeats another counts as that one."""
    with database(tmp_path) as connection:
        add_project(connection)
        for name, commit in (("1-1", "a"), ("1-2", "a"), ("2-1", "b"), ("3-1", "")):
            build, number = name.split("-")
            if number == "1":
                add_build(connection)
            else:
                builds.retry(connection, int(build), "ann", NOW + 50)
            offered = NOW + int(build) * 10 + int(number)
            assert attempts.offer(connection, name, name, "one", offered)
            assert attempts.accept(connection, name, Holder(name, "one"))
            result = Result(outcome="failed", lines=0, sha256="", started=NOW, ended=NOW, commit=commit)
            assert attempts.finish(connection, name, Holder(name, "one"), result, True, NOW + 99)
        _without_what_came_later(connection)
        _without_columns_of_0004(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": BEFORE_0004})
        upgrade(connection)
        found = {row.name: row.resolved for build in (1, 2, 3) for row in builds.attempts(connection, build)}
        assert found == {"1-1": NOW + 11, "1-2": NOW + 11, "2-1": NOW + 21, "3-1": None}
        project, build_row = projects.get(connection, "shop"), builds.get(connection, 1)
        assert project is not None
        assert project.hold is None
        assert build_row is not None
        assert build_row.live is False


def _without_columns_of_0004(connection: Connection) -> None:
    for column in ("projects.hold", "builds.live", "attempts.resolved", "attempts.live"):
        table, _, name = column.partition(".")
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {name}"))


def test_what_was_published_by_builders_still_is(tmp_path: Path) -> None:
    """A database of before the apiserver published by default: what is there says who publishes, as it was."""
    npm: dict[str, Any] = {"type": "npm", "registry": "https://r.example/"}
    static: dict[str, Any] = {"type": "static"}
    stored: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
        ([static], [static]),
        ([static, npm], [static, npm | {"publish_at": "builder"}]),
        ([npm | {"paused": True}], [npm | {"paused": True, "publish_at": "builder"}]),
        ([npm | {"publish_at": ""}], [npm | {"publish_at": "builder"}]),
        ([npm | {"publish_at": "apiserver"}], [npm | {"publish_at": "apiserver"}]),
        ([npm | {"publish_at": "builder", "more": [1]}], [npm | {"publish_at": "builder", "more": [1]}]),
        ([{"type": "shelf", "publish_at": ""}], [{"type": "shelf", "publish_at": ""}]),
    ]
    with database(tmp_path) as connection:
        for number, (before, _after) in enumerate(stored):
            project = add_project(connection, f"p{number}")
            build = add_build(connection, project.name)
            values: dict[str, Any] = {"targets": json.dumps(before), "name": project.name}
            connection.execute(text("UPDATE projects SET targets = :targets WHERE name = :name"), values)
            for number_of, settings in enumerate(before):
                row = {"build_id": build.id, "number": 1, "target": str(number_of), "lease": "a" * 16}
                connection.execute(insert(deliveries).values(**row, settings=json.dumps(settings)))
        # This revision alone: the schema is a later one's.
        with Operations.context(MigrationContext.configure(connection)):
            r0037_builders_publish.upgrade()
        found = connection.execute(select(tables.projects.c.targets).order_by(tables.projects.c.id)).scalars()
        assert [json.loads(each) for each in found] == [after for _before, after in stored]
        offered = connection.execute(select(deliveries.c.settings).order_by(deliveries.c.build_id, deliveries.c.target))
        assert [json.loads(each) for each in offered.scalars()] == [each for _before, after in stored for each in after]
        assert [TARGETS.stored(project.targets) != () for project in projects.list_all(connection, None)] == [
            False, False, False, False, True, False, False,
        ]  # fmt: skip


def test_the_schema_is_postgresqls_as_well() -> None:
    """The schema compiles in that dialect, with the same partial indexes and no check that only one database knows."""
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        assert not [constraint for constraint in table.constraints if isinstance(constraint, CheckConstraint)]
        for index in table.indexes:
            statement = str(CreateIndex(index).compile(dialect=dialect))
            assert ("WHERE" in statement) == bool(index.dialect_options["sqlite"]["where"] is not None)


def _without_what_came_later(connection: Connection) -> None:
    as_of_0007(connection)
    connection.execute(text("DROP TABLE permits"))
    connection.execute(text("DROP TABLE owner"))
    connection.execute(text("ALTER TABLE projects DROP COLUMN on_lost"))
