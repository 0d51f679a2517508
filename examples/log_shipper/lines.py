"""What the shipper and the collector say to one another."""

import msgspec

from twistedipc.ipc import Interface


class Line(msgspec.Struct):
    text: str


COLLECTOR = Interface("collector", streams={"lines": Line})
