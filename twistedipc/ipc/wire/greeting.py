"""
The handshake as one side goes through it: lines in, lines out, and in the end what both have agreed upon. Sans-IO; used
by ``session``. ``handshake`` has the frames and what is authenticated by them; see "Handshake" in docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from twistedipc.ipc.wire.errors import Code, RemoteProtocolError
from twistedipc.ipc.wire.handshake import (
    VERSIONS,
    Challenge,
    Hello,
    Welcome,
    hello_mac,
    highest_common,
    same_mac,
    welcome_mac,
)
from twistedipc.ipc.wire.messages import Bye, encode
from twistedipc.ipc.wire.settings import PeerInfo, SessionSettings, Side

_H = msgspec.json.Decoder
_CHALLENGE = ("challenge", _H(Challenge | Bye))
_WELCOME = ("welcome", _H(Welcome | Bye))
_HELLO = ("hello", _H(Hello | Bye))


@dataclass(frozen=True)
class Agreement:
    """What a handshake has come to."""

    peer: PeerInfo
    heartbeat: float  # seconds
    send_limit: int  # bytes of a message to the peer


@dataclass(frozen=True)
class Greeted:
    """What a line of the handshake amounts to."""

    answer: bytes = b""  # to be sent
    agreement: Agreement | None = None  # None: another line is to come
    bye: Bye | None = None  # the peer ends the session


class Greeting:
    """
    One side's handshake. A dialler takes a challenge and then a welcome; a listener begins with ``opening``, and takes
    a hello.

    :param nonce: 64 random hexadecimal digits, new for each session
    :param address: the peer's, for people
    :param deadline: when the handshake must be complete
    """

    def __init__(self, side: Side, settings: SessionSettings, nonce: str, address: str, deadline: float) -> None:
        self.opening = b""
        self.deadline = deadline
        self._settings = settings
        self._nonce = nonce
        self._address = address
        self._challenge: Challenge | None = None
        self._hello: Hello | None = None
        self._expected: tuple[str, _H[Challenge | Bye] | _H[Hello | Bye] | _H[Welcome | Bye]] = _CHALLENGE
        if side is Side.LISTENER:
            self._challenge = Challenge(
                versions=list(VERSIONS),
                role=settings.role,
                name=settings.name,
                nonce=nonce,
                frame_limit=settings.frame_limit,
            )
            self.opening = encode(self._challenge)
            self._expected = _HELLO

    @property
    def expectation(self) -> str:
        """What is to come, in words for the peer."""
        return f"this is a twistedipc link, and expects {self._expected[0]}"

    def take(self, line: bytes) -> Greeted:
        """Take a line, with its newline. Raises `RemoteProtocolError` if it isn't what is expected, or isn't good."""
        try:
            line.decode("utf-8")
            frame = self._expected[1].decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, f"{self.expectation}: {error}") from None
        match frame:
            case Challenge():
                return self._on_challenge(frame)
            case Hello():
                return self._on_hello(frame)
            case Welcome():
                return self._on_welcome(frame)
            case Bye():
                return Greeted(bye=frame)

    def _on_challenge(self, challenge: Challenge) -> Greeted:
        settings = self._settings
        version = highest_common(VERSIONS, challenge.versions)
        if version is None:
            raise RemoteProtocolError(
                Code.VERSION, f"no version in common: {_list(challenge.versions)} there, {_list(VERSIONS)} here"
            )
        self._check_role(challenge.role)
        self._challenge = challenge
        hello = Hello(
            version=version,
            role=settings.role,
            name=settings.name,
            incarnation=settings.incarnation,
            nonce=self._nonce,
            frame_limit=msgspec.UNSET if challenge.frame_limit is msgspec.UNSET else settings.frame_limit,
            mac="",
        )
        self._hello = msgspec.structs.replace(hello, mac=hello_mac(settings.key, challenge, hello))
        self._expected = _WELCOME
        return Greeted(encode(self._hello))

    def _on_hello(self, hello: Hello) -> Greeted:
        settings = self._settings
        challenge = self._challenge
        assert challenge is not None, "a listener has made its challenge before it hears anything"
        if hello.version not in challenge.versions:
            raise RemoteProtocolError(
                Code.VERSION, f"version {hello.version} was chosen, of {_list(challenge.versions)}"
            )
        self._check_mac(hello_mac(settings.key, challenge, hello), hello.mac)
        self._check_role(hello.role)
        peer = PeerInfo(hello.name, hello.role, hello.incarnation, hello.version, self._address)
        self._check_welcome(peer)
        welcome = Welcome(incarnation=settings.incarnation, heartbeat=max(10, round(settings.heartbeat * 1000)), mac="")
        welcome = msgspec.structs.replace(welcome, mac=welcome_mac(settings.key, challenge, hello, welcome))
        return Greeted(encode(welcome), self._agreed(peer, settings.heartbeat, hello.frame_limit))

    def _on_welcome(self, welcome: Welcome) -> Greeted:
        challenge, hello = self._challenge, self._hello
        assert challenge is not None, "a dialler has heard a challenge before it is welcome"
        assert hello is not None, "a dialler has said hello before it is welcome"
        self._check_mac(welcome_mac(self._settings.key, challenge, hello, welcome), welcome.mac)
        peer = PeerInfo(challenge.name, challenge.role, welcome.incarnation, hello.version, self._address)
        self._check_welcome(peer)
        return Greeted(agreement=self._agreed(peer, welcome.heartbeat / 1000, challenge.frame_limit))

    def _agreed(self, peer: PeerInfo, heartbeat: float, frame_limit: int | msgspec.UnsetType) -> Agreement:
        ours = self._settings.frame_limit
        return Agreement(peer, heartbeat, min(ours, frame_limit) if isinstance(frame_limit, int) else ours)

    def _check_mac(self, expected: str, received: str) -> None:
        if same_mac(expected, received):
            return
        if not expected:
            raise RemoteProtocolError(Code.UNAUTHORIZED, "the peer has a key, and none is set here")
        if not received:
            raise RemoteProtocolError(Code.UNAUTHORIZED, "a key is required here")
        raise RemoteProtocolError(Code.UNAUTHORIZED, "authentication failed: do both sides have the same key?")

    def _check_role(self, role: str) -> None:
        if role != self._settings.peer_role:
            raise RemoteProtocolError(Code.REFUSED, f"the peer is {role}; {self._settings.peer_role} is wanted")

    def _check_welcome(self, peer: PeerInfo) -> None:
        reason = self._settings.accept_peer(peer) if self._settings.accept_peer is not None else None
        if reason is not None:
            raise RemoteProtocolError(Code.REFUSED, reason)


def _list(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
