"""
The handshake as one side goes through it: lines in, lines out, and in the end what both have agreed upon. Sans-IO; used
by ``session``. ``handshake`` has the frames and what is authenticated by them; see "Handshake" in docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from twistedipc.ipc.wire.catalogue import Catalogue, Introduced
from twistedipc.ipc.wire.errors import Code, RemoteProtocolError
from twistedipc.ipc.wire.handshake import (
    INTERFACE,
    VERSIONS,
    Challenge,
    Hello,
    Introduction,
    KeyProof,
    OtherService,
    Welcome,
    hello_mac,
    highest_common,
    same_mac,
    welcome_mac,
)
from twistedipc.ipc.wire.identity import Origin, PeerInfo
from twistedipc.ipc.wire.keyring import NamedKey
from twistedipc.ipc.wire.messages import Bye, encode
from twistedipc.ipc.wire.settings import SessionSettings, Side
from twistedipc.ipc.wire.states import Input

#: What stands for a key that isn't known. It opens nothing.
_DECOY = bytes(32)

_H = msgspec.json.Decoder
_CHALLENGE = ("challenge", _H(Challenge | Bye))
_WELCOME = ("welcome", _H(Welcome | Bye))
_HELLO = ("hello", _H(Hello | Bye))
_INTRODUCTION = ("link-interface", _H(Introduction | Bye))

_Expected = (
    tuple[str, _H[Challenge | Bye]]
    | tuple[str, _H[Hello | Bye]]
    | tuple[str, _H[Welcome | Bye]]
    | tuple[str, _H[Introduction | Bye]]
)


@dataclass(frozen=True)
class Agreement:
    """What a handshake has come to."""

    peer: PeerInfo
    settings: SessionSettings  # that this side goes by
    heartbeat: float  # seconds
    send_limit: int  # bytes of a message to the peer
    takes: Catalogue | None = None  # what the peer takes; None: it doesn't say


@dataclass(frozen=True)
class Greeted:
    """What a line of the handshake amounts to."""

    happened: Input | None = None  # None: the next line is of the same kind
    answer: bytes = b""  # to be sent
    agreement: Agreement | None = None  # with `Input.AGREED`
    bye: Bye | None = None  # with `Input.BYE`


class Greeting:
    """
    One side's handshake. A dialler takes a challenge and then a welcome; a listener begins with ``opening``, and takes
    a hello. After that each may say what it takes, and be told the same.

    :param nonce: 64 random hexadecimal digits, new for each session
    :param origin: what the transport tells of the peer, once the handshake is over
    :param deadline: when the handshake must be complete
    """

    def __init__(
        self, side: Side, settings: SessionSettings, nonce: str, origin: Callable[[], Origin], deadline: float
    ) -> None:
        self.opening = b""
        #: what the handshake has come to, while the application decides; and what the peer has sent meanwhile
        self.end: Greeted | None = None
        self.kept = bytearray()
        self.deadline = deadline
        self._settings = settings
        self._nonce = nonce
        self._origin = origin
        self._challenge: Challenge | None = None
        self._hello: Hello | None = None
        self._agreement: Agreement | None = None  # once both are proven
        self._introduced = Introduced()
        self._expected: _Expected = _CHALLENGE
        if side is Side.LISTENER:
            self._challenge = Challenge(
                versions=list(VERSIONS),
                role=settings.role,
                name=settings.name,
                nonce=nonce,
                frame_limit=settings.frame_limit,
                keys=msgspec.UNSET if settings.keys is None else True,
                features=list(settings.features) or msgspec.UNSET,
                services=list(map(_other_service, settings.others)) or msgspec.UNSET,
            )
            self.opening = encode(self._challenge)
            self._expected = _HELLO

    @property
    def expectation(self) -> str:
        """What is to come, in words for the peer."""
        return f"this is a twistedipc link, and expects {self._expected[0]}"

    @property
    def hint(self) -> str:
        """What the caller of `dial` reads if no handshake begins: what the other side may be. "" once it has begun."""
        if self._expected is not _CHALLENGE:
            return ""
        return ": the other side doesn't speak the link's handshake: is it a plain server? dial_plain"

    def take(self, line: bytes) -> Greeted:
        """Take a line, with its newline. Raises `RemoteProtocolError` if it isn't what is expected, or isn't good."""
        try:
            line.decode("utf-8")
            frame = self._expected[1].decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, f"{self.expectation}: {error}{self.hint}") from None
        match frame:
            case Challenge():
                return self._on_challenge(frame)
            case Hello():
                return self._on_hello(frame)
            case Welcome():
                return self._on_welcome(frame)
            case Introduction():
                return self._on_introduction(frame)
            case Bye():
                return Greeted(Input.BYE, bye=frame)

    def _on_challenge(self, challenge: Challenge) -> Greeted:
        settings = self._settings
        version = highest_common(VERSIONS, challenge.versions)
        if version is None:
            raise RemoteProtocolError(
                Code.VERSION, f"no version in common: {_list(challenge.versions)} there, {_list(VERSIONS)} here"
            )
        wanted = settings.peer_role
        service = msgspec.UNSET if challenge.role == wanted else wanted
        found = challenge.of_service(wanted)
        if found is None:
            raise RemoteProtocolError(Code.REFUSED, f"the peer is {challenge.roles}; {wanted} is wanted")
        self._challenge = challenge = found
        offered = self._offered(challenge)
        hello = Hello(
            version=version,
            role=settings.role,
            name=settings.name,
            incarnation=settings.incarnation,
            nonce=self._nonce,
            frame_limit=msgspec.UNSET if challenge.frame_limit is msgspec.UNSET else settings.frame_limit,
            keys=[KeyProof(id=key.id, mac="") for key in offered] or msgspec.UNSET,
            features=msgspec.UNSET if challenge.features is msgspec.UNSET else list(settings.features) or msgspec.UNSET,
            service=service,
            mac="",
        )
        self._hello = msgspec.structs.replace(
            hello,
            keys=[KeyProof(id=key.id, mac=hello_mac(key.secret, challenge, hello)) for key in offered] or msgspec.UNSET,
            mac=hello_mac(self._shared(challenge.name), challenge, hello),
        )
        self._expected = _WELCOME
        return Greeted(Input.CHALLENGED, encode(self._hello))

    def _on_hello(self, hello: Hello) -> Greeted:
        challenge = self._wanted(hello)
        settings = self._settings
        if hello.version not in challenge.versions:
            raise RemoteProtocolError(
                Code.VERSION, f"version {hello.version} was chosen, of {_list(challenge.versions)}"
            )
        key = self._proven(challenge, hello)
        self._check_role(hello.role)
        id_, secret = ("", settings.key) if key is None else (key.id, key.secret)
        peer = self._peer(hello.name, hello.role, hello.incarnation, hello.version, id_, hello.features)
        welcome = Welcome(
            incarnation=settings.incarnation,
            heartbeat=max(10, round(settings.heartbeat * 1000)),
            key=id_ or msgspec.UNSET,
            mac="",
        )
        welcome = msgspec.structs.replace(welcome, mac=welcome_mac(secret, challenge, hello, welcome))
        return self._met(encode(welcome), self._agreed(peer, settings.heartbeat, hello.frame_limit))

    def _on_welcome(self, welcome: Welcome) -> Greeted:
        challenge, hello = self._challenge, self._hello
        assert challenge is not None, "a dialler has heard a challenge before it is welcome"
        assert hello is not None, "a dialler has said hello before it is welcome"
        id_ = "" if welcome.key is msgspec.UNSET else welcome.key
        self._check_mac(self._welcome_mac(challenge, hello, welcome), welcome.mac, offered=bool(welcome.mac))
        peer = self._peer(challenge.name, challenge.role, welcome.incarnation, hello.version, id_, challenge.features)
        return self._met(b"", self._agreed(peer, welcome.heartbeat / 1000, challenge.frame_limit))

    def _wanted(self, hello: Hello) -> Challenge:
        """Go by the service that the dialler wants from now on, and return the challenge as it is for that one."""
        challenge = self._challenge
        assert challenge is not None, "a listener has made its challenge before it hears anything"
        if isinstance(hello.service, msgspec.UnsetType):
            return challenge
        found = challenge.of_service(hello.service)
        if found is None:
            raise RemoteProtocolError(Code.REFUSED, f"this is {challenge.roles}; {hello.service} is wanted")
        self._settings = next(each for each in self._settings.services if each.role == hello.service)
        return found

    # -- what each takes

    def _common(self, features: list[str] | msgspec.UnsetType) -> frozenset[str]:
        """Return the features that both have."""
        theirs = () if isinstance(features, msgspec.UnsetType) else features
        return frozenset(self._settings.features).intersection(theirs)

    def _met(self, answer: bytes, agreement: Agreement) -> Greeted:
        """Both are proven. If the peer wants to know what this side takes, it is told, and tells the same."""
        if INTERFACE not in agreement.peer.features:
            return Greeted(Input.AGREED, answer, agreement)
        self._agreement = agreement
        self._expected = _INTRODUCTION
        return Greeted(Input.PROVEN, answer + self._settings.catalogue.lines, agreement)

    def _on_introduction(self, frame: Introduction) -> Greeted:
        self._introduced.add(frame)
        if frame.more:
            return Greeted()
        assert self._agreement is not None, "who is introduced is proven"
        return Greeted(Input.AGREED, agreement=replace(self._agreement, takes=self._introduced.catalogue()))

    # -- keys

    def _offered(self, challenge: Challenge) -> list[NamedKey]:
        """Return the named keys for this listener. Raises `RemoteProtocolError` if there is no key for it at all."""
        keys = self._settings.keys
        if keys is None:
            return []
        offered = keys.of(challenge.name, challenge.role) if challenge.keys is True else []
        open_to = not self._settings.has_key and not keys.has_own(challenge.name)
        if not offered and self._shared(challenge.name) is None and not open_to:
            why = (
                f"there is no key here for {challenge.name} ({challenge.role})"
                if challenge.keys is True
                else "the peer takes no named keys, and nothing else is known here"
            )
            raise RemoteProtocolError(Code.UNAUTHORIZED, why)
        return offered

    def _shared(self, name: str) -> bytes | None:
        """Return the shared key, if it is good for a peer of this name."""
        keys = self._settings.keys
        return None if keys is not None and keys.has_own(name) else self._settings.key

    def _proven(self, challenge: Challenge, hello: Hello) -> NamedKey | None:
        """
        Return the first named key that the dialler has proven; None if it has proven the shared one, or there is none.
        It takes as long for keys that aren't known as for wrong ones: all codes are worked out and compared.
        """
        found = self._proven_by_name(challenge, hello)
        keys, shared = self._settings.keys, self._settings.key
        is_open = not self._settings.has_key
        expected = hello_mac(None if is_open else shared or _DECOY, challenge, hello)
        if found is None:
            self._check_mac(expected if is_open or shared else None, hello.mac, offered=bool(hello.mac or hello.keys))
            if keys is not None and keys.has_own(hello.name):
                raise RemoteProtocolError(
                    Code.REFUSED, f"{hello.name} has a key of its own here: the shared one isn't good for it any longer"
                )
        elif not found.is_for(hello.name, hello.role):
            whose = f"{found.name or 'any name'} ({found.role or 'any role'})"
            raise RemoteProtocolError(
                Code.REFUSED, f"the key {found.id} is for {whose}, not for {hello.name} ({hello.role})"
            )
        return found

    def _proven_by_name(self, challenge: Challenge, hello: Hello) -> NamedKey | None:
        keys, found = self._settings.keys, None
        if keys is not None:
            for proof in hello.proofs:
                key = keys.get(proof.id)
                same = same_mac(hello_mac(_DECOY if key is None else key.secret, challenge, hello), proof.mac)
                found = key if same and found is None else found
        return found

    def _welcome_mac(self, challenge: Challenge, hello: Hello, welcome: Welcome) -> str | None:
        """Return the code that the listener's welcome must have; None if it goes by a key that isn't good."""
        keys, secret = self._settings.keys, self._shared(challenge.name)
        if welcome.key is not msgspec.UNSET:
            # One that was revoked since the hello isn't good any longer.
            mine = keys is not None and any(proof.id == welcome.key for proof in hello.proofs)
            key = keys.get(welcome.key) if keys is not None and mine else None
            secret = None if key is None else key.secret
            if secret is None:
                return None
        if secret is None and (self._settings.has_key or (keys is not None and keys.has_own(challenge.name))):
            return None
        return welcome_mac(secret, challenge, hello, welcome)

    def _agreed(self, peer: PeerInfo, heartbeat: float, frame_limit: int | msgspec.UnsetType) -> Agreement:
        ours = self._settings.frame_limit
        limit = min(ours, frame_limit) if isinstance(frame_limit, int) else ours
        return Agreement(peer, self._settings, heartbeat, limit)

    def _check_mac(self, expected: str | None, received: str, *, offered: bool) -> None:
        """``expected``: None if no code is good. ``offered``: whether the peer has shown that it has any key."""
        if expected is not None and same_mac(expected, received):
            return
        if expected == "":
            raise RemoteProtocolError(Code.UNAUTHORIZED, "the peer has a key, and none is set here")
        if not offered:
            raise RemoteProtocolError(Code.UNAUTHORIZED, "a key is required here")
        raise RemoteProtocolError(Code.UNAUTHORIZED, "authentication failed: do both sides have the same key?")

    def _check_role(self, role: str) -> None:
        if role != self._settings.peer_role:
            raise RemoteProtocolError(Code.REFUSED, f"the peer is {role}; {self._settings.peer_role} is wanted")

    def _peer(
        self,
        name: str,
        role: str,
        incarnation: str,
        version: int,
        key: str,
        features: list[str] | msgspec.UnsetType,
    ) -> PeerInfo:
        origin = self._origin()
        return PeerInfo(
            name,
            role,
            incarnation,
            version,
            origin.address,
            key,
            self._common(features),
            uid=origin.uid,
            gid=origin.gid,
            pid=origin.pid,
            certificate=origin.certificate,
        )


def _other_service(settings: SessionSettings) -> OtherService:
    return OtherService(
        role=settings.role,
        frame_limit=settings.frame_limit,
        keys=msgspec.UNSET if settings.keys is None else True,
        features=list(settings.features) or msgspec.UNSET,
    )


def _list(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
