"""Asks the calculator: ``python client.py calculator.sock``."""

import sys

from twisted.internet.defer import CancelledError
from twisted.internet.task import react

from calculator import CALCULATOR, Add, Divide, Thanks, Think
from twistedipc.ipc import CallFailed, CallTimedOut, LinkReactor, dial


async def main(reactor: LinkReactor, path: str) -> None:
    calculator = dial(reactor, f"unix:{path}", CALCULATOR, name="client-1")

    total = await calculator.call(Add(a=2, b=3), timeout=10)  # waits for the link, too
    print("2 + 3 =", total.value)

    try:
        await calculator.call(Divide(a=1, b=0))
    except CallFailed as error:
        print(f"1 / 0: {error.message} (code {error.code}, data {error.data})")

    try:
        await calculator.call(Think(seconds=1000), timeout=0.1)
    except CallTimedOut as error:
        print("too slow:", error)

    thought = calculator.call(Think(seconds=2000))
    reactor.callLater(0.1, thought.cancel)
    try:
        await thought
    except CancelledError:
        print("cancelled")

    calculator.send(Thanks(text="thank you"))
    await calculator.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
