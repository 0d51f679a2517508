"""
Releases: unpack beside the live one, commit, one atomic switch. Called by ``lifecycle`` at an attempt's end and by
``web`` when someone rolls back.

The ledger says which release is live; the link on disk follows it. A crash between the commit and the switch is
mended at the next start (`reconcile`), so a release is never half there and never forgotten. Which release goes live by
itself is decided by ``storage.releases``, in the transaction that ends the attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import ArtifactFile, Result
from twistedipc.builds.states import AttemptState
from twistedipc.publish.archive import BadArchive
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.static.releases import NotUnpacked, ReleaseStore
from twistedipc.server.boundaries import InThread
from twistedipc.storage import artifacts, audit, builds, projects, releases
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import NoSuchRelease
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor, AttemptRow, ReleaseRow
from twistedipc.storage.standing import note_standing

#: How many releases of a project are kept on disk, of each kind that `releases.to_keep` knows.
KEPT_RELEASES = 10


#: Commits an attempt's end, by this result and with this release: the attempt's row, or None if the lease isn't good.
Commit = Callable[[Result, ReleaseRow | None], Awaitable[AttemptRow | None]]


class Releasing:
    """Unpacks releases and switches them."""

    _log = Logger()

    def __init__(
        self,
        in_thread: InThread,
        now: Callable[[], int],
        ledger: Ledger,
        artifact_store: ArtifactStore,
        release_store: ReleaseStore,
    ) -> None:
        self._in_thread = in_thread
        self._now = now
        self._ledger = ledger
        self._artifact_store = artifact_store
        self._release_store = release_store
        self._locks: dict[str, DeferredLock] = {}  # by project, see `_alone`
        # The builds whose end is being committed and whose release isn't live yet -> the Deferreds that wait for that.
        self._switching: dict[int, list[Deferred[None]]] = {}

    async def release_with(self, row: AttemptRow, result: Result, commit: Commit) -> AttemptRow | None:
        """
        Unpack the attempt's release if it has one to make, ``commit`` the attempt's end with it, and make the switch
        that the ledger says by then. What ``commit`` returned, None if the lease is not good. Raises what ``commit``
        does; asking again goes on where it stopped.
        """
        release: ReleaseRow | None = None
        if result.outcome == "succeeded" and result.artifact is not None and await self._to_be_released(row):
            try:
                release = await self._unpack(row, result, result.artifact)
            except (BadArchive, OSError, NoSuchRelease) as error:
                self._log.error("{attempt} can't be released: {error}", attempt=row.name, error=error)
                result = msgspec.structs.replace(result, outcome="failed", reason=f"it can't be released: {error}")
            crash_point(CrashPoint.APISERVER_RELEASE_UNPACKED)
        if release is not None:
            self._switching.setdefault(row.build, [])
        try:
            finished = await commit(result, release)
            crash_point(CrashPoint.APISERVER_END_COMMITTED)
            if finished is not None and release is not None:
                if finished.state is AttemptState.SUCCEEDED and finished.reason:
                    self._log.info("{attempt}: {reason}", attempt=row.name, reason=finished.reason)
                async with self._alone(row.project):
                    followed = await self._follow(row.project)
                    self._is_switched(row.build)
                    if followed:
                        await self._remove_old(row.project)
                crash_point(CrashPoint.APISERVER_RELEASE_SWITCHED)
        finally:
            self._is_switched(row.build)
        return finished

    def switched(self, builds: Iterable[int]) -> Deferred[None]:
        """
        Fires when the releases of those of these builds that have ended by now are live. The ledger has an end
        before that: a caller that has read it there, and tells a client, waits for this first.
        """
        waiting: list[Deferred[None]] = []
        for build in builds:
            if build in self._switching:
                switched: Deferred[None] = Deferred()
                self._switching[build].append(switched)
                waiting.append(switched)
        return gatherResults(waiting, consumeErrors=True).addCallback(lambda _: None)

    def _is_switched(self, build: int) -> None:
        for waiting in self._switching.pop(build, ()):
            waiting.callback(None)

    async def activate(self, project: str, release: int, *, by: Actor, any_ref: bool) -> ReleaseRow:
        """
        Make this release the live one: roll back, or forth. ``by`` does it, and may do it with a release of any ref or
        not. Raises `NoSuchRelease`, `NotOwnRef`, `LedgerUnavailable`.
        """
        # From the look to the switch: between them another's going live could remove the files of an old release.
        async with self._alone(project):
            row = await self._ledger.read(releases.get, project, release)
            if row is None or not await self._in_thread(self._release_store.has, project, release):
                raise NoSuchRelease(f"{project} has no release {release}, or its files have been removed")
            row = await self._ledger.write(_activate, project, release, self._now(), by, any_ref)
            if await self._follow(project):
                await self._remove_old(project)
        return row

    async def resume(self, project: str, *, by: Actor) -> tuple[bool, ReleaseRow | None]:
        """
        Lift the project's hold, and make the newest release live that waits for it: whether there was a hold, and the
        release. Raises `NotFound`, `LedgerUnavailable`.
        """
        async with self._alone(project):
            gone: set[int] = set()
            for waiting in await self._ledger.read(releases.waiting, project):
                if await self._in_thread(self._release_store.has, project, waiting.id):
                    break
                self._log.error(
                    "release {id} of {project} waited to go live, but its files are gone",
                    id=waiting.id,
                    project=project,
                )
                gone.add(waiting.id)
            lifted, row = await self._ledger.write(_resume, project, self._now(), frozenset(gone), by)
            if row is not None and await self._follow(project):
                await self._remove_old(project)
        return lifted, row

    async def delete_project(self, project: str, delete: Callable[[Connection], bool]) -> bool:
        """
        Delete a project by ``delete`` (in the ledger; whether there was one), and its releases with it. Its name may
        become another's, which can't have anything here before this one's is gone. Raises what ``delete`` does, and
        `LedgerUnavailable`.
        """
        async with self._alone(project):
            deleted = await self._ledger.write(delete)
            if deleted:
                await self._remove(project)
        return deleted

    async def reconcile(self) -> None:
        """
        At start: make the links on disk say what the ledger says, and delete what a project that was deleted has left,
        if a crash came between: it would go on being served.
        """
        known = {project.name for project in await self._ledger.read(projects.list_all, None)}
        for name in sorted(known):
            async with self._alone(name):
                if await self._follow(name):
                    await self._remove_old(name)
        for name in await self._in_thread(self._release_store.projects):
            if name not in known:
                await self._remove_forgotten(name)

    async def _remove_forgotten(self, project: str) -> None:
        async with self._alone(project):
            if await self._ledger.read(projects.get, project) is None:  # it may have been made a moment ago
                await self._remove(project)

    async def _remove(self, project: str) -> None:
        """Delete the releases of a project that was deleted. The caller holds the project's lock (`_alone`)."""
        try:
            await self._in_thread(self._release_store.remove_project, project)
        except OSError as error:
            self._log.error(
                "the releases of {project}, which is no project any more, can't be removed: {error}",
                project=project,
                error=error,
            )
        else:
            self._log.info("the releases of {project}, which is no project any more, are removed", project=project)

    async def _to_be_released(self, row: AttemptRow) -> bool:
        build = await self._ledger.read(builds.get, row.build)
        project = await self._ledger.read(projects.get, row.project)
        if build is None or not build.publish or project is None:
            return False
        return TARGETS.delivered_by_apiserver(project.targets)

    async def _unpack(self, row: AttemptRow, result: Result, artifact: ArtifactFile) -> ReleaseRow:
        stored = await self._ledger.read(artifacts.get, row.name)
        if stored is None or not stored.complete or stored.sha256 != artifact.sha256:
            raise NoSuchRelease("what was built has not arrived")
        release = await self._ledger.write(
            _create, row, stored.sha256, artifact.files, artifact.unpacked, result.commit, self._now()
        )
        archive = self._artifact_store.path(stored.sha256)
        async with self._alone(row.project):
            # An attempt that was given up meanwhile doesn't keep its project from being deleted.
            if await self._ledger.read(releases.get, row.project, release.id) is None:
                raise NoSuchRelease(f"the project {row.project} was deleted")
            await self._in_thread(self._release_store.unpack, row.project, release.id, archive)
        return release

    async def _follow(self, project: str) -> bool:
        """Make live what the ledger says. Return whether it is. The caller holds the project's lock (`_alone`)."""
        live = await self._ledger.read(releases.live, project)
        try:
            await self._in_thread(self._release_store.reconcile, project, None if live is None else live.id)
        except (OSError, NotUnpacked) as error:
            self._log.error(
                "the live release of {project} can't be switched (it will be at the next start): {error}",
                project=project,
                error=error,
            )
            return False
        return True

    async def _remove_old(self, project: str) -> None:
        """Delete the releases that are too many. The caller holds the project's lock (`_alone`)."""
        try:
            keep = await self._ledger.read(releases.to_keep, project, KEPT_RELEASES)
            await self._in_thread(self._release_store.retire, project, keep)
        except (OSError, NotUnpacked) as error:
            self._log.error(
                "old releases of {project} can't be deleted (they will be with the next): {error}",
                project=project,
                error=error,
            )

    @asynccontextmanager
    async def _alone(self, project: str) -> AsyncIterator[None]:
        """Hold the project's lock: no other call changes the project's releases meanwhile."""
        lock = self._locks.setdefault(project, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _create(
    connection: Connection, row: AttemptRow, sha256: str, files: int, size: int, commit: str, now: int
) -> ReleaseRow:
    return releases.create(
        connection,
        attempt=row.name,
        project=row.project,
        sha256=sha256,
        files=files,
        size=size,
        commit=commit,
        now=now,
    )


def _activate(connection: Connection, project: str, release: int, now: int, by: Actor, any_ref: bool) -> ReleaseRow:
    waiting = releases.waiting(connection, project)
    row = releases.activate(connection, project, release, now, who=by.who, any_ref=any_ref)
    note_standing(connection, [row, *waiting], now)
    _record(connection, "release.activate", project, row, by, now)
    return row


def _resume(
    connection: Connection, project: str, now: int, gone: frozenset[int], by: Actor
) -> tuple[bool, ReleaseRow | None]:
    waiting = releases.waiting(connection, project)
    hold, row = releases.resume(connection, project, now, gone)
    note_standing(connection, waiting, now)
    if hold is not None:
        _record(connection, "release.resume", project, row, by, now)
    return hold is not None, row


def _record(connection: Connection, action: str, project: str, row: ReleaseRow | None, by: Actor, now: int) -> None:
    detail = {} if row is None else {"release": str(row.id)}
    audit.record(connection, who=by.who, address=by.address, action=action, subject=project, detail=detail, now=now)
