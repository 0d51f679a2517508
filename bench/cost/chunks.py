"""What an apiserver has committed: looked up in its database, from outside."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from twistedipc.sealed.chunk import messages


@dataclass(frozen=True)
class Stored:
    """What a stretch of time has brought: commits, chunks (what a commit has of one log), their batches and lines."""

    commits: int
    chunks: int
    batches: int
    lines: int


class Chunks:
    """The logs in a ledger, from now on. The caller that makes one has to ask `since`, which ends its thread."""

    #: Seconds between two looks for a commit; the apiserver begins one every 15 ms at most.
    INTERVAL = 0.004

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.commits = 0
        self._over = threading.Event()
        self._counting = threading.Thread(target=self._count, name="commits", daemon=True)
        self._database = self._open()
        self._before = dict(
            self._database.execute(
                "SELECT build_id, max(first_record) FROM (SELECT build_id, first_record FROM log_chunks"
                " UNION ALL SELECT build_id, first_record FROM sealed_chunks) GROUP BY build_id"
            ).fetchall()
        )
        self._counting.start()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True)

    def _count(self) -> None:
        """The version of the data changes with every commit of another process."""
        database = self._open()
        last = None
        while not self._over.wait(self.INTERVAL):
            (version,) = database.execute("PRAGMA data_version").fetchone()
            self.commits += last is not None and version != last
            last = version
        database.close()

    def since(self) -> Stored:
        """What has come since this was made. Once: it closes the database."""
        self._over.set()
        self._counting.join()
        chunks = batches = lines = 0
        rows = self._database.execute("SELECT build_id, first_record, records, data FROM log_chunks")
        for build, first, records, data in rows:
            if first > self._before.get(build, 0):
                chunks += 1
                batches += data.count(b"\n")
                lines += records
        # What the apiserver has sealed since: how many chunks it was before isn't known any more.
        rows = self._database.execute("SELECT build_id, first_record, records, data FROM sealed_chunks")
        for build, first, records, data in rows:
            if first > self._before.get(build, 0):
                chunks += 1
                batches += len(messages(data))
                lines += records
        self._database.close()
        return Stored(self.commits, chunks, batches, lines)
