"""Keeps what shippers send in a SQLite database: ``python collector.py collector.sock lines.sqlite``."""

import sqlite3
import sys
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from lines import COLLECTOR, LINES, Line
from twistedipc.ipc import LinkReactor, Service, StreamId, listen, receives

SCHEMA = """
create table if not exists lines (
    shipper text, stream text, id text, number integer, text text,
    primary key (shipper, stream, id, number)
)
"""


class Shelf:
    """Where one shipper's lines end up."""

    def __init__(self, database: sqlite3.Connection, stream: StreamId) -> None:
        self.database = database
        self.key = (stream.peer, stream.stream, stream.id)

    def position(self) -> int:
        """The number of the first line that isn't kept yet. The lines themselves tell it."""
        query = "select coalesce(max(number), 0) + 1 from lines where (shipper, stream, id) = (?, ?, ?)"
        number: int = self.database.execute(query, self.key).fetchone()[0]
        return number

    def take(self, first: int, items: Sequence[Line]) -> None:
        """Keep these, all or none: when this returns, the shipper forgets them."""
        rows = [(*self.key, number, line.text) for number, line in enumerate(items, first)]
        with self.database:
            self.database.executemany("insert into lines values (?, ?, ?, ?, ?)", rows)


class Collector(Service):
    interface = COLLECTOR

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    @receives(LINES)
    def lines(self, stream: StreamId) -> Shelf:
        return Shelf(self.database, stream)


async def main(reactor: LinkReactor, socket: str, path: str) -> None:
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = full")  # what is acknowledged outlives the machine's crash too
    database.execute(SCHEMA)
    await listen(reactor, f"unix:{socket}", Collector(database))
    print("listening", flush=True)
    await Deferred()  # until the process is stopped


if __name__ == "__main__":
    react(main, sys.argv[1:])
