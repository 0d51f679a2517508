"""A real PostgreSQL for tests: see `twistedipc.chaos.postgresql`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from twistedipc.chaos.postgresql import DEADLINE, PostgreSQL, programs

__all__ = ["DEADLINE", "PostgreSQL", "running_postgresql"]


@contextlib.contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A server that runs; the test is skipped where there is none."""
    if programs() is None:
        pytest.skip("PostgreSQL isn't installed")
    # Not below pytest's folders, which only their owner may enter; and short, for the socket's address.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        server = PostgreSQL(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
