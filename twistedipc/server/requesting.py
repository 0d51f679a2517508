"""
Carries out what people ask to be done with packages that are published: a tag moved to a version, or back to where it
was, and a version deprecated. What is to be done is in the ledger, so a start goes on where a crash has stopped it.

The registry is looked at first; what is there is written down before it is changed; and what became of it afterwards.
A one-time password goes from the request's memory to the process that asks, and is nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.names import shown
from twistedipc.builds.states import RequestState
from twistedipc.builds.word import MAX_REASON
from twistedipc.publish.asking import Change, Changed, Look, Seen
from twistedipc.server.asking import Asking
from twistedipc.server.workflows import Workflows
from twistedipc.storage import package_requests, package_tags, versions
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor, PackageRequestRow

_T = TypeVar("_T")

#: How many requests are carried out at a time.
MOST = 2

#: The kind of a request that removes a tag.
UNTAG = "untag"

#: How often it is looked again, if a tag moves meanwhile.
TRIES = 3


class CantDo(Exception):
    """A request can't be carried out. ``str()`` of it is a sentence for people."""


class Requesting:
    """Carries out requests. Implements `boundaries.PackageRequests`."""

    _log = Logger()

    def __init__(self, *, now: Callable[[], int], ledger: Ledger, workflows: Workflows, asking: Asking) -> None:
        self._now = now
        self._ledger = ledger
        self._workflows = workflows
        self._asking = asking
        self._passwords: dict[int, str] = {}  # request -> the one-time password that somebody has given for it
        self._running: set[int] = set()
        self._looking = False
        self._again = False
        self._stopped = True  # until the start: another apiserver may carry out what is asked here

    # -- people ask

    async def request(
        self,
        *,
        project: str,
        package: str,
        kind: str,
        tag: str,
        version: str,
        message: str,
        otp: str,
        by: Actor,
    ) -> PackageRequestRow:
        """See `boundaries.PackageRequests`."""
        row = await self._ledger.write(
            package_requests.add,
            project=project,
            package=package,
            kind=kind,
            tag=tag,
            version=version,
            message=message,
            by=by,
            now=self._now(),
        )
        return self._begin(row, otp)

    async def give_password(self, project: str, request: int, otp: str, by: Actor) -> PackageRequestRow:
        """See `boundaries.PackageRequests`."""
        row = await self._ledger.write(package_requests.resume, project, request, by, self._now())
        return self._begin(row, otp)

    def _begin(self, row: PackageRequestRow, otp: str) -> PackageRequestRow:
        if otp:
            self._passwords[row.id] = otp
        self.wake()
        return row

    # -- they are carried out

    def start(self) -> None:
        """Go on with what a stop has left."""
        self._stopped = False
        self.wake()

    def stop(self) -> None:
        """Begin nothing more: the next start goes on."""
        self._stopped = True
        self._passwords.clear()

    def wake(self) -> None:
        """Look what is to be done, now or once more after the look that is under way."""
        if self._stopped:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._workflows.launch(self._look(), "looking for what is to be done with packages")

    async def _look(self) -> None:
        try:
            while True:
                self._again = False
                rows = await self._workflows.retry_until_available(lambda: self._ledger.read(package_requests.going_on))
                for row in rows:
                    if row.id not in self._running and len(self._running) < MOST and not self._stopped:
                        self._running.add(row.id)
                        self._workflows.launch(self._carry_out(row), f"request {row.id} about {row.package}")
                if not self._again:
                    return
        finally:
            self._looking = False

    async def _carry_out(self, row: PackageRequestRow) -> None:
        otp = self._passwords.pop(row.id, "")
        try:
            changed = await self._do(row, otp)
        except CantDo as error:
            changed = Changed(outcome="failed", reason=str(error))
        finally:
            self._running.discard(row.id)
        if self._stopped:
            return  # that a process was killed says nothing of what it did: the next start looks
        reason = shown(changed.reason, MAX_REASON)
        if changed.outcome == "password":
            where = f", or confirm it at {shown(changed.page, MAX_REASON)}" if changed.page else ""
            said = f"the registry wants a one-time password{where}"
            said += f" ({reason})" if otp else ""  # the one that was given is refused, or has run out
            await self._write(lambda connection: package_requests.wait(connection, row.id, said, self._now()))
        else:
            state = RequestState.DONE if changed.outcome in ("done", "already") else RequestState.FAILED
            if changed.outcome == "already" and not reason:
                reason = "it was so already"
            await self._write(lambda connection: package_requests.end(connection, row.id, state, reason, self._now()))
        self.wake()  # another may wait for its turn

    async def _do(self, row: PackageRequestRow, otp: str) -> Changed:
        """Do it: look, write down what is there, and change it. Raises `CantDo`."""
        changed = Changed(outcome="failed", reason="the tag is moved again and again: look, and ask again")
        for _ in range(TRIES):
            change = await self._planned(row)
            crash_point(CrashPoint.APISERVER_REQUEST_BEGUN)
            answered = await self._asking.ask(row.project, row.target, change=change, otp=otp)
            crash_point(CrashPoint.APISERVER_REQUEST_DONE)
            if answered.changed is None:
                raise CantDo(answered.reason or "the process that asks the registry didn't say what it did")
            if answered.changed.outcome != "moved":
                return answered.changed
            changed = Changed(outcome="failed", reason=answered.changed.reason)
        return changed

    async def _planned(self, row: PackageRequestRow) -> Change:
        """Look at the registry, and write down what is there and that it is changed next. Raises `CantDo`."""
        looks = [Look(name=row.package, versions=[row.version] if row.version else [])]
        answered = await self._asking.ask(row.project, row.target, looks=looks)
        if answered.reason or not answered.seen:
            raise CantDo(answered.reason or "the process that asks the registry didn't answer")
        seen = answered.seen[0]
        if seen.unknown:
            raise CantDo(f"the registry can't be asked what it has of {row.package}: {seen.unknown}")
        change = await self._write(lambda connection: self._plan(connection, row, seen))
        if isinstance(change, str):
            raise CantDo(change)
        return change

    def _plan(self, connection: Connection, row: PackageRequestRow, seen: Seen) -> Change | str:
        """Write down that a request is carried out next. Return what is to be done, or why nothing can be."""
        version, before = row.version, seen.versions.get(row.version, "")
        if row.kind == UNTAG:
            before = seen.tags.get(row.tag, "")
            if why := versions.why_not_removed(connection, row.project, row.tag, before):
                return why
            before = before or row.before  # it was done before a crash
        elif row.tag:
            before = seen.tags.get(row.tag, "")
            if not version:
                version = package_tags.came_from(connection, seen.registry, row.package, row.tag, before)
            if not version:
                return f"the ledger doesn't know to which version {row.tag} led before " + (
                    f"{before}: say which one" if before else "it was removed: say which one"
                )
            if before == version and row.before:
                before = row.before  # it was done before a crash
        try:
            who = package_requests.begin(connection, row.id, seen.registry, version, before, self._now())
        except NotPossible as error:
            return str(error)
        if who:
            return f"{_named(who)} changes {row.package} now: ask again once it has ended"
        return Change(
            kind="untag" if row.kind == UNTAG else "tag" if row.tag else "deprecate",
            name=row.package,
            version=version,
            tag=row.tag,
            expected=seen.tags.get(row.tag, ""),
            back=row.kind == "rollback",
            message=row.message,
        )

    async def _write(self, query: Callable[[Connection], _T]) -> _T:
        return await self._workflows.retry_until_available(lambda: self._ledger.write(query))


def _named(holder: str) -> str:
    """Return who has a lock, for people."""
    kind, _, number = holder.partition("-")
    return f"request {number}" if kind == "request" else f"build {kind}"
