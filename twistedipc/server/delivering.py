"""
Publishes what attempts have stored: packages of projects that let nobody but the apiserver publish them. Woken by a
bell; what is to be done is in the ledger (`AttemptState.DELIVERING`), so a start goes on where a crash has stopped it.

Each target's packages are published by a process of its own (`PublishProgram`), which asks the registry first: what is
there already, with the same content, is published. The process has each of its steps written into the ledger before it
is done and after. While it runs, the packages are locked: another set that has one of them waits. If a person is
needed, the attempt waits, and nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import Published
from twistedipc.builds.names import shown
from twistedipc.builds.states import AttemptState, PublicationState
from twistedipc.builds.word import MAX_NOTICE, MAX_REASON
from twistedipc.publish.permits import Refused
from twistedipc.publish.record import Step
from twistedipc.publish.stored import Delivered, Needs, Row
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.bell import Bell
from twistedipc.server.delivery_log import DeliveryLog
from twistedipc.server.discarding import Discarding
from twistedipc.server.jobs import PublishProgram, job_of, published_of, start_of, write_row
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.passwords import Given, Passwords
from twistedipc.server.rejecting import Rejecting
from twistedipc.server.target_secrets import NoSecret, TargetSecrets
from twistedipc.server.workflows import Workflows
from twistedipc.storage import attempts, package_requests, permits, publications, retention
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.permits import Answer
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import AttemptRow, PublicationRow

#: How many attempts are published at a time.
MOST = 2

#: Seconds after which it is looked again whether packages are free that something else has locked than an attempt.
LOCKED_AGAIN = 10.0

#: How often a process is started that was interrupted while it moved tags.
RUNS = 4

#: How publications end that aren't published.
_NOT_PUBLISHED = frozenset(
    {PublicationState.CONFLICT, PublicationState.REJECTED, PublicationState.FAILED, PublicationState.DROPPED}
)

#: How many files are forgotten at a time that nothing needs any more.
TIDIED = 20


class _End(NamedTuple):
    """How far an attempt's packages have come."""

    reason: str = ""  # why not all are published; "": they are, or a person is needed
    needs: Needs | None = None


class Delivering:
    """Publishes what is stored."""

    _log = Logger()

    def __init__(
        self,
        *,
        ledger: Ledger,
        lifecycle: Lifecycle,
        log_of: Callable[[AttemptRow], DeliveryLog],
        workflows: Workflows,
        secrets: TargetSecrets,
        files: Discarding,
        program: PublishProgram,
        clock: IReactorTime,
        passwords: Passwords,
        rejecting: Rejecting,
    ) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._log_of = log_of
        self._workflows = workflows
        self._secrets = secrets
        self._files = files
        self._program = program
        self._clock = clock
        self._passwords = passwords
        self._rejecting = rejecting
        self._running: set[str] = set()
        self._blocked: dict[str, str] = {}  # attempts that wait for others -> what has their packages
        self._looking = False
        self._again = False
        self._stopped = False

    def start(self, bell: Bell) -> None:
        """Go on with what a stop has left, and begin what is to be published, whenever the bell is rung."""
        bell.listen(Topic.DELIVERY, lambda hint: self.wake())
        self._workflows.launch(self._begin(), "forgetting what a crash has locked")

    async def _begin(self) -> None:
        for free in (publications.free_locks_of_ended, package_requests.free_locks_of_ended):
            await self._workflows.retry_until_available(partial(self._ledger.write, free))
        self.wake()
        self._rejecting.start()

    def stop(self) -> None:
        """Begin nothing more, and end what runs: the next start goes on with it."""
        self._stopped = True  # first: that a process was killed says nothing of what it published
        self._rejecting.stop()
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
                    elif self._blocked.get(row.name, "") in self._running:
                        continue
                    elif len(self._running) < MOST and not self._stopped:
                        self._running.add(row.name)
                        self._workflows.launch(self._deliver(row), f"publishing {row.name}")
                await self._rejecting.look()
                await self._tidy()
                if not self._again:
                    return
        finally:
            self._looking = False

    async def _tidy(self) -> None:
        """Forget files that nothing needs any more, and once that is committed, delete them."""

        def forget(connection: Connection) -> None:
            gone = publications.no_longer_needed(connection, TIDIED)
            for sha256 in gone:
                publications.forget_file(connection, sha256)
            retention.note_files(connection, gone)

        try:
            # Read first: other apiservers hear of each write, and the bell rings once a second where there are any.
            while await self._ledger.read(publications.no_longer_needed, 1):
                await self._ledger.write(forget)
        except LedgerUnavailable as error:
            if self._stopped:
                return
            self._log.error("packages that are needed no longer can't be deleted now: {error}", error=error)
        # By itself: what pruning has noted is deleted, too, and no package waits for that.
        self._workflows.launch(self._discard(), "deleting packages that are needed no longer")

    async def _discard(self) -> None:
        try:
            await self._files.discard(self._ledger.read, self._ledger.write, _nothing)
        except (LedgerUnavailable, OSError) as error:
            self._log.error("packages that are needed no longer can't be deleted now: {error}", error=error)

    async def _deliver(self, row: AttemptRow) -> None:
        try:
            await self._go_on(row)
        finally:
            self._running.discard(row.name)
        # Another may wait for its turn, or for these packages. (Not in `finally`: if the service has stopped, and this
        # is thrown away where it waits, nothing goes on.)
        self.wake()

    async def _go_on(self, row: AttemptRow) -> None:
        log = self._log_of(row)
        await log.open()
        holder = await self._lock(row)
        if holder:
            await self._wait_for(row, holder, log)
            return
        end = await self._deliver_all(row, log, self._passwords.take(row.name))
        if self._stopped:
            return  # the next start goes on
        cancelled = await self._cancelled(row.name)
        if end.needs is not None and not cancelled:
            await self._ask(row, end.needs, log)
            return
        reason = end.reason or ("" if end.needs is None else cancelled)
        log.end(reason)  # if a crash came between the end of the last step and that
        await log.flushed()
        crash_point(CrashPoint.APISERVER_DELIVERED)
        outcome = AttemptState.FAILED if reason else AttemptState.SUCCEEDED
        if reason and cancelled:
            outcome, reason = AttemptState.CANCELLED, cancelled
        await self._lifecycle.delivered(row, outcome, reason, await log.digest())

    async def _lock(self, row: AttemptRow) -> str:
        """Lock all packages of an attempt. Return what has one of them; "" if they are locked."""
        rows = await self._workflows.retry_until_available(lambda: self._ledger.read(publications.of_attempt, row.name))
        wanted: dict[str, list[str]] = {}
        for target in dict.fromkeys(each.target for each in rows):
            look = partial(self._ledger.read, permits.look_stored, row.name, target)
            settings = (await self._workflows.retry_until_available(look)).settings
            for each in rows:
                if each.target == target:
                    place = "" if settings is None else TARGETS.of(settings).package_place(settings, each.name)
                    wanted.setdefault(place, []).append(each.name)
        return await self._lifecycle.lock_packages(row.name, wanted)

    async def _wait_for(self, row: AttemptRow, holder: str, log: DeliveryLog) -> None:
        """Another set has some of these packages: go on when it has ended."""
        if self._blocked.get(row.name) != holder:
            self._blocked[row.name] = holder
            build = holder.partition("-")[0]
            what = f"build {build}" if build.isdigit() else f"a request ({holder[:100]})"
            log.note("info", f"waiting for {what}, which changes packages of this set now")
            await log.flushed()
        if holder not in self._running:
            self._clock.callLater(LOCKED_AGAIN, self.wake)

    async def _ask(self, row: AttemptRow, needs: Needs, log: DeliveryLog) -> None:
        """It waits for a person."""
        log.note("info", needs.reason)
        log.end("")
        await log.flushed()
        crash_point(CrashPoint.APISERVER_PERSON_NEEDED)
        await self._lifecycle.ask_person(row, needs.reason, await log.digest())

    async def _cancelled(self, attempt: str) -> str:
        row = await self._workflows.retry_until_available(lambda: self._ledger.read(attempts.get, attempt))
        return "" if row is None else row.cancel_reason

    async def _deliver_all(self, row: AttemptRow, log: DeliveryLog, given: Given) -> _End:
        """Publish to each target."""
        self._blocked.pop(row.name, None)
        rows = await self._workflows.retry_until_available(lambda: self._ledger.read(publications.of_attempt, row.name))
        if not rows:
            return _End("nothing is stored of it")
        for target in dict.fromkeys(each.target for each in rows):
            of_target = [each for each in rows if each.target == target]
            failed = next((each for each in of_target if each.state in _NOT_PUBLISHED), None)
            if failed is not None:  # a crash came before the rest was written down
                reason = failed.reason or f"{failed.name} isn't published"
                await self._note(row, target, of_target, [], reason)
                return _End(reason)
            end = _End()
            if all(each.state is PublicationState.PUBLISHED for each in of_target):
                await self._note(row, target, of_target, [], "")
            else:
                end = await self._deliver_to(row, target, log, given)
            if end.reason or end.needs is not None or self._stopped:
                return end
        return _End()

    async def _deliver_to(self, row: AttemptRow, target: str, log: DeliveryLog, given: Given) -> _End:
        """Publish packages to one target. What is done of it is in the rows."""
        for _ in range(RUNS):
            answer = await self._lifecycle.begin_delivery(row.name, target)
            crash_point(CrashPoint.APISERVER_DELIVERY_BEGUN)
            log.begin()
            said = await self._run(row, target, answer, log, given)
            if self._stopped:
                return _End()
            packages, moving = await self._workflows.retry_until_available(
                lambda: self._ledger.read(_standing, row.name, target)
            )
            if not (said.interrupted and moving):
                break
            log.note(
                "warning", f"{said.reason or 'it was interrupted'} while tags were being moved: going on with that …"
            )
        if said.needs is not None and not said.reason:
            return _End(needs=said.needs)
        published, reason = _believed(said, target, packages)
        for each in published:
            if each.notice:
                log.note("warning", each.notice)
        if reason:
            log.note("error", reason)
        await log.flushed()
        crash_point(CrashPoint.APISERVER_DELIVERY_LOGGED)
        await self._note(row, target, packages, published, reason)
        log.end(reason)
        return _End(reason)

    async def _note(
        self,
        row: AttemptRow,
        target: str,
        packages: Sequence[PublicationRow],
        published: Sequence[Published],
        reason: str,
    ) -> None:
        named = {each.name for each in published}
        rows = [published_of(each) for each in packages if each.state is PublicationState.PUBLISHED]
        both = [*published, *(each for each in rows if each.name not in named)]
        await self._lifecycle.note_delivery(row.name, target, both, reason)

    async def _run(self, row: AttemptRow, target: str, answer: Answer, log: DeliveryLog, given: Given) -> Delivered:
        """Run the process, if it may."""
        if isinstance(answer.decision, Refused):
            return Delivered(reason=f"publishing wasn't permitted: {answer.decision.reason}")
        assert answer.settings is not None
        packages, start = await self._workflows.retry_until_available(
            lambda: self._ledger.read(start_of, row.name, target, given.otp)
        )
        try:
            named = [each.name for each in packages]
            secrets = await self._secrets.open(answer.settings, answer.sealed, answer.claims, named)
        except NoSecret as error:
            return Delivered(reason=f"{target}: {error}")
        job = job_of(row.project, packages, answer, secrets, self._files.store, start=start)
        renew = self._secrets.renewing(answer.settings, answer.claims, named)

        async def write(said: Row) -> dict[str, str] | None:
            await write_row(self._lifecycle, row.name, target, said, given.by)
            try:
                return await renew()
            except NoSecret as error:
                self._log.warn("{attempt} goes on with what it has: {error}", attempt=row.name, error=error)
                return None

        return await self._program.run(job, log.add, lambda said: Deferred.fromCoroutine(write(said)))


def _nothing(removed: object) -> None:
    """What was deleted isn't counted."""


def _standing(connection: Connection, attempt: str, target: str) -> tuple[list[PublicationRow], bool]:
    """Return an attempt's publications to a target, and whether tags were being moved when its process ended."""
    rows = [each for each in publications.of_attempt(connection, attempt) if each.target == target]
    steps = publications.steps_of(connection, attempt, target)
    moved = any(each.step is Step.TAG for each in steps)
    return rows, moved and any(each.state is PublicationState.PRESENT for each in rows)


def _believed(said: Delivered, target: str, packages: list[PublicationRow]) -> tuple[list[Published], str]:
    """Return what of these packages is published, and why not all of them are; "" if they are."""
    recorded = any(each.state not in (PublicationState.STORED, PublicationState.CHECKED) for each in packages)
    found = {each.name: published_of(each) for each in packages if each.state is PublicationState.PUBLISHED}
    for each in [] if recorded else said.published:
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
