"""
Looks at the repositories whose hosts can't send hooks. Wired by ``compose``. When a project is due is in the ledger
(`storage.polls`), and so is what was seen. A look is asked of a builder, since only builders have a way to a
repository.

A look that a restart has broken off is made again. What has moved is taken ref by ref (`storage.moved`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.builds.access import Access
from twistedipc.builds.counts import counted
from twistedipc.builds.hooks.events import BRANCHES, HookEvent
from twistedipc.builds.messages import DescribeCommits, ListRefs
from twistedipc.builds.needs import lacked
from twistedipc.builds.protection import is_commit
from twistedipc.builds.remotes import (
    MAX_MOVED,
    CommitList,
    CommitsQuestion,
    DescribedCommit,
    Moved,
    RefList,
    RefsQuestion,
    Remote,
    wants,
)
from twistedipc.ipc import CallFailed, CallTimedOut, NotConnected
from twistedipc.server.boundaries import RandomBytes
from twistedipc.server.linked import Link, LinkedBuilders
from twistedipc.server.waiting import why_none
from twistedipc.server.workflows import Workflows
from twistedipc.storage import access, moved, polls
from twistedipc.storage.access import SealedAccess
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.moved import Change
from twistedipc.storage.polls import PollQuestion
from twistedipc.storage.rows import PollRow, PollScope
from twistedipc.storage.secrets import SecretUnreadable
from twistedipc.storage.taking import Taken

#: The most seconds between two rounds. What was just turned on is found by then, and a clock that was set too.
INTERVAL = 15.0

#: Seconds after a start until the first round: builders link meanwhile.
FIRST = 5.0

#: How many repositories are looked at at a time. A builder answers fewer.
MOST = 8

#: How many builders are asked, one after another, if one can't reach a repository.
BUILDERS = 3

#: Seconds for the host to list its refs, and to tell of commits; and how much later an answer may come.
LIST = 60.0
DESCRIBE = 120.0
LATER = 60.0

#: Milliseconds until it is tried again where no builder can look now, and where all have enough to do.
NO_BUILDER = 60_000
BUSY = 10_000


class TakeMoved(Protocol):
    """Takes a ref that has moved: `lifecycle.Lifecycle.take_moved`."""

    async def __call__(
        self, poll: PollRow, repository: str, change: Change, told: HookEvent, asked: int, /
    ) -> Taken: ...


class Opens(Protocol):
    """Opens what is sealed: `build_secrets`' way to what a checkout is given. Raises `SecretUnreadable`."""

    def __call__(self, sealed: SealedAccess, repository: str, /) -> Access: ...


class _Failed(Exception):
    """A repository can't be looked at. ``str()`` of it is a sentence for people."""


class _Waits(Exception):
    """
    A repository can't be looked at now, through no fault of its own. ``str()`` of it says why; "": builders have
    enough to do.
    """

    def __init__(self, why: str, wait: int) -> None:
        super().__init__(why)
        self.wait = wait  # in milliseconds


class _Answer(NamedTuple):
    link: Link
    asked: int  # when it was, in milliseconds since the epoch
    refs: RefList


class Polling:
    """
    Looks at repositories that are due. Implements `boundaries.Looks`.

    :param now: milliseconds since the epoch
    :param opened: returns what a checkout is given
    :param elsewhere: whether a repository may be at no address of a builder's machine
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        random: RandomBytes,
        ledger: Ledger,
        workflows: Workflows,
        linked: LinkedBuilders,
        opened: Opens,
        elsewhere: Callable[[str], bool],
        take: TakeMoved,
    ) -> None:
        self._clock = clock
        self._now = now
        self._random = random
        self._ledger = ledger
        self._workflows = workflows
        self._linked = linked
        self._opened = opened
        self._elsewhere = elsewhere
        self._take = take
        self._timer: IDelayedCall | None = None
        self._looking: set[int] = set()  # the projects' numbers
        self._in_round = False
        self._again = False
        self._ended: list[Callable[[str], None]] = []

    def listen(self, ended: Callable[[str], None]) -> None:
        """Call ``ended`` with a project's name whenever a branch of it is gone."""
        self._ended.append(ended)

    def start(self) -> None:
        """Begin."""
        self._timer = self._clock.callLater(FIRST, self._begin)

    def stop(self) -> None:
        """Begin nothing more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def wake(self) -> None:
        """See `boundaries.Looks`."""
        if self._timer is None:
            return
        if self._in_round:
            self._again = True
        elif self._timer.active():
            self._timer.reset(0)

    # -- rounds

    def _begin(self) -> None:
        self._in_round = True
        self._workflows.launch(self._round(), "looking which repositories are due")

    async def _round(self) -> None:
        pause = INTERVAL
        try:
            while self._timer is not None:
                self._again = False
                for poll in await self._ledger.read(polls.due, self._now()):
                    if self._timer is not None and poll.project_id not in self._looking and len(self._looking) < MOST:
                        self._looking.add(poll.project_id)
                        self._workflows.launch(self._look(poll), f"polling {poll.project}")
                if not self._again:
                    break
            following = await self._ledger.read(polls.next_due)
            if following is not None and not self._looking:
                pause = min(INTERVAL, max(0.1, (following - self._now()) / 1000))
        except LedgerUnavailable as error:
            self._log.info("no repository is looked at now: {error}", error=error)
        finally:
            self._in_round = False
            if self._timer is not None:
                self._timer = self._clock.callLater(0 if self._again else pause, self._begin)

    async def _look(self, poll: PollRow) -> None:
        """Look at one repository. Whatever happens is written down with when it is looked at next."""
        try:
            await self._look_at(poll)
        except LedgerUnavailable as error:
            self._log.info("{project} couldn't be polled: {error}", project=poll.project, error=error)
        except _Waits as waits:
            now = self._now()
            due = now + polls.spread(waits.wait, self._jitter())
            await self._note(polls.waits, poll, str(waits) or poll.reason, now, due)
        except _Failed as failed:
            await self._note(polls.failed, poll, str(failed), self._now(), self._jitter())
        except Exception:
            self._log.failure("polling {project} failed", project=poll.project)
            reason = "the apiserver failed at it: its log says why"
            await self._note(polls.failed, poll, reason, self._now(), self._jitter())
        finally:
            self._looking.discard(poll.project_id)
            self.wake()  # another may wait for its place

    async def _note(self, write: Callable[..., None], *args: object) -> None:
        if self._timer is None:
            return  # that links end says nothing: the next start looks again
        try:
            await self._ledger.write(write, *args)
        except LedgerUnavailable as error:
            self._log.info("what came of polling isn't written down: {error}", error=error)

    def _jitter(self) -> float:
        return int.from_bytes(self._random(4), "big") / (1 << 32)

    # -- one look

    async def _look_at(self, poll: PollRow) -> None:
        question = await self._ledger.read(polls.question, poll)
        if question is None:
            return
        remote = self._remote(poll, question)
        answer = await self._ask(poll, question, remote)
        seen, asked, repository = answer.refs, answer.asked, question.repository
        if seen.host_keys and remote.access is not None:  # no other is trusted from now on
            remote = replace(remote, access=replace(remote.access, known_hosts=seen.host_keys))
        known = question.refs if not seen.head else replace(question.refs, known_head=seen.head)
        scope = PollScope(question=replace(known, head=False), narrowed=seen.narrowed, pulls_from=seen.pulls_from)
        digest = hashlib.sha256(msgspec.json.encode((repository, scope, seen.refs))).hexdigest()
        whole, waiting = True, (0, 0)
        if digest != poll.digest:
            settled = await self._ledger.write(moved.settle, poll, repository, seen, scope, asked)
            if settled.refused:
                raise _Failed(f"{settled.refused} (builder {answer.link.peer.info.name})")
            if seen.unusable:
                self._log.info("{project}: {count} refs have names that can't be built", project=poll.project,
                               count=seen.unusable)  # fmt: skip
            if settled.first:
                self._log.info(
                    "{project} is polled: {count} refs are there", project=poll.project, count=len(seen.refs)
                )
            whole, waiting = settled.whole, settled.waiting
            described = await self._describe(answer.link, remote, settled.changes, question.watch)
            for change in settled.changes:
                whole = await self._taken(poll, repository, change, described.get(change.ref), asked, scope) and whole
        now = self._now()
        usual = now + polls.spread(poll.every * polls.MINUTE, self._jitter())
        await self._ledger.write(
            polls.looked,
            poll,
            builder=answer.link.peer.info.name,
            digest=digest if whole else "",
            refs=len(seen.refs),
            asked=asked,
            now=now,
            due=usual if whole or any(waiting) else now + polls.PAUSE,
            reason=_too_many(*waiting) if any(waiting) else _no_match(known, seen),
        )

    async def _taken(
        self,
        poll: PollRow,
        repository: str,
        change: Change,
        described: DescribedCommit | None,
        asked: int,
        scope: PollScope,
    ) -> bool:
        """Take a ref that has moved. Return False if the next look is to tell."""
        if described is not None:
            change = replace(change, commit=described.commit)  # it may have moved on since it was listed
        told = moved.event_of(change, scope.question.known_head, asked, described)
        try:
            taken = await self._take(poll, repository, change, told, asked)
        except NotPossible as error:
            self._log.info("{project}: {error}", project=poll.project, error=error)
            return False
        if taken.row.outcome == "gone":
            for ended in self._ended:
                ended(poll.project)
        return True

    def _remote(self, poll: PollRow, question: PollQuestion) -> Remote:
        """Return what a builder is told of a repository. Raises `_Failed`."""
        try:
            opened = None if question.access is None else self._opened(question.access, question.repository)
        except SecretUnreadable as error:
            self._log.error("{project} can't be polled: {error}", project=poll.project, error=error)
            raise _Failed("the apiserver can't read its credentials: its key is another than they had") from error
        return Remote(
            project=poll.project,
            repository=question.repository,
            access=opened,
            hosts=question.hosts,
            elsewhere=self._elsewhere(question.repository),
        )

    async def _ask(self, poll: PollRow, question: PollQuestion, remote: Remote) -> _Answer:
        """Return what a builder has seen. Raises `_Failed`, `_Waits`."""
        passing, why = False, ""
        for link in self._links(poll, question.needs)[:BUILDERS]:
            asked = self._now()
            try:
                seen = await link.ask(ListRefs(remote=remote, question=question.refs, timeout=LIST), LIST + LATER)
            except (CallFailed, CallTimedOut, NotConnected) as error:
                passing = passing or isinstance(error, NotConnected) or _is_busy(error)
                why = why or f"builder {link.peer.info.name} can't look: {error}"
                continue
            assert isinstance(seen, RefList)
            if seen.host_keys:
                await self._ledger.write(self._pin, poll, seen.host_keys, link.peer.info.name)
            if not seen.failed:
                return _Answer(link, asked, seen)
            why = f"{seen.failed} (builder {link.peer.info.name})"
        if passing:
            raise _Waits("", BUSY)
        raise _Failed(why)

    def _links(self, poll: PollRow, needs: frozenset[str]) -> Sequence[Link]:
        """Return the builders that may be asked, the one that could look last before others. Raises `_Waits`."""
        ready = self._linked.ready()
        links = [link for link in ready if not link.draining and not lacked(link.features, needs)]
        if not links:
            _code, text = why_none(ready, needs)
            raise _Waits(text, NO_BUILDER)
        jitter = {link.peer.info.name: self._jitter() for link in links}

        def order(link: Link) -> tuple[bool, float]:
            name = link.peer.info.name
            return (name == poll.builder) == bool(poll.failures), jitter[name]

        return sorted(links, key=order)

    def _pin(self, connection: Connection, poll: PollRow, lines: list[str], builder: str) -> None:
        access.pin(connection, poll.project, lines, builder, self._now())

    async def _describe(
        self, link: Link, remote: Remote, changes: Sequence[Change], watch: list[str]
    ) -> dict[str, DescribedCommit]:
        """Return what is known of the commits that would build, by their refs. What isn't known builds."""
        asked = [Moved(ref=each.ref, commit=each.commit, before=each.before) for each in changes if each.builds]
        found: dict[str, DescribedCommit] = {}
        for first in range(0, len(asked), MAX_MOVED):
            some = asked[first : first + MAX_MOVED]
            request = DescribeCommits(
                remote=remote, question=CommitsQuestion(moved=some, watch=watch), timeout=DESCRIBE
            )
            try:
                answer = await link.ask(request, DESCRIBE + LATER)
            except (CallFailed, CallTimedOut, NotConnected) as error:
                self._log.info("nothing is known of commits of {project}: {error}", project=remote.project, error=error)
                continue
            assert isinstance(answer, CommitList)
            if answer.failed:
                self._log.info("nothing is known of commits of {project}: {why}", project=remote.project,
                               why=answer.failed)  # fmt: skip
            names = {each.ref for each in some}
            found |= {each.ref: each for each in answer.commits if each.ref in names and is_commit(each.commit)}
        return found


def _too_many(refs: int, pulls: int) -> str:
    numbers = [
        *([counted(refs, "more branch or tag", "more branches and tags")] if refs else []),
        *([counted(pulls, "more pull request", "more pull requests")] if pulls else []),
    ]
    wait = "has moved and waits" if refs + pulls == 1 else "have moved and wait"
    return (
        f"{' and '.join(numbers)} {wait}: a look makes at most {moved.MOST_BUILDS} builds, and those of an hour "
        f"{moved.MOST_BUILDS_AN_HOUR}"
    )


def _no_match(question: RefsQuestion, seen: RefList) -> str:
    """Return that the filters match no branch that there is, where they are about branches at all; "": one does."""
    if not question.branches or any(
        each.name.startswith(BRANCHES) and wants(question, each.name, question.known_head) for each in seen.refs
    ):
        return ""
    return f"no branch matches the project's filters ({', '.join(question.branches)}): no push to a branch builds"


def _is_busy(error: Exception) -> bool:
    return isinstance(error, CallFailed) and error.code == "busy"
