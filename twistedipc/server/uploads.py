"""
Grants to upload what was built: a one-time token bound to an attempt. ``builders`` grants, ``web`` redeems.

The tokens live in memory only. A builder whose token the apiserver has forgotten, by a restart, asks for another;
what has arrived is on disk, and the upload goes on from its offset.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

from twistedipc.server.boundaries import RandomBytes
from twistedipc.storage.rows import upload_name


class UploadTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a token allows: the archive of one attempt, or one package of it that the apiserver publishes."""

    attempt: str
    size: int
    sha256: str
    target: str = ""  # for which the package was packed; "": it is the archive
    position: int = 0
    integrity: str = ""  # the package's, as its permit has it

    @property
    def upload(self) -> str:
        """The name of the upload."""
        return upload_name(self.attempt, self.target, self.position) if self.target else self.attempt


class UploadGrants:
    """The tokens that are valid now: at most one for each attempt that a builder holds."""

    def __init__(self, random: RandomBytes) -> None:
        self._random = random
        self._grants: dict[str, tuple[bytes, UploadTarget]] = {}

    def grant(self, target: UploadTarget) -> str:
        """Return a new token for the target's attempt; an earlier one is void."""
        token = "tipu_" + base64.urlsafe_b64encode(self._random(32)).decode().rstrip("=")
        self._grants[target.attempt] = (_digest(token), target)
        return token

    def grant_for(self, attempt: str, token: str) -> UploadTarget | None:
        """Return what ``token`` allows for ``attempt``; None if nothing."""
        found = self._grants.get(attempt)
        if found is None or not hmac.compare_digest(found[0], _digest(token)):
            return None
        return found[1]

    def revoke(self, attempt: str) -> None:
        """Make the attempt's token void: the upload is over."""
        self._grants.pop(attempt, None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
