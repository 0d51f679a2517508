"""What the calculator understands: imported by the service and by its clients."""

import msgspec

from twistedipc.ipc import Interface, Message, Request


class Result(msgspec.Struct):
    value: float


class Add(Request[Result]):
    a: float
    b: float


class Divide(Request[Result]):
    """Fails with the code ``division``, and ``{"dividend": a}`` as data, if ``b`` is 0."""

    a: float
    b: float


class Think(Request[Result]):
    """Takes so many seconds."""

    seconds: float


class Thanks(Message):
    """Needs no reply."""

    text: str


CALCULATOR = Interface("calculator", Add, Divide, Think, Thanks)
