"""
What the packages that an attempt has stored would change against what is published: shown to who approves. A process
of the apiserver's finds it out (`jobs.PublishProgram`), as it publishes: with the project's token, which some
registries want for reading.

What was found counts for a while, since several people may look, and each look asks the registry.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from twistedipc.publish.compared import Compared
from twistedipc.publish.permits import Refused
from twistedipc.publish.stored import Delivered
from twistedipc.server.jobs import PublishProgram, job_of
from twistedipc.server.target_secrets import NoSecret, TargetSecrets
from twistedipc.storage import permits
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import NotFound
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import PublicationRow

#: Seconds for which what was found counts.
COUNTS = 60.0

#: How many comparisons there are at a time; the rest isn't made.
MOST = 2

#: How many comparisons are remembered.
REMEMBERED = 20


class Comparing:
    """Compares packages, each attempt's once at a time."""

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        secrets: TargetSecrets,
        artifact_store: ArtifactStore,
        program: PublishProgram,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._secrets = secrets
        self._artifact_store = artifact_store
        self._program = program
        self._found: dict[tuple[str, str], tuple[float, list[Compared]]] = {}
        self._waiting: dict[tuple[str, str], list[Deferred[None]]] = {}

    async def compare(self, project: str, packages: Sequence[PublicationRow]) -> list[Compared]:
        """
        Return what these packages of one attempt, for one target, would change, in their order. Raises
        `LedgerUnavailable`.
        """
        key = packages[0].attempt, packages[0].target
        while key in self._waiting:
            waiting: Deferred[None] = Deferred()
            self._waiting[key].append(waiting)
            await waiting
        time, found = self._found.get(key, (float("-inf"), []))
        if self._clock.seconds() - time < COUNTS:
            return found
        if len(self._waiting) >= MOST:
            return _unknown(packages, "others are being compared: look again in a minute")
        self._waiting[key] = []
        try:
            found = await self._compare(project, packages)
            self._found[key] = self._clock.seconds(), found
            while len(self._found) > REMEMBERED:
                del self._found[next(iter(self._found))]
        finally:
            for each in self._waiting.pop(key):
                each.callback(None)
        return found

    async def _compare(self, project: str, packages: Sequence[PublicationRow]) -> list[Compared]:
        attempt, target = packages[0].attempt, packages[0].target
        answer = await self._ledger.read(permits.look_stored, attempt, target)
        if isinstance(answer.decision, Refused):
            return _unknown(packages, f"it can't be published as it is: {answer.decision.reason}")
        assert answer.settings is not None
        try:
            named = [each.name for each in packages]
            secrets = await self._secrets.open(answer.settings, answer.sealed, answer.claims, named)
        except NoSecret as error:
            return _unknown(packages, str(error))
        job = job_of(project, packages, answer, secrets, self._artifact_store, compare=True)
        said: Delivered = await self._program.run(job, lambda _: None, _no_rows)
        by_name = {(each.name, each.version): each for each in said.compared}
        missing = said.reason or "the process that compares didn't say"
        return [by_name.get((package.name, package.version)) or _unknown([package], missing)[0] for package in packages]


def _no_rows(row: object) -> Deferred[dict[str, str] | None]:
    """A comparison changes nothing."""
    return fail(NotFound("a comparison has no rows"))


def _unknown(packages: Sequence[PublicationRow], why: str) -> list[Compared]:
    return [Compared(name=package.name, version=package.version, unknown=why) for package in packages]
