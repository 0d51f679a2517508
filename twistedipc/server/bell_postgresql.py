"""
The bell's wire by PostgreSQL: LISTEN on a connection of its own, NOTIFY in the transaction of what it tells, so that it
comes with the commit. Made by ``taps``.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

from psycopg import Connection as DriverConnection
from sqlalchemy import URL, Connection
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from twistedipc.storage.postgresql import session_engine

#: PostgreSQL's name of what is listened to.
CHANNEL: Final = "twistedipc"

#: Seconds without a notification after which the server is asked whether it is still there.
PING: Final = 5.0

#: Seconds until a connection is made again: the first time, and at most.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class PostgresWire:
    """See `bell.Wire`."""

    transactional = True

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, url: URL) -> None:
        self._reactor = reactor
        self._engine = session_engine(url)
        self._stopped = threading.Event()
        self._connection: DriverConnection[object] | None = None
        self._failing = False  # it was said that nothing is heard

    def start(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """See `bell.Wire`."""
        thread = threading.Thread(target=self._run, args=(heard, missed), name="bell", daemon=True)
        thread.start()

    def stop(self) -> None:
        """See `bell.Wire`. The thread isn't waited for: it may wait for a server that doesn't answer."""
        self._stopped.set()
        connection = self._connection
        if connection is not None:
            # It waits for notifications: this wakes it.
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as its:
                its.shutdown(socket.SHUT_RDWR)

    def carry(self, connection: Connection, text: str) -> None:
        """See `bell.Wire`."""
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, text))

    def send(self, text: str) -> None:
        """See `bell.Wire`: all is sent in transactions."""
        raise AssertionError("a wire that is transactional sends nothing else")

    # -- in the thread

    def _run(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                for text in self._listening():
                    pause = FIRST_PAUSE
                    if text is None:
                        self._failing = False
                        self._tell(missed)
                    else:
                        self._tell(heard, text)
            except Exception as error:  # SQLAlchemy's, and the driver's own
                self._note(error)
            self._stopped.wait(random.uniform(0, pause))  # not all apiservers in the same moment
            pause = min(2 * pause, LONGEST_PAUSE)

    def _listening(self) -> Iterator[str | None]:
        """Listen on one connection: None once that has begun, then what is heard."""
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, DriverConnection)
            self._connection = driver
            try:
                driver.execute(f"LISTEN {CHANNEL}")
                yield None
                while not self._stopped.is_set():
                    for notified in driver.notifies(timeout=PING):
                        yield notified.payload
                    driver.execute("SELECT 1")
            finally:
                self._connection = None
                connection.invalidate()

    def _tell(self, told: Callable[..., None], *what: str) -> None:
        if not self._stopped.is_set():
            self._reactor.callFromThread(told, *what)

    def _note(self, error: Exception) -> None:
        if not self._stopped.is_set() and not self._failing:
            self._failing = True
            self._log.info("notifications aren't heard now: {error}", error=" ".join(str(error).split())[:300])
