"""
What a route is, as a type, with the kinds of variables that a path can have. ``web`` layer; `routes` is the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from werkzeug.routing import BaseConverter

from twistedipc.builds import names
from twistedipc.storage.projects import SECRET_NAMES
from twistedipc.web.api.call import Answer, Call
from twistedipc.web.http.queries import Query

#: What a route needs: nothing, a token with this scope, or the one-time token of an upload.
Need = Literal["none", "read", "build", "admin", "upload"]

#: Whose a route's subject is. "project", "build": that of the path, which the caller's token must be good for.
Binding = Literal["none", "project", "build"]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header that a route takes."""

    name: str
    description: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """One method of one path."""

    method: str
    rule: str  # as werkzeug has it, with the converters below
    name: str
    needs: Need
    binding: Binding = "none"
    query: type[Query] | None = None
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False  # no body is the same as {}
    responses: dict[int, type[msgspec.Struct] | str | None]  # a struct as JSON, a media type, or nothing
    problems: frozenset[int] = frozenset()  # beside those that follow from the other fields
    headers: tuple[Header, ...] = ()
    websocket: bool = False
    function: Callable[[Call[Any, Any]], Awaitable[Answer]]

    @property
    def safe(self) -> bool:
        """It changes nothing, so that it may be given up when its caller has gone."""
        return self.method in ("GET", "HEAD")


# -- the variables of paths ------------------------------------------------------------------------------------------


class _Project(BaseConverter):
    regex = names.PROJECT


class _Number(BaseConverter):
    regex = r"[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)


class _Attempt(BaseConverter):
    regex = names.ATTEMPT


class _Secret(BaseConverter):
    regex = "|".join(sorted(SECRET_NAMES))


#: The converters, and what OpenAPI is to say of them.
CONVERTERS: dict[str, type[BaseConverter]] = {
    "project": _Project,
    "build": _Number,
    "attempt": _Attempt,
    "secret": _Secret,
}
PARAMETER_SCHEMAS: dict[str, dict[str, Any]] = {
    "project": {"type": "string", "pattern": f"^{_Project.regex}$"},
    "build": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
    "attempt": {"type": "string", "pattern": f"^{_Attempt.regex}$"},
    "secret": {"type": "string", "enum": sorted(SECRET_NAMES)},
}
