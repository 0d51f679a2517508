"""What a route takes and gives is what its function says; where they could differ, mypy and the import refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.queries import ListBuilds
from twistedipc.web.api.route import route
from twistedipc.web.api.routes import ROUTES
from twistedipc.web.api.schemas import Build, Builds, NewBuild, NewToken, Ticket, Token


async def _takes_nothing() -> Reply[None]:
    raise NotImplementedError


async def _gives_anything(call: Call[None, None]) -> Any: ...


async def _gives_two(call: Call[None, None]) -> Reply[Ticket] | Reply[Token]:
    raise NotImplementedError


@pytest.mark.parametrize("function", [_takes_nothing, _gives_anything, _gives_two])
def test_a_function_that_does_not_say_what_it_takes_and_gives_is_no_routes(function: Any) -> None:
    with pytest.raises(TypeError, match=function.__name__):
        route("wrong", "GET /wrong", function, needs="none")


def test_what_a_route_takes_and_gives_is_what_its_function_says() -> None:
    routes = {route.name: route for route in ROUTES}
    request, page, removal = routes["request_build"], routes["list_builds"], routes["remove_project"]
    assert (request.body, request.query, request.responses) == (NewBuild, None, {201: Build})
    assert (page.body, page.query, page.responses) == (None, ListBuilds, {200: Builds})
    assert (removal.body, removal.query, removal.responses) == (None, None, {204: None})
    assert {route.name for route in ROUTES if route.websocket} == {"stream", "stream_log"}
    assert {route.name for route in ROUTES if route.receive is not None} == {"upload"}


def test_a_path_binds_its_route() -> None:
    for each in ROUTES:
        if each.rule.startswith("/api/v1/projects/"):
            assert each.binding == "project"
        elif each.rule.startswith("/api/v1/builds/"):
            assert each.binding == "build"
        else:
            assert each.binding == "none"


if TYPE_CHECKING:
    # What mypy must refuse: `make lint` fails where it no longer does, by an unused comment.

    async def _wrong_query(call: Call[NewBuild, None]) -> Reply[Build]: ...  # type: ignore[type-var]

    async def _wrong_body(call: Call[None, str]) -> Reply[Build]: ...  # type: ignore[type-var]

    async def _right(call: Call[ListBuilds, NewBuild]) -> Reply[Build]:
        _ = call.query.parameters  # type: ignore[attr-defined]
        _ = call.body.limit  # type: ignore[attr-defined]
        return Reply(body=Ticket(ticket="", expires=datetime.now(UTC)))  # type: ignore[arg-type]

    async def _no_call(call: ListBuilds) -> Reply[Build]: ...

    async def _no_reply(call: Call[ListBuilds, NewBuild]) -> Build: ...

    route("wrong", "POST /", _right, needs="read", body=NewToken)  # type: ignore[call-arg]
    route("wrong", "POST /", _no_call, needs="read")  # type: ignore[arg-type]
    route("wrong", "POST /", _no_reply, needs="read")  # type: ignore[arg-type]
    route("wrong", "POST /", _right, needs="write")  # type: ignore[arg-type]
