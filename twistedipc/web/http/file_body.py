"""
Files as bodies of responses. ``web.http``; used by ``file_response``.

A body is the connection's push producer: it reads a block only while the connection takes more. So a slow client costs
an open file and what the transport holds, and a client that takes nothing is cut off (``stall``).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.stall import StallWatch

#: Bytes that are read at a time. The transport holds at most two such blocks, and the few bytes between ranges.
BLOCK = 1 << 16


class FileIsShort(Exception):
    """The file has become shorter since the response began."""


@implementer(IPushProducer)
class FileBody:
    """
    One body: ``pieces`` one after the other, each of them bytes or a range of the open file. Writes all, finishes the
    request, and closes the file in any case. If the file can't be read, the promised Content-Length can't be kept:
    then the connection is closed, so that the client notices.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, request: BoundedRequest, file: int, pieces: Iterable[bytes | range]
    ) -> None:
        self._request: BoundedRequest | None = request
        self._file = file
        self._pieces = deque(piece for piece in pieces if piece)
        self._paused = False
        self._stall = StallWatch(clock, request, self._break_off)

    def start(self) -> None:
        """Write as much as the connection takes, and go on when it takes more."""
        request = self._request
        assert request is not None
        request.notifyFinish().addErrback(self._lost)
        request.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """Stop writing: the connection has enough for now."""
        self._paused = True
        if self._request is not None:
            self._stall.begin()

    def resumeProducing(self) -> None:
        """Write on: the connection takes more."""
        self._paused = False
        self._stall.end()
        try:
            self._write_blocks()
        except Exception:
            # The caller is the transport or the resource, and neither would close this connection.
            self._log.failure("a file can't be read to its end; the connection is closed")
            self._break_off()

    def stopProducing(self) -> None:
        """Do nothing: `notifyFinish` reports the lost connection too."""
        self._close()

    def _write_blocks(self) -> None:
        while not self._paused and (request := self._request) is not None:
            if not self._pieces:
                self._close()
                request.unregisterProducer()
                request.finish()
                return
            piece = self._pieces.popleft()
            if isinstance(piece, bytes):
                request.write(piece)
                continue
            block = os.pread(self._file, min(BLOCK, len(piece)), piece.start)
            if not block:
                raise FileIsShort(f"it ends at {piece.start} bytes, {len(piece)} too early")
            if len(block) < len(piece):
                self._pieces.appendleft(piece[len(block) :])
            request.write(block)

    def _break_off(self) -> None:
        request = self._request
        if request is not None:
            self._close()
            request.unregisterProducer()
            request.abort()

    def _lost(self, _: Failure) -> None:
        self._close()

    def _close(self) -> None:
        if self._request is not None:
            self._request = None
            self._stall.end()
            os.close(self._file)
