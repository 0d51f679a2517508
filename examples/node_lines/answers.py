"""Answers asks.cjs, a Node program without a library."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from greeter import GREETER, Greet, Greeting, Stop
from twistedipc.ipc import Peer, Service, handles, listen_plain


class Greeter(Service):
    interface = GREETER

    @handles(Greet)
    def greet(self, request: Greet, peer: Peer) -> Greeting:
        return Greeting(f"Hello {request.name}, from Python")

    @handles(Stop)
    def stop(self, message: Stop, peer: Peer) -> None: ...


async def main(reactor: Any) -> None:
    await listen_plain(reactor, "unix:answers.sock", Greeter())
    await Deferred()  # until it is stopped


if __name__ == "__main__":
    react(main)
