"""A history of builds that SQL makes: rows of builds with attempts, steps, archives and sealed logs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, make_url, text

from tests.retention_world import add_project
from twistedipc.builds.retention import DAY, Own
from twistedipc.storage.engines import engine_for

PROJECTS = 40
DAYS = 3 * 365

#: How many builds one statement makes.
_AT_ONCE = 20_000

_MADE = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
_STATEMENTS = (
    "INSERT INTO builds (id, project_id, ref, publish, parameters, requested_by, created, attempt, state) "
    "SELECT i, 1 + i % :projects, CASE i % 7 WHEN 0 THEN 'main' ELSE 'fix-' || (i / 700) END, 1, '{}', 'ann', "
    ":now - CAST((:total - i) * :span / :total AS INTEGER), 1, CASE i % 5 WHEN 0 THEN 'failed' ELSE 'succeeded' END "
    "FROM n",
    "INSERT INTO attempts (build_id, number, state, reason, requested_by, lease, builder, cancel_reason, created, "
    "ended, commit_id, subject, author, next_record, log_bytes, lines, sha256, complete, published) "
    "SELECT id, 1, state, '', 'ann', '', 'one', '', created, created, 'c', 's', 'a', 20001, 4 * :log, 20000, 'd', 1, "
    "'[]' FROM builds WHERE id BETWEEN :first AND :last",
    "INSERT INTO steps (build_id, number, step, name, command, outcome, started, ended) "
    "SELECT id, 1, s, 'build', 'npm run build', 'succeeded', created, created FROM builds, "
    "(SELECT 0 AS s UNION SELECT 1 UNION SELECT 2) WHERE id BETWEEN :first AND :last",
    "INSERT INTO said (build_id, number, label, errors, warnings, notices, summary) "
    "SELECT id, 1, '', 0, 1, 0, '' FROM builds WHERE id BETWEEN :first AND :last",
    "INSERT INTO artifacts (build_id, number, size, sha256, complete, created) "
    "SELECT id, 1, :archive, printf('%02x%062x', id % 256, id), 1, created FROM builds "
    "WHERE id BETWEEN :first AND :last",
    "INSERT INTO sealed_chunks (build_id, number, first_record, records, plain, began, ended, damaged, size, grams, "
    "data) SELECT id, 1, 1, 20000, 4 * :log, created, created, 0, :log, x'00', zeroblob(:log) FROM builds "
    "WHERE id BETWEEN :first AND :last",
)


@dataclass(frozen=True)
class Shape:
    """How much a history has, and the rules of its projects. It takes `DAYS`."""

    builds: int
    log_bytes: int  # of each sealed log
    archive_bytes: int = 5_000_000
    rules: Own = Own()  # noqa: RUF009 (it can't be changed)


def engine_of(path: Path) -> Engine:
    """Return what writes into a ledger, as the apiserver would."""
    return engine_for(make_url(f"sqlite:///{path}"), writes=True, busy_timeout=5, clock=time)


def fill(engine: Engine, shape: Shape, now: int) -> None:
    """Fill a new ledger with a history that ends ``now``, in milliseconds."""
    with engine.begin() as connection:
        for project in range(1, PROJECTS + 1):
            add_project(connection, project, shape.rules)
    for first in range(1, shape.builds + 1, _AT_ONCE):
        last = min(shape.builds, first + _AT_ONCE - 1)
        values = {"first": first, "last": last, "total": shape.builds, "projects": PROJECTS, "now": now,
                  "span": DAYS * DAY, "log": shape.log_bytes, "archive": shape.archive_bytes}  # fmt: skip
        with engine.begin() as connection:
            for number, statement in enumerate(_STATEMENTS):
                made = statement.replace(" SELECT i,", f" {_MADE}SELECT i,", 1) if number == 0 else statement
                connection.execute(text(made), values)


def archive_of(build: int) -> str:
    """Return the SHA-256 that a build's archive is said to have."""
    return f"{build % 256:02x}{build:062x}"
