"""
One apiserver to a SQLite database and to a data folder: a second one is refused before it changes anything. Used by
``ledger`` when its owner is an apiserver; other programs, such as ``token create --config``, open the ledger beside it.
How several share a PostgreSQL is ``presence``. ``storage`` layer.

Two things together:

- **A lock that ends with its holder**: a `flock` on the database's own file, so every way to the same file is the same
  lock, and the kernel lets it go when the process dies. So the successor of one that was killed starts at once.
- **A row**, in the table ``owner``: it says who has the database.

An apiserver whose file was removed or replaced must end: `Guard.lost` says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from twistedipc.disk.files import PASSING_ERRORS
from twistedipc.storage.apiservers import Incarnation
from twistedipc.storage.clock import ThreadClock
from twistedipc.storage.engines import BUSY_TIMEOUT, engine_for
from twistedipc.storage.errors import LedgerLost, LedgerTaken, LedgerUnavailable, LedgerUnusable
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.presence import is_free_of_apiservers
from twistedipc.storage.tables import owner

#: Seconds for which to try to get the lock: a process that is just ending, or that asks whether it is free, has it no
#: longer than that.
PATIENCE = 3.0
PAUSE = 0.1

#: Seconds between two looks whether the lock is still held.
WATCH_INTERVAL = 2.0


class Guard:
    """
    :param engine: connects to the database, for reading.
    :param now: milliseconds since the epoch.
    :param clock: by which `acquire` waits.
    """

    incarnation: Incarnation | None = None  # no other apiserver can be there
    others = False

    def __init__(self, url: URL, engine: Engine, now: Callable[[], int], clock: ThreadClock = time) -> None:
        self._lock = _FileLock(Path(str(url.database)))
        self._engine = engine
        self._now = now
        self._clock = clock
        self.lost = ""  # why the database isn't ours any more

    # All of these block, and are for the ledger's threads.

    def start(self, writer: Engine) -> None:
        """Get the database, and bring its schema up to date. Raises as `acquire`, and what the driver raises."""
        self.acquire()
        with writer.connect() as connection, connection.begin():
            upgrade(connection)
            self.own(connection)

    def acquire(self, patience: float = PATIENCE) -> None:
        """Get the database, before anything in it is changed. Raises `LedgerTaken`, `LedgerUnavailable`."""
        end = self._clock.monotonic() + patience
        while not self._lock.try_lock():
            if self._clock.monotonic() >= end:
                raise LedgerTaken(self._who_has_it())
            self._clock.sleep(PAUSE)

    def own(self, connection: Connection) -> None:
        """Say that it is ours, in a transaction that has the newest schema."""
        epoch = connection.execute(select(owner.c.epoch).where(owner.c.id == 1)).scalar()
        values = {
            "epoch": (epoch or 0) + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._now(),
        }
        if epoch is None:
            connection.execute(insert(owner).values(id=1, **values))
        else:
            connection.execute(update(owner).where(owner.c.id == 1).values(**values))

    def check(self, connection: Connection) -> None:
        """To be called in each transaction that writes, first. Raises `LedgerLost`."""
        if self.lost:
            raise LedgerLost(self.lost)

    def end(self, connection: Connection) -> None:
        """To be called last in each transaction that writes."""

    def watch(self) -> None:
        """To be called every `WATCH_INTERVAL`: set `lost` if it was."""
        self.lost = self.lost or self._lock.why_lost()

    def cut_off(self) -> bool:
        """As `Presence.cut_off`: there are no others."""
        return False

    def release(self) -> None:
        """Let the database go. Idempotent."""
        self._lock.release()

    def _who_has_it(self) -> str:
        """Return the message for the apiserver that is refused."""
        who = ""
        with contextlib.suppress(DBAPIError):  # a database of before this table
            with self._engine.connect() as asked:
                row = asked.execute(select(owner).where(owner.c.id == 1)).first()
            if row is not None:
                since = datetime.fromtimestamp(row.started / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
                who = f": process {row.pid} on {row.host}, since {since}"
        return (
            f"another apiserver has this database{who}. Stop that one first, or give this one a database and a data "
            "folder of its own"
        )


def is_free(url: URL) -> bool:
    """
    Whether no apiserver has the database now. Raises as `Guard.acquire`. Nothing in this process may be connected to
    it, for SQLite's sake.
    """
    if not _is_file(url):
        engine = engine_for(url, writes=True, busy_timeout=BUSY_TIMEOUT, clock=time)
        try:
            with engine.connect() as connection, connection.begin():
                return is_free_of_apiservers(connection)
        finally:
            engine.dispose()
    lock = _FileLock(Path(str(url.database)))
    try:
        return lock.try_lock()
    finally:
        lock.release()


class FolderLock:
    """The data folder of one apiserver, which no other may work in. Kept until the process ends."""

    def __init__(self, folder: Path, clock: ThreadClock = time) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = _FileLock(folder / "lock")

    def acquire(self) -> None:
        """Raises `LedgerTaken`, OSError. It may be called again."""
        os.close(os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        end = self._clock.monotonic() + PATIENCE
        while not self._lock.try_lock():
            if self._clock.monotonic() >= end:
                raise LedgerTaken(f"another apiserver works in the data folder {self._folder}. Stop that one first")
            self._clock.sleep(PAUSE)

    def release(self) -> None:
        """Let the folder go. Idempotent."""
        self._lock.release()


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


class _FileLock:
    """
    On a file that is there. SQLite's own locks are of another kind, and unharmed by this one, except when a descriptor
    of the file is closed: then the process loses all of them. So it is closed after the database was, and not between
    two tries.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._locked = False

    def try_lock(self) -> bool:
        if self._locked:
            return True
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            kind = LedgerUnavailable if error.errno in PASSING_ERRORS else LedgerUnusable
            raise kind(f"{self._path} can't be locked: {error.strerror}") from error
        self._locked = True
        return True

    def why_lost(self) -> str:
        descriptor = self._descriptor
        if descriptor is None:
            return ""  # it is being released
        try:
            there = os.stat(self._path)
            mine = os.fstat(descriptor)
        except FileNotFoundError:
            return f"{self._path} has been removed"
        except OSError:
            return ""  # a disk that doesn't answer now
        replaced = (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
        return f"{self._path} has been replaced by another file" if replaced else ""

    def release(self) -> None:
        descriptor, self._descriptor, self._locked = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)
