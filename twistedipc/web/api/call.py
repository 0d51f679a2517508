"""
What a route's function is given, and what it gives back. ``web`` layer; between ``resource`` and ``web.api``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection

from twistedipc.storage import audit
from twistedipc.storage.rows import Actor, BuildRow, ProjectRow, TokenRow
from twistedipc.web.access.auth import Authentication
from twistedipc.web.access.held import Holding
from twistedipc.web.api.context import WebContext
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.logs.stream import LogStreams

Q_co = TypeVar("Q_co", covariant=True)
B_co = TypeVar("B_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Q_co, B_co]):
    """One request, authenticated, authorised and decoded: ``query`` and ``body`` are what the route's table says."""

    context: WebContext
    request: BoundedRequest
    streams: LogStreams
    authentication: Authentication
    address: str  # the caller's, for the audit
    path: Mapping[str, Any]  # the rule's variables, converted
    query: Q_co
    body: B_co
    caller: TokenRow | None  # None only where the route needs no token
    bound_project: ProjectRow | None = None  # the path's project, where the route is bound to one
    bound_build: BuildRow | None = None  # the path's build, where the route is bound to one

    @property
    def token(self) -> TokenRow:
        """The caller's token. For routes that need one."""
        assert self.caller is not None, "the table says that this route needs a token"
        return self.caller

    @property
    def actor(self) -> Actor:
        """The caller, for the audit of what is done elsewhere."""
        return Actor(who=self.token.name, address=self.address)

    def audit(self, connection: Connection, action: str, subject: str, detail: Mapping[str, str]) -> None:
        """Record that the caller does this, in the same write as what is done. ``detail`` never holds a secret."""
        self.audit_as(self.token, connection, action, subject, detail)

    def audit_as(
        self, token: TokenRow, connection: Connection, action: str, subject: str, detail: Mapping[str, str]
    ) -> None:
        """The same where the caller shows who they are only by what they ask for."""
        audit.record(
            connection,
            who=token.name,
            address=self.address,
            action=action,
            subject=subject,
            detail=detail,
            now=self.context.now(),
        )

    @property
    def project(self) -> ProjectRow:
        """The path's project, which the caller may see. For routes that are bound to a project."""
        assert self.bound_project is not None, "the table says that this route is bound to a project"
        return self.bound_project

    @property
    def build(self) -> BuildRow:
        """The path's build, which the caller may see. For routes that are bound to a build."""
        assert self.bound_build is not None, "the table says that this route is bound to a build"
        return self.bound_build


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole response: a struct as JSON, or nothing."""

    status: int = 200
    body: msgspec.Struct | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Takeover(Protocol):
    """A response that lasts, and is written by someone else from here on: a stream, a WebSocket."""

    def take_over(self, request: BoundedRequest, holding: Holding) -> None:
        """
        Begin. The request is finished by this from now on. It ends when ``holding`` says so, and releases that at its
        end.
        """


Answer = Reply | Takeover


def moment(milliseconds: int) -> datetime:
    """A time of the ledger as the API shows it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def moment_or_none(milliseconds: int | None) -> datetime | None:
    """The same for a time that may not have come."""
    return None if milliseconds is None else moment(milliseconds)
