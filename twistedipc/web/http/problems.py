"""
Errors of the API: one JSON shape, after RFC 9457. ``web.http``; raised by routes and by everything below them, turned
into responses by ``web.api.resource`` and by ``channel``.

4xx means that the caller did something wrong, and says what in the caller's terms. 5xx means that the platform failed,
and says only how to find the failure in the log. No response ever holds a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

import msgspec

CONTENT_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, after RFC 9457 (application/problem+json)."""

    type: str  # "about:blank", or "urn:twistedipc:problem:NAME" for problems that a program may want to tell apart
    title: str
    status: int
    detail: str
    errors: list[str] = []


class ProblemError(Exception):
    """Ends the handling of a request with this status and sentence."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        name: str = "",
        errors: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.headers = dict(headers or {})
        self.problem = Problem(
            type=f"urn:twistedipc:problem:{name}" if name else "about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            errors=list(errors),
        )

    def body(self) -> bytes:
        """Return the problem as JSON."""
        return msgspec.json.encode(self.problem)


def not_found(detail: str = "there is nothing here (or it isn't yours to see)") -> ProblemError:
    """Return a 404, the same for what doesn't exist and for what the caller may not see."""
    return ProblemError(404, detail)


def invalid(detail: str, *, name: str = "invalid") -> ProblemError:
    """Return a 422: the request is well formed, and its values make no sense."""
    return ProblemError(422, detail, name=name, errors=[detail])


def unavailable(detail: str, *, retry_after: int = 5) -> ProblemError:
    """Return a 503: nothing was done, and the caller should try again later. ``retry_after``: seconds."""
    return ProblemError(503, detail, name="unavailable", headers={"Retry-After": str(retry_after)})


def conflict(detail: str, *, name: str = "conflict") -> ProblemError:
    """Return a 409: the thing exists, and its state doesn't allow this."""
    return ProblemError(409, detail, name=name)
