"""
`twistedipc mcp` as a process: it reads standard input, answers on standard output, and calls tools in threads of their
own, so that one that takes long keeps no other waiting and can be cancelled. ``cli.mcp``.

What goes over the two is JSON-RPC, a message on each line, by the library's `JsonRpcConversation`. Nothing else goes to
standard output: whatever else this process prints goes to standard error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twistedipc.cli.mcp.asking import finished
from twistedipc.ipc import Asked, CallFailed, Code, Dropped, Ended, JsonRpcConversation, JsonRpcFormat, Refused
from twistedipc.web.api.mcp.methods import MCP, CallTool
from twistedipc.web.api.mcp.protocol import Protocol

#: Calls that go on at once, and that wait; more are refused.
THREADS: Final = 4
WAITING: Final = 32

#: Bytes of a line, either way. What clients say is short, arguments of a tool; the longest answer has some 3 MB.
LINE_LIMIT: Final = 8 << 20

#: Seconds that calls have when the client has closed standard input: as long as an answer of the server's may take.
LAST_SECONDS: Final = 60.0


class Serving:
    """One client's conversation. ``read`` returns its next bytes, b"" at the end; ``write`` takes whole lines."""

    def __init__(self, protocol: Protocol, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        self._protocol = protocol
        self._read = read
        self._write = write
        self._alone = threading.Lock()  # around writing, and around the two below
        how = JsonRpcFormat(cancel="notifications/cancelled", batch_limit=0, frame_limit=LINE_LIMIT)
        self._conversation = JsonRpcConversation(MCP, how=how)
        self._dropped: list[Asked] = []  # nobody waits for their answers, and they aren't dealt with yet
        self._calls: queue.Queue[Asked | None] = queue.Queue(WAITING)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]

    def run(self) -> None:
        """Serve until the client closes its side, and answer what it has asked by then."""
        for thread in self._threads:
            thread.start()
        while data := self._read():
            with self._alone:
                events = list(self._conversation.receive(data))
                # Now, while none of them can be answered: what is answered isn't dropped any more.
                self._dropped += [event.asked for event in events if isinstance(event, Dropped)]
            for event in events:
                self._take(event)
                if isinstance(event, Ended):
                    return self._finish()
        return self._finish()

    def _take(self, event: Any) -> None:
        match event:
            case Asked(request=CallTool()):
                try:
                    self._calls.put_nowait(event)
                except queue.Full:
                    said = f"{THREADS} calls go on and {WAITING} wait already: ask again when one has ended"
                    self._refuse(event, Code.BUSY, said)
            case Asked():
                self._answer(event)
            case Refused(line=line):
                with self._alone:
                    self._write(line)
            case Dropped():
                pass  # it is noted; what a tool has changed by then stays changed
            case Ended(code=code, reason=reason):
                with self._alone:
                    self._write(self._conversation.bye(code, reason))
            case _:
                pass  # a notification or an answer that means nothing here

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            with self._alone:
                dropped = any(each is asked for each in self._dropped)
            if dropped:
                self._refuse(asked, Code.CLOSED, "it was cancelled")
            else:
                self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        try:
            result = finished(self._protocol.answer(asked.request))
            self._say(asked, lambda: self._conversation.reply(asked, result))
        except CallFailed as error:
            self._refuse(asked, error.code, error.message, error.data)
        except Exception as error:  # a fault here must not leave the client waiting for ever
            self._refuse(asked, Code.INTERNAL, f"a fault of this server: {type(error).__name__}: {error}")

    def _refuse(self, asked: Asked, code: str, message: str, data: Any = None) -> None:
        self._say(asked, lambda: self._conversation.refusal(asked, code, message, data))

    def _say(self, asked: Asked, line: Callable[[], bytes]) -> None:
        """Answer a request: with nothing, if nobody waits for the answer."""
        with self._alone:
            said = line()
            self._dropped = [each for each in self._dropped if each is not asked]
            if said:
                self._write(said)

    def _finish(self) -> None:
        deadline = time.monotonic() + LAST_SECONDS
        for _ in self._threads:
            with suppress(queue.Full):  # calls wait that nobody gets to: the process ends, and they with it
                self._calls.put(None, timeout=max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
