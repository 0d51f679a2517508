"""
The API's one table: which routes there are, and what each needs. ``web.api``.

`ROUTES` gives routing (`match`), authorisation, validation (``resource``) and the OpenAPI document (``openapi``). What
a route takes and gives is in the annotations of its function.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule

from twistedipc.web.api import (
    audit,
    builders,
    builds,
    changes,
    domains,
    downloads,
    failures,
    feeds,
    hooks,
    logs,
    openapi,
    packages,
    people,
    poll,
    projects,
    provenance,
    queues,
    receivers,
    releases,
    repositories,
    retention,
    schedules,
    searches,
    service,
    sign_in,
    targets,
    tokens,
    uploads,
)
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.mcp import posted
from twistedipc.web.api.route import CONVERTERS, Header, Route, route
from twistedipc.web.http.problems import ProblemError, not_found


async def _openapi(call: Call[None, None]) -> Reply[bytes]:
    """Return this document."""
    return openapi.reply(ROUTES, call.context.version)


_IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    description="Asking again with the same key and body returns the build that was made the first time.",
    schema={"type": "string", "pattern": "^[!-~]{1,255}$"},
)
_UPLOAD_OFFSET = Header(
    name="Upload-Offset",
    description="The position of this part's first byte in the archive.",
    schema={"type": "string", "pattern": "^[0-9]{1,18}$"},
    required=True,
)
_P = "/api/v1/projects/<project:project>"
_B = "/api/v1/builds/<build:build>"
_N = "/api/v1/builders/<builder:builder>"
_A = "/api/v1/uploads/<attempt:attempt>"

ROUTES: tuple[Route, ...] = (
    route(
        "show_health",
        "GET /healthz",
        service.show_health,
        needs="none",
        other_statuses=frozenset({503}),
        while_draining=True,
    ),
    route("show_openapi", "GET /api/v1/openapi.json", _openapi, needs="none"),
    # Projects.
    route("list_projects", "GET /api/v1/projects", projects.list_all, needs="read"),
    route("show_overview", "GET /api/v1/overview", projects.show_overview, needs="read"),
    route("add_project", "POST /api/v1/projects", projects.add, needs="admin", status=201),
    route("show_project", f"GET {_P}", projects.show, needs="read"),
    route("change_project", f"PATCH {_P}", projects.change, needs="admin"),
    route("remove_project", f"DELETE {_P}", projects.remove, needs="admin"),
    route("set_secret", f"PUT {_P}/secrets/<secret:secret>", projects.set_secret, needs="admin"),
    route("remove_secret", f"DELETE {_P}/secrets/<secret:secret>", projects.remove_secret, needs="admin"),
    route("cancel_queue", f"POST {_P}/queue/cancel", queues.cancel, needs="build", status=202),
    route("clear_caches", f"DELETE {_P}/caches", projects.clear_caches, needs="admin"),
    route("list_targets", "GET /api/v1/targets", targets.list_all, needs="read"),
    route(
        "make_deploy_key",
        f"POST {_P}/deploy-key",
        repositories.make_key,
        needs="admin",
        problems=frozenset({422}),  # it isn't fetched by ssh
    ),
    route("remove_deploy_key", f"DELETE {_P}/deploy-key", repositories.remove_key, needs="admin"),
    route("set_known_hosts", f"PUT {_P}/known-hosts", repositories.set_known_hosts, needs="admin"),
    route("forget_known_hosts", f"DELETE {_P}/known-hosts", repositories.forget_known_hosts, needs="admin"),
    # Builds.
    route(
        "request_build",
        f"POST {_P}/builds",
        builds.request,
        needs="build",
        status=201,
        body_optional=True,
        headers=(_IDEMPOTENCY_KEY,),
    ),
    route("list_builds", "GET /api/v1/builds", builds.list_page, needs="read"),
    route("show_build", f"GET {_B}", builds.show, needs="read"),
    route("cancel_build", f"POST {_B}/cancel", builds.cancel, needs="build", status=202),
    route("retry_build", f"POST {_B}/retry", builds.retry, needs="build", status=201),
    route("approve_build", f"POST {_B}/approve", builds.approve, needs="publish", body_optional=True),
    route("refuse_build", f"POST {_B}/refuse", builds.refuse, needs="publish", body_optional=True),
    route("show_failure", f"GET {_B}/failure", failures.show, needs="read", problems=frozenset({409})),
    route("show_changes", f"GET {_B}/changes", changes.show, needs="read"),
    route("pin_build", f"PUT {_B}/pin", retention.pin, needs="build"),
    route("unpin_build", f"DELETE {_B}/pin", retention.unpin, needs="build"),
    # What isn't kept any more.
    route("show_pruning", "GET /api/v1/prune", retention.show, needs="admin", problems=frozenset({404})),
    route("show_prune_run", "GET /api/v1/prune/run", retention.show_run, needs="admin", problems=frozenset({404})),
    route(
        "prune",
        "POST /api/v1/prune",
        retention.begin,
        needs="admin",
        status=202,
        body_optional=True,
        problems=frozenset({404}),
    ),
    route(
        "download_files",
        f"GET {_B}/files",
        downloads.files,
        needs="read",
        more_types=("application/gzip",),
        seconds=downloads.SECONDS,
    ),
    # Logs, and what happens.
    route(
        "read_log",
        f"GET {_B}/log",
        logs.read,
        needs="read",
        more_types=("application/x-ndjson", "text/plain"),
    ),
    route("outline_log", f"GET {_B}/log/outline", logs.outline, needs="read"),
    route(
        "search_log",
        f"GET {_B}/log/search",
        searches.one,
        needs="read",
        more_types=("application/x-ndjson",),
    ),
    route(
        "search_logs",
        f"GET {_P}/logs/search",
        searches.of_project,
        needs="read",
        more_types=("application/x-ndjson",),
    ),
    route("stream_log", f"GET {_B}/log/stream", logs.stream_log, needs="read"),
    route("stream", "GET /api/v1/stream", logs.stream, needs="read"),
    # For programs that help people.
    route(
        "ask_by_mcp",
        "POST /mcp",
        posted.answer,
        needs="read",
        headers=(_IDEMPOTENCY_KEY,),  # for the tool request_build, which asks the route for it within this request
        other_statuses=frozenset({202}),
        problems=frozenset({400, 403, 404, 415}),
    ),
    # Releases.
    route("list_releases", f"GET {_P}/releases", releases.list_page, needs="read"),
    route("compare_releases", f"GET {_P}/releases/diff", releases.compare, needs="read"),
    route("activate_release", f"POST {_P}/releases/<build:release>/activate", releases.activate, needs="publish"),
    route("promote_build", f"POST {_B}/promote", releases.promote, needs="publish"),
    route("set_preview_password", f"PUT {_P}/previews/password", releases.set_password, needs="admin"),
    route("remove_preview_password", f"DELETE {_P}/previews/password", releases.remove_password, needs="admin"),
    route("begin_visit", f"POST {_P}/visits", releases.begin_visit, needs="read", status=201),
    route("resume_releases", f"POST {_P}/releases/resume", releases.resume, needs="publish"),
    # Packages.
    route("list_packages", f"GET {_P}/packages", packages.list_page, needs="read"),
    route("show_package", f"GET {_P}/packages/<package:package>", packages.show, needs="read"),
    route(
        "request_package_change",
        f"POST {_P}/packages/<package:package>/requests",
        packages.request,
        needs="publish",
        status=202,
    ),
    route("show_package_request", f"GET {_P}/package-requests/<build:request>", packages.show_request, needs="read"),
    route(
        "give_password",
        f"POST {_P}/package-requests/<build:request>/password",
        packages.give_password,
        needs="publish",
        status=202,
    ),
    # What others fetch, without a token.
    route(
        "show_badge",
        "GET /api/v1/feeds/<project:feed>/badge.svg",
        feeds.badge,
        needs="none",
        other_statuses=frozenset({304}),
        more_types=("image/svg+xml",),
        problems=frozenset({404}),
    ),
    route(
        "show_feed",
        "GET /api/v1/feeds/<project:feed>/builds.atom",
        feeds.feed,
        needs="none",
        other_statuses=frozenset({304}),
        more_types=("application/atom+xml",),
        problems=frozenset({404}),
    ),
    # What is told to others.
    route("list_receivers", f"GET {_P}/receivers", receivers.list_all, needs="admin"),
    route("set_receiver", f"PUT {_P}/receivers/<receiver:receiver>", receivers.put, needs="admin"),
    route("remove_receiver", f"DELETE {_P}/receivers/<receiver:receiver>", receivers.remove, needs="admin"),
    route("list_tellings", f"GET {_P}/tellings", receivers.list_tellings, needs="read"),
    route("tell_again", f"POST {_P}/tellings/<build:telling>/again", receivers.tell_again, needs="admin", status=202),
    # Hooks of repositories' hosts.
    replace(
        route(
            "receive_hook",
            "POST /hooks/<name:name>",
            hooks.receive,
            needs="none",
            other_statuses=frozenset({202}),
            problems=frozenset({400, 401, 413, 422}),
            while_draining=True,  # most hosts send a message once
        ),
        max_body=hooks.MAX_MESSAGE,
    ),
    route("show_hook", f"GET {_P}/hook", hooks.show, needs="read"),
    route("change_hook", f"PUT {_P}/hook", hooks.change, needs="admin"),
    route("make_hook_secret", f"POST {_P}/hook/secret", hooks.make_secret, needs="admin", status=201),
    route("remove_hook_secret", f"DELETE {_P}/hook/secret", hooks.remove_secret, needs="admin"),
    route("list_hook_messages", f"GET {_P}/hook/messages", hooks.list_messages, needs="read"),
    route("allow_hook_message", f"POST {_P}/hook/messages/<build:message>/allow", hooks.allow, needs="build"),
    route("repeat_hook_message", f"POST {_P}/hook/messages/<build:message>/repeat", hooks.repeat, needs="build"),
    # Polling, in the place of hooks.
    route("show_poll", f"GET {_P}/poll", poll.show, needs="read"),
    route("set_poll", f"PUT {_P}/poll", poll.put, needs="admin", body_optional=True),
    route("remove_poll", f"DELETE {_P}/poll", poll.remove, needs="admin"),
    route("look_now", f"POST {_P}/poll/look", poll.look, needs="build", status=202),
    # Schedules.
    route("list_schedules", f"GET {_P}/schedules", schedules.list_all, needs="read"),
    route("set_schedule", f"PUT {_P}/schedules/<receiver:schedule>", schedules.put, needs="admin"),
    route("remove_schedule", f"DELETE {_P}/schedules/<receiver:schedule>", schedules.remove, needs="admin"),
    # Domains.
    route("list_domains", f"GET {_P}/domains", domains.list_all, needs="read"),
    route("set_domain", f"PUT {_P}/domains/<domain:domain>", domains.put, needs="admin"),
    route("remove_domain", f"DELETE {_P}/domains/<domain:domain>", domains.remove, needs="admin"),
    # Builders and their keys.
    route("list_builders", "GET /api/v1/builders", builders.list_all, needs="admin"),
    route("add_builder", "POST /api/v1/builders", builders.add, needs="admin", status=201),
    route("change_builder", f"PATCH {_N}", builders.change, needs="admin"),
    route("rotate_builder_key", f"POST {_N}/keys", builders.rotate, needs="admin", status=201, body_optional=True),
    route("revoke_builder", f"DELETE {_N}/keys", builders.revoke, needs="admin"),
    # People, and the members of projects.
    route("list_people", "GET /api/v1/people", people.list_all, needs="admin"),
    route("invite_person", "POST /api/v1/people", people.invite, needs="admin", status=201),
    route("change_person", "PATCH /api/v1/people/<build:person>", people.change, needs="admin"),
    route(
        "invite_again", "POST /api/v1/people/<build:person>/invitations", people.invite_again, needs="admin", status=201
    ),
    route(
        "accept_invitation",
        "POST /api/v1/invitations",
        people.accept,
        needs="none",
        status=201,
        problems=frozenset({401, 429}),
    ),
    route("list_members", f"GET {_P}/members", people.list_members, needs="read"),
    route("set_member", f"POST {_P}/members", people.set_member, needs="admin"),
    route("remove_member", f"DELETE {_P}/members/<build:person>", people.remove_member, needs="admin"),
    # Tokens, sessions and tickets.
    route("list_tokens", "GET /api/v1/tokens", tokens.list_all, needs="admin"),
    route("create_token", "POST /api/v1/tokens", tokens.create, needs="admin", status=201),
    route("revoke_token", "DELETE /api/v1/tokens/<build:token>", tokens.revoke, needs="admin"),
    route(
        "sign_in",
        "POST /api/v1/sessions",
        tokens.sign_in,
        needs="none",
        problems=frozenset({401, 403, 429}),
    ),
    route("show_sign_in", "GET /api/v1/sign-in", sign_in.show, needs="none"),
    route("begin_sign_in", f"GET {sign_in.BEGIN}", sign_in.begin, needs="none", status=302, problems=frozenset({404})),
    route("end_sign_in", f"GET {sign_in.CALLBACK}", sign_in.end, needs="none", status=302, problems=frozenset({404})),
    route("list_sessions", "GET /api/v1/sessions", tokens.list_sessions, needs="read"),
    route("sign_out", "DELETE /api/v1/sessions", tokens.sign_out, needs="read"),
    route("end_session", "DELETE /api/v1/sessions/<build:session>", tokens.end_session, needs="read"),
    route("list_own_tokens", "GET /api/v1/identity/tokens", tokens.list_own, needs="read"),
    route("create_own_token", "POST /api/v1/identity/tokens", tokens.create_own, needs="read", status=201),
    route("revoke_this_token", "DELETE /api/v1/identity/token", tokens.revoke_this, needs="read"),
    route("revoke_own_token", "DELETE /api/v1/identity/tokens/<build:token>", tokens.revoke_own, needs="read"),
    route("show_identity", "GET /api/v1/identity", tokens.show_identity, needs="read"),
    route("issue_ticket", "POST /api/v1/tickets", tokens.issue_ticket, needs="read", status=201),
    # Where it comes from.
    route("list_provenance", f"GET {_B}/provenance", provenance.list_all, needs="read"),
    route(
        "show_package_provenance",
        "GET /api/v1/provenance",
        provenance.of_package,
        needs="read",
        problems=frozenset({404}),
    ),
    route("show_signing_key", "GET /api/v1/signing-key", provenance.show_key, needs="none"),
    route("show_issuer", "GET /.well-known/openid-configuration", provenance.show_issuer, needs="none"),
    route("show_issuer_keys", "GET /.well-known/jwks.json", provenance.show_issuer_keys, needs="none"),
    # What everybody did.
    route("list_audit", "GET /api/v1/audit", audit.list_page, needs="admin"),
    # Uploads, by builders.
    route("show_upload", f"HEAD {_A}", uploads.show, needs="upload", seconds=None),
    route(
        "upload",
        f"PUT {_A}",
        uploads.put,
        needs="upload",
        headers=(_UPLOAD_OFFSET,),
        problems=frozenset({400, 409, 413, 422}),
        receive=uploads.receive,
        seconds=None,  # a large archive takes long to verify
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

# The bytes of segments that can name something, once they are decoded. In the name of a package is a slash, after its
# scope.
_SEGMENT = re.compile(rb"(?:@[^\x00-\x20/\\\x7f-\xff]+/)?[^\x00-\x20/\\\x7f-\xff]*\Z")


@dataclass(frozen=True)
class Match:
    """The route of a request, with its path's variables."""

    route: Route
    path: dict[str, Any]


@dataclass(frozen=True)
class Options:
    """A request for the methods that a path allows (OPTIONS)."""

    allow: str


def match(method: str, path: bytes) -> Match | Options:
    """Find the route for a request's line. Raises 404, or 405 with the methods that are allowed."""
    segments = [unquote_to_bytes(segment) for segment in path.split(b"/")]
    if not path.startswith(b"/") or not all(_SEGMENT.match(segment) for segment in segments):
        raise not_found()
    text = b"/".join(segments).decode("ascii")
    try:
        found, variables = _ADAPTER.match(text, method=method)
    except MethodNotAllowed as error:
        allow = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
        if method == "OPTIONS":
            return Options(allow)
        raise ProblemError(
            405, f"{method[:20]} can't be done here; what can: {allow}", headers={"Allow": allow}
        ) from error
    except (NotFound, RequestRedirect) as error:
        raise not_found() from error
    return Match(found, dict(variables))
