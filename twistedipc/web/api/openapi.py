"""
The OpenAPI 3.1 document, made from the table of routes. ``web.api``; used by ``routes``.

It has every status that a route can answer with: those in the table, and those that follow from what a route needs and
takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from twistedipc.publish.targets.registry import TARGETS
from twistedipc.web.api.call import Reply
from twistedipc.web.api.route import VARIABLE, Route, parameter_schema
from twistedipc.web.api.schemas import KnownTargets, Request
from twistedipc.web.http.problems import CONTENT_TYPE, Problem

_TEMPLATE = "#/components/schemas/{name}"


@cache
def reply(routes: tuple[Route, ...], version: str) -> Reply[bytes]:
    """Return the document as a response."""
    return Reply(body=msgspec.json.encode(document(routes, version)))


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the document as plain values."""
    routes = tuple(routes)
    types = list(dict.fromkeys(_types(routes)))
    schemas, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    settings, of_settings = TARGETS.schemas(_TEMPLATE)
    for name, component in components.items():
        # What can be set is told in a form of its own.
        if "targets" in component.get("properties", {}) and name != KnownTargets.__name__:
            component["properties"]["targets"]["items"] = settings
    components |= of_settings
    for kind in types:
        if issubclass(kind, Request) and kind.alternatives:
            components[kind.__name__]["not"] = {"required": list(kind.alternatives)}
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = VARIABLE.sub(r"{\2}", route.rule)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_type, components)
    for query in {route.query for route in routes if route.query is not None}:
        components.pop(query.__name__, None)  # each is in its operation's parameters
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "twistedipc",
            "version": version,
            "description": "Builds and releases. Errors are problem details (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token: read, build or admin."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "twistedipc_SESSION",
                    "description": "Set by signing in. Its name ends otherwise for each installation.",
                },
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
                "upload": {"type": "http", "scheme": "bearer", "description": "The one-time token of an upload."},
            },
        },
    }


def statuses(route: Route) -> frozenset[int]:
    """Return the statuses of problems that the route can answer with."""
    found = {400, 408, 413, 500, 503} | route.problems
    if route.needs != "none":
        found |= {401}
    if route.scope is not None:
        found |= {403, 429}
    if route.websocket:
        found |= {426}
    if not route.safe:
        found |= {409}  # whatever is changed, another change may come first
    if route.binding != "none" or "<" in route.rule:
        found |= {404}
    if route.query is not None:
        found |= {422}
    if route.body is not None:
        found |= {415, 422}
    return frozenset(found - route.responses.keys())


def _types(routes: Iterable[Route]) -> Iterable[Any]:
    yield Problem
    for route in routes:
        yield from (each for each in (route.query, route.body) if each is not None)
        yield from (each for each in route.responses.values() if isinstance(each, type))


def _operation(route: Route, schemas: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = (route.function.__doc__ or "").strip().partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": " ".join(summary.split()),
        "security": _security(route),
        "x-needs": route.needs,
        "responses": {
            **{str(status): _response(route, status, schemas) for status in sorted(route.responses)},
            **{str(status): _problem(status) for status in sorted(statuses(route))},
        },
    }
    if description:
        operation["description"] = " ".join(description.split())
    parameters = [*_path_parameters(route), *_query_parameters(route, schemas, components), *_headers(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
    elif route.receive is not None:
        operation["requestBody"] = {
            "required": False,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    match route.needs:
        case "none":
            return []
        case "upload":
            return [{"upload": []}]
        case _:
            return [{"bearer": []}, {"session": []}, *([{"ticket": list[str]()}] if route.websocket else [])]


def _response(route: Route, status: int, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    kind = route.responses[status]
    if isinstance(kind, str):
        described["content"] = {kind: {}}
    elif kind is not None:
        described["content"] = {"application/json": {"schema": schemas[kind]}}
        described["content"] |= {media_type: {"schema": {"type": "string"}} for media_type in route.more_types}
    return described


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _TEMPLATE.format(name="Problem")}
    return {"description": HTTPStatus(status).phrase, "content": {CONTENT_TYPE: {"schema": schema}}}


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for converter, name in VARIABLE.findall(route.rule):
        yield {"name": name, "in": "path", "required": True, "schema": parameter_schema(converter)}


def _query_parameters(route: Route, schemas: dict[Any, Any], components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    schema = components[route.query.__name__]
    for name, described in schema["properties"].items():
        if route.websocket and name == "ticket":
            continue  # it is listed as a way to authenticate
        yield {"name": name, "in": "query", "required": name in schema["required"], "schema": described}


def _headers(route: Route) -> Iterable[dict[str, Any]]:
    for header in route.headers:
        yield {
            "name": header.name,
            "in": "header",
            "description": header.description,
            "required": header.required,
            "schema": header.schema,
        }
