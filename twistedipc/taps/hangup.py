"""
SIGHUP, for both services: it reopens log files, has certificates looked at, and ends nothing.

That is what logrotate sends after it has moved a log away, and what a terminal sends when it is closed. Without a
handler it would end the process at once, without a line in any log.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from types import FrameType

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.logfile import BaseLogFile


class Hangups(Service):
    """To be made as soon as there is a reactor, and started when logging has begun."""

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._files: list[BaseLogFile] = []
        self._also: list[Callable[[], None]] = []
        signal.signal(signal.SIGHUP, self._received)

    def listen(self, also: Callable[[], None]) -> None:
        """Call this too, in the reactor's thread."""
        self._also.append(also)

    def startService(self) -> None:
        """
        Find the files that twistd, or a logger that it was given, logs to. Twisted has no list of them, so all
        objects are looked through, once: before `gc.freeze`, which hides them.
        """
        super().startService()
        self._files = [each for each in gc.get_objects() if isinstance(each, BaseLogFile)]

    def _received(self, number: int, frame: FrameType | None) -> None:
        # In the middle of anything.
        self._reactor.callFromThread(self._reopen)

    def _reopen(self) -> None:
        for file in self._files:
            try:
                # A file that can't be reopened goes on being written where it is now.
                with open(file.path, "ab"):
                    pass
                file.reopen()
            except OSError as error:
                self._log.error("the log file {path} can't be reopened: {error}", path=file.path, error=error)
            else:
                self._log.info("SIGHUP: reopened {path}", path=file.path)
        if not self._files:
            self._log.info("SIGHUP: there is no log file to reopen; the service goes on")
        for each in self._also:
            each()
