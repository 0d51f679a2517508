"""
The apiserver's own part of an attempt's log: what the process says that publishes stored packages. Made by
``delivering``.

A builder's records are on its disk, so they may be shown before they are committed. Nothing but the ledger has these:
they are committed first, and so no viewer sees a number twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from twisted.internet.defer import Deferred

from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Event, Lines, Notice, Record, StepEnded, StepStarted, encoder
from twistedipc.sealed.outline import marked_of
from twistedipc.server.boundaries import GistFeed
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.workflows import Workflows
from twistedipc.server.writers import LogWriters
from twistedipc.storage import logs
from twistedipc.storage.errors import LogOrder
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import AttemptRow

#: The step's name, as in a runner.
PUBLISH = "publish"


class _Pending(NamedTuple):
    """Records that wait to be written."""

    time: int
    step: int
    records: Sequence[Record]
    more: list[int]


class DeliveryLog:
    """One attempt's log, to which only this adds. ``now``: milliseconds since the epoch."""

    def __init__(
        self,
        row: AttemptRow,
        ledger: Ledger,
        store: LogStore,
        gists: GistFeed,
        workflows: Workflows,
        writers: LogWriters,
        now: Callable[[], int],
    ) -> None:
        self._row = row
        self._ledger = ledger
        self._store = store
        self._gists = gists
        self._workflows = workflows
        self._writers = writers
        self._now = now
        self._live = store.go_on(row.name)
        running = [step for step in row.steps if step.outcome == "running" and step.name == PUBLISH]
        self._step = running[0].index if running else -1  # a crash has left it
        self._next_step = 1 + max((step.index for step in row.steps), default=-1)
        self._began = running[0].started if running else 0
        self._pending: list[_Pending] = []
        self._writing = False
        self._waiting: list[Deferred[None]] = []

    async def open(self) -> None:
        """Find out where the log goes on, once all is committed that its builder has sent."""
        while True:
            await self._workflows.retry_until_available(lambda: self._store.load(self._live))
            if not self._live.ended:  # else a viewer read it just before
                self._writers.end(self._live)  # nobody but this: what its link's end does to a log isn't for this one
                self._live.active = True
                with suppress(LogOrder):  # it is broken now
                    await self._writers.commits.durable(self._live, self._live.next)
                    return
            self._live = self._store.go_on(self._row.name)

    def begin(self) -> None:
        """A step begins that publishes; or goes on, if a crash has left one."""
        if self._step >= 0:
            self.note("warning", "the apiserver was stopped meanwhile: asking the registry what is there …")
            return
        self._step, self._next_step = self._next_step, self._next_step + 1
        self._began = self._now()
        self._event(StepStarted(self._step, PUBLISH, ""))

    def end(self, reason: str) -> None:
        """The step has ended, if one runs; ``reason`` says why it failed, "" if it didn't."""
        if self._step >= 0:
            outcome = "failed" if reason else "succeeded"
            self._event(StepEnded(self._step, outcome, max(0, self._now() - self._began)))
            self._step = -1

    def note(self, level: str, message: str) -> None:
        """Say something."""
        self._event(Notice(level, message))

    def _event(self, event: Event) -> None:
        self._add(self._now(), [event], [])

    def add(self, batch: Lines) -> None:
        """Add what the process has said, at the end of the log."""
        self._add(batch.time, batch.lines, batch.more)

    def _add(self, time: int, records: Sequence[Record], more: list[int]) -> None:
        self._pending.append(_Pending(time, self._step, records, more))
        if not self._writing:
            self._writing = True
            self._workflows.launch(self._write(), f"writing the log of {self._row.name}")

    async def flushed(self) -> None:
        """Wait until all is written."""
        if self._writing:
            written: Deferred[None] = Deferred()
            self._waiting.append(written)
            await written

    async def _write(self) -> None:
        try:
            while self._pending:
                pending, self._pending = self._pending, []
                await self._workflows.retry_until_available(partial(self._write_all, pending))
        except Exception:
            self._written()
            raise
        self._written()  # not if the service has stopped, and this is thrown away where it waits: nothing goes on then

    def _written(self) -> None:
        self._writing = False
        waiting, self._waiting = self._waiting, []
        for written in waiting:
            written.callback(None)

    async def _write_all(self, pending: Sequence[_Pending]) -> None:
        while True:
            batches, items = _chunks(self._row.name, self._live.next, pending)
            try:
                await self._ledger.write(logs.append, items)
                break
            except LogOrder as error:
                if error.ended:
                    raise
                if error.next_record == batches[-1].end:
                    break  # an earlier try was committed, and its answer was lost
                self._live.broken = True
                await self.open()
        live = self._live
        live.append(batches)
        live.commit(live.next)
        self._store.changed(live)
        self._gists.changed(self._row.build)

    async def digest(self) -> str:
        """Return the digest of all of the log; "" if some of it is missing."""
        if self._live.digest is not None:
            return self._live.digest.hexdigest()
        verified = await self._workflows.retry_until_available(lambda: self._store.verify(self._row.name))
        return str(verified[1])


def _chunks(attempt: str, first: int, pending: Sequence[_Pending]) -> tuple[list[Lines], list[logs.ChunkItem]]:
    """Return what is to be written as batches, the first of which has this number, and as the ledger takes it."""
    batches: list[Lines] = []
    items: list[logs.ChunkItem] = []
    for each in pending:
        batch = Lines(first=first, time=each.time, step=each.step, lines=list(each.records), more=each.more)
        events = [record for record in each.records if isinstance(record, StepStarted | StepEnded)]
        gist = Gist() if events else None
        for event in events:
            assert gist is not None
            gist.add(event)
        items.append(
            logs.ChunkItem(
                attempt=attempt,
                first=first,
                count=len(batch.lines),
                data=encoder.encode(batch) + b"\n",
                events=[(each.time, event) for event in events],
                gist=gist,
                marks=marked_of(batch),
            )
        )
        batches.append(batch)
        first = batch.end
    return batches, items
