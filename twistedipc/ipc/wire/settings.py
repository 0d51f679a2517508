"""What one side brings to each of its links. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import msgspec

from twistedipc.ipc.wire.catalogue import Catalogue, catalogue_of
from twistedipc.ipc.wire.errors import BadKey
from twistedipc.ipc.wire.handshake import FEATURES, MOST_OTHER_SERVICES, check_identity
from twistedipc.ipc.wire.identity import Accept
from twistedipc.ipc.wire.keyring import SHORTEST_SECRET, Keys
from twistedipc.ipc.wire.messages import Vocabulary
from twistedipc.ipc.wire.names import Names

#: Bytes of a frame, without its newline, once the peer is authenticated; and before.
FRAME_LIMIT = 1 << 20
HANDSHAKE_FRAME_LIMIT = 4096

#: Calls that may be in flight each way.
MAX_CALLS = 1024


class Side(StrEnum):
    """Who opened the connection."""

    DIALLER = "dialler"
    LISTENER = "listener"


@dataclass(frozen=True)
class SessionSettings:
    """What one side brings to each of its links. Times are in seconds, sizes in bytes."""

    name: str  # who it is: at most 64 characters
    role: str  # what it is: lower-case letters, digits and -
    peer_role: str  # what the peer must be
    incarnation: str  # another one each time that this process starts
    key: bytes | None  # None only on UNIX sockets
    vocabulary: Vocabulary  # what it understands
    heartbeat: float = 8.0  # between signs of life; the listener's counts, on both sides
    dead_after: float = 24.0  # without received bytes, in whole heartbeats; never less than two of them
    handshake_timeout: float = 10.0  # for the peer to prove who it is
    frame_limit: int = FRAME_LIMIT  # of a message that is taken; what is sent is bounded by the peer's as well
    max_calls: int = MAX_CALLS  # in flight, each way
    outbound_limit: int = 64 << 20  # what waits for a peer that doesn't read; over it the link is closed
    #: gives a reason to refuse a peer, or None; or something to await for that, within the ``handshake_timeout``. What
    #: it raises is logged, and refuses the peer
    accept_peer: Accept | None = None
    names: Names | None = None  # what becomes of a second peer of one name; None: there may be several
    #: for how long, at most, the process looks for the next message instead of sleeping, after it has answered one. It
    #: does so only while the peer's words have come that soon several times in a row: to be woken takes most of a round
    #: trip's time. 0 is never, a millisecond the most.
    busy_poll: float = 0.0002
    keys: Keys | None = None  # the named keys that are known, beside the shared one
    #: with ``keys`` and without ``key``: a peer that has no key is taken too, where its endpoint needs none. It can't
    #: have a name to which a key is bound
    keys_optional: bool = False
    #: the streams that it receives, each with the type of its items: for what it tells its peers
    streams: Mapping[str, type[msgspec.Struct]] = field(default_factory=dict)
    #: the requests, of both sides, in which there may be a `Blob`, or in whose replies
    with_bodies: frozenset[type[msgspec.Struct]] = frozenset()
    features: tuple[str, ...] = FEATURES  # what it can do beside the version; with fewer it is as an older one
    #: of a listener: its other services, each as if it were the only one. What a connection has before the listener
    #: knows which one the dialler wants, and the bounds until then, are those of the first: of these settings
    others: tuple[SessionSettings, ...] = ()

    @cached_property
    def catalogue(self) -> Catalogue:
        """What this side takes, as it tells its peers. Made for the first of them."""
        return catalogue_of(self.vocabulary, self.streams)

    @property
    def services(self) -> tuple[SessionSettings, ...]:
        """The settings of all services, this one's first."""
        return (self, *self.others)

    @property
    def has_key(self) -> bool:
        """Whether a peer must prove that it has a key."""
        return self.key is not None or (self.keys is not None and not self.keys_optional)

    @property
    def decides(self) -> bool:
        """Whether something is to be decided about each peer that is proven."""
        return self.accept_peer is not None or self.names is not None

    def __post_init__(self) -> None:
        check_identity(self.name, self.role, self.incarnation)
        key: object = self.key
        if not (key is None or isinstance(key, bytes)):
            raise BadKey(f"a key is bytes, not {type(key).__name__}")
        if key is not None and len(key) < SHORTEST_SECRET:
            raise BadKey(f"a key has at least {SHORTEST_SECRET} bytes")
        if not 0.01 <= self.heartbeat <= 3600:
            raise ValueError("the heartbeat is between 10 milliseconds and one hour")
        check_busy_poll(self.busy_poll)
        if self.frame_limit < HANDSHAKE_FRAME_LIMIT:
            raise ValueError(f"the frame limit is at least {HANDSHAKE_FRAME_LIMIT} bytes")
        self._check_others()

    def _check_others(self) -> None:
        if len(self.others) > MOST_OTHER_SERVICES:
            raise ValueError(f"at one endpoint there are {1 + MOST_OTHER_SERVICES} services at most")
        roles = [each.role for each in self.services]
        if len(set(roles)) < len(roles):
            raise ValueError(f"two services at one endpoint have one role: {', '.join(sorted(roles))}")
        for each in self.others:
            if (each.name, each.incarnation) != (self.name, self.incarnation) or each.others:
                raise ValueError("the services at one endpoint have one name and one incarnation")


def check_busy_poll(seconds: float) -> None:
    """Raise ValueError if that is no time for which a process may look for the next message."""
    if not 0 <= seconds <= 0.001:
        raise ValueError("busy polling is for one millisecond at most")
