"""
The process that tidies what builds keep for the next ones (``caches.tidying``): started when an attempt has gone, never
two at once. Made by ``compose``.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.attempts.programs import own_command
from twistedipc.attempts.room import default_reserve
from twistedipc.builder.settings import Settings
from twistedipc.caches.tidying import anything


class TidyingProcess:
    """Runs ``python -m twistedipc.caches``. It outlives a builder that stops meanwhile, and does no harm then."""

    _log = Logger()

    def __init__(self, reactor: IReactorProcess, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._running = False
        self._again = False

    def soon(self) -> None:
        """Tidy now, or once more when the process that is at it has ended."""
        if self._running:
            self._again = True
        elif self._settings.caches is not None and anything(self._settings.kept):
            self._start()

    def _start(self) -> None:
        assert self._settings.caches is not None
        reserve = self._settings.reserve
        free = default_reserve(self._settings.data) if reserve is None else reserve
        limits = msgspec.structs.replace(self._settings.caches, free=free)
        command = own_command("twistedipc.caches", str(self._settings.kept))
        try:
            self._reactor.spawnProcess(
                _Exit(self._ended),
                command[0],
                [*command, msgspec.json.encode(limits).decode()],
                env={"PATH": self._settings.path, "LANG": "C.UTF-8"},
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except OSError as error:
            self._log.error("the caches can't be tidied now: {error}", error=error)
            return
        self._running = True

    def _ended(self, output: bytes) -> None:
        self._running = False
        if output:
            said = output.decode("utf-8", "replace").strip()[-2000:]
            self._log.error("tidying the caches failed: {said}", said=said)
        if self._again:
            self._again = False
            self._start()


class _Exit(ProcessProtocol):
    """Collects what the process prints, which is something only if it fails."""

    def __init__(self, ended: Callable[[bytes], None]) -> None:
        self._ended = ended
        self._output = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output = (self._output + data)[-8192:]

    def processEnded(self, reason: Failure) -> None:
        self._ended(self._output)
