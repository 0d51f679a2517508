"""
JSON in the bodies of requests: decoding is validating. ``web.http``; used by ``web.api``, which has the types.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.problems import ProblemError, invalid

_B = TypeVar("_B", bound=msgspec.Struct)


def check_uncompressed(request: BoundedRequest) -> None:
    """Refuse a compressed body, whose size once unpacked nothing would bound. Raises 415."""
    encoding = request.getHeader("content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise ProblemError(415, "a body can't be compressed here", name="unsupported-encoding")


def check_json(request: BoundedRequest) -> None:
    """
    Refuse a body that isn't declared as JSON, which pages of other origins can't do without asking (CORS). Raises 415.
    """
    content_type = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ProblemError(415, "the body must be JSON (Content-Type: application/json)", name="unsupported-type")


def body_of(data: bytes, kind: type[_B]) -> _B:
    """Return the body as a ``kind``. Raises 400 and 422."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"the body isn't JSON: {error}", name="malformed") from error
    except RecursionError as error:
        raise ProblemError(400, "the body is nested too deeply", name="malformed") from error
