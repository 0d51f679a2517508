"""What the shipper and the collector say to one another."""

import msgspec

from twistedipc.ipc import Interface, StreamOf


class Line(msgspec.Struct):
    text: str


LINES = StreamOf("lines", Line)

COLLECTOR = Interface("collector", streams=[LINES])
