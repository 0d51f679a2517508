"""
What an npm registry is asked and what it says, as types: the port between what publishes packages and the client that
speaks with a registry by HTTP. No I/O.

A method of `Registry` returns what was asked for, or an `Answer` that says why there is none. It raises only OSError of
this machine's disk. Nothing of a token or of a one-time password is in any of these objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from twistedipc.publish.targets.npm.answers import Dist


class Kind(StrEnum):
    """What an answer means for the caller, whatever the registry's words and status are."""

    DONE = "done"  # it is so now
    ABSENT = "absent"  # there is no such package, version, tag or stage, or this token can't see it
    DENIED = "denied"  # the registry doesn't take the token: it is wrong, expired, or there is none
    FORBIDDEN = "forbidden"  # the token is known, but may not do this
    TAKEN = "taken"  # the version may be there already: look what the registry has of it
    OTP = "otp"  # a one-time password is needed, or the one that was sent is refused
    BUSY = "busy"  # the registry can't now: try again, not before `Answer.after` seconds have passed
    UNREACHABLE = "unreachable"  # no answer, or not all of it: what was asked may have been done all the same
    REFUSED = "refused"  # it won't do this, now or later, as it is asked
    UNSUPPORTED = "unsupported"  # it doesn't know such a request


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's answer that is no content."""

    kind: Kind
    said: str = ""  # for people, a clause that can follow a colon; "" where all is well
    after: float = 0.0  # seconds to wait before the next request, as the registry asks for (Retry-After)
    status: int = 0  # HTTP's; 0 if there was no answer
    notice: str = ""  # what the registry wants people to read (npm-notice)
    page: str = ""  # the address at which a person can confirm this in a browser (authUrl), with OTP; "" is none

    @property
    def unsure(self) -> bool:
        """
        Whether what was asked for may be so although the request failed: look before it is made again. (Some
        registries say only "forbidden" of a version that is there.)
        """
        maybe = (Kind.TAKEN, Kind.UNREACHABLE, Kind.FORBIDDEN)
        return self.kind in maybe or (self.kind is Kind.BUSY and self.status >= 500)


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry has of one version."""

    dist: Dist = Dist()
    tarball: str = ""  # the address of its file, as the registry gives it
    deprecated: str = ""  # the message with which it is deprecated; "" if it isn't
    described: msgspec.Raw = msgspec.Raw(b"{}")  # all that the registry has of it, as JSON

    @property
    def manifest(self) -> dict[str, Any]:
        """The package.json that was published, with what npm and the registry have added. Decoded at each access."""
        found = msgspec.json.decode(self.described)
        return found if isinstance(found, dict) else {}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry has of a package. It holds the whole answer in memory: don't keep many."""

    name: str  # as the registry has it: one that doesn't mind case may answer with another package
    versions: Mapping[str, Version] = {}
    tags: Mapping[str, str] = {}  # dist-tag -> version
    times: Mapping[str, str] = {}  # version -> when it was published (ISO 8601); empty where the registry doesn't say
    notice: str = ""  # what the registry wants people to read (npm-notice)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was uploaded and waits for a person's approval."""

    id: str
    name: str = ""  # of the package; "" and the following too where the registry doesn't say
    version: str = ""
    tag: str = ""
    integrity: str = ""
    shasum: str = ""
    state: str = ""  # the registry's word for it
    notice: str = ""  # what the registry wants people to read (npm-notice)

    @property
    def dist(self) -> Dist:
        """The hashes of its tarball, as far as the registry says them."""
        return Dist(self.integrity or None, self.shasum or None)


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry says of a token."""

    expires: str = ""  # when (ISO 8601); "" if it doesn't
    bypasses_otp: bool = False  # whether it publishes without a one-time password
    notice: str = ""  # what the registry wants people to read (npm-notice)

    @property
    def ends(self) -> datetime | None:
        """When it expires, with its zone; None if the registry doesn't say."""
        try:
            found = datetime.fromisoformat(self.expires)
        except ValueError:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class Registry(Protocol):
    """One registry, with one token. Each method blocks, at most for a deadline of its own."""

    @property
    def address(self) -> str:
        """The registry's address with a final slash, for people: without a user or a password in it."""

    def look(self, name: str) -> Found | Answer:
        """Return what there is of a package; `Kind.ABSENT` if there is no such package."""

    def search(self, text: str) -> Sequence[str] | Answer:
        """Return names of packages that the registry finds for a text, the best first; not all that there are."""

    def upload(
        self, tarball: Path, *, tag: str, access: str = "", provenance: bytes | None = None, otp: str = ""
    ) -> Answer:
        """Publish a tarball under a dist-tag. ``access``: "public", "restricted", or "" for the registry's default."""

    def has_staging(self) -> bool | Answer:
        """Return whether the registry knows stages at all."""

    def stage(self, tarball: Path, *, tag: str, access: str = "", otp: str = "") -> Stage | Answer:
        """Upload a tarball that is published once a person approves it."""

    def stages(self, name: str = "") -> Sequence[Stage] | Answer:
        """Return what waits for approval, of this package or all that the token can see."""

    def staged(self, stage_id: str) -> Stage | Answer:
        """Return one stage; `Kind.ABSENT` once it is approved, rejected, or was never there."""

    def staged_tarball(self, stage_id: str, to: Path) -> Answer:
        """Write a stage's tarball to a path."""

    def approve(self, stage_id: str, otp: str) -> Answer:
        """Publish what waits."""

    def reject(self, stage_id: str, otp: str) -> Answer:
        """Delete what waits."""

    def set_tag(self, name: str, tag: str, version: str, otp: str = "") -> Answer:
        """Let a dist-tag lead to a version."""

    def remove_tag(self, name: str, tag: str, otp: str = "") -> Answer:
        """Remove a dist-tag; `Kind.ABSENT` if there is none."""

    def deprecate(self, name: str, versions: Sequence[str], message: str, otp: str = "") -> Answer:
        """Deprecate these versions with a message; "" takes a deprecation back."""

    def fetch(self, name: str, version: str, to: Path, limit: int) -> Answer:
        """
        Write a version's tarball to a path, once its content is what the registry says of it.

        :param limit: the most bytes that it may have
        """
