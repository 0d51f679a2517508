"""
The disk of tests: what they have written is taken for durable at once. They kill processes, and never the machine,
whose disk would else be waited for tens of times in each test, and hundreds of times in each build.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

_is_as_it_is = False


def wait_for_none() -> None:
    """Have this process wait for no disk from now on, neither for its files nor for SQLite."""

    def written(descriptor: int) -> None:
        os.fstat(descriptor)  # as the real one, it fails for a descriptor that is closed

    for name in (os.fsync.__name__, os.fdatasync.__name__):
        setattr(os, name, written)

    @event.listens_for(Engine, "checkout")
    def checked_out(connection: object, *_: object) -> None:
        if isinstance(connection, sqlite3.Connection) and not (_is_as_it_is or connection.in_transaction):
            connection.execute("PRAGMA synchronous = OFF").close()


@contextmanager
def as_it_is() -> Iterator[None]:
    """Leave SQLite's connections as the ledger makes them, for a test of that."""
    global _is_as_it_is
    _is_as_it_is = True
    try:
        yield
    finally:
        _is_as_it_is = False
