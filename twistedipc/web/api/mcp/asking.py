"""
What tools stand on: a few calls of the API in the name of one caller. ``web.api.mcp``; no I/O.

`twistedipc mcp` makes them over HTTP, and the route ``/mcp`` in the apiserver itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

_T = TypeVar("_T")

#: The parts of a path of the API behind its version: ``("builds", 7, "failure")``.
Parts = Sequence[str | int]

#: A query; what is None is left out.
Query = Mapping[str, str | int | None]


class Refused(Exception):
    """What was asked for can't be had; the text says why, for the model to read."""


class Asking(Protocol):
    """
    The API, as one caller may use it. Every call raises `Refused`.

    :ivar no_project: what is said to who names no project where none is meant.
    """

    no_project: str

    async def get(self, parts: Parts, kind: type[_T], query: Query | None = None) -> _T:
        """``GET``, and return the answer as a ``kind``."""

    async def post(self, parts: Parts, kind: type[_T], body: msgspec.Struct | None = None) -> _T:
        """``POST``, and return the answer as a ``kind``. With a body it takes effect once, however often it is sent."""

    def log_lines(self, build: int, attempt: int, after: int, limit: int) -> AsyncGenerator[str]:
        """
        Yield up to ``limit`` records of a log behind the record ``after`` as lines of text, each with its number. No
        more is read than is taken, about.
        """

    async def project_here(self) -> str | None:
        """Return the project that is meant where none is named; None if there is none."""
