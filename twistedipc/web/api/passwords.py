"""
One-time passwords that callers give. They are kept in memory until they are used, so only the apiserver can take them
that publishes. Used by ``builds`` and ``packages``.
"""

from __future__ import annotations

from msgspec import UnsetType

from twistedipc.web.api.context import WebContext
from twistedipc.web.http.problems import ProblemError


async def taken(context: WebContext, given: str | UnsetType, duty: str) -> str:
    """
    Return the password; "" if none is given. Raises 421 if another apiserver would have to use it, which has this duty:
    `DELIVERING`, or `REQUESTING`.
    """
    otp = "" if isinstance(given, UnsetType) else given.strip()  # a pattern's $ lets a newline pass
    other = await context.does_elsewhere(duty) if otp else None
    if other is not None:
        raise ProblemError(
            421,
            f"packages are published by apiserver {other.name}, and a one-time password isn't passed on: "
            f"ask the same at {other.url}",
            name="published-elsewhere",
        )
    return otp
