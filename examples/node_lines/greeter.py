"""What the two sides say to one another."""

import msgspec

from twistedipc.ipc import Interface, Message, Request


class Greeting(msgspec.Struct):
    text: str


class Greet(Request[Greeting]):
    name: str


class Stop(Message):
    pass


GREETER = Interface("greeter", Greet, Stop)
