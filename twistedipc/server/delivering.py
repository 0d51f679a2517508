"""
Publishes what attempts have stored: packages of projects that let nobody but the apiserver publish them. Woken by a
bell; what is to be done is in the ledger (`AttemptState.DELIVERING`), so a start goes on where a crash has stopped it.

Each target's packages are published by a process of its own (`PublishProgram`), which asks the registry first: what is
there already, with the same content, is published. A row in the ledger is written before the process is started, and
when it has said what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.logs import Lines
from twistedipc.builds.names import shown
from twistedipc.builds.states import AttemptState, PublicationState
from twistedipc.builds.word import MAX_NOTICE, MAX_REASON
from twistedipc.publish.permits import Granted, Refused
from twistedipc.publish.stored import Delivered, Job
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.bell import Bell
from twistedipc.server.boundaries import GistFeed
from twistedipc.server.delivery_log import DeliveryLog
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.workflows import Workflows
from twistedipc.server.writers import LogWriters
from twistedipc.storage import attempts, publications
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.permits import Answer
from twistedipc.storage.rows import AttemptRow, PublicationRow
from twistedipc.storage.secrets import SecretBox, SecretUnreadable

#: How many attempts are published at a time.
MOST = 2

#: How many files are deleted at a time that nothing needs any more.
TIDIED = 20


class PublishProgram(Protocol):
    """The process that publishes, or compares with what is published. Implemented by ``taps``."""

    def run(self, job: Job, heard: Callable[[Lines], None]) -> Deferred[Delivered]:
        """
        Start the process; ``heard`` is called with what it says for the log. Fires when it has ended, whatever happens.
        """

    def end(self, attempt: str) -> None:
        """Tell the attempt's process to end, if there is one."""

    def kill_all(self) -> None:
        """Kill all processes: the next start goes on."""


class Delivering:
    """Publishes what is stored."""

    _log = Logger()

    def __init__(
        self,
        *,
        now: Callable[[], int],
        ledger: Ledger,
        lifecycle: Lifecycle,
        logs: LogStore,
        gists: GistFeed,
        workflows: Workflows,
        writers: LogWriters,
        secret_box: SecretBox,
        artifact_store: ArtifactStore,
        program: PublishProgram,
    ) -> None:
        self._now = now
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._logs = logs
        self._gists = gists
        self._workflows = workflows
        self._writers = writers
        self._secret_box = secret_box
        self._artifact_store = artifact_store
        self._program = program
        self._running: set[str] = set()
        self._looking = False
        self._again = False
        self._stopped = False

    def start(self, bell: Bell) -> None:
        """Go on with what a stop has left, and begin what is to be published, whenever the bell is rung."""
        bell.listen(self.wake)
        self.wake()

    def stop(self) -> None:
        """Begin nothing more, and end what runs: the next start goes on with it."""
        self._stopped = True  # first: that a process was killed says nothing of what it published
        self._program.kill_all()

    def wake(self) -> None:
        """Look what is to be done, now or once more after the look that is under way."""
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._workflows.launch(self._look(), "looking for what is to be published")

    async def _look(self) -> None:
        try:
            while True:
                self._again = False
                rows = await self._workflows.retry_until_available(lambda: self._ledger.read(attempts.delivering))
                for row in rows:
                    if row.name in self._running:
                        if row.cancel_reason:
                            self._program.end(row.name)
                    elif len(self._running) < MOST and not self._stopped:
                        self._running.add(row.name)
                        self._workflows.launch(self._deliver(row), f"publishing {row.name}")
                await self._tidy()
                if not self._again:
                    return
        finally:
            self._looking = False

    async def _tidy(self) -> None:
        """Delete files that nothing needs any more."""
        store = self._artifact_store

        def tidy(connection: Connection) -> int:
            gone = publications.no_longer_needed(connection, TIDIED)
            for sha256 in gone:
                store.remove(sha256)  # in the transaction: nothing can come to need it meanwhile
                publications.forget_file(connection, sha256)
            return len(gone)

        try:
            while await self._ledger.write(tidy):
                pass
        except (LedgerUnavailable, OSError) as error:
            self._log.error("packages that are needed no longer can't be deleted now: {error}", error=error)

    async def _deliver(self, row: AttemptRow) -> None:
        try:
            log = DeliveryLog(row, self._ledger, self._logs, self._gists, self._workflows, self._writers, self._now)
            await log.open()
            reason = await self._deliver_all(row, log)
            if self._stopped:
                return  # the next start goes on
            log.end(reason)  # if a crash came between the end of the last step and that
            await log.flushed()
            crash_point(CrashPoint.APISERVER_DELIVERED)
            cancelled = await self._cancelled(row.name)
            outcome = AttemptState.FAILED if reason else AttemptState.SUCCEEDED
            if reason and cancelled:
                outcome, reason = AttemptState.CANCELLED, cancelled
            await self._lifecycle.delivered(row, outcome, reason, await log.digest())
        finally:
            self._running.discard(row.name)
        self.wake()  # another may wait for its turn

    async def _cancelled(self, attempt: str) -> str:
        row = await self._workflows.retry_until_available(lambda: self._ledger.read(attempts.get, attempt))
        return "" if row is None else row.cancel_reason

    async def _deliver_all(self, row: AttemptRow, log: DeliveryLog) -> str:
        """Publish to each target. Return why not all is published; "" if it is."""
        rows = await self._workflows.retry_until_available(lambda: self._ledger.read(publications.of_attempt, row.name))
        if not rows:
            return "nothing is stored of it"
        for target in dict.fromkeys(each.target for each in rows):
            of_target = [each for each in rows if each.target == target]
            reason = next((each.reason for each in of_target if each.state is PublicationState.FAILED), "")
            if not reason and any(each.state is not PublicationState.PUBLISHED for each in of_target):
                reason = await self._deliver_to(row, target, of_target, log)
            if reason or self._stopped:
                return reason
        return ""

    async def _deliver_to(self, row: AttemptRow, target: str, packages: list[PublicationRow], log: DeliveryLog) -> str:
        """Publish packages to one target. Return why not all of them are published; "" if they are."""
        answer = await self._lifecycle.begin_delivery(row.name, target)
        crash_point(CrashPoint.APISERVER_DELIVERY_BEGUN)
        log.begin()
        said = await self._run(row, target, packages, answer, log)
        if self._stopped:
            return ""
        published, reason = _believed(said, target, packages)
        for each in published:
            if each.notice:
                log.note("warning", each.notice)
        if reason:
            log.note("error", reason)
        await log.flushed()
        crash_point(CrashPoint.APISERVER_DELIVERY_LOGGED)
        await self._lifecycle.note_delivery(row.name, target, published, reason)
        log.end(reason)
        return reason

    async def _run(
        self, row: AttemptRow, target: str, packages: list[PublicationRow], answer: Answer, log: DeliveryLog
    ) -> Delivered:
        """Run the process, if it may."""
        if isinstance(answer.decision, Refused):
            return Delivered(reason=f"publishing wasn't permitted: {answer.decision.reason}")
        try:
            job = job_of(row.project, packages, answer, self._secret_box, self._artifact_store)
        except SecretUnreadable as error:
            return Delivered(reason=f"a secret of {target} can't be read: {error}")
        return await self._program.run(job, log.add)


def job_of(
    project: str,
    packages: Sequence[PublicationRow],
    granted: Answer,
    secret_box: SecretBox,
    artifact_store: ArtifactStore,
    *,
    compare: bool = False,
) -> Job:
    """Return what the process is told about packages of one attempt, for one target. Raises `SecretUnreadable`."""
    assert isinstance(granted.decision, Granted)
    assert granted.settings is not None
    return Job(
        attempt=packages[0].attempt,
        build=int(packages[0].attempt.partition("-")[0]),
        project=project,
        target=packages[0].target,
        settings=TARGETS.write((granted.settings,))[0],
        packages=[_package(each) for each in packages],
        tarballs=[str(artifact_store.path(each.sha256)) for each in packages],
        secrets={name: secret_box.open(sealed) for name, sealed in granted.sealed.items()},
        folder="",
        compare=compare,
    )


def _package(row: PublicationRow) -> Package:
    return Package(
        file=f"package/{row.position}.tgz",
        name=row.name,
        version=row.version,
        integrity=row.integrity,
        tag=row.tag,
    )


def _believed(said: Delivered, target: str, packages: list[PublicationRow]) -> tuple[list[Published], str]:
    """Return what of these packages is published, and why not all of them are; "" if they are."""
    found: dict[str, Published] = {}
    for each in said.published:
        if any((each.name, each.version, each.integrity) == (p.name, p.version, p.integrity) for p in packages):
            found[each.name] = Published(
                name=each.name,
                version=each.version,
                integrity=each.integrity,
                status=each.status,
                registry=shown(each.registry, MAX_NOTICE),
                target=target,
                notice=shown(each.notice, MAX_NOTICE),
            )
    missing = [package.name for package in packages if package.name not in found]
    reason = shown(said.reason, MAX_REASON, lines=True)
    if missing and not reason:
        reason = f"{', '.join(missing)} isn't published, and the process that publishes didn't say why"
    return list(found.values()), reason
