"""
What a route is, as a type, and `route`, which makes one. What a route takes and gives is read from the annotations of
its function, where mypy holds the function to it, and said nowhere else. ``web.api``; ``routes`` is the table.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from werkzeug.routing import BaseConverter

from twistedipc.builds import names
from twistedipc.builds.scopes import Scope
from twistedipc.web.api.call import Call, Reply, Takeover, WebSocket
from twistedipc.web.api.context import WebContext
from twistedipc.web.http.channel import MAX_BODY, BodySink, BoundedRequest
from twistedipc.web.http.queries import Query

#: What a route needs: nothing, a token with this scope, or the one-time token of an upload.
Need = Literal["none", "read", "build", "publish", "admin", "upload"]

#: What a route is bound to: the project or the build in its path, which the caller's token must be good for.
Binding = Literal["none", "project", "build"]

#: Seconds for a route's function. (A stream or a WebSocket has only begun by then.)
ANSWER_SECONDS = 60.0

Function = Callable[[Call[Any, Any]], Awaitable[Reply[Any] | Takeover]]

#: Makes the sink of a request's body when the head is there, from the request and the path's variables. Raises
#: `ProblemError`.
Receive = Callable[[WebContext, BoundedRequest, Mapping[str, Any]], BodySink]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header that a route takes."""

    name: str
    description: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """One method of one path. Made by `route`."""

    name: str
    method: str
    rule: str  # in werkzeug's syntax, with the converters below
    function: Function
    needs: Need
    binding: Binding
    query: type[Query] | None
    body: type[msgspec.Struct] | None
    body_optional: bool  # no body is the same as {}
    status: int  # of replies that name none
    responses: Mapping[int, type[msgspec.Struct] | str | None]  # a struct as JSON, a media type, or nothing
    more_types: tuple[str, ...]  # media types that the success may come in instead
    problems: frozenset[int]  # beside those that follow from the other fields
    headers: tuple[Header, ...]
    websocket: bool
    receive: Receive | None  # None: the body is kept in memory until all of it is there
    seconds: float | None  # for the function; None: as long as it takes
    while_draining: bool  # also a service that is about to stop answers it
    max_body: int = MAX_BODY  # bytes of a body that is kept in memory

    @property
    def safe(self) -> bool:
        """Whether it changes nothing, so that it may be given up when its caller has gone."""
        return self.method in ("GET", "HEAD")

    @property
    def scope(self) -> Scope | None:
        """The scope that the caller's token must have; None: the caller needs none of the API's tokens."""
        match self.needs:
            case "none" | "upload":
                return None
            case scope:
                return scope

    @property
    def for_browsers(self) -> bool:
        """Whether pages may use it, so that it matters where they are from."""
        return self.needs != "upload"


_Q = TypeVar("_Q", bound=Query | None)
_B = TypeVar("_B", bound=msgspec.Struct | None)
_A = TypeVar("_A", bound=msgspec.Struct | bytes | None)


def route(
    name: str,
    line: str,
    function: Callable[[Call[_Q, _B]], Awaitable[Reply[_A] | Takeover]],
    *,
    needs: Need,
    status: int | None = None,
    other_statuses: frozenset[int] = frozenset(),
    more_types: tuple[str, ...] = (),
    problems: frozenset[int] = frozenset(),
    headers: tuple[Header, ...] = (),
    body_optional: bool = False,
    receive: Receive | None = None,
    seconds: float | None = ANSWER_SECONDS,
    while_draining: bool = False,
) -> Route:
    """
    Make a route of this ``function``, whose annotations say what it takes and gives. Raises `TypeError` if they don't.

    :param line: method and path, with the variables that `CONVERTERS` knows. A project or a build in the path binds
        the route to it.
    :param status: of the function's replies; by default 200, or 204 if they have no body.
    :param other_statuses: further statuses of replies of the same type.
    """
    method, _, rule = line.partition(" ")
    query, body, answer, websocket = _annotated(function)
    success = 101 if websocket else status or (204 if answer is None else 200)
    # Bytes are of the other type, if there is one.
    kind = next(iter(more_types), "application/json") if answer is bytes else answer
    return Route(
        name=name,
        method=method,
        rule=rule,
        function=function,
        needs=needs,
        binding=_binding(rule),
        query=query,
        body=body,
        body_optional=body_optional,
        status=success,
        responses=dict.fromkeys((success, *sorted(other_statuses)), kind),
        more_types=more_types,
        problems=problems,
        headers=headers,
        websocket=websocket,
        receive=receive,
        seconds=seconds,
        while_draining=while_draining,
    )


def _annotated(function: Callable[..., Any]) -> tuple[Any, Any, Any, bool]:
    """
    Return the types of the query, the body and the reply, each None if there is none, and whether it is a WebSocket.
    """
    hints = get_type_hints(function)
    gives = hints.pop("return", None)
    takes = list(hints.values())
    if len(takes) != 1 or get_origin(takes[0]) is not Call:
        raise TypeError(f"{function.__qualname__} must take one Call[…], annotated")
    query, body = (None if kind is type(None) else kind for kind in get_args(takes[0]))
    answers = get_args(gives) if get_origin(gives) in (Union, UnionType) else (gives,)
    replies = [get_args(answer)[0] for answer in answers if get_origin(answer) is Reply]
    websocket = WebSocket in answers
    if len(replies) + websocket != 1:
        raise TypeError(f"{function.__qualname__} must return a Reply[…] or a WebSocket, annotated")
    reply = replies[0] if replies else None
    return query, body, None if reply is type(None) else reply, websocket


def _binding(rule: str) -> Binding:
    found: set[str] = {variable for _, variable in VARIABLE.findall(rule)}
    if "project" in found:
        return "project"
    return "build" if "build" in found else "none"


# -- the variables of paths ------------------------------------------------------------------------------------------


class _Project(BaseConverter):
    regex = names.PROJECT


class _Name(BaseConverter):
    """A project's name, where the route isn't bound to the project."""

    regex = names.PROJECT


class _Number(BaseConverter):
    regex = r"[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)


class _Builder(BaseConverter):
    regex = names.NODE


class _Attempt(BaseConverter):
    regex = names.ATTEMPT


class _Secret(BaseConverter):
    """The name of a secret: one of a target's, or that of a variable."""

    regex = names.SECRET_NAME


class _Package(BaseConverter):
    """The name of a package, with its scope."""

    regex = names.PACKAGE
    part_isolating = False


class _Receiver(BaseConverter):
    """What people call something of a project: a receiver of its news, a schedule."""

    regex = names.PROJECT


class _Domain(BaseConverter):
    """What somebody takes for a domain: `builds.domains` says whether it is one. Paths have ASCII alone."""

    regex = r"[!-.0-~]{1,300}"


#: A variable of a path: its converter and its name.
VARIABLE = re.compile(r"<(\w+):(\w+)>")

#: The converters of a path's variables.
CONVERTERS: dict[str, type[BaseConverter]] = {
    "project": _Project,
    "name": _Name,
    "build": _Number,
    "builder": _Builder,
    "attempt": _Attempt,
    "secret": _Secret,
    "package": _Package,
    "receiver": _Receiver,
    "domain": _Domain,
}


def parameter_schema(converter: str) -> dict[str, Any]:
    """What OpenAPI is to say of a variable of a path with this converter."""
    match converter:
        case "build":
            return {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
        case _:
            return {"type": "string", "pattern": f"^{CONVERTERS[converter].regex}$"}
