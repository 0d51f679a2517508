"""
Looks about once a minute what others have done at the registries: whether a stage that waits for a person was approved
or rejected there, and whether a tag that was set from here leads elsewhere now.

A registry that is busy, or can't be reached, is left alone for a while, which grows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.publish.asking import Answered, Look, StageLook
from twistedipc.server.asking import Asking
from twistedipc.server.workflows import Workflows
from twistedipc.storage import package_requests, package_tags, publications
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.package_tags import WATCHED, Watched
from twistedipc.storage.rows import MovedTagRow

#: Seconds between the beginnings of two rounds.
INTERVAL = 30.0

#: How many packages are looked at in a round. If there are more, each round goes on where the last one ended.
MOST = 200

#: How many packages a process is asked about.
AT_A_TIME = 50

#: The first and the longest pause in seconds, for which a registry is left alone that can't answer.
PAUSE = 60.0
LONGEST_PAUSE = 1800.0

#: The most packages that are watched at all: those that were published last.
WATCHED_AT_MOST = 2000


class _Pauses:
    """For how long which project's target is left alone, or one registry of it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._until: dict[tuple[str, ...], tuple[float, float]] = {}  # -> when it ends, and how long it is

    def holds(self, key: tuple[str, ...]) -> bool:
        """Return whether it is left alone now."""
        return self._until.get(key, (0.0, 0.0))[0] > self._clock.seconds()

    def note(self, key: tuple[str, ...], answered: Answered) -> None:
        """Take note of an answer."""
        unknown = any(each.unknown for each in answered.seen) or any(each.unknown for each in answered.stages)
        if not answered.reason and not unknown:
            self._until.pop(key, None)
            return
        _, before = self._until.get(key, (0.0, 0.0))
        pause = min(LONGEST_PAUSE, max(before * 2, PAUSE, answered.after))
        self._until[key] = self._clock.seconds() + pause, pause


class Watching:
    """
    Looks.

    :param changed_elsewhere: called with an attempt that waits for a person, once one of its stages doesn't any more
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        workflows: Workflows,
        asking: Asking,
        changed_elsewhere: Callable[[str], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._workflows = workflows
        self._asking = asking
        self._changed_elsewhere = changed_elsewhere
        self._pauses = _Pauses(clock)
        self._next = 0  # at which of the watched packages the next round begins
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin with the first round."""
        self._timer = self._clock.callLater(INTERVAL, self._begin)

    def stop(self) -> None:
        """End."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "looking at the registries")

    async def _round(self) -> None:
        began = self._clock.seconds()
        try:
            await self._look_at_stages()
            await self._look_at_tags()
            await self._ledger.write(package_requests.expire, self._now())
        except LedgerUnavailable as error:
            self._log.info("the registries aren't looked at now: {error}", error=error)
        finally:
            if self._timer is not None:
                spent = self._clock.seconds() - began
                self._timer = self._clock.callLater(max(1.0, INTERVAL - spent), self._begin)

    # -- stages

    async def _look_at_stages(self) -> None:
        for attempt, project, target, stages in await self._ledger.read(publications.waiting_stages):
            if self._pauses.holds((project, target)):
                continue
            looks = [StageLook(name=name, stage=stage) for name, stage in stages]
            answered = await self._asking.ask(project, target, stages=looks)
            self._pauses.note((project, target), answered)
            if any(not each.waits for each in answered.stages):
                await self._changed_elsewhere(attempt)

    # -- tags

    async def _look_at_tags(self) -> None:
        found = await self._ledger.read(package_tags.watched, self._now() - WATCHED, WATCHED_AT_MOST)
        at = self._next if self._next < len(found) else 0
        turn = found[at : at + MOST]
        self._next = at + MOST
        by: dict[tuple[str, str, str], list[Watched]] = {}
        for each in turn:
            by.setdefault((each.project, each.target, each.registry), []).append(each)
        for key, packages in by.items():
            for first in range(0, len(packages), AT_A_TIME):
                if not self._pauses.holds(key):
                    await self._look_at(key, packages[first : first + AT_A_TIME])

    async def _look_at(self, key: tuple[str, str, str], packages: Sequence[Watched]) -> None:
        began = self._now()
        project, target, _registry = key
        answered = await self._asking.ask(project, target, looks=[Look(name=each.name) for each in packages])
        self._pauses.note(key, answered)
        seen = {(each.registry, each.name): each.tags for each in answered.seen if not each.unknown}

        def note(connection: Connection) -> list[MovedTagRow]:
            moved: list[MovedTagRow] = []
            for each in packages:
                tags = seen.get((each.registry, each.name))
                if tags:  # where there are none, the package is gone, or can't be seen with this token
                    moved += package_tags.notice(connection, each, tags, self._now(), began=began)
            return moved

        if seen:
            for row in await self._ledger.write(note):
                self._log.warn(
                    "the tag {tag} of {package} was moved from {before} to {version}, and not from here",
                    tag=row.tag,
                    package=row.package,
                    before=row.before,
                    version=row.version or "none",
                )
