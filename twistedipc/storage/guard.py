"""
One apiserver to a database: a second one is refused before it changes anything. Used by ``ledger`` when its owner is an
apiserver; other programs, such as ``token create --config``, open the ledger beside it. ``storage`` layer.

Two things together:

- **A lock that ends with its holder.** On SQLite it is a `flock` on the database's own file, so every way to the same
  file is the same lock, and the kernel lets it go when the process dies. On PostgreSQL it is an advisory lock of a
  connection that does nothing else, which the server lets go when the connection ends. So the successor of an apiserver
  that was killed starts at once.
- **A row, with an epoch**, in the table ``owner``: each apiserver that gets the lock adds one, and on PostgreSQL every
  transaction that writes looks whether the epoch is still its own. A session's lock alone wouldn't do: its connection
  can be lost silently, and another apiserver can have it meanwhile. The row also says who has the database.

A holder whose lock has gone because PostgreSQL was restarted takes it again, if no other apiserver has had it. In every
other case it must end: `Guard.lost` says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from twistedipc.disk.files import PASSING_ERRORS
from twistedipc.storage.clock import ThreadClock
from twistedipc.storage.errors import LedgerLost, LedgerTaken, LedgerUnavailable, LedgerUnusable
from twistedipc.storage.tables import owner

#: Seconds for which to try to get the lock: a process that is just ending, or that asks whether it is free, has it no
#: longer than that.
PATIENCE = 3.0
PAUSE = 0.1

#: Seconds between two looks whether the lock is still held.
WATCH_INTERVAL = 2.0

#: Of the advisory lock: a number that no other program uses, together with the schema's name.
_LOCK = "twistedipc ledger "


class _Lock(Protocol):
    """A lock that ends with its holder."""

    def try_lock(self) -> bool:
        """Get the lock, unless another apiserver has it. Raises `LedgerUnavailable`, and what the driver raises."""

    def why_lost(self) -> str:
        """Why the lock can't be held any more; "" if it is held."""

    def held(self) -> bool:
        """Return whether the lock is held now: if not, `try_lock` may get it again. Raises as `try_lock`."""

    def release(self) -> None:
        """Let the lock go. Idempotent."""


class Guard:
    """
    :param engine: connects to the database, for reading.
    :param now: milliseconds since the epoch.
    :param clock: by which `acquire` waits.
    """

    def __init__(self, url: URL, engine: Engine, now: Callable[[], int], clock: ThreadClock = time) -> None:
        self._lock: _Lock = _FileLock(Path(str(url.database))) if _is_file(url) else _SessionLock(url)
        self._fenced = not _is_file(url)
        self._engine = engine
        self._now = now
        self._clock = clock
        self._epoch = 0  # ours; 0 before `own`
        self.lost = ""  # why the database isn't ours any more

    # All of these block, and are for the ledger's threads.

    def acquire(self, patience: float = PATIENCE) -> None:
        """Get the database, before anything in it is changed. Raises `LedgerTaken`, `LedgerUnavailable`."""
        end = self._clock.monotonic() + patience
        while not self._lock.try_lock():
            if self._clock.monotonic() >= end:
                raise LedgerTaken(self._who_has_it())
            self._clock.sleep(PAUSE)

    def own(self, connection: Connection) -> None:
        """Say that it is ours, in a transaction that has the newest schema: no earlier owner can write any more."""
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
        self._epoch = int(values["epoch"])

    def check(self, connection: Connection) -> None:
        """
        To be called in each transaction that writes, first: no other apiserver can take the database over before that
        transaction has ended. Raises `LedgerLost`.
        """
        if self.lost:
            raise LedgerLost(self.lost)
        if self._fenced:
            query = select(owner.c.epoch).where(owner.c.id == 1).with_for_update(read=True)
            if connection.execute(query).scalar() != self._epoch:
                self.lost = self._who_has_it(connection)
                raise LedgerLost(self.lost)

    def watch(self) -> None:
        """To be called every `WATCH_INTERVAL`: get the lock again if it was lost, or set `lost`."""
        try:
            why = self._lock.why_lost()
            if not why and not self._lock.held():
                if not self._lock.try_lock():
                    why = self._who_has_it()  # it was got by another one meanwhile
                else:
                    why = self._lock.why_lost()
                    with self._engine.connect() as connection, connection.begin():
                        self.check(connection)
        except LedgerLost as error:
            why = str(error)
        except (DBAPIError, LedgerUnavailable):
            return  # it can't be asked now; no write can be made either without `check`
        self.lost = self.lost or why

    def release(self) -> None:
        """Let the database go. Idempotent."""
        self._lock.release()

    def _who_has_it(self, connection: Connection | None = None) -> str:
        """Return the message for the apiserver that is refused."""
        who = ""
        with contextlib.suppress(DBAPIError):  # a database of before this table
            with self._engine.connect() if connection is None else contextlib.nullcontext(connection) as asked:
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
    lock: _Lock = _FileLock(Path(str(url.database))) if _is_file(url) else _SessionLock(url)
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

    def held(self) -> bool:
        return self._locked

    def release(self) -> None:
        descriptor, self._descriptor, self._locked = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)


class _SessionLock:
    """An advisory lock of PostgreSQL, on a connection of its own."""

    def __init__(self, url: URL) -> None:
        from twistedipc.storage import postgresql  # its driver is an extra

        self._engine = postgresql.session_engine(url, patient=False)
        self._connection: Connection | None = None
        self._server = ""  # since when the server runs that gave us the lock
        self._lost = ""

    def try_lock(self) -> bool:
        connection: Connection | None = self._engine.connect()
        assert connection is not None
        try:
            schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
            number = int.from_bytes(hashlib.sha256(f"{_LOCK}{schema}".encode()).digest()[:8], "big", signed=True)
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar():
                return False
            server = str(connection.exec_driver_sql("SELECT pg_postmaster_start_time()").scalar())
            if server == self._server:
                # A server that was restarted has ended all connections; this one has ended ours alone.
                self._lost = "PostgreSQL has ended the connection that held this database's lock, and runs on"
            self._server = server
            self._connection, connection = connection, None
            return True
        finally:
            if connection is not None:
                connection.close()

    def why_lost(self) -> str:
        return self._lost

    def held(self) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.exec_driver_sql("SELECT 1")
        except DBAPIError:
            self.release()
            return False
        return True

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.invalidate()
                connection.close()
