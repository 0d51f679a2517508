"""
`twistedipc mcp` as a process: it reads standard input, answers on standard output, and calls tools in threads of their
own, so that one that takes long keeps no other waiting and can be cancelled. ``cli.mcp``.

Nothing but the protocol goes to standard output: whatever else this process prints goes to standard error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from twistedipc.cli.mcp.protocol import Protocol
from twistedipc.cli.mcp.wire import (
    BUSY,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Conversation,
    Id,
    Message,
    RpcError,
    error_line,
    is_id,
    result_line,
)

#: Calls that go on at once, and that wait; more are refused.
THREADS: Final = 4
WAITING: Final = 32

#: Seconds that calls have when the client has closed standard input: as long as an answer of the server's may take.
LAST_SECONDS: Final = 60.0


class Serving:
    """One client's conversation. ``read`` returns its next bytes, b"" at the end; ``write`` takes whole lines."""

    def __init__(self, protocol: Protocol, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        self._protocol = protocol
        self._read = read
        self._write = write
        self._alone = threading.Lock()  # around writing, and around the two below
        self._going_on: set[Id] = set()
        self._cancelled: set[Id] = set()
        self._calls: queue.Queue[Message | None] = queue.Queue(WAITING)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]

    def run(self) -> None:
        """Serve until the client closes its side, and answer what it has asked by then."""
        for thread in self._threads:
            thread.start()
        conversation = Conversation()
        while data := self._read():
            for message in conversation.receive(data):
                if isinstance(message, Message):
                    self._take(message)
                    continue
                self._say(message.line)
                if message.last:
                    return self._finish()
        return self._finish()

    def _take(self, message: Message) -> None:
        if message.id is None:
            if message.method == "notifications/cancelled":
                self._cancel(message.params.get("requestId"))
            return  # nobody waits for an answer to the others, and none changes anything
        with self._alone:
            twice = message.id in self._going_on
            if not twice:
                self._going_on.add(message.id)
        if twice:
            self._say(error_line(message.id, INVALID_REQUEST, "a request with this id goes on"))
            return
        if message.method != "tools/call":
            self._answer(message)
            return
        try:
            self._calls.put_nowait(message)
        except queue.Full:
            said = f"{THREADS} calls go on and {WAITING} wait already: ask again when one has ended"
            self._end(message.id, error_line(message.id, BUSY, said))

    def _cancel(self, id: object) -> None:
        """Drop a request that goes on: nobody waits for its answer. What a tool has changed by then stays changed."""
        with self._alone:
            if is_id(id) and id in self._going_on:
                self._cancelled.add(id)

    def _work(self) -> None:
        while (message := self._calls.get()) is not None:
            self._answer(message)

    def _answer(self, message: Message) -> None:
        assert message.id is not None
        with self._alone:
            dropped = message.id in self._cancelled
        if dropped:
            self._end(message.id, b"")
            return
        try:
            line = result_line(message.id, self._protocol.answer(message))
        except RpcError as error:
            line = error_line(message.id, error.code, str(error), error.data)
        except Exception as error:  # a fault here must not leave the client waiting for ever
            line = error_line(message.id, INTERNAL_ERROR, f"a fault of this server: {type(error).__name__}: {error}")
        self._end(message.id, line)

    def _end(self, id: Id, line: bytes) -> None:
        with self._alone:
            self._going_on.discard(id)
            if id in self._cancelled:
                self._cancelled.discard(id)
            elif line:
                self._write(line)

    def _say(self, line: bytes) -> None:
        with self._alone:
            self._write(line)

    def _finish(self) -> None:
        deadline = time.monotonic() + LAST_SECONDS
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
