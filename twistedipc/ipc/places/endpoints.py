"""
Endpoint strings: where to dial and where to listen, and what each kind of endpoint demands. Used by ``dial`` and
``listen``.

::

    dialling    tcp:HOST:PORT   unix:PATH              tls:HOST:PORT
    listening   tcp:PORT[:interface=ADDRESS]   unix:PATH[:mode=0660]   tls:PORT[:interface=ADDRESS]
    either      fd:NUMBER   fd:$VARIABLE   stdio:      what this process was started with: see ``inherited``
    listening   systemd:   systemd:NAME                a socket by systemd's socket activation, the same

An IPv6 address goes into brackets: ``tcp:[::1]:8700``. ``tcp:`` is for this machine alone, and listens on 127.0.0.1
unless told otherwise; beyond it goes ``tls:``. On both a key is required. A UNIX socket is protected by its
permissions and by the peer's credentials, and needs none. Nor does what the parent process has handed over, which is
trusted as the parent itself is.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from twistedipc.ipc.wire.errors import BadEndpoint

#: What there is for TLS. Links without it are made where there is no OpenSSL, or it isn't wanted.
_TLS = "twistedipc.ipc.places.tls"

#: Seconds for a connection to be made.
CONNECT_TIMEOUT = 10.0

#: The longest path that fits a socket's address on every system.
_UNIX_PATH_LIMIT = 103


Kind = Literal["tcp", "unix", "tls", "fd", "stdio", "systemd"]


class LinkReactor(
    IReactorTime, IReactorTCP, IReactorUNIX, IReactorSSL, IReactorPluggableNameResolver, IReactorSocket, IReactorFDSet
):
    """What dialling and listening need of a reactor: Twisted's own have it. For annotations."""


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """
    PEM files of one side of a ``tls:`` link.

    :param certificate: this side's certificate, followed by the chain up to the authority, if there is one in between.
        A listener must have a certificate, issued for the host name that is dialled
    :param key: the certificate's private key
    :param authority: the certificates of the authority that has issued the peer's. If given, the peer must have a
        certificate by it; if not, a dialler trusts the system's authorities, and a listener asks for no certificate
    """

    certificate: str | Path | None = None
    key: str | Path | None = None
    authority: str | Path | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed endpoint string. ``host`` is what to dial, or the interface to listen on."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o600
    name: str = ""  # of what was inherited: a descriptor's number, a variable with its ``$``, a name of systemd's

    @property
    def is_inherited(self) -> bool:
        """Whether the parent process, or systemd, has made the connection or socket."""
        return self.kind in ("fd", "stdio", "systemd")

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can be at the other end."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_dialled(text: str, *, has_key: bool) -> Address:
    """Parse the address to dial. Raise `BadEndpoint` if it can't be dialled, or not without a key."""
    kind, rest = _split(text)
    if kind == "unix":
        address = Address("unix", path=_path(text, rest))
    elif kind == "systemd":
        raise BadEndpoint(f"{text!r}: what systemd hands over is there to be listened at")
    elif kind in ("fd", "stdio"):
        address = Address(kind, name=_name(text, kind, rest))
    else:
        match _fields(rest):
            case [host, port]:
                address = Address(kind, host=_host(text, host), port=_port(text, port, lowest=1))
            case _:
                raise BadEndpoint(f"{text!r}: to dial, {kind}:HOST:PORT is expected")
    _check_protection(text, address, has_key=has_key)
    return address


def parse_listened(text: str, *, has_key: bool) -> Address:
    """Parse the address to listen at. Raise `BadEndpoint` if it can't be listened at, or not without a key."""
    kind, rest = _split(text)
    if kind == "unix":
        # A path may hold anything, so a mode is taken off its very end only.
        path, separator, mode = rest.rpartition(":mode=")
        if separator:
            address = Address("unix", path=_path(text, path), mode=_mode(text, mode))
        else:
            address = Address("unix", path=_path(text, rest))
    elif kind in ("fd", "stdio", "systemd"):
        address = Address(kind, name=_name(text, kind, rest))
    else:
        match _fields(rest):
            case [port]:
                interface = "127.0.0.1" if kind == "tcp" else "0.0.0.0"
            case [port, option] if option.startswith("interface="):
                interface = _interface(text, option.removeprefix("interface="))
            case _:
                raise BadEndpoint(f"{text!r}: to listen, {kind}:PORT or {kind}:PORT:interface=ADDRESS is expected")
        address = Address(kind, host=interface, port=_port(text, port, lowest=0))
    _check_protection(text, address, has_key=has_key)
    return address


def check_listened(text: str, *, has_key: bool) -> None:
    """Raise `BadEndpoint` unless ``text`` can be listened at, with a key or without one; nothing is opened."""
    parse_listened(text, has_key=has_key)


def client_endpoint(reactor: LinkReactor, address: Address, tls: TLSFiles | None) -> IStreamClientEndpoint:
    """The endpoint that connects to ``address``."""
    from twisted.internet import endpoints  # it brings OpenSSL, where that is installed

    if address.kind == "unix":
        return endpoints.UNIXClientEndpoint(reactor, address.path, timeout=CONNECT_TIMEOUT)
    plain = _host_endpoint(reactor, address)
    if address.kind == "tcp":
        return plain
    endpoint: IStreamClientEndpoint = for_tls().client_over(plain, address.host, tls or TLSFiles(), reactor)
    return endpoint


def _host_endpoint(reactor: object, address: Address) -> IStreamClientEndpoint:
    from twisted.internet.endpoints import HostnameEndpoint

    if (make := getattr(reactor, "host_endpoint", None)) is not None:  # asyncio's loop looks names up itself
        own: IStreamClientEndpoint = make(address.host, address.port, CONNECT_TIMEOUT)
        return own
    return HostnameEndpoint(reactor, address.host, address.port, timeout=CONNECT_TIMEOUT)


def server_endpoint(reactor: LinkReactor, address: Address, tls: TLSFiles | None) -> IStreamServerEndpoint:
    """The endpoint that listens at ``address``."""
    from twisted.internet import endpoints

    if address.kind == "unix":
        return endpoints.UNIXServerEndpoint(reactor, address.path, mode=address.mode)
    if address.kind == "tcp":
        make = endpoints.TCP6ServerEndpoint if ":" in address.host else endpoints.TCP4ServerEndpoint
        return make(reactor, address.port, interface=address.host)
    options = for_tls().server_options(tls or TLSFiles())
    return endpoints.SSL4ServerEndpoint(reactor, address.port, options, interface=address.host)


def why_lost(failure: Failure) -> str:
    """Say why a connection was lost, for people: errors of TLS in readable form."""
    said = for_tls().words_of(failure.value) if _TLS in sys.modules else None
    return failure.getErrorMessage() if said is None else said


def is_refused_by_tls(failure: Failure) -> bool:
    """Whether a connection was lost because one side doesn't accept the other's certificate, or doesn't speak TLS."""
    return _TLS in sys.modules and bool(for_tls().is_refusal(failure.value))


def for_tls() -> Any:
    """Return what there is for TLS. It is imported when it is used first. Raise `BadEndpoint` if it isn't installed."""
    try:
        return importlib.import_module(_TLS)
    except ImportError as error:
        raise BadEndpoint(f"TLS needs packages that aren't installed ({error}): pip install 'twisted[tls]'") from None


# -- reading strings -------------------------------------------------------------------------------------------------


def _split(text: str) -> tuple[Kind, str]:
    kind, colon, rest = text.partition(":")
    match kind:
        case "tcp" | "unix" | "tls" | "fd" | "stdio" | "systemd" if colon:
            return kind, rest
        case _:
            raise BadEndpoint(f"{text!r}: an endpoint begins with tcp:, unix: or tls:, or with fd:, stdio: or systemd:")


def _fields(rest: str) -> list[str]:
    """Split an endpoint string at its colons, but not at those in brackets."""
    return re.split(r":(?![^\[]*\])", rest)


def _path(text: str, path: str) -> str:
    if not path or "\0" in path:
        raise BadEndpoint(f"{text!r}: unix:PATH is expected")
    if len(os.fsencode(path)) > _UNIX_PATH_LIMIT:
        raise BadEndpoint(f"{text!r}: the path of a UNIX socket has at most {_UNIX_PATH_LIMIT} bytes")
    return path


_INHERITED: dict[str, tuple[str, str]] = {
    "fd": (r"[0-9]{1,9}|\$[A-Za-z_][A-Za-z0-9_]*", "fd:NUMBER or fd:$VARIABLE"),
    "stdio": ("", "stdio:"),
    "systemd": (r"[^:\x00-\x1f\x7f]*", "systemd: or systemd:NAME"),
}


def _name(text: str, kind: str, name: str) -> str:
    pattern, expected = _INHERITED[kind]
    if not re.fullmatch(pattern, name):
        raise BadEndpoint(f"{text!r}: {expected} is expected")
    return name


def _mode(text: str, mode: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise BadEndpoint(f"{text!r}: a mode is three octal digits, such as 0660")
    return int(mode, 8)


def _interface(text: str, field: str) -> str:
    interface = field.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(interface)
    except ValueError:
        raise BadEndpoint(f"{text!r}: {interface!r} is not an address of an interface") from None
    return interface


def _host(text: str, field: str) -> str:
    host = field.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", host):
        raise BadEndpoint(f"{text!r}: {host!r} is not a host")
    return host


def _port(text: str, field: str, *, lowest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", field) or not lowest <= int(field) <= 65535:
        raise BadEndpoint(f"{text!r}: {field!r} is not a port")
    return int(field)


def _check_protection(text: str, address: Address, *, has_key: bool) -> None:
    if address.kind == "unix":
        if not has_key and not hasattr(socket, "SO_PEERCRED"):
            raise BadEndpoint(f"{text!r}: this system doesn't tell who is at a UNIX socket, so a key is required")
        return
    if address.is_inherited:
        return  # what of these is met by strangers is looked at when it is known what it is
    if address.kind == "tcp" and not address.is_loopback:
        raise BadEndpoint(f"{text!r}: tcp: is not encrypted, and only for this machine; use tls: instead")
    if not has_key:
        raise BadEndpoint(f"{text!r}: a key is required at {address.kind}: endpoints")
