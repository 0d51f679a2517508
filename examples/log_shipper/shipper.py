"""Sends the lines of a file to the collector: ``python shipper.py collector.sock app.log outbox NAME``."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from twisted.internet.task import deferLater, react

from lines import COLLECTOR, LINES, Line
from twistedipc.ipc import FileOutbox, LinkReactor, dial

#: Characters of a line that are sent; an item of a stream has less than a megabyte.
LONGEST = 100_000


def opened(path: str) -> BinaryIO:
    """The file, which needn't be there yet."""
    Path(path).touch()
    return open(path, "rb")


async def follow(reactor: LinkReactor, file: BinaryIO) -> AsyncIterator[str]:
    """The file's lines, from its beginning on, and those that are appended later."""
    while True:
        start = file.tell()
        line = file.readline()
        if line.endswith(b"\n"):
            yield line[:-1].decode(errors="replace")[:LONGEST]
        else:
            file.seek(start)  # there is no more, or a part of a line
            await deferLater(reactor, 0.1, lambda: None)


async def main(reactor: LinkReactor, socket: str, path: str, outbox: str, name: str) -> None:
    collector = dial(reactor, f"unix:{socket}", COLLECTOR, name=name)
    stream = collector.stream(LINES, FileOutbox(outbox))
    # Line n of the file is item n of the stream, and the outbox remembers how many it was ever given: after a kill
    # there is nothing else to know.
    number = 0
    async for text in follow(reactor, opened(path)):
        number += 1
        if number >= stream.next:
            await stream.write(Line(text))  # waits while the outbox is full


if __name__ == "__main__":
    react(main, sys.argv[1:])
