"""How a connection with what is tried comes about: dialled, or listened for; and the handshake, well done."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twistedipc.conform.codes import HELLO, WELCOME, Key, agreed, code, of_service, of_welcome
from twistedipc.conform.wire import SOON, Failed, NotTried, Wire, shown

#: Seconds for the other end to dial (again): it may wait for up to 30.
PATIENCE = 40.0

#: Milliseconds that this end asks for as a heartbeat where it listens: short, so that silence is soon seen.
HEARTBEAT = 300

LIMIT = 1 << 20


class NoAnswer(Exception):
    """Nothing can be connected to. ``str()`` of it is a sentence."""


@dataclass
class TLS:
    """Files in PEM: what this end shows, and whose certificates it trusts. An end that listens needs the first two."""

    certificate: str = ""
    key: str = ""
    authority: str = ""

    def context(self, *, listens: bool) -> ssl.SSLContext:
        """Return what wraps a connection. Raises OSError (`ssl.SSLError` is one), ValueError."""
        if listens and not self.certificate:
            raise ValueError("to listen at tls: it takes a certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listens else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authority:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        elif not listens:
            context.load_default_certs()
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key or None)
        return context


@dataclass
class About:
    """How what is tried is reached, and what is said to it."""

    address: str  # tcp:HOST:PORT, tls:HOST:PORT, unix:PATH
    listens: bool  # this end listens
    role: str  # this end's
    name: str = "conform"
    key: Key | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # what some cases need: see ``command``
    soon: float = SOON  # seconds for an answer that should come at once
    tls: TLS | None = None  # for tls:


class Meeting:
    """The connections of one run."""

    def __init__(self, about: About) -> None:
        self.about = about
        self.incarnation = secrets.token_hex(6)
        self.met = False  # there was a connection
        self._open: list[Wire] = []
        is_tls = about.address.startswith("tls:")
        self._context = (about.tls or TLS()).context(listens=about.listens) if is_tls else None
        self._server = _listening(about.address) if about.listens else None

    def option(self, name: str) -> str:
        """Return what a case needs and the caller has given. Raises `NotTried`."""
        if not (value := self.about.options.get(name, "")):
            raise NotTried(f"it needs --{name}")
        return value

    def connect(self) -> Wire:
        """Return a new connection, on which nothing was said. Raises `NoAnswer`."""
        try:
            if self._server is None:
                connection = _connected(self.about.address)
            else:
                self._server.settimeout(PATIENCE)
                connection, _ = self._server.accept()
            if self._context is not None:
                connection = self._wrapped(self._context, connection)
        except TimeoutError as error:
            raise NoAnswer(f"nobody dials {self.about.address} within {PATIENCE:.0f} s") from error
        except OSError as error:
            raise NoAnswer(f"{self.about.address} can't be connected to: {error.strerror or error}") from error
        wire = Wire(connection, self.about.soon)
        self._open.append(wire)
        self.met = True
        return wire

    def _wrapped(self, context: ssl.SSLContext, connection: socket.socket) -> socket.socket:
        """Return the connection in TLS. Raises OSError: a certificate isn't trusted, say."""
        connection.settimeout(10.0)
        listens = self.about.listens
        host = None if listens else self.about.address.partition(":")[2].rpartition(":")[0].strip("[]")
        try:
            return context.wrap_socket(connection, server_side=listens, server_hostname=host)
        except OSError:
            connection.close()
            raise

    def link(self, frame_limit: int = LIMIT) -> Linked:
        """Return a new connection, made ready. ``frame_limit`` is how long a line may be that this end takes."""
        wire = self.connect()
        return self.welcomed(wire, frame_limit) if self.about.listens else self.greeted(wire, frame_limit)

    # -- as the end that dials

    def hello(self, challenge: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
        """
        Return the answer to a challenge, with what is changed before its codes are worked out. Where the service that
        is tried isn't the first, it is asked for, unless another ``service`` is given, or None for the first.
        """
        service = changed.pop("service", self._service(challenge))
        if service is not None:
            challenge = {**of_service(challenge, service), "services": challenge.get("services", [])}
            changed["service"] = service
        hello: dict[str, Any] = {"type": "hello", "version": 1, "role": self.about.role, "name": self.about.name}
        hello |= {"incarnation": self.incarnation, "nonce": secrets.token_hex(32)}
        if "frame_limit" in challenge:
            hello["frame_limit"] = LIMIT
        hello |= changed
        key = self.about.key
        named = key is not None and key.id and challenge.get("keys")
        if named:
            assert key is not None
            hello["keys"] = [{"id": key.id}]
            hello["keys"][0]["mac"] = code(key, HELLO, agreed(challenge, hello))
        return {**hello, "mac": "" if named else code(key, HELLO, agreed(challenge, hello))}

    def _service(self, challenge: Mapping[str, Any]) -> str | None:
        """Return the role of the service that is tried, if it is beside the first one."""
        service = self.about.options.get("service")
        return service if service in [each["role"] for each in challenge.get("services", ())] else None

    def greeted(self, wire: Wire, frame_limit: int = LIMIT) -> Linked:
        """Answer the challenge, and check the welcome."""
        return self.linked_by(wire, wire.next("challenge", skip=()), frame_limit)

    def linked_by(self, wire: Wire, challenge: dict[str, Any], frame_limit: int = LIMIT) -> Linked:
        """Answer this challenge, and check the welcome."""
        hello = self.hello(challenge, **({"frame_limit": frame_limit} if "frame_limit" in challenge else {}))
        wire.send(hello)
        welcome = wire.next("welcome", skip=())
        self.check_welcome(challenge, hello, welcome)
        if "service" in hello:
            challenge = of_service(challenge, hello["service"])
        return Linked(wire, challenge, welcome["heartbeat"] / 1000, challenge.get("frame_limit", LIMIT))

    def check_welcome(self, challenge: Mapping[str, Any], hello: Mapping[str, Any], welcome: Mapping[str, Any]) -> None:
        """Raise `Failed` unless the listener has proven that it has the key."""
        right = code(self.about.key, WELCOME, of_welcome(agreed(challenge, hello), welcome))
        if welcome.get("mac") != right:
            raise Failed(f"the code in its welcome is wrong: {shown(welcome)}")

    # -- as the end that listens

    def challenge(self, **changed: Any) -> dict[str, Any]:
        """Return a new challenge."""
        key = self.about.key
        challenge: dict[str, Any] = {"type": "challenge", "versions": [1], "role": self.about.role}
        challenge |= {"name": self.about.name, "nonce": secrets.token_hex(32), "frame_limit": LIMIT}
        if key is not None and key.id:
            challenge["keys"] = True
        return {**challenge, **changed}

    def check_hello(self, challenge: Mapping[str, Any], hello: Mapping[str, Any]) -> None:
        """Raise `Failed` unless the dialler has proven that it has the key."""
        key = self.about.key
        right = code(key, HELLO, agreed(challenge, hello))
        if key is not None and key.id:
            given = next((each.get("mac") for each in hello.get("keys", ()) if each.get("id") == key.id), None)
        else:
            given = hello.get("mac")
        if given != right:
            raise Failed(f"the code in its hello is wrong: {shown(hello)}")

    def welcome(self, challenge: Mapping[str, Any], hello: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
        """Return the answer to a hello, with what is changed before its code is worked out."""
        key = self.about.key
        welcome: dict[str, Any] = {"type": "welcome", "incarnation": self.incarnation, "heartbeat": HEARTBEAT}
        if key is not None and key.id:
            welcome["key"] = key.id
        welcome |= changed
        return {**welcome, "mac": code(key, WELCOME, of_welcome(agreed(challenge, hello), welcome))}

    def welcomed(self, wire: Wire, frame_limit: int = LIMIT) -> Linked:
        """Challenge the other end, check its hello, and welcome it."""
        challenge = self.challenge(frame_limit=frame_limit)
        wire.send(challenge)
        hello = wire.next("hello", skip=())
        self.check_hello(challenge, hello)
        welcome = self.welcome(challenge, hello)
        wire.send(welcome)
        return self.linked(wire, hello)

    def linked(self, wire: Wire, hello: Mapping[str, Any]) -> Linked:
        """Return the link, after its welcome."""
        return Linked(wire, hello, HEARTBEAT / 1000, hello.get("frame_limit", LIMIT))

    def close_all(self) -> None:
        """Close what a case has left open."""
        for wire in self._open:
            wire.close()
        self._open.clear()

    def end(self) -> None:
        """Close all, and listen no more."""
        self.close_all()
        if self._server is not None:
            self._server.close()
            if self.about.address.startswith("unix:"):
                with contextlib.suppress(OSError):
                    os.unlink(self.about.address.partition(":")[2])


class Linked:
    """A ready link."""

    def __init__(self, wire: Wire, peer: Mapping[str, Any], heartbeat: float, limit: int) -> None:
        self.wire = wire
        wire.pongs = True
        self.peer = peer  # its challenge, or its hello
        self.heartbeat = heartbeat  # in seconds
        self.limit = limit  # of a line that it takes
        self.number = 0

    def call(self, request: Mapping[str, Any], **more: Any) -> int:
        """Send a call; its id."""
        self.number += 1
        self.wire.send({"type": "call", "id": self.number, **more, "request": request})
        return self.number

    def answered(self, number: int, within: float | None = None) -> dict[str, Any]:
        """Return the answer to this call; whatever comes before it doesn't matter."""

        def is_it(frame: Mapping[str, Any]) -> bool:
            return frame["type"] in ("reply", "error") and frame.get("id") == number

        return self.wire.until(is_it, f"call {number} must be answered", within)

    def lives(self) -> None:
        """The link must go on: a call of a type that nobody has is answered by ``unknown-type``."""
        answer = self.answered(self.call({"type": "conform-nobody-answers-this"}))
        if (answer["type"], answer.get("code")) != ("error", "unknown-type"):
            raise Failed(f"it answers a call of an unknown type by {shown(answer)}")


def place_of(address: str) -> str | tuple[str, int]:
    """Return what a socket takes of ``tcp:HOST:PORT``, ``tls:HOST:PORT`` or ``unix:PATH``. Raises ValueError."""
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        return rest
    host, _, port = rest.rpartition(":")
    if kind in ("tcp", "tls") and host and port.isdigit():
        return host.strip("[]"), int(port)
    raise ValueError(f"{address} is no address: say tcp:HOST:PORT, tls:HOST:PORT or unix:PATH")


def _connected(address: str) -> socket.socket:
    place = place_of(address)
    if isinstance(place, tuple):
        return socket.create_connection(place, timeout=5.0)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5.0)
    connection.connect(place)
    return connection


def _listening(address: str) -> socket.socket:
    place = place_of(address)
    if isinstance(place, tuple):
        return socket.create_server(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    server = socket.socket(socket.AF_UNIX)
    server.bind(place)
    os.chmod(place, 0o600)
    server.listen()
    return server
