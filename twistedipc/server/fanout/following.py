"""
Logs that are written at another apiserver, followed by reading the ledger: once for all viewers of a log, who are given
what comes from the same tail as of a log that is written here. Used by ``neighbours``.
"""

from __future__ import annotations

from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.workflows import Workflows
from twistedipc.storage import logs
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.ledger import Ledger


class Following:
    """The logs that have viewers here and no writer."""

    def __init__(self, ledger: Ledger, store: LogStore, workflows: Workflows) -> None:
        self._ledger = ledger
        self._store = store
        self._workflows = workflows
        self._reading: set[LiveLog] = set()

    async def look(self) -> None:
        """Look which of them have grown, by one query, and have that read. Raises `LedgerUnavailable`."""
        followed = {live.attempt: live for live in self._store.followed() if live not in self._reading}
        if not followed:
            return
        ends: dict[str, int] = await self._ledger.read(logs.ends, tuple(sorted(followed)))
        for attempt, live in followed.items():
            if ends.get(attempt, 0) > live.next and live not in self._reading:
                self._reading.add(live)
                self._workflows.launch(self._read(live, ends[attempt]), f"following the log of {attempt}")

    async def _read(self, live: LiveLog, end: int) -> None:
        try:
            while live.next < end and self._store.is_followed(live):
                began = live.next
                entries = await self._store.read(live.attempt, began)
                if not entries or live.next != began or not self._store.is_followed(live):
                    return
                live.follow(entries)
                self._store.changed(live)
        except LedgerUnavailable:
            return  # the next look goes on
        finally:
            self._reading.discard(live)
