"""
A target that isn't known here: the ledger or an answer names it, and the registry has none of that name. Used by
``registry``.

Another version or installation had the target, maybe by a package of its own. What the project says of it is kept
as it is, so the project can be read, shown and changed; nothing can be published there.
"""

from __future__ import annotations

from typing import Any

from twistedipc.publish.targets.target import Settings, Target


class UnknownSettings(Settings, frozen=True, kw_only=True, tag="unknown"):
    """What a project says of a target that isn't known here. It is never a part of a request."""

    said: dict[str, Any]  # with its ``type``, as it was read

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.said["type"])


class Unknown(Target[UnknownSettings]):
    """A target that isn't known here: it has no secrets, and its settings aren't checked."""

    settings = UnknownSettings

    def __init__(self, name: str) -> None:
        self.name = name
        self.what = f"{name} (a target that isn't known here)"
