"""What a route's function is given, and what it returns. ``web.api``; between ``resource`` and the functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection
from twisted.web.resource import IResource

from twistedipc.storage import audit
from twistedipc.storage.rows import Actor, BuildRow, ProjectRow, TokenRow
from twistedipc.web.access.auth import Authentication
from twistedipc.web.access.held import Holding
from twistedipc.web.api.context import WebContext
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.queries import Query
from twistedipc.web.logs.stream import LogStreams

Q_co = TypeVar("Q_co", bound=Query | None, covariant=True)
B_co = TypeVar("B_co", bound=msgspec.Struct | None, covariant=True)
A_co = TypeVar("A_co", bound=msgspec.Struct | bytes | None, covariant=True)


class Ask(Protocol):
    """Asks another route what it answers the same caller, who may see and do there what they may anyway."""

    def __call__(self, method: str, uri: str, body: bytes = b"") -> Awaitable[Reply[Any] | Takeover]:
        """Return its answer. Raises `ProblemError`, and what is the platform's own fault as it is."""


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Q_co, B_co]):
    """
    One request, authenticated, authorised and decoded. The types of ``query`` and ``body`` are what the route takes:
    `route.route` reads them from the annotation of the route's function.
    """

    context: WebContext
    request: BoundedRequest
    streams: LogStreams
    authentication: Authentication
    address: str  # the caller's, for the audit
    path: Mapping[str, Any]  # the rule's variables, converted
    query: Q_co
    body: B_co
    content: bytes  # the body as it came
    caller: TokenRow | None  # None where the route needs no token
    ask: Ask  # for what another route answers, within this request
    bound_project: ProjectRow | None = None  # the path's project, where the route is bound to one
    bound_build: BuildRow | None = None  # the path's build, where the route is bound to one

    @property
    def token(self) -> TokenRow:
        """The caller's token, for routes that need one."""
        assert self.caller is not None, "the table says that this route needs a token"
        return self.caller

    @property
    def actor(self) -> Actor:
        """The caller, for records of the audit that are written elsewhere."""
        return self.actor_of(self.token)

    @property
    def counted_as(self) -> str:
        """As whom the caller's share of what is bounded is counted: a person has one, with all tokens together."""
        actor = self.actor
        return f"token {actor.token}" if actor.person is None else f"person {actor.person}"

    def actor_of(self, token: TokenRow) -> Actor:
        """Return the same for a caller that proves this token in the body of the request."""
        person = token.person
        return Actor(
            who=token.name,
            person=None if person is None else person.id,
            person_name=None if person is None else person.name,
            token=token.id if token.parent is None else token.parent,
            address=self.address,
            request=self.request.id,
        )

    def audit(
        self,
        connection: Connection,
        action: str,
        subject: str,
        detail: Mapping[str, str],
        *,
        by: Actor | None = None,
        project: str | None = None,
    ) -> None:
        """
        Record that the caller does this, in the same transaction as what is done. ``detail`` never holds a secret.

        :param by: another than `actor`.
        :param project: the one that it is about, if that isn't the path's.
        """
        if project is None and self.bound_project is not None:
            project = self.bound_project.name
        audit.record(
            connection,
            by=by or self.actor,
            action=action,
            subject=subject,
            project=project,
            detail=detail,
            now=self.context.now(),
        )

    @property
    def project(self) -> ProjectRow:
        """The path's project, which the caller may see, for routes that are bound to a project."""
        assert self.bound_project is not None, "the table says that this route is bound to a project"
        return self.bound_project

    @property
    def build(self) -> BuildRow:
        """The path's build, which the caller may see, for routes that are bound to a build."""
        assert self.bound_build is not None, "the table says that this route is bound to a build"
        return self.bound_build


@dataclass(frozen=True, kw_only=True)
class Reply(Generic[A_co]):
    """A whole response: a struct as JSON (as bytes, if it is encoded already), or None for no body."""

    body: A_co | bytes
    status: int | None = None  # None: the route's own
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        """Return the body's bytes."""
        body = self.body
        return body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)


class Takeover(Protocol):
    """A response that lasts and writes itself: a stream, a WebSocket."""

    def take_over(self, request: BoundedRequest, holding: Holding) -> None:
        """
        Begin the response, and finish the request in the end. It must end when ``holding`` says so, and release it at
        its end.
        """


class WebSocket:
    """Hands the connection to the resource of a WebSocket. Implements `Takeover`."""

    def __init__(self, resource: Callable[[Holding], IResource]) -> None:
        self._resource = resource

    def take_over(self, request: BoundedRequest, holding: Holding) -> None:
        """See `Takeover`."""
        request.release_connection()
        request.body.seek(0)
        self._resource(holding).render(request)


def moment(milliseconds: int) -> datetime:
    """Return a time of the ledger as the API shows it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def moment_or_none(milliseconds: int | None) -> datetime | None:
    """Return the same for a time that may not have come yet."""
    return None if milliseconds is None else moment(milliseconds)
