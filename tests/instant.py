"""
A ledger without threads: the real queries on a real SQLite in memory (or on a PostgreSQL: ``databases``), each done at
once. For tests on a `Clock`.

It can be told to fail, as a locked database or a full disk would make it.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import StaticPool
from twisted.internet.defer import Deferred, fail, succeed

from tests import databases
from tests.storage_fixtures import like_others
from twistedipc.builds.attempt import Publish
from twistedipc.publish.targets.registry import ProjectTargets, from_flat
from twistedipc.storage import builds, projects
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor
from twistedipc.storage.tables import metadata

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False)


@cache
def _template() -> sqlite3.Connection:
    """Return a ledger with nothing in it: to make its tables takes longer than most tests."""
    connection = _connect()
    metadata.create_all(create_engine("sqlite://", poolclass=StaticPool, creator=lambda: connection))
    return connection


_numbers = itertools.count(1)


def _engine() -> Engine:
    """Return an engine with a database of its own."""
    if databases.ON_POSTGRESQL:
        address = databases.new_database(f"instant_{next(_numbers)}")
        return create_engine(address, isolation_level="READ COMMITTED", pool_size=1)
    connection = _connect()
    _template().backup(connection)
    return like_others(StaticPool(lambda: cast(Any, connection)))


class InstantLedger:
    """Runs each query at once, in the caller's thread."""

    def __init__(self) -> None:
        self.engine = _engine()
        self.available = True
        self.held: list[Deferred[None]] | None = None  # a list: writes wait in it, until they are let go
        self.unheard = 0  # so many writes are done, and said to have failed: the answer is lost
        self.read_count = self.writes = 0

    def read(
        self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """As `Ledger.read`."""
        self.read_count += 1
        return self._run(query, *args, **kwargs)

    def write(
        self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """As `Ledger.write`."""
        self.writes += 1
        if self.unheard:
            self.unheard -= 1
            lost = LedgerUnavailable("the connection was lost during the commit")
            return self._run(query, *args, **kwargs).addCallback(lambda _: fail(lost))
        if self.held is None:
            return self._run(query, *args, **kwargs)
        go: Deferred[None] = Deferred()
        self.held.append(go)
        return go.addCallback(lambda _: self._run(query, *args, **kwargs))

    def let_go(self) -> None:
        """Do the writes that wait."""
        waiting, self.held = self.held or [], None
        for go in waiting:
            go.callback(None)

    def _run(self, query: Callable[..., _T], *args: Any, **kwargs: Any) -> Deferred[_T]:
        if not self.available:
            return fail(LedgerUnavailable("the database is locked"))
        try:
            with self.engine.begin() as connection:
                return succeed(query(connection, *args, **kwargs))
        except BaseException as error:
            return fail(error)

    def as_ledger(self) -> Ledger:
        """Return this as a `Ledger`: it has the methods that are called."""
        return cast(Ledger, self)

    def now(self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a query for the test itself."""
        with self.engine.begin() as connection:
            return query(connection, *args, **kwargs)

    def project(
        self, project: str = "hello", *, publish: Publish | None = None, targets: ProjectTargets | None = None
    ) -> None:
        """Make the project if there is none."""
        if self.now(projects.get, project) is None:
            self.now(
                projects.create,
                name=project,
                repository="https://git.example/hello.git",
                default_ref="main",
                targets=from_flat(publish or Publish()) if targets is None else targets,
                environment={},
                timeout=60.0,
                idle_timeout=30.0,
                now=1,
            )

    def queue(
        self,
        project: str = "hello",
        *,
        publish: Publish | None = None,
        targets: ProjectTargets | None = None,
        ref: str = "main",
    ) -> str:
        """Make the project if there is none, and queue a build of it; the attempt's name."""
        self.project(project, publish=publish, targets=targets)
        build, _created = self.now(
            builds.create,
            project=project,
            ref=ref,
            publish=True,
            parameters={},
            by=Actor(who="test"),
            now=1,
            idempotency=None,
        )
        return f"{build.id}-1"
