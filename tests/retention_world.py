"""
Histories for the tests of retention: rows as years of use leave them, files beside them, and what removes them over a
`Clock`. ``test_retention`` and the benchmark of histories have it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, insert, select, update
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.instant import InstantLedger
from twistedipc.builds.retention import DAY, Lost, Own, Plan, Rules, Run
from twistedipc.builds.states import TERMINAL, AttemptState, ReleaseState
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.server.linked import Link, LinkedBuilders
from twistedipc.server.project_locks import ProjectLocks
from twistedipc.server.pruning import Pruning
from twistedipc.server.releasing import Releasing
from twistedipc.server.resting import Resting
from twistedipc.server.workflows import Workflows
from twistedipc.storage import tables
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.columns import to_json
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import APISERVER

#: The time of the tests, and how far back a history goes.
NOW = 1_900_000_000_000

REFS = ("main", "fix", "next", "refs/heads/gone")

_T = TypeVar("_T")

_TARGETS = '[{"type":"static"}]'


def add_project(connection: Connection, number: int, own: Own | None = None, *, deleted: bool = False) -> None:
    """Add project ``number``, which is called pNUMBER."""
    connection.execute(
        insert(tables.projects).values(
            id=number,
            name=f"p{number}",
            repository="https://git.example/p.git",
            default_ref="main",
            targets=_TARGETS,
            environment="{}",
            timeout=60.0,
            idle_timeout=30.0,
            created=1,
            updated=1,
            deleted=NOW - 1 if deleted else None,
            retention=None if own is None else to_json(own),
        )
    )


def add_build(
    connection: Connection,
    project: int,
    age: float,
    *,
    ref: str = "main",
    state: AttemptState = AttemptState.SUCCEEDED,
    publish: bool = True,
    attempts: int = 1,
    chunks: int = 2,
    archive: bytes = b"",
    store: ArtifactStore | None = None,
) -> int:
    """
    Add a build that ended ``age`` days ago: the last of its ``attempts`` is in ``state``, those before it failed. Each
    has a log of so many chunks; the last has an archive with this content. Its number.
    """
    ended = NOW - int(age * DAY)
    build: int = connection.execute(
        insert(tables.builds)
        .values(
            project_id=project,
            ref=ref,
            publish=publish,
            parameters="{}",
            requested_by="ann",
            created=ended - 1000,
            attempt=attempts,
            state=state,
        )
        .returning(tables.builds.c.id)
    ).scalar_one()
    for number in range(1, attempts + 1):
        of = {"build_id": build, "number": number}
        over = state if number == attempts else AttemptState.FAILED
        connection.execute(
            insert(tables.attempts).values(
                **of,
                state=over,
                reason="",
                requested_by="ann",
                lease="",
                builder="one",
                cancel_reason="",
                created=ended - 1000,
                ended=ended if over in (AttemptState.SUCCEEDED, AttemptState.FAILED) else None,
                commit_id="c" * 40,
                subject="",
                author="",
                next_record=1 + 10 * chunks,
                log_bytes=100 * chunks,
                lines=10 * chunks,
                sha256="d" * 64,
                complete=True,
                published="[]",
            )
        )
        add_log(connection, build, number, chunks)
        connection.execute(insert(tables.said).values(**of, label="", errors=1, warnings=0, notices=0, summary=""))
        connection.execute(
            insert(tables.steps).values(
                **of, step=0, name="build", command="", outcome="succeeded", started=ended - 10, ended=ended
            )
        )
    if archive:
        add_archive(connection, build, attempts, archive, store)
    return build


def add_log(connection: Connection, build: int, number: int, chunks: int) -> None:
    """Add the chunks of an attempt's log, of ten records and 100 bytes each."""
    for chunk in range(chunks):
        lines = ",".join(f'"{chunk * 10 + line:2}"' for line in range(10))
        data = b'{"type":"lines","first":%d,"time":1,"step":0,"lines":[%s]}\n' % (chunk * 10 + 1, lines.encode())
        connection.execute(
            insert(tables.log_chunks).values(
                build_id=build, number=number, first_record=chunk * 10 + 1, records=10, size=100, data=data
            )
        )


def add_archive(
    connection: Connection, build: int, number: int, content: bytes, store: ArtifactStore | None = None
) -> str:
    """Add an archive of an attempt, and its file if there is a store; its name there."""
    sha256 = hashlib.sha256(content).hexdigest()
    connection.execute(
        insert(tables.artifacts).values(
            build_id=build, number=number, size=len(content), sha256=sha256, complete=True, created=NOW
        )
    )
    if store is not None:
        store.path(sha256).parent.mkdir(exist_ok=True)
        store.path(sha256).write_bytes(content)
    return sha256


def add_release(connection: Connection, build: int, number: int, state: ReleaseState, activated: int | None) -> int:
    """Add a release of an attempt; its number."""
    project = select(tables.builds.c.project_id).where(tables.builds.c.id == build).scalar_subquery()
    release: int = connection.execute(
        insert(tables.releases)
        .values(
            project_id=project,
            build_id=build,
            number=number,
            target="static",
            sha256="a" * 64,
            files=1,
            size=10,
            commit_id="c" * 40,
            state=state,
            created=NOW,
            activated=activated,
        )
        .returning(tables.releases.c.id)
    ).scalar_one()
    connection.execute(
        insert(tables.statements).values(
            build_id=build, number=number, kind="release", name="x", envelope="{}", created=NOW
        )
    )
    return release


class History:
    """A history by chance: projects with builds of all kinds, and everything that may refer to one."""

    def __init__(self, chance: random.Random, store: ArtifactStore | None = None) -> None:
        self._chance = chance
        self._store = store
        self._deleted: set[int] = set()

    def fill(self, connection: Connection, projects: int, builds: int) -> None:
        """Add projects with builds, from the oldest to the newest."""
        chance = self._chance
        for number in range(1, projects + 1):
            own = Own(logs=chance.choice([30, "forever"])) if chance.random() < 0.3 else None
            if deleted := chance.random() < 0.15:
                self._deleted.add(number)
            add_project(connection, number, own, deleted=deleted)
            if not deleted:
                self._add_others(connection, number)
        ages = sorted((chance.choice([0.1, 5, 40, 100, 400, 900]) for _ in range(builds)), reverse=True)
        for age in ages:
            project = chance.randint(1, projects)
            self._add(connection, project, age)
        connection.execute(
            insert(tables.hook_refs).values(
                project_id=1, lane="refs/heads/gone", commit_id="", gone=True, build_id=None, updated=1
            )
        )

    def _add_others(self, connection: Connection, project: int) -> None:
        connection.execute(
            insert(tables.receivers).values(
                id=project, project_id=project, name="chat", kind="webhook", events="[]", shown="", sealed=b"",
                created=1, updated=1,
            )
        )  # fmt: skip

    def _add(self, connection: Connection, project: int, age: float) -> None:
        chance = self._chance
        state = chance.choice([AttemptState.SUCCEEDED] * 5 + [AttemptState.FAILED, *AttemptState])
        if project in self._deleted and state not in TERMINAL:
            state = AttemptState.CANCELLED  # a project can't be deleted while a build goes on
        build = add_build(
            connection,
            project,
            age,
            ref=chance.choice(REFS),
            state=state,
            publish=chance.random() < 0.7,
            attempts=chance.choice([1, 1, 1, 2]),
            chunks=chance.choice([0, 1, 3]),
            archive=chance.choice([b"", b"one", b"two", b"three", str(age).encode()]),
            store=self._store,
        )
        number = connection.execute(select(tables.builds.c.attempt).where(tables.builds.c.id == build)).scalar_one()
        if state is AttemptState.SUCCEEDED and chance.random() < 0.5:
            self._add_release(connection, project, build, number)
        for odds, table, values in (
            (0.05, tables.publications, {"target": "npm", "position": 0, "name": "a", "version": "1", "integrity": "",
                                         "tag": "", "size": 9999, "sha256": "", "state": "done", "reason": "",
                                         "created": 1, "updated": 1}),
            (0.05, tables.deliveries, {"target": "npm", "lease": "", "settings": "{}", "package": None}),
        ):  # fmt: skip
            if chance.random() < odds:
                connection.execute(insert(table).values(build_id=build, number=number, **values))
        if project not in self._deleted:
            self._refer(connection, project, build, number, age)

    def _refer(self, connection: Connection, project: int, build: int, number: int, age: float) -> None:
        """Have other things refer to a build."""
        chance = self._chance
        if chance.random() < 0.1:
            connection.execute(update(tables.builds).where(tables.builds.c.id == build).values(pinned=1))
        if chance.random() < 0.2:
            connection.execute(
                insert(tables.hook_deliveries).values(
                    project_id=project, delivery=str(build), event="{}", lane="", before="", number=0,
                    received=NOW - int(age * DAY), outcome=chance.choice(["built", "waits"]),
                    reason="", build_id=build,
                )
            )  # fmt: skip
        if chance.random() < 0.1:
            connection.execute(
                insert(tables.hook_refs).values(
                    project_id=project, lane=f"refs/heads/{build}", commit_id="", gone=chance.random() < 0.5,
                    build_id=build, updated=1,
                )
            )  # fmt: skip
        if chance.random() < 0.05:
            connection.execute(
                insert(tables.schedules).values(
                    project_id=project, name=str(build), cron="* * * * *", zone="UTC", ref="", publish=True,
                    build_id=build, reason="", created=1, updated=1,
                )
            )  # fmt: skip
        if chance.random() < 0.2:
            state = chance.choice(["waiting", "told"])
            connection.execute(
                insert(tables.outbox).values(
                    receiver_id=project, subject="x", part="status", phase="succeeded", build_id=build, number=number,
                    told="{}", state=state, reason="", tries=0, due=1,
                    ended=NOW - chance.randint(0, 400) * DAY if state == "told" else None,
                )
            )  # fmt: skip

    def _add_release(self, connection: Connection, project: int, build: int, number: int) -> None:
        chance = self._chance
        r = tables.releases
        state = chance.choice([ReleaseState.PACKED, ReleaseState.LIVE, ReleaseState.SUPERSEDED])
        if state is ReleaseState.LIVE:
            which = (r.c.project_id == project) & (r.c.state == ReleaseState.LIVE)
            connection.execute(update(r).where(which).values(state=ReleaseState.SUPERSEDED))
        release = add_release(connection, build, number, state, build if state is not ReleaseState.PACKED else None)
        if chance.random() < 0.2:
            connection.execute(
                insert(tables.previews).values(
                    project_id=project,
                    label=f"l{build}",
                    ref="refs/heads/x",
                    release_id=release,
                    updated=NOW - build * 7 % 60 * DAY,
                )
            )


class KilledLedger(InstantLedger):
    """A ledger whose process is killed at its next write: before its commit, or after it."""

    def __init__(self, engine: Any, *, committed: bool) -> None:
        super().__init__()
        self.engine = engine
        self._committed = committed
        self.killed = False

    def write(self, query: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """See `InstantLedger`."""
        if self._committed:
            super().write(query, *args, **kwargs)
        else:
            with self.engine.connect() as connection:
                query(connection, *args, **kwargs)  # what it did to files stays done
                connection.rollback()
        self.killed = True
        return Deferred()  # nothing follows


def _as_ledger(ledger: InstantLedger) -> Ledger:
    return ledger.as_ledger() if isinstance(ledger, InstantLedger) else ledger


class Remover:
    """What removes, over a clock that stands still."""

    def __init__(self, folder: Path, ledger: InstantLedger, rules: Rules, *, clock: Any = None) -> None:
        self.clock = clock or Clock()
        self.ledger = ledger
        self.store = ArtifactStore(folder / "artifacts")
        self.release_store = ReleaseStore(folder / "releases")

        def in_thread(function: Any, *args: Any) -> Deferred[Any]:
            return succeed(function(*args))

        self.workflows = Workflows(self.clock)
        releasing = Releasing(
            in_thread,
            lambda: NOW,
            _as_ledger(ledger),
            self.store,
            {"static": self.release_store},
            self.workflows,
            ProjectLocks(self.clock, None),
            rules,
        )
        self.linked = LinkedBuilders(Resting(self.clock, lambda: None), lambda: NOW)
        self.pruning = Pruning(
            clock=self.clock,
            now=lambda: NOW,
            ledger=_as_ledger(ledger),
            in_thread=in_thread,
            workflows=self.workflows,
            releasing=releasing,
            artifact_store=self.store,
            rules=rules,
            linked=self.linked,
        )
        self.pruning.start()

    def plan(self, projects: frozenset[str] | None = None) -> Plan:
        """What would go."""
        return self._answer(self.pruning.plan(projects))

    def lost(self, projects: frozenset[str] | None = None) -> Lost:
        """What not even the newest would be left of."""
        return self._answer(self.pruning.lost(projects))

    def _answer(self, asked: Coroutine[Any, Any, _T]) -> _T:
        """What it returns, or raises, after pauses that take no time."""
        found: list[_T | Failure] = []
        Deferred.fromCoroutine(asked).addBoth(found.append)
        while not found:
            self.clock.advance(0.01)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def link(self, builder: str, features: set[str]) -> None:
        """Have a builder linked that can do this."""
        info = SimpleNamespace(name=builder)
        link = SimpleNamespace(peer=SimpleNamespace(info=info), synced=True, features=frozenset(features))
        self.linked.add(cast(Link, link))

    def run(self, projects: frozenset[str] | None = None) -> Run:
        """Remove it. If the process is killed meanwhile, the run has no end."""
        run = self.pruning.begin(projects, APISERVER)
        while run.ended is None and not (isinstance(self.ledger, KilledLedger) and self.ledger.killed):
            self.clock.advance(1)
        return run
