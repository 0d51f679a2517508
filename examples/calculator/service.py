"""Answers calculations at a UNIX socket: ``python service.py calculator.sock``."""

import sys

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react

from calculator import CALCULATOR, Add, Divide, Result, Thanks, Think
from twistedipc.ipc import CallFailed, LinkReactor, Peer, Service, handles, listen


class Calculator(Service):
    interface = CALCULATOR

    def __init__(self, reactor: LinkReactor) -> None:
        self.reactor = reactor

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Result:
        return Result(request.a + request.b)

    @handles(Divide)
    def divide(self, request: Divide, peer: Peer) -> Result:
        if request.b == 0:
            raise CallFailed("division", "can't divide by zero", {"dividend": request.a})
        return Result(request.a / request.b)

    @handles(Think)
    async def think(self, request: Think, peer: Peer) -> Result:
        try:
            await deferLater(self.reactor, request.seconds, lambda: None)
        except CancelledError:
            print(f"nobody waits for {request.seconds:g} seconds of thought any more", flush=True)
            raise
        return Result(42)

    @handles(Thanks)
    def thanks(self, message: Thanks, peer: Peer) -> None:
        print(f"{peer.info.name}: {message.text}", flush=True)


async def main(reactor: LinkReactor, path: str) -> None:
    await listen(reactor, f"unix:{path}", Calculator(reactor))
    print("listening", flush=True)
    await Deferred()  # until the process is stopped


if __name__ == "__main__":
    react(main, sys.argv[1:])
