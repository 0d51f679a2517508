"""What tools stand on, over HTTP, with the client of the other commands. ``cli.mcp``."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import Failure
from twistedipc.cli.naming import project_here
from twistedipc.web.api.mcp.asking import Parts, Query, Refused

_T = TypeVar("_T")


class AskingByClient:
    """
    Implements `asking.Asking`. Its calls block, and are over when they return: see `finished`.

    :param folder: in which the command was started; its project is meant where none is named.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self.no_project = f"name a project: {client.url} has none of the repository in this folder"

    async def get(self, parts: Parts, kind: type[_T], query: Query | None = None) -> _T:
        """See `Asking`."""
        with _refusals():
            return self._client.get(path(*parts), query).decode(kind)

    async def post(self, parts: Parts, kind: type[_T], body: msgspec.Struct | None = None) -> _T:
        """See `Asking`."""
        with _refusals():
            if body is None:
                return self._client.post(path(*parts)).decode(kind)
            return self._client.post_once(path(*parts), body, uuid.uuid4().hex).decode(kind)

    async def log_lines(self, build: int, attempt: int, after: int, limit: int) -> AsyncGenerator[str]:
        """See `Asking`."""
        query: Query = {"attempt": attempt, "after": after, "limit": limit, "format": "text", "numbers": "true"}
        with _refusals():
            text = self._client.get(path("builds", build, "log"), query).body.decode("utf-8", "replace")
        for line in text.removesuffix("\n").split("\n"):
            yield line

    async def project_here(self) -> str | None:
        """See `Asking`."""
        with _refusals():
            return project_here(self._client, self._folder)


def finished(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of a coroutine that awaits nothing but calls of `AskingByClient`."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    raise AssertionError("nothing here waits for anything but what blocks")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Failure as error:
        raise Refused(error.message) from error
