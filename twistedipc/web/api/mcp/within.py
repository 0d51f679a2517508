"""
What tools stand on, in the apiserver itself: each call goes to the function of its route, with the rights of the caller
whose request is being answered. ``web.api.mcp``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.mcp.asking import Parts, Query, Refused
from twistedipc.web.api.mcp.budget import MAX_LINE
from twistedipc.web.http.problems import ProblemError
from twistedipc.web.logs.forms import form_of

#: Records of a log that are read at a time: most answers have room for few.
PAGE_RECORDS: Final = 200

_T = TypeVar("_T")


class _Page(msgspec.Struct, frozen=True):
    """As much of a `schemas.LogPage` as a text is made of: its messages as they are."""

    batches: list[msgspec.Raw]
    after: int
    end: msgspec.Raw | None


class AskingWithin:
    """Implements `asking.Asking`, for the caller of ``call``."""

    no_project = "name a project"

    def __init__(self, call: Call[Any, Any]) -> None:
        self._ask = call.ask

    async def get(self, parts: Parts, kind: type[_T], query: Query | None = None) -> _T:
        """See `Asking`."""
        return await self._answer("GET", parts, kind, query, b"")

    async def post(self, parts: Parts, kind: type[_T], body: msgspec.Struct | None = None) -> _T:
        """See `Asking`. Nothing is sent, so nothing is sent twice."""
        return await self._answer("POST", parts, kind, None, b"" if body is None else msgspec.json.encode(body))

    async def log_lines(self, build: int, attempt: int, after: int, limit: int) -> AsyncGenerator[str]:
        """See `Asking`."""
        form, rest, last = form_of("text", numbers=True), "", after + limit
        goes_on = True
        while goes_on and after < last:
            query: Query = {"attempt": attempt, "after": after, "limit": min(last - after, PAGE_RECORDS)}
            page = await self.get(["builds", build, "log"], _Page, query)
            messages = [*page.batches, *([] if page.end is None else [page.end])]
            goes_on, after = page.end is None and page.after > after, page.after
            *lines, rest = (rest + b"".join(form.render(bytes(each)) for each in messages).decode()).split("\n")
            for line in lines:
                yield line
            rest = rest[: MAX_LINE + 1]  # no more of a line is shown, and one may have any number of records
        if rest := rest + form.finish().decode():
            for line in rest.removesuffix("\n").split("\n"):
                yield line

    async def project_here(self) -> str | None:
        """See `Asking`: there is no folder that could say."""
        return None

    async def _answer(self, method: str, parts: Parts, kind: type[_T], query: Query | None, body: bytes) -> _T:
        path = "/".join(["/api/v1", *(quote(str(part), safe="") for part in parts)])
        given = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        try:
            reply = await self._ask(method, f"{path}?{given}" if given else path, body)
        except ProblemError as error:
            raise Refused(error.problem.detail) from error
        assert isinstance(reply, Reply), "tools ask for nothing that lasts"
        return msgspec.json.decode(reply.encoded(), type=kind)
