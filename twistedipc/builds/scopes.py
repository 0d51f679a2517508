"""What a token may do: its scopes. Bottom layer, pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Literal, get_args

#: ``read``: look. ``build``: ask for builds, cancel them, try them again; without ``publish`` they are previews.
#: ``publish``: have a build publish for a project's users, make a release live. ``admin``: all else.
Scope = Literal["read", "build", "publish", "admin"]

#: All scopes. Each includes those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)


#: For how many days a token is good if nobody says otherwise, and how many days before its end that is said.
TOKEN_DAYS = 90
WARNED_DAYS = 14


def allow(scopes: AbstractSet[str], scope: Scope) -> bool:
    """Return whether one of these scopes is the wanted one, or includes it."""
    return not scopes.isdisjoint(SCOPES[SCOPES.index(scope) :])
