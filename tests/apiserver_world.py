"""An apiserver in memory: `server.compose` over a `Clock`, an instant ledger and a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.ask_program import AskPrograms
from tests.instant import InstantLedger
from tests.outside import Letters, Outsiders
from tests.publish_program import Programs
from twistedipc.builds.retention import Rules
from twistedipc.builds.states import AttemptState
from twistedipc.ipc.connections.load import MAX_RUNNING
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.target import Static
from twistedipc.server.boundaries import StateChange
from twistedipc.server.compose import Outside, ServerSettings, compose
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.workflows import MAX_WORKFLOWS
from twistedipc.storage import attempts
from twistedipc.storage.apiservers import Incarnation, database_now
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.file_locks import FileLocks
from twistedipc.storage.id_tokens import Issuer
from twistedipc.storage.log_archive import LogArchive
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.secrets import SecretBox
from twistedipc.storage.signing import SigningKey


class Apiserver:
    """Everything of an apiserver but its sockets and threads."""

    def __init__(
        self,
        folder: Path,
        ledger: InstantLedger,
        clock: Clock,
        *,
        max_workflows: int = MAX_WORKFLOWS,
        max_running: int = MAX_RUNNING,
        log_limits: LogLimits | None = None,
        api_url: str = "http://api.example",
        outside: Outsiders | None = None,
        retention: Rules | None = None,
        lost_after: float = 600.0,
        here: Incarnation | None = None,
        database_time: Callable[[Connection], int] = database_now,
        file_locks: FileLocks | None = None,
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.time = 1000
        self.cut_off: Callable[[], bool] = lambda: False
        self.changes: list[StateChange] = []
        self.artifacts = ArtifactStore(folder / "artifacts")
        self.release_store = ReleaseStore(folder / "releases")
        self.secret_box = SecretBox(folder / "secret.key")
        self.programs = Programs()
        self.ask_programs = AskPrograms()
        self.outside, self.letters = outside or Outsiders(), Letters()
        self.signing_key = SigningKey(folder / "signing.key")
        server = compose(
            Outside(
                clock=clock,
                now=self.now,
                spent=clock.seconds,
                random=os.urandom,
                in_thread=lambda function, *args: succeed(function(*args)),
                search_in_thread=lambda function, *args: succeed(function(*args)),
                ledger=ledger.as_ledger(),
                artifact_store=self.artifacts,
                log_archive=LogArchive(folder / "logs"),
                releases={Static.name: self.release_store},
                secret_box=self.secret_box,
                signing_key=self.signing_key,
                issuer=Issuer(folder / "id-tokens.key", api_url, now=lambda: self.time / 1000),
                program=self.programs,
                ask_program=self.ask_programs,
                requests=self.outside,
                mail=self.letters,
                here=lambda: here,
                cut_off=lambda: self.cut_off(),
                database_time=database_time,
                file_locks=file_locks,
            ),
            ServerSettings(
                release_url=lambda name: f"http://{name}.test/",
                uploads_url=api_url,
                lost_after=lost_after,
                max_workflows=max_workflows,
                max_running=max_running,
                log_limits=log_limits or LogLimits(),
                retention=retention or Rules(),
            ),
        )
        self.server = server
        server.feed.listen(self.changes.append)
        self.gists, self.logs, self.grants = server.gists, server.logs, server.grants
        self.builders, self.dispatch, self.releasing = server.builders, server.dispatch, server.releasing
        self.lifecycle, self.workflows, self.writers = server.lifecycle, server.workflows, server.writers
        for step in (server.hearing.begin(), self.builders.recover()):
            assert Deferred.fromCoroutine(step).called
        server.start()

    def now(self) -> int:
        """A time that always goes on."""
        self.time += 1
        return self.time

    def state(self, attempt: str) -> AttemptState:
        """The attempt's state in the ledger."""
        return self.row(attempt).state

    def row(self, attempt: str) -> AttemptRow:
        """The attempt's row."""
        row = self.ledger.now(attempts.get, attempt)
        assert row is not None
        return row
