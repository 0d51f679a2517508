"""
The handshake: its frames, and what is authenticated by them. Sans-IO; used by `twistedipc.ipc.wire.session`.

::

    listener                               dialler
    challenge  ──────────────────────────►           versions, role, name, nonce, [frame_limit], [keys], [features],
                                                     [services]
               ◄──────────────────────────  hello    version, role, name, incarnation, nonce, [frame_limit], [keys],
                                                     [features], [service], mac
    welcome    ──────────────────────────►           incarnation, heartbeat, [key], mac
    [link-interface ───────────────────────►         takes, [more]]          if both have the feature ``interface``
              [◄────────────────── link-interface    takes, [more]]

All codes are HMAC-SHA-256 under a key over everything that was said so far, each field behind its length. A label says
whose code it is, so none can be reflected; both nonces are in all, so none can be replayed; the offered versions are
in it, so an attacker in between can't downgrade the two. The frame limits are optional: a dialler says its own only to
a listener that has said its own, so each end knows whether the codes are over them too. The same holds for named keys:
only to a listener that takes them does a dialler say which it has, with a code under each; all codes are over the ids.
And for features, which are names of what an end can do beside the version; all codes are over those of both ends.

A listener that has several services says of the others, in ``services``, what it says of the first one in the challenge
itself. A dialler that wants one of the others names it in ``service``. From there on all is as if the listener had that
service alone (`Challenge.of_service`), and all codes are over the names of both, so that somebody in between can't
bring a dialler to another service than the one that it wants.

With the feature ``interface`` each end says, as soon as both are proven, what it takes: `Introduction`, see
``catalogue``. It comes after authentication, so that a stranger learns nothing of it, and in as many lines as needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

#: The versions of the protocol that this code speaks, the best one first.
VERSIONS = (1,)

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z"
ROLE_PATTERN = r"^[a-z][a-z0-9-]{0,31}\Z"
INCARNATION_PATTERN = r"^[A-Za-z0-9._-]{1,64}\Z"
KEY_ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}\Z"
FEATURE_PATTERN = r"^[a-z][a-z0-9-]{0,31}\Z"

#: How many named keys a dialler may prove at a time: while keys are replaced, a name has two.
MOST_KEYS = 4

#: The feature of an end that says what it takes, and hears it of the peer.
INTERFACE = "interface"

#: What this code can do beside the version, by the names on the wire. An end uses a feature if both have it. None may
#: be what the safety of a link depends on: whoever sits in between can take them out of a challenge.
FEATURES = (INTERFACE,)

#: Names of features that one end may say.
MOST_FEATURES = 32

#: Services that a listener may have beside the first one. A challenge that says them fits into a line of the handshake.
MOST_OTHER_SERVICES = 16

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Role = Annotated[str, msgspec.Meta(pattern=ROLE_PATTERN)]
Incarnation = Annotated[str, msgspec.Meta(pattern=INCARNATION_PATTERN)]
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
MAC = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")]
FrameLimit = Annotated[int, msgspec.Meta(ge=4096, le=2**53 - 1)]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
KeyId = Annotated[str, msgspec.Meta(pattern=KEY_ID_PATTERN)]
Features = Annotated[
    list[Annotated[str, msgspec.Meta(pattern=FEATURE_PATTERN)]], msgspec.Meta(max_length=MOST_FEATURES)
]
#: What is taken, of which kind, and fingerprints: see ``catalogue``.
Row = Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]


class HandshakeFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The base of the frames of the handshake."""


class OtherService(msgspec.Struct, frozen=True, kw_only=True):
    """A service beside the first one: what a challenge says of that one, of this one."""

    role: Role
    frame_limit: FrameLimit | msgspec.UnsetType = msgspec.UNSET
    keys: bool | msgspec.UnsetType = msgspec.UNSET
    features: Features | msgspec.UnsetType = msgspec.UNSET


class Challenge(HandshakeFrame, frozen=True, kw_only=True, tag="challenge"):
    """The listener's first word: who it is, and what it can speak."""

    versions: Annotated[list[Version], msgspec.Meta(min_length=1, max_length=16)]
    role: Role
    name: Name
    nonce: Nonce
    frame_limit: FrameLimit | msgspec.UnsetType = msgspec.UNSET
    keys: bool | msgspec.UnsetType = msgspec.UNSET  # true: it takes named keys
    features: Features | msgspec.UnsetType = msgspec.UNSET
    services: (
        Annotated[list[OtherService], msgspec.Meta(min_length=1, max_length=MOST_OTHER_SERVICES)] | msgspec.UnsetType
    ) = msgspec.UNSET

    @property
    def others(self) -> list[OtherService]:
        """The services beside the first one."""
        return [] if self.services is msgspec.UNSET else self.services

    @property
    def roles(self) -> str:
        """The roles of all services, for people."""
        return ", ".join([self.role, *(each.role for each in self.others)])

    def of_service(self, role: str) -> Challenge | None:
        """Return the challenge as it is for a dialler that wants this service; None if the listener doesn't have it."""
        if role == self.role:
            return self
        for each in self.others:
            if each.role == role:
                return msgspec.structs.replace(self, **msgspec.structs.asdict(each))
        return None


class KeyProof(msgspec.Struct, frozen=True, kw_only=True):
    """A named key that the dialler has, and its code under this key."""

    id: KeyId
    mac: MAC


class Hello(HandshakeFrame, frozen=True, kw_only=True, tag="hello"):
    """The dialler's answer. ``mac`` is empty if it has no shared key, or mustn't use the one it has."""

    version: Version
    role: Role
    name: Name
    incarnation: Incarnation
    nonce: Nonce
    frame_limit: FrameLimit | msgspec.UnsetType = msgspec.UNSET
    keys: Annotated[list[KeyProof], msgspec.Meta(min_length=1, max_length=MOST_KEYS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    features: Features | msgspec.UnsetType = msgspec.UNSET
    service: Role | msgspec.UnsetType = msgspec.UNSET  # the role of the one that is wanted, if it isn't the first
    mac: MAC

    @property
    def proofs(self) -> list[KeyProof]:
        """The named keys that the dialler has, with its codes under them."""
        return [] if self.keys is msgspec.UNSET else self.keys


class Welcome(HandshakeFrame, frozen=True, kw_only=True, tag="welcome"):
    """The listener has found the dialler to be what it says, and proves the same of itself."""

    incarnation: Incarnation
    heartbeat: Annotated[int, msgspec.Meta(ge=10, le=3_600_000)]  # milliseconds; holds for both sides
    key: KeyId | msgspec.UnsetType = (
        msgspec.UNSET
    )  # the named key that the dialler has proven, and that ``mac`` is under
    mac: MAC


class Introduction(HandshakeFrame, frozen=True, kw_only=True, omit_defaults=True, tag="link-interface"):
    """What an end takes, or the next part of it."""

    takes: list[Row]
    more: bool = False  # another part follows


def highest_common(ours: Iterable[int], theirs: Iterable[int]) -> int | None:
    """The best version that both speak, or None."""
    return max(set(ours) & set(theirs), default=None)


def check_identity(name: str, role: str, incarnation: str) -> None:
    """ValueError unless a node may be called so; for who sets a node up."""
    if not re.match(NAME_PATTERN, name):
        raise ValueError(
            f"{name!r} can't be a node's name: 1 to 64 letters, digits and . _ -, a letter or digit first and last"
        )
    if not re.match(ROLE_PATTERN, role):
        raise ValueError(f"{role!r} can't be a role: up to 32 of a-z, 0-9 and -, a letter first")
    if not re.match(INCARNATION_PATTERN, incarnation):
        raise ValueError(f"{incarnation!r} can't be an incarnation: 1 to 64 letters, digits and . _ -")


def hello_mac(key: bytes | None, challenge: Challenge, hello: Hello) -> str:
    """
    The code under ``key`` that ``hello`` must carry; empty without a key. Of the codes in ``hello`` none is looked at.
    """
    return _mac(key, "hello", _said(challenge, hello))


def welcome_mac(key: bytes | None, challenge: Challenge, hello: Hello, welcome: Welcome) -> str:
    """The code that ``welcome`` must carry; empty without a key. Its own ``mac`` isn't looked at."""
    chosen = [] if welcome.key is msgspec.UNSET else [f"key {welcome.key}"]
    return _mac(key, "welcome", [*_said(challenge, hello), welcome.incarnation, str(welcome.heartbeat), *chosen])


def same_mac(expected: str, received: str) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(expected.encode("ascii"), received.encode("ascii"))


def _said(challenge: Challenge, hello: Hello) -> list[str]:
    """``challenge`` is that of the service which ``hello`` wants."""
    limits = [] if hello.frame_limit is msgspec.UNSET else [str(challenge.frame_limit), str(hello.frame_limit)]
    ids = [f"keys {','.join(proof.id for proof in hello.proofs)}"] if hello.proofs else []
    features = []
    if not isinstance(hello.features, msgspec.UnsetType) and not isinstance(challenge.features, msgspec.UnsetType):
        features = [f"features {','.join(challenge.features)} {','.join(hello.features)}"]
    services = []
    if hello.service is not msgspec.UNSET:
        services = [f"services {','.join(each.role for each in challenge.others)} {hello.service}"]
    return [
        ",".join(map(str, challenge.versions)),
        challenge.role,
        challenge.name,
        challenge.nonce,
        str(hello.version),
        hello.role,
        hello.name,
        hello.incarnation,
        hello.nonce,
        *limits,
        *ids,
        *features,
        *services,
    ]


def _mac(key: bytes | None, label: str, fields: list[str]) -> str:
    if key is None:
        return ""
    code = hmac.new(key, digestmod=hashlib.sha256)
    for field in (f"twistedipc link {label}", *fields):
        data = field.encode("utf-8")
        code.update(len(data).to_bytes(4, "big") + data)
    return code.hexdigest()
