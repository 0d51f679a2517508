"""
The audit as JSON lines in a file, for whoever keeps it elsewhere (``[audit] file``). A child of ``apiserver``.

The ledger has the audit; this copies it, oldest first, in the form that ``GET /audit`` has. Every line is written at
least once. The id of the last one is kept in the data folder, so the file may be moved away at any time, by logrotate
say, and a new one goes on with what comes next. While the file can't be written, the lines wait in the ledger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.disk.files import read_file, write_file
from twistedipc.server.boundaries import InThread
from twistedipc.storage import audit
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import AuditRow
from twistedipc.web.api.audit import line

#: Seconds between two looks, and the most lines that are read and written at once.
INTERVAL = 1.0
MAX_LINES = 500


class Position(msgspec.Struct, frozen=True):
    """How far the audit is copied."""

    copied: int  # the id of the last line


class AuditFile(Service):
    """
    Copies the audit to ``path``, which is made readable for its owner alone. ``position``: the file that says how far
    it is; ``now``: milliseconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        in_thread: InThread,
        path: Path,
        position: Path,
    ) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._in_thread = in_thread
        self._path = path
        self._position = position
        self._timer: IDelayedCall | None = None
        self._copying: Deferred[None] | None = None
        self._trouble = ""  # why it can't be written now; said once

    @property
    def in_trouble(self) -> bool:
        """Whether the last try failed."""
        return bool(self._trouble)

    def startService(self) -> None:
        """Begin. The ledger is open by then."""
        super().startService()
        self._look()

    def stopService(self) -> Deferred[None] | None:
        """Stop. What isn't copied by then is copied after the next start."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._copying

    def _look(self) -> None:
        self._timer = None
        self._copying = Deferred.fromCoroutine(self._copy())
        self._copying.addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._copying = None
        if self.running:
            self._timer = self._clock.callLater(INTERVAL, self._look)

    async def _copy(self) -> None:
        try:
            while self.running:
                known = await self._in_thread(read_file, self._position, Position)
                after = 0 if known is None else known.copied
                until = self._now() - audit.SETTLED
                rows = await self._ledger.read(audit.list_page, after=after, until=until, limit=MAX_LINES)
                if rows:
                    await self._in_thread(append, self._path, self._position, rows)
                self._trouble = ""
                if len(rows) < MAX_LINES:
                    return
        except (OSError, LedgerUnavailable, msgspec.DecodeError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._log.error(
                    "the audit can't be copied to {path} (its lines wait in the database): {error}",
                    path=self._path,
                    error=error,
                )


def append(path: Path, position: Path, rows: Sequence[AuditRow]) -> None:
    """Write the lines to the end of the file, durably, and then note how far it is. Blocks."""
    data = memoryview(b"".join(msgspec.json.encode(line(row)) + b"\n" for row in rows))
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if _ends_within_a_line(descriptor):
            data = memoryview(b"\n" + bytes(data))  # a crash or a full disk cut it; it is written again
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    write_file(position, Position(rows[-1].id), mode=0o600)


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
