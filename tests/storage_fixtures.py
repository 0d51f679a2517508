"""What the tests of ``storage`` share: a real database file with the real schema, and things to put into it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool, Pool

from tests import databases
from twistedipc.builds.attempt import Publish
from twistedipc.builds.origin import Origin
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, from_flat, to_flat
from twistedipc.storage import attempts, builds, projects
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import Actor, AttemptRow, BuildRow, Holder, ProjectRow

LEASE = "0123456789abcdef"

#: Who has an attempt that builder "one" has.
HOLDER = Holder(LEASE, "one")
NOW = 1_732_300_000_000


@cache
def _migrated() -> bytes:
    """Return the file of a new ledger, as the migrations make it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.sqlite"
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")  # as the apiserver makes it
            upgrade(connection)
        engine.dispose()
        return path.read_bytes()


def new_ledger(folder: Path) -> Path:
    """Make a new ledger's file in ``folder``: a copy of one that the migrations made, which take a while."""
    path = folder / "ledger.sqlite"
    path.touch(0o600)
    path.write_bytes(_migrated())
    return path


def ledger_address(folder: Path) -> URL:
    """Make a new ledger that belongs to ``folder``. Return its address."""
    if databases.ON_POSTGRESQL:
        return databases.database_of(folder)
    return make_url(f"sqlite:///{new_ledger(folder)}")


@contextlib.contextmanager
def database(folder: Path) -> Iterator[Connection]:
    """
    A connection, in a transaction, to the ledger of ``folder``, which is brought up to date; if there is none, a new
    one is made.
    """
    if databases.ON_POSTGRESQL:
        engine = create_engine(databases.database_of(folder), poolclass=NullPool)
        with engine.begin() as connection:
            yield connection
        return
    path = folder / "ledger.sqlite"
    is_old = path.exists()
    if not is_old:
        new_ledger(folder)
    engine = like_others(NullPool(partial(_connect, path)))

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with engine.connect() as connection, connection.begin():
        if is_old:
            upgrade(connection)
        yield connection


def _connect(path: Path) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


#: Queries as all engines of this process have compiled them: to compile one takes ten times as long as to run it.
_compiled: dict[Any, Any] = {}


@cache
def _model() -> Engine:
    engine = create_engine("sqlite://")
    engine.connect().close()  # it asks what the database can
    return engine


def like_others(pool: Pool) -> Engine:
    """Return an engine for SQLite with these connections, which knows what other engines have compiled."""
    model = _model()
    return Engine(pool, model.dialect, model.url).execution_options(compiled_cache=_compiled)


def add_project(
    connection: Connection,
    name: str = "shop",
    publish: Publish | None = None,
    targets: ProjectTargets | None = None,
) -> ProjectRow:
    return projects.create(
        connection,
        name=name,
        repository=f"https://example.org/{name}.git",
        default_ref="main",
        targets=from_flat(publish or Publish(static=True)) if targets is None else targets,
        environment={"MODE": "live"},
        timeout=600.0,
        idle_timeout=60.0,
        now=NOW,
    )


def add_build(
    connection: Connection,
    project: str = "shop",
    now: int = NOW,
    publish: bool = True,
    ref: str = "main",
    live: bool = False,
    may_publish: bool = True,
    bump: str = "",
    origin: Origin | None = None,
) -> BuildRow:
    build, created = builds.create(
        connection,
        project=project,
        ref=ref,
        publish=publish,
        live=live,
        may_publish=may_publish,
        bump=bump,
        parameters={"COLOUR": "blue"},
        by=Actor(who="ann"),
        now=now,
        idempotency=None,
        origin=origin,
    )
    assert created
    return build


def run(connection: Connection, attempt: str, lease: str = LEASE, builder: str = "one") -> AttemptRow:
    """Bring a queued attempt to running."""
    assert attempts.offer(connection, attempt, lease, builder, NOW)
    assert attempts.accept(connection, attempt, Holder(lease, builder))
    row = attempts.started(connection, attempt, Holder(lease, builder), NOW + 5, NOW + 5)
    assert row is not None
    return row


def _before_the_audits_actors(connection: Connection) -> None:
    for name in ("no_update", "no_delete", "no_replace"):
        connection.execute(text(f"DROP TRIGGER audit_{name}"))
    connection.execute(text("DROP INDEX ix_audit_project_id"))
    for column in ("kind", "token", "request", "project", "person", "person_name"):
        connection.execute(text(f"ALTER TABLE audit DROP COLUMN {column}"))


def _before_builders_keys(connection: Connection) -> None:
    """Remove builders' keys, and what projects are bound to."""
    connection.execute(text("DROP TABLE builder_keys"))
    connection.execute(text("DROP TABLE builders"))
    connection.execute(text("ALTER TABLE projects DROP COLUMN runs_on"))


def as_of_0051(connection: Connection) -> None:
    """Make the schema what it was before an apiserver had a name of its own for builders."""
    connection.execute(text("ALTER TABLE apiservers DROP COLUMN link"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0051'"))


def as_of_0050(connection: Connection) -> None:
    """Make the schema what it was before the queue had an order of its own."""
    as_of_0051(connection)
    for index in ("queue", "lane"):
        connection.execute(text(f"DROP INDEX ix_builds_{index}"))
    for table, column in (("projects", "queue"), ("builds", "priority"), ("builds", "due")):
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0050'"))


def as_of_0044(connection: Connection) -> None:
    """Make the schema what it was before anything was removed because of its age."""
    as_of_0050(connection)
    for index in ("with_log", "with_archive", "not_lasting", "succeeded"):
        connection.execute(text(f"DROP INDEX ix_builds_{index}"))
    for index in ("artifacts_sha256", "hook_deliveries_build_id", "hook_refs_build_id", "idempotency_build_id",
                  "previews_release_id"):  # fmt: skip
        connection.execute(text(f"DROP INDEX ix_{index}"))
    for table, column in (("projects", "retention"), ("builds", "pinned"), ("builds", "has_log"),
                          ("builds", "has_archive"), ("builds", "lasting"), ("attempts", "log_removed"),
                          ("attempts", "log_rule")):  # fmt: skip
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    connection.execute(text("DROP TRIGGER audit_no_delete"))
    connection.execute(
        text(
            "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END"
        )
    )
    for table in ("audit_kept", "removed_files", "log_archive", "apiservers", "builder_links", "duties", "changes"):
        connection.execute(text(f"DROP TABLE {table}"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0044'"))


def as_of_0038(connection: Connection) -> None:
    """Make the schema what it was before there were previews."""
    as_of_0044(connection)
    for table in ("sealed_chunks", "outlines", "poll_refs", "polls", "domains", "preview_passwords", "schedules"):
        connection.execute(text(f"DROP TABLE {table}"))
    connection.execute(text("DROP TABLE previews"))
    connection.execute(text("ALTER TABLE attempts DROP COLUMN inputs"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0038'"))


def as_of_0011(connection: Connection) -> None:
    """Make the schema what it was before projects had credentials for their repositories."""
    as_of_0038(connection)
    for table, column in (
        ("projects", "caches"),
        ("projects", "environments"),
        ("attempts", "environment"),
        ("builds", "bump"),
        ("builds", "origin"),
        ("builds", "in_turn"),
    ):
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    connection.execute(text("DROP INDEX ix_builds_project_id_lane_id"))
    connection.execute(text("ALTER TABLE builds DROP COLUMN lane"))
    for table in (
        "outbox",
        "receivers",
        "hook_deliveries",
        "hook_refs",
        "hooks",
        "publications",
        "publication_steps",
        "package_locks",
        "package_requests",
        "moved_tags",
    ):
        connection.execute(text(f"DROP TABLE {table}"))
    connection.execute(text("ALTER TABLE attempts DROP COLUMN tools"))
    for table in ("members", "identities", "invitations", "people"):
        connection.execute(text(f"DROP TABLE {table}"))
    for index in ("uq_tokens_name", "ix_tokens_person"):
        connection.execute(text(f"DROP INDEX {index}"))
    for column in ("service", "address", "agent", "person", "session"):
        connection.execute(text(f"ALTER TABLE tokens DROP COLUMN {column}"))
    for table, column in (("projects", "approval"), ("attempts", "asker"), ("attempts", "asker_person"),
                          ("attempts", "author_email"),
                          ("attempts", "decision")):  # fmt: skip
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    _before_builders_keys(connection)
    for table, column in (("projects", "protected"), ("attempts", "may_publish"), ("attempts", "preview"),
                          ("attempts", "protected")):  # fmt: skip
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    _before_the_audits_actors(connection)
    for column in ("recognised", "used", "egress", "isolation", "linted"):
        connection.execute(text(f"ALTER TABLE attempts DROP COLUMN {column}"))
    connection.execute(text("DROP TABLE repository_access"))
    connection.execute(text("ALTER TABLE projects DROP COLUMN head"))
    connection.execute(text("DROP TABLE statements"))
    connection.execute(text("ALTER TABLE attempts DROP COLUMN repository"))


def as_of_0010(connection: Connection) -> None:
    """Make the schema what it was before builds had secrets."""
    as_of_0011(connection)
    connection.execute(text("DROP TABLE build_secrets"))
    for column in ("of_contexts", "registries"):
        connection.execute(text(f"ALTER TABLE projects DROP COLUMN {column}"))


def as_of_0009(connection: Connection) -> None:
    """Make the schema what it was before releases had targets."""
    connection.execute(text("DROP INDEX uq_releases_attempt"))
    connection.execute(text("DROP INDEX uq_releases_live"))
    connection.execute(text("ALTER TABLE releases DROP COLUMN target"))
    connection.execute(text("CREATE UNIQUE INDEX uq_releases_attempt ON releases (build_id, number)"))
    connection.execute(text("CREATE UNIQUE INDEX uq_releases_live ON releases (project_id) WHERE state = 'live'"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0009'"))


def as_of_0007(connection: Connection) -> None:
    """Make the schema what it was before there were targets, with the same projects and permits in it."""
    as_of_0010(connection)
    as_of_0009(connection)
    connection.execute(text("ALTER TABLE projects DROP COLUMN settings"))
    connection.execute(text("ALTER TABLE projects RENAME COLUMN targets TO publish"))
    for project, targets in connection.execute(text("SELECT id, publish FROM projects")).all():
        flat = msgspec.json.encode(to_flat(TARGETS.read(msgspec.json.decode(targets)))).decode()
        connection.execute(text("UPDATE projects SET publish = :flat WHERE id = :id"), {"flat": flat, "id": project})
    connection.execute(text("ALTER TABLE attempts ADD COLUMN target TEXT"))
    connection.execute(
        text(
            "CREATE TABLE permits (build_id BIGINT NOT NULL, number INTEGER NOT NULL, lease TEXT NOT NULL,"
            " registry TEXT NOT NULL, package TEXT, given BIGINT, PRIMARY KEY (build_id, number))"
        )
    )
    for row in connection.execute(text("SELECT * FROM deliveries")).all():
        values = dict(row._mapping)
        values["registry"] = msgspec.json.decode(values["settings"]).get("registry", "")
        connection.execute(
            text("INSERT INTO permits VALUES (:build_id, :number, :lease, :registry, :package, :given)"), values
        )
        connection.execute(
            text("UPDATE attempts SET target = :bound_to WHERE build_id = :build_id AND number = :number"), values
        )
    connection.execute(text("DROP TABLE deliveries"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0007'"))
