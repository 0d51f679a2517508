"""
Errors as the API tells them: one JSON shape, after RFC 9457. ``web`` layer; raised by the routes' functions and
everything under them, turned into a response by ``resource`` and ``channel``.

What a caller did wrong is 4xx and says what, in the caller's terms; what went wrong here is 5xx and says only how to
find it in the log. No response ever holds a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

import msgspec

CONTENT_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, after RFC 9457 (application/problem+json)."""

    type: str  # "about:blank", or "urn:twistedipc:problem:NAME" where a program should be able to tell
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
        """The problem as JSON."""
        return msgspec.json.encode(self.problem)


def not_found(detail: str = "there is nothing here (or it isn't yours to see)") -> ProblemError:
    """404: the same for what doesn't exist and for what the caller may not know of."""
    return ProblemError(404, detail)


def invalid(detail: str, *, name: str = "invalid") -> ProblemError:
    """422: it is well formed, and it can't be meant."""
    return ProblemError(422, detail, name=name, errors=[detail])


def unavailable(detail: str, *, retry_after: int = 5) -> ProblemError:
    """503: it was not done, and trying again later is right. ``retry_after``: seconds."""
    return ProblemError(503, detail, name="unavailable", headers={"Retry-After": str(retry_after)})


def conflict(detail: str, *, name: str = "conflict") -> ProblemError:
    """409: it exists, and in its present state this can't be done to it."""
    return ProblemError(409, detail, name=name)
