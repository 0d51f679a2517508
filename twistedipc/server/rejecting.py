"""
Takes back what is staged in a registry, of attempts that a person has refused or cancelled, and moves back the tags of
those that were refused while their tags were moved. What can't be taken back now (most registries want a one-time
password for that) is tried again from time to time. Used by ``delivering``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.publish.permits import Refused
from twistedipc.publish.stored import Row
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.jobs import PublishProgram, job_of, start_of, write_row
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.passwords import Given, Passwords
from twistedipc.server.target_secrets import NoSecret, TargetSecrets
from twistedipc.server.workflows import Workflows
from twistedipc.storage import attempts, permits, publications
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.permits import Answer
from twistedipc.storage.rows import AttemptRow

#: Seconds after which it is tried again.
REJECTED_AGAIN = 3600.0

#: How many attempts are looked at in one round.
MOST = 20


class Rejecting:
    """Takes back stages."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        ledger: Ledger,
        lifecycle: Lifecycle,
        workflows: Workflows,
        secrets: TargetSecrets,
        artifact_store: ArtifactStore,
        program: PublishProgram,
        passwords: Passwords,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._workflows = workflows
        self._secrets = secrets
        self._artifact_store = artifact_store
        self._program = program
        self._passwords = passwords
        self._tried: set[str] = set()  # in this round
        self._running: set[str] = set()
        self._stopped = False

    def start(self) -> None:
        """Try all that there is, now and from time to time."""
        if self._stopped:
            return
        self._tried.clear()
        self._workflows.launch(self.look(), "taking back what is staged")
        self._clock.callLater(REJECTED_AGAIN, self.start)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True

    async def look(self) -> None:
        """Begin with what wasn't tried in this round."""
        for attempt in await self._workflows.retry_until_available(
            lambda: self._ledger.read(publications.to_reject, MOST)
        ):
            if attempt not in self._tried | self._running and not self._stopped:
                self._tried.add(attempt)
                self._workflows.launch(self._reject(attempt), f"taking back what is staged of {attempt}")

    async def _reject(self, attempt: str) -> None:
        self._running.add(attempt)
        given = self._passwords.take(attempt)
        try:
            row = await self._workflows.retry_until_available(lambda: self._ledger.read(attempts.get, attempt))
            rows = await self._workflows.retry_until_available(
                lambda: self._ledger.read(publications.of_attempt, attempt)
            )
            for target in dict.fromkeys(each.target for each in rows if each.state in publications.TAKEN_BACK):
                names = [each.name for each in rows if each.target == target]
                why = "" if row is None else await self._reject_at(row, target, names, given)
                if why:
                    self._log.warn("what is staged of {attempt} isn't taken back: {why}", attempt=attempt, why=why)
        finally:
            self._running.discard(attempt)

    async def _reject_at(self, row: AttemptRow, target: str, names: Sequence[str], given: Given) -> str:
        """Take back what is staged for a target. Return why not."""
        answer = await self._workflows.retry_until_available(
            lambda: self._ledger.read(permits.look_stored, row.name, target, to_reject=True)
        )
        if isinstance(answer.decision, Refused):
            return answer.decision.reason
        assert answer.settings is not None
        wanted: dict[str, list[str]] = {}
        for name in names:
            wanted.setdefault(TARGETS.of(answer.settings).package_place(answer.settings, name), []).append(name)
        holder = await self._lifecycle.lock_packages(row.name, wanted)
        if holder:
            self._tried.discard(row.name)  # it is looked again once that has ended
            return f"{holder} changes these packages now"
        why = await self._run(row, target, answer, given)
        await self._lifecycle.unlock_packages(row.name)
        return why

    async def _run(self, row: AttemptRow, target: str, answer: Answer, given: Given) -> str:
        """Take back what no newer build has published. Return why not."""
        await self._lifecycle.drop_superseded(row.name, target)
        assert answer.settings is not None
        packages, start = await self._workflows.retry_until_available(
            lambda: self._ledger.read(start_of, row.name, target, given.otp)
        )
        if all(each.state not in publications.TAKEN_BACK for each in packages):
            return ""
        start = msgspec.structs.replace(start, what="reject")
        try:
            named = [each.name for each in packages]
            secrets = await self._secrets.open(answer.settings, answer.sealed, answer.claims, named)
        except NoSecret as error:
            return str(error)
        job = job_of(row.project, packages, answer, secrets, self._artifact_store, start=start)
        said = await self._program.run(job, lambda _: None, partial(self._writes, row.name, target, given.by))
        return said.reason or (said.needs.reason if said.needs is not None else "")

    def _writes(self, attempt: str, target: str, by: str, row: Row) -> Deferred[dict[str, str] | None]:
        async def write() -> dict[str, str] | None:
            await write_row(self._lifecycle, attempt, target, row, by)
            return None

        return Deferred.fromCoroutine(write())
