"""Starts a Node script and has it run some JavaScript: ``python parent.py [NODE]``."""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from twistedipc.ipc import spawn_node


class Answers:
    """What the child's messages get to: answers, by the number of the question."""

    def __init__(self) -> None:
        self.waiting: dict[int, Deferred[Any]] = {}

    def wait(self, number: int) -> Deferred[Any]:
        self.waiting[number] = Deferred()
        return self.waiting[number]

    def message_received(self, message: Any) -> None:
        answer = message.get("error", message.get("value"))
        self.waiting.pop(message["number"]).callback(answer)

    def channel_closed(self, reason: str) -> None:
        for waiting in self.waiting.values():
            waiting.errback(EOFError(reason))


async def main(reactor: Any, node: str = "node") -> None:
    answers = Answers()
    process = spawn_node(reactor, "child.mjs", lambda peer: answers, node=[node])
    for number, source in enumerate(["6 * 7", "[3, 1, 2].sort()", "'ü'.repeat(3)", "nonsense()"]):
        process.peer.send({"number": number, "source": source})
        print(source, "=", await answers.wait(number))
    await process.peer.disconnect()
    print(await process.ended())


if __name__ == "__main__":
    react(main, sys.argv[1:])
