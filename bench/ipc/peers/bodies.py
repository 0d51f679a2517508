"""
Large bodies, there and counted. ``HOW ROLE PATH …``: ``HOW`` is ``line`` (bytes in a message, so in base64)
or ``chunks`` (a `Blob`); ``ROLE`` is ``answer``, or ``call SIZE COUNT``: so many bodies of so many bytes, one after
another.
"""

from __future__ import annotations

import sys
import time
from typing import cast

from twisted.internet import defer

from bench.common.processes import say
from twistedipc.ipc import Blob, Interface, LinkReactor, Peer, Request, Service, dial, handles, listen

KEY = b"a key of thirty-two bytes, shared"

#: For the largest line.
FRAME_LIMIT = 32 << 20

#: Bodies that come before the clock starts.
WARM = 5


class Line(Request[int]):
    content: bytes


class Body(Request[int]):
    content: Blob


INTERFACE = Interface("bodies", Line, Body)


class Counts(Service):
    interface = INTERFACE

    @handles(Line)
    def line(self, request: Line, peer: Peer) -> int:
        return len(request.content)

    @handles(Body)
    async def body(self, request: Body, peer: Peer) -> int:
        return len(await request.content.read())


async def run(how: str, role: str, path: str, *numbers: str) -> None:
    from twisted.internet import reactor as global_reactor

    reactor = cast(LinkReactor, global_reactor)
    if role == "answer":
        await listen(reactor, f"unix:{path}", Counts(), key=KEY, frame_limit=FRAME_LIMIT)
        say(ready=True)
        await defer.Deferred()
    size, count = map(int, numbers)
    remote = dial(reactor, f"unix:{path}", INTERFACE, key=KEY, frame_limit=FRAME_LIMIT)
    data = bytes(range(256)) * (size // 256)
    received, began = 0, 0.0
    for number in range(WARM + count):
        if number == WARM:
            began = time.monotonic()
        if how == "line":
            received += await remote.call(Line(data), 60)
        else:
            received += await remote.call(Body(Blob.of(data)), 60)
    say(seconds=time.monotonic() - began, received=received)
    await remote.close()


if __name__ == "__main__":
    from twisted.internet.task import react

    react(lambda _: defer.ensureDeferred(run(*sys.argv[1:])))
