"""
The API's one table: what there is, what it needs, what it takes and what it gives. ``web`` layer.

`ROUTES` gives routing (`match`), authorisation, validation (``resource``) and the OpenAPI document (``openapi``);
nothing about a route is said anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule

from twistedipc.web.api import builds, logs, openapi, projects, releases, schemas, service, tokens, uploads
from twistedipc.web.api.call import Answer, Call
from twistedipc.web.api.queries import ListBuilds, ReadLog, Stream, StreamLog
from twistedipc.web.api.route import CONVERTERS, Header, Route
from twistedipc.web.http.problems import ProblemError, not_found


async def _openapi(call: Call[None, None]) -> Answer:
    """This document."""
    return openapi.reply(ROUTES, call.context.version)


_IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    description="Asking again with the same key and body gives the build that there is.",
    schema={"type": "string", "pattern": "^[!-~]{1,255}$"},
)
_UPLOAD_OFFSET = Header(
    name="Upload-Offset",
    description="The byte from which on this part is.",
    schema={"type": "string", "pattern": "^[0-9]{1,18}$"},
    required=True,
)
_P = "/api/v1/projects/<project:project>"
_B = "/api/v1/builds/<build:build>"

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        rule="/healthz",
        name="show_health",
        needs="none",
        responses={200: schemas.Health, 503: schemas.Health},
        function=service.show_health,
    ),
    Route(
        method="GET",
        rule="/api/v1/openapi.json",
        name="show_openapi",
        needs="none",
        responses={200: "application/json"},
        function=_openapi,
    ),
    Route(
        method="GET",
        rule="/api/v1/projects",
        name="list_projects",
        needs="read",
        responses={200: schemas.Projects},
        function=projects.list_all,
    ),
    Route(
        method="POST",
        rule="/api/v1/projects",
        name="add_project",
        needs="admin",
        body=schemas.NewProject,
        responses={201: schemas.Project},
        function=projects.add,
    ),
    Route(
        method="GET",
        rule=_P,
        name="show_project",
        needs="read",
        binding="project",
        responses={200: schemas.Project},
        function=projects.show,
    ),
    Route(
        method="PATCH",
        rule=_P,
        name="change_project",
        needs="admin",
        binding="project",
        body=schemas.ProjectChange,
        responses={200: schemas.Project},
        function=projects.change,
    ),
    Route(
        method="DELETE",
        rule=_P,
        name="remove_project",
        needs="admin",
        binding="project",
        responses={204: None},
        function=projects.remove,
    ),
    Route(
        method="PUT",
        rule=_P + "/secrets/<secret:secret>",
        name="set_secret",
        needs="admin",
        binding="project",
        body=schemas.NewSecret,
        responses={204: None},
        function=projects.set_secret,
    ),
    Route(
        method="DELETE",
        rule=_P + "/secrets/<secret:secret>",
        name="remove_secret",
        needs="admin",
        binding="project",
        responses={204: None},
        function=projects.remove_secret,
    ),
    Route(
        method="POST",
        rule=_P + "/builds",
        name="request_build",
        needs="build",
        binding="project",
        body=schemas.NewBuild,
        body_optional=True,
        headers=(_IDEMPOTENCY_KEY,),
        responses={201: schemas.Build},
        function=builds.request,
    ),
    Route(
        method="GET",
        rule="/api/v1/builds",
        name="list_builds",
        needs="read",
        query=ListBuilds,
        responses={200: schemas.Builds},
        function=builds.list_page,
    ),
    Route(
        method="GET",
        rule=_B,
        name="show_build",
        needs="read",
        binding="build",
        responses={200: schemas.BuildDetail},
        function=builds.show,
    ),
    Route(
        method="POST",
        rule=_B + "/cancel",
        name="cancel_build",
        needs="build",
        binding="build",
        responses={202: schemas.BuildDetail},
        function=builds.cancel,
    ),
    Route(
        method="POST",
        rule=_B + "/retry",
        name="retry_build",
        needs="build",
        binding="build",
        responses={201: schemas.BuildDetail},
        function=builds.retry,
    ),
    Route(
        method="GET",
        rule=_B + "/log",
        name="read_log",
        needs="read",
        binding="build",
        query=ReadLog,
        responses={200: schemas.LogPage},
        function=logs.read,
    ),
    Route(
        method="GET",
        rule=_B + "/log/stream",
        name="stream_log",
        needs="read",
        binding="build",
        query=StreamLog,
        responses={101: None},
        problems=frozenset({426}),
        websocket=True,
        function=logs.stream_log,
    ),
    Route(
        method="GET",
        rule="/api/v1/stream",
        name="stream",
        needs="read",
        query=Stream,
        responses={101: None},
        problems=frozenset({426}),
        websocket=True,
        function=logs.stream,
    ),
    Route(
        method="GET",
        rule=_P + "/releases",
        name="list_releases",
        needs="read",
        binding="project",
        responses={200: schemas.Releases},
        function=releases.list_all,
    ),
    Route(
        method="POST",
        rule=_P + "/releases/<build:release>/activate",
        name="activate_release",
        needs="build",
        binding="project",
        responses={200: schemas.Release},
        function=releases.activate,
    ),
    Route(
        method="POST",
        rule=_P + "/releases/resume",
        name="resume_releases",
        needs="build",
        binding="project",
        responses={200: schemas.Resumed},
        function=releases.resume,
    ),
    Route(
        method="GET",
        rule="/api/v1/tokens",
        name="list_tokens",
        needs="admin",
        responses={200: schemas.Tokens},
        function=tokens.list_all,
    ),
    Route(
        method="POST",
        rule="/api/v1/tokens",
        name="create_token",
        needs="admin",
        body=schemas.NewToken,
        responses={201: schemas.CreatedToken},
        function=tokens.create,
    ),
    Route(
        method="DELETE",
        rule="/api/v1/tokens/<build:token>",
        name="revoke_token",
        needs="admin",
        responses={204: None},
        problems=frozenset({404}),
        function=tokens.revoke,
    ),
    Route(
        method="POST",
        rule="/api/v1/sessions",
        name="sign_in",
        needs="none",
        body=schemas.SignIn,
        responses={204: None},
        problems=frozenset({401, 403, 429}),
        function=tokens.sign_in,
    ),
    Route(
        method="DELETE",
        rule="/api/v1/sessions",
        name="sign_out",
        needs="read",
        responses={204: None},
        function=tokens.sign_out,
    ),
    Route(
        method="GET",
        rule="/api/v1/identity",
        name="show_identity",
        needs="read",
        responses={200: schemas.Identity},
        function=tokens.show_identity,
    ),
    Route(
        method="POST",
        rule="/api/v1/tickets",
        name="issue_ticket",
        needs="read",
        responses={201: schemas.Ticket},
        function=tokens.issue_ticket,
    ),
    Route(
        method="HEAD",
        rule="/api/v1/uploads/<attempt:attempt>",
        name="show_upload",
        needs="upload",
        responses={204: None},
        function=uploads.show,
    ),
    Route(
        method="PUT",
        rule="/api/v1/uploads/<attempt:attempt>",
        name="upload",
        needs="upload",
        headers=(_UPLOAD_OFFSET,),
        responses={204: None},
        problems=frozenset({400, 409, 413, 422}),
        function=uploads.put,
    ),
)


# -- routing ---------------------------------------------------------------------------------------------------------


_MAP = Map(
    [Rule(route.rule, methods=[route.method], endpoint=route) for route in ROUTES],
    converters=CONVERTERS,
    strict_slashes=True,
    merge_slashes=False,
    redirect_defaults=False,
)
_ADAPTER = _MAP.bind("api")

# Every byte that can be in a segment; what decodes to anything else names nothing.
_SEGMENT = re.compile(rb"[^\x00-\x20/\\\x7f-\xff]*\Z")


@dataclass(frozen=True)
class Match:
    """The route of a request, with its path's variables."""

    route: Route
    path: dict[str, Any]


@dataclass(frozen=True)
class Options:
    """A request for what a path allows (OPTIONS)."""

    allow: str


def match(method: str, path: bytes) -> Match | Options:
    """What is meant by the request's line. Raises 404, or 405 with what is allowed."""
    segments = [unquote_to_bytes(segment) for segment in path.split(b"/")]
    if not path.startswith(b"/") or not all(_SEGMENT.match(segment) for segment in segments):
        raise not_found()
    text = b"/".join(segments).decode("ascii")
    try:
        route, variables = _ADAPTER.match(text, method=method)
    except MethodNotAllowed as error:
        allow = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
        if method == "OPTIONS":
            return Options(allow)
        raise ProblemError(
            405, f"{method[:20]} can't be done here; what can: {allow}", headers={"Allow": allow}
        ) from error
    except (NotFound, RequestRedirect) as error:
        raise not_found() from error
    return Match(route, dict(variables))
