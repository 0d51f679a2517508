"""
The library's upper level: ``listen`` and ``dial`` on Twisted, and the same on asyncio. ``ROLE PATH …``: ``answer`` and
``call WARM COUNT IN_FLIGHT`` on Twisted, ``aio-answer`` and ``aio-call`` on asyncio, ``threads-call`` by `SyncRemote`.
In each of them so many coroutines, or threads, await one call after the other.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, cast

from twisted.internet import defer

from bench.common.processes import say
from bench.ipc.message import AT, BUILD, FIRST, TEXT, Echo, Tally
from twistedipc.ipc import Interface, Peer, Request, Service, SyncRemote, aio, dial, handles, listen

KEY = b"a key of thirty-two bytes, shared"


class Ask(Request[Echo]):
    """Answered by the same."""

    build: str
    seq: int
    at: int
    text: str


INTERFACE = Interface("echo", Ask)


class Echoes(Service):
    interface = INTERFACE

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Echo:
        return Echo(request.build, request.seq, request.at, request.text)


class Caller:
    """One of those that call: counts what all of them have got."""

    def __init__(self, warm: int, count: int) -> None:
        self._seqs = iter(range(FIRST, FIRST + warm + count))
        self._tally = Tally(warm, count)
        self._lock = threading.Lock()

    async def await_calls(self, remote: Any) -> None:
        tally, call = self._tally, remote.call
        for seq in self._seqs:
            reply = await call(Ask(build=BUILD, seq=seq, at=AT, text=TEXT), 60)
            tally.sum += reply.seq
            tally.left -= 1
            if not tally.left:
                tally.reached()

    def call_blocking(self, remote: SyncRemote) -> None:
        while True:
            with self._lock:
                seq = next(self._seqs, None)
            if seq is None:
                return
            reply = remote.call(Ask(build=BUILD, seq=seq, at=AT, text=TEXT), 60)
            with self._lock:
                self._tally.sum += reply.seq
                self._tally.left -= 1
                if not self._tally.left:
                    self._tally.reached()


async def on_asyncio(role: str, endpoint: str, *numbers: int) -> None:
    if role == "aio-answer":
        async with await aio.listen(endpoint, Echoes(), key=KEY) as listening:
            say(ready=True)
            await listening.closed()
        return
    warm, count, in_flight = numbers
    caller = Caller(warm, count)
    async with aio.dial(endpoint, INTERFACE, key=KEY) as remote:
        await asyncio.gather(*(caller.await_calls(remote) for _ in range(in_flight)))


async def on_twisted(reactor: Any, role: str, endpoint: str, *numbers: int) -> None:
    if role == "answer":
        listening = await listen(reactor, endpoint, Echoes(), key=KEY)
        say(ready=True)
        await listening.closed()
        return
    warm, count, in_flight = numbers
    caller = Caller(warm, count)
    remote = dial(reactor, endpoint, INTERFACE, key=KEY)
    callers = [defer.Deferred.fromCoroutine(caller.await_calls(remote)) for _ in range(in_flight)]
    await defer.gatherResults(callers)


def in_threads(endpoint: str, warm: int, count: int, in_flight: int) -> None:
    caller = Caller(warm, count)
    with SyncRemote(endpoint, INTERFACE, key=KEY) as remote:
        threads = [threading.Thread(target=caller.call_blocking, args=[remote]) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main(role: str, path: str, *arguments: str) -> None:
    numbers = list(map(int, arguments))
    if role == "threads-call":
        in_threads(f"unix:{path}", *numbers)
    elif role.startswith("aio-"):
        asyncio.run(on_asyncio(role, f"unix:{path}", *numbers))
    else:
        from twisted.internet.task import react

        react(cast(Any, on_twisted), (role, f"unix:{path}", *numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
