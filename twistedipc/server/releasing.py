"""
Releases: unpack beside the live one, commit, one atomic switch. Called by ``lifecycle`` at an attempt's end and by
``web`` when someone rolls back. What is on disk is the targets' own (`target.Releases`).

The ledger says which release of a target is live; the target follows it. A crash between the commit and the switch is
mended at the next start (`reconcile`), so a release is never half there and never forgotten. Which release goes live by
itself is decided by ``storage.releases``, in the transaction that ends the attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import ArtifactFile, LiveFiles, Result
from twistedipc.builds.counts import counted
from twistedipc.builds.retention import Rules, effective
from twistedipc.builds.states import AttemptState
from twistedipc.publish.archive import count
from twistedipc.publish.members import BadArchive
from twistedipc.publish.targets.differences import Difference
from twistedipc.publish.targets.registry import TARGETS, name_of
from twistedipc.publish.targets.target import DiskUse, NotUnpacked, Pooled, Releases
from twistedipc.server.boundaries import InThread
from twistedipc.server.precedence import Precedence
from twistedipc.server.project_locks import LockedElsewhere, ProjectLocks
from twistedipc.server.workflows import Workflows
from twistedipc.storage import artifacts, audit, builds, previews, projects, releases
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import NoSuchRelease
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor, AttemptRow, ReleaseRow
from twistedipc.storage.standing import Standing, note_standing

#: How many releases of a project a target keeps on disk, of each kind that `releases.to_keep` knows, unless a rule of
#: retention says how many.
KEPT_RELEASES = 10

#: So many contents are deleted at a time while no release of their project can be made or switched.
REMOVED_AT_ONCE = 500

#: So many bytes are compressed at a time, before they are served so.
COMPRESSED_AT_ONCE = 4 << 20

#: So many projects are compressed at a time. Each takes one of the threads for files, and sleeps in it while something
#: is urgent; what is urgent needs such a thread itself, and others must be left for it.
COMPRESSED_TOGETHER = 2


#: Commits an attempt's end, by this result and with these releases: the attempt's row; None for an invalid lease.
Commit = Callable[[Result, Sequence[ReleaseRow]], Awaitable[AttemptRow | None]]


class Releasing:
    """Unpacks releases and switches them."""

    _log = Logger()

    def __init__(
        self,
        in_thread: InThread,
        now: Callable[[], int],
        ledger: Ledger,
        artifact_store: ArtifactStore,
        kept: Mapping[str, Releases],
        workflows: Workflows,
        locks: ProjectLocks,
        rules: Rules | None = None,
    ) -> None:
        self._rules = rules or Rules()  # of projects that have none of their own
        self._in_thread = in_thread
        self._now = now
        self._ledger = ledger
        self._artifact_store = artifact_store
        self._kept = kept  # by target
        self._workflows = workflows
        self._locks = locks  # by project, see `_alone`
        # Builds whose end is being committed and whose releases aren't live yet -> the Deferreds that wait for that.
        self._switching: dict[int, list[Deferred[None]]] = {}
        # By project and target, what is being compressed now, and whether to look once more what is live.
        self._compressing: dict[tuple[str, str], bool] = {}
        self._compressors = DeferredSemaphore(COMPRESSED_TOGETHER)
        self._precedence = Precedence()

    async def release_with(self, row: AttemptRow, result: Result, commit: Commit) -> AttemptRow | None:
        """
        Unpack the attempt's releases, one for each target that makes one, ``commit`` the attempt's end with them, and
        make the switches that the ledger says by then. What ``commit`` returned, None if the lease is not valid. Raises
        what ``commit`` does; asking again goes on where it stopped.
        """
        made: list[ReleaseRow] = []
        if result.outcome == "succeeded" and result.artifact is not None:
            try:
                made = [
                    await self._unpack(row, result, result.artifact, target) for target in await self._targets_of(row)
                ]
            except (BadArchive, OSError, NoSuchRelease) as error:
                self._log.error("{attempt} can't be released: {error}", attempt=row.name, error=error)
                result = msgspec.structs.replace(result, outcome="failed", reason=f"it can't be released: {error}")
            crash_point(CrashPoint.APISERVER_RELEASE_UNPACKED)
        if made:
            self._switching.setdefault(row.build, [])
        try:
            finished = await commit(result, made)
            crash_point(CrashPoint.APISERVER_END_COMMITTED)
            if finished is not None and made:
                if finished.state is AttemptState.SUCCEEDED and finished.reason:
                    self._log.info("{attempt}: {reason}", attempt=row.name, reason=finished.reason)
                async with self._alone(row.project):
                    with self._precedence.urgent():
                        followed = [each.target for each in made if await self._follow(row.project, each.target)]
                        self._is_switched(row.build)
                    await self._remove_old(row.project, followed)
                for target in followed:
                    self._compress_soon(row.project, target)
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

    async def activate(self, project: str, release: int, *, by: Actor) -> tuple[ReleaseRow, Standing]:
        """
        Make this release the live one: roll back, or forth. Return it, and what decides about the project's releases
        from then on. Raises `NoSuchRelease`, `NotProtected`, `LedgerUnavailable`.
        """
        with self._precedence.urgent():
            # From the look to the switch: between them another's going live could remove the files of an old release.
            async with self._alone(project):
                wanted = await self._ledger.read(releases.get, project, release)
                if wanted is None or not await self._has(wanted):
                    raise NoSuchRelease(f"{project} has no release {release}, or its files have been removed")
                row, decides = await self._ledger.write(_activate, project, release, self._now(), by)
                # What has become live meanwhile is waited for by its own caller, which has the lock after this one.
                await self._switch(project, row.target, row.id)
        self._compress_soon(project, row.target)
        return row, decides

    def has(self, release: ReleaseRow) -> Awaitable[bool]:
        """Return whether the files of a release are there, so that it can be looked at, and be made live."""
        return self._has(release)

    async def approve(
        self, build: int, commit: Callable[[], Awaitable[tuple[AttemptRow, list[ReleaseRow]]]]
    ) -> AttemptRow:
        """
        ``commit`` the approval of a build whose releases are stored, and make the switches that the ledger says then.
        The attempt's row. Raises what ``commit`` does.
        """
        about = await self._ledger.read(builds.get, build)
        async with self._alone("" if about is None else about.project):
            row, made = await commit()
            for release in made:
                await self._follow(row.project, release.target)
        for release in made:
            self._compress_soon(row.project, release.target)
        return row

    async def resume(self, project: str, *, by: Actor) -> tuple[bool, list[ReleaseRow]]:
        """
        Lift the project's hold, and make the newest release of each target live that waits for it: whether there was a
        hold, and these releases. Raises `NotFound`, `LedgerUnavailable`.
        """
        async with self._alone(project):
            found: set[str] = set()  # the targets of which there is one that can be live
            gone: set[int] = set()
            for waiting in await self._ledger.read(releases.waiting, project):
                if waiting.target in found:
                    continue
                if await self._has(waiting):
                    found.add(waiting.target)
                    continue
                self._log.error(
                    "release {id} of {project} waited to go live, but its files are gone",
                    id=waiting.id,
                    project=project,
                )
                gone.add(waiting.id)
            lifted, rows = await self._ledger.write(_resume, project, self._now(), frozenset(gone), by)
            for row in rows:
                await self._follow(project, row.target)
        for row in rows:
            self._compress_soon(project, row.target)
        return lifted, rows

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

        Everybody waits for this. So the ledger is asked once for all projects, and those that have nothing here are
        left out; what is too old is deleted by `tidy`, a little later. A project whose lock another apiserver has is
        done when that one lets it go: one that is stopped must not keep this one from starting.
        """
        known, live = await self._ledger.read(_known_and_live)
        left: set[str] = set()
        for target, kept in self._kept.items():
            here = set(await self._in_thread(kept.projects))
            wanted = live.get(target, {})
            for name in sorted(known & (here | wanted.keys())):
                if self._locks.are_shared:  # another apiserver may have made another one live since
                    await self._now_or_later(name, partial(self._follow_alone, name, target))
                else:
                    async with self._alone(name):
                        await self._switch(name, target, wanted.get(name))
            left |= here - known
        for name in sorted(left):
            await self._now_or_later(name, partial(self._remove_forgotten, name))

    async def _now_or_later(self, project: str, work: Callable[[Callable[[], bool]], Awaitable[object]]) -> None:
        """Do what needs the project's lock; in a workflow, if another apiserver has that now. Raises what it does."""

        async def later() -> None:
            with suppress(LockedElsewhere):  # the service stops: the next start does it
                await self._workflows.retry_until_available(lambda: work(lambda: self._workflows.stopping))

        try:
            await work(lambda: True)
        except LockedElsewhere:
            self._log.info("another apiserver has {project} locked: its releases are looked at later", project=project)
            self._workflows.launch(later(), f"making live what the ledger says of {project}")

    async def tidy(self, project: str) -> None:
        """
        Delete what is too old of the project's releases, and what nothing has any more, also what a release that a
        crash broke off has left. Releases can be made meanwhile. Raises `LedgerUnavailable`.
        """
        async with self._alone(project):
            if await self._ledger.read(projects.get, project) is not None:
                await self._remove_old(project, self._kept)
        await self._remove_unused(project)
        for target in self._kept:
            await self._compress(project, target)

    async def count_on(self, project: str, attempt: str) -> Collection[str]:
        """
        Return the contents, by SHA-256, that an archive of this attempt may leave out, since all that take it have
        them. They stay until its release is made, or for a week. Raises `LedgerUnavailable`.
        """
        about = await self._ledger.read(projects.get, project)
        if about is None or not TARGETS.take_parts(about.targets):
            return ()
        found: list[Collection[str]] = []
        async with self._alone(project):
            for settings in TARGETS.delivered_by_apiserver(about.targets):
                kept = self._kept[name_of(settings)]
                assert isinstance(kept, Pooled), "it takes parts"
                try:
                    found.append(await self._in_thread(kept.count_on, project, attempt))
                except OSError as error:
                    self._log.error("the releases of {project} can't be read: {error}", project=project, error=error)
                    return ()
        return found[0] if len(found) == 1 else set(found[0]).intersection(*found[1:])

    def stored(self, project: str, sha256: str) -> Path | None:
        """Return the file with a content that a release of the project has, by its SHA-256; None if none has it."""
        files = (kept.file(project, sha256) for kept in self._kept.values() if isinstance(kept, Pooled))
        return next((file for file in files if file.exists()), None)

    async def live_files(self, project: str) -> LiveFiles:
        """Return what is known of the files of the project's live release, as far as that is short."""
        for kept in self._kept.values():
            if isinstance(kept, Pooled):
                try:
                    found = await self._in_thread(kept.live_files, project)
                except OSError as error:
                    self._log.error("the releases of {project} can't be read: {error}", project=project, error=error)
                else:
                    if found.files:
                        return found
        return LiveFiles()

    async def disk_use(self, project: str) -> DiskUse | None:
        """Return what the project's releases take of the disk; None if that can't be said."""
        total: DiskUse | None = None
        for kept in self._kept.values():
            if isinstance(kept, Pooled):
                try:
                    found = await self._in_thread(kept.disk_use, project)
                except OSError as error:
                    self._log.error("the releases of {project} can't be read: {error}", project=project, error=error)
                    return None
                total = found if total is None else DiskUse(*map(sum, zip(total, found, strict=True)))
        return total

    async def compare(self, before: ReleaseRow | None, after: ReleaseRow, most: int) -> Difference:
        """
        Return what a release has other than an older one of its project and target, or than none, with up to ``most``
        files. Raises `NoSuchRelease` if that can't be seen.
        """
        kept = self._kept.get(after.target)
        if not isinstance(kept, Pooled):
            raise NoSuchRelease(f"{after.project} keeps no releases of {after.target} whose files can be compared")
        try:
            return await self._in_thread(
                kept.compare, after.project, None if before is None else before.id, after.id, most
            )
        except NotUnpacked as error:
            raise NoSuchRelease(str(error)) from error
        except OSError as error:
            self._log.error("releases of {project} can't be read: {error}", project=after.project, error=error)
            raise NoSuchRelease(f"the releases of {after.project} can't be read now") from error

    def _compress_soon(self, project: str, target: str) -> None:
        """Compress what is live now: nobody waits for that."""
        self._workflows.launch(self._compress(project, target), f"compressing {project}")

    def _may_compress(self) -> bool:
        """Wait for what is urgent. Return whether to go on. Called in a thread, before each content."""
        self._precedence.give_way()
        return not self._workflows.stopping

    async def _compress(self, project: str, target: str) -> None:
        """
        Compress what is live, in parts; it is served as it is until then. While it is at it, it only notes that it is
        asked for. Raises `LedgerUnavailable`.
        """
        key = project, target
        under_way, self._compressing[key] = key in self._compressing, True
        if under_way:
            return
        try:
            while self._compressing[key]:
                self._compressing[key] = False
                await self._compress_live(project, target)
        finally:
            del self._compressing[key]

    async def _compress_live(self, project: str, target: str) -> None:
        kept = self._kept[target]
        live: ReleaseRow | None = None
        try:
            while isinstance(kept, Pooled) and not self._workflows.stopping:
                async with self._compressors:
                    live = await self._ledger.read(releases.live, project, target)
                    if live is None or self._workflows.stopping:
                        return
                    async with self._contents(project):
                        made = await self._in_thread(
                            kept.compress, project, live.id, COMPRESSED_AT_ONCE, self._may_compress
                        )
                        if made is None:
                            return
                        async with self._alone(project):
                            await self._in_thread(kept.take_compressed, project, made)
        except OSError as error:
            self._log.error(
                "the {target} release {id} of {project} can't be compressed (it is tried again): {error}",
                target=target,
                id=live.id if live is not None else 0,
                project=project,
                error=error,
            )

    async def _remove_unused(self, project: str) -> None:
        for target, kept in self._kept.items():
            if not isinstance(kept, Pooled):
                continue
            try:
                async with self._contents(project):
                    left = await self._in_thread(kept.unused, project)
                    found = len(left.contents)
                    while left.contents and not self._workflows.stopping:
                        async with self._alone(project):
                            left = await self._in_thread(kept.remove_unused, project, left, REMOVED_AT_ONCE)
            except OSError as error:
                self._log.error(
                    "contents that no {target} release of {project} has can't be removed (it is tried again): {error}",
                    target=target,
                    project=project,
                    error=error,
                )
            else:
                if found:
                    self._log.info(
                        "{found} contents that no {target} release of {project} has any more were removed",
                        found=found - len(left.contents),
                        target=target,
                        project=project,
                    )

    async def _follow_alone(self, project: str, target: str, give_up: Callable[[], bool]) -> None:
        async with self._locks.hold(project, give_up):
            await self._follow(project, target)

    async def _remove_forgotten(self, project: str, give_up: Callable[[], bool]) -> None:
        async with self._locks.hold(project, give_up):
            if await self._ledger.read(projects.get, project) is None:  # it may have been made a moment ago
                await self._remove(project)

    async def _remove(self, project: str) -> None:
        """Delete the releases of a project that was deleted. The caller holds the project's lock (`_alone`)."""
        for target, kept in self._kept.items():
            try:
                await self._in_thread(kept.remove_project, project)
            except OSError as error:
                self._log.error(
                    "the {target} releases of {project}, which is no project any more, can't be removed: {error}",
                    target=target,
                    project=project,
                    error=error,
                )
            else:
                self._log.info(
                    "the {target} releases of {project}, which is no project any more, are removed",
                    target=target,
                    project=project,
                )

    async def _targets_of(self, row: AttemptRow) -> list[str]:
        """The targets for which this attempt makes a release."""
        build = await self._ledger.read(builds.get, row.build)
        project = await self._ledger.read(projects.get, row.project)
        if build is None or not build.publish or project is None:
            return []
        return [name_of(settings) for settings in TARGETS.delivered_by_apiserver(project.targets)]

    async def _unpack(self, row: AttemptRow, result: Result, artifact: ArtifactFile, target: str) -> ReleaseRow:
        stored = await self._ledger.read(artifacts.get, row.name)
        if stored is None or not stored.complete or stored.sha256 != artifact.sha256:
            raise NoSuchRelease("what was built has not arrived")
        release = await self._ledger.write(
            _create, row, target, stored.sha256, artifact.files, artifact.unpacked, result.commit, self._now()
        )
        archive = self._artifact_store.path(stored.sha256)
        async with self._alone(row.project):
            # An attempt that was given up meanwhile doesn't keep its project from being deleted.
            if await self._ledger.read(releases.get, row.project, release.id) is None:
                raise NoSuchRelease(f"the project {row.project} was deleted")
            await self._in_thread(_unpack, self._kept[target], release, archive, artifact)
        return release

    async def _has(self, release: ReleaseRow) -> bool:
        """Return whether this release can be made live: its target is known here, and has its files."""
        kept = self._kept.get(release.target)
        return kept is not None and await self._in_thread(kept.has, release.project, release.id)

    async def _follow(self, project: str, target: str) -> bool:
        """Make live what the ledger says. Return whether it is. The caller holds the project's lock (`_alone`)."""
        live = await self._ledger.read(releases.live, project, target)
        return await self._switch(project, target, None if live is None else live.id)

    async def _switch(self, project: str, target: str, live: int | None) -> bool:
        """Make this release live at its target, or none. Return whether it is. The caller holds the project's lock."""
        try:
            await self._in_thread(self._kept[target].reconcile, project, live)
        except (OSError, NotUnpacked) as error:
            self._log.error(
                "the live {target} release of {project} can't be switched (it will be at the next start): {error}",
                target=target,
                project=project,
                error=error,
            )
            return False
        return True

    async def _remove_old(self, project: str, targets: Iterable[str]) -> None:
        """Delete these targets' releases that are too many. The caller holds the project's lock (`_alone`)."""
        for target in targets:
            try:
                keep = await self._ledger.read(_to_keep, project, target, self._rules, self._now())
                if await self._in_thread(self._kept[target].retire, project, keep):
                    self._workflows.launch(self._remove_unused(project), f"removing what {project} has no more")
            except (OSError, NotUnpacked) as error:
                self._log.error(
                    "old {target} releases of {project} can't be deleted (they will be with the next): {error}",
                    target=target,
                    project=project,
                    error=error,
                )

    def _alone(self, project: str) -> AbstractAsyncContextManager[None]:
        """Hold the project's lock: no other call changes the project's releases meanwhile."""
        return self._locks.hold(project)

    def _contents(self, project: str) -> AbstractAsyncContextManager[None]:
        """
        Of all apiservers, one at a time compresses what the project has, or removes what it has no more: each knows
        what itself has just made, which no release has yet.
        """
        return self._locks.hold_among_all(f"{project}.contents")


def _known_and_live(connection: Connection) -> tuple[frozenset[str], dict[str, dict[str, int]]]:
    return projects.all_names(connection), releases.live_of_all(connection)


def _to_keep(connection: Connection, project: str, target: str, rules: Rules, now: int) -> frozenset[int]:
    about = projects.get(connection, project)
    count = KEPT_RELEASES if about is None else effective(about.retention, rules).releases or KEPT_RELEASES
    return releases.to_keep(connection, project, target, count) | previews.to_keep(connection, project, now)


def _unpack(kept: Releases, release: ReleaseRow, archive: Path, artifact: ArtifactFile) -> None:
    """Unpack a release, if there is in its archive what its builder says. Raises `BadArchive`, OSError."""
    files, size = count(archive)
    if (files, size) != (artifact.files, artifact.unpacked):
        raise BadArchive(
            f"it has {counted(files, 'file')} of {counted(size, 'byte')}, and its builder says that it has "
            f"{artifact.files} of {artifact.unpacked}"
        )
    kept.unpack(release.project, release.id, archive)
    if isinstance(kept, Pooled):
        kept.count_off(release.project, release.attempt)


def _create(
    connection: Connection, row: AttemptRow, target: str, sha256: str, files: int, size: int, commit: str, now: int
) -> ReleaseRow:
    return releases.create(
        connection,
        attempt=row.name,
        target=target,
        project=row.project,
        sha256=sha256,
        files=files,
        size=size,
        commit=commit,
        now=now,
    )


def _activate(connection: Connection, project: str, release: int, now: int, by: Actor) -> tuple[ReleaseRow, Standing]:
    waiting = releases.waiting(connection, project)
    row = releases.activate(connection, project, release, now, who=by.name)
    decides = note_standing(connection, [row, *waiting], now)
    _record(connection, "release.activate", project, [row], by, now)
    return row, decides[project]


def _resume(
    connection: Connection, project: str, now: int, gone: frozenset[int], by: Actor
) -> tuple[bool, list[ReleaseRow]]:
    waiting = releases.waiting(connection, project)
    hold, rows = releases.resume(connection, project, now, gone)
    note_standing(connection, waiting, now)
    if hold is not None:
        _record(connection, "release.resume", project, rows, by, now)
    return hold is not None, rows


def _record(connection: Connection, action: str, project: str, rows: Sequence[ReleaseRow], by: Actor, now: int) -> None:
    detail = {"release": ", ".join(str(row.id) for row in rows)} if rows else {}
    audit.record(connection, by=by, action=action, subject=project, project=project, detail=detail, now=now)
