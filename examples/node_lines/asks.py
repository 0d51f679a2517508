"""Asks answers.cjs, a server that Node's `net` makes."""

from typing import Any

from twisted.internet.task import react

from greeter import GREETER, Greet, Stop
from twistedipc.ipc import dial_plain


async def main(reactor: Any) -> None:
    greeter = dial_plain(reactor, "unix:answers-in-node.sock", GREETER)
    greeting = await greeter.call(Greet("Ada 😀"), timeout=60)
    print(greeting.text)
    greeter.send(Stop())
    await greeter.close()


if __name__ == "__main__":
    react(main)
