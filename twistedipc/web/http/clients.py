"""
The client of a request, also behind proxies. ``web.http``; asked by ``channel``, by ``web.access`` and for the audit.

The peer's address is the client's, unless the peer is a proxy that the operator trusts (``http.trusted_proxies``).
Then ``Forwarded`` (RFC 7239) or ``X-Forwarded-For`` names the client: it is the first address from the right that
isn't itself a trusted proxy's. What stands further left came from strangers and is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

import msgspec
from werkzeug.http import parse_list_header, parse_options_header

from twistedipc.web.http.hosts import address_of

#: In a list of trusted proxies: every peer that connects to a UNIX socket.
UNIX = "unix"

_Network = IPv4Network | IPv6Network


class Client(msgspec.Struct, frozen=True):
    """
    ``address``: an IP address in its shortest form, or "unix" for a peer on a UNIX socket. ``secure``: a trusted proxy
    says that the client speaks https to it.
    """

    address: str
    secure: bool = False

    @property
    def neighbourhood(self) -> str:
        """The addresses that failures are counted for together: an IPv6 client can choose any address of a /64."""
        address = address_of(self.address)
        return str(ip_network((address, 64), strict=False)) if address and address.version == 6 else self.address


class Headers(Protocol):
    """The headers of a request, as Twisted has them."""

    def getRawHeaders(self, name: bytes) -> Sequence[bytes] | None:
        """Return the values of a header, one for each line."""


class Hop(msgspec.Struct, frozen=True):
    """What one proxy says about its own peer."""

    node: str
    proto: str


def network_of(text: str) -> _Network | None:
    """Return the network that an entry of a list of trusted proxies means; None for `UNIX`. Raises `ValueError`."""
    if text == UNIX:
        return None
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is neither an address such as 127.0.0.1, nor a network such as 10.0.0.0/8, nor "{UNIX}"'
        ) from None


class Proxies:
    """The trusted proxies. Raises `ValueError` for a list that `network_of` can't read."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        networks = [network_of(text) for text in trusted]
        self._unix = None in networks
        self._networks = [network for network in networks if network is not None]

    def neighbourhood_of(self, peer: str) -> str | None:
        """
        Return whose a connection is, to be counted by; ``peer`` is its other end. None: it is a trusted proxy's, or one
        to a UNIX socket, which is a proxy's or a program's of this machine.
        """
        address = _plain(peer) or UNIX
        return None if address == UNIX or self._trusted(address) else Client(address).neighbourhood

    def client_of(self, peer: str, headers: Headers) -> Client:
        """Return the client of a request. ``peer`` is the connection's other end: an address, or `UNIX`."""
        client = _plain(peer) or UNIX
        if not self._trusted(client):
            return Client(client)
        secure = False
        for hop in reversed(_hops(headers)):
            secure = hop.proto == "https"
            address = _plain(hop.node)
            if address is None:
                break  # "unknown", a name that hides it, or garbage: the proxy before it is all that is known
            client = address
            if not self._trusted(address):
                break
        return Client(client, secure)

    def _trusted(self, address: str) -> bool:
        if address == UNIX:
            return self._unix
        found = address_of(address)
        return found is not None and any(
            found.version == network.version and found in network for network in self._networks
        )


def _plain(node: str) -> str | None:
    """Return the address of a node, which may have a port: ``192.0.2.1:80``, ``[2001:db8::1]:80``, ``2001:db8::1``."""
    node = node.strip().strip('"')
    if node.startswith("["):
        host, bracket, port = node[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
    else:
        host = node.partition(":")[0] if node.count(":") == 1 else node
    address = address_of(host)
    return None if address is None or "%" in host else str(address)


def _hops(headers: Headers) -> list[Hop]:
    """
    Return what the headers say, the nearest proxy last. If both kinds are there and differ, the client itself has sent
    one of them through a proxy that knows only the other kind: then neither is used.
    """
    protos = [proto.strip().lower() for proto in _joined(headers, b"x-forwarded-proto").split(",")]
    forwarded = [_forwarded(element, protos[-1]) for element in parse_list_header(_joined(headers, b"forwarded"))]
    listed = _joined(headers, b"x-forwarded-for").split(",")
    if listed == [""]:
        # With neither, a proxy may still say how it was reached.
        return forwarded or [Hop("", protos[-1])]
    # One proto for each address, or one for all.
    aligned = protos if len(protos) == len(listed) else [protos[-1]] * len(listed)
    old = [Hop(node, proto) for node, proto in zip(listed, aligned, strict=True)]
    if forwarded and [_plain(hop.node) for hop in forwarded] != [_plain(hop.node) for hop in old]:
        return []
    return forwarded or old


def _forwarded(element: str, proto: str) -> Hop:
    """
    Read an element of ``Forwarded``: pairs after RFC 7239, section 4. ``proto`` is used where the element has none.
    """
    _, pairs = parse_options_header(f"forwarded;{element}")
    return Hop(pairs.get("for", ""), pairs.get("proto", proto).lower())


def _joined(headers: Headers, name: bytes) -> str:
    """Join the lines of a header that is a list (RFC 9110, section 5.3)."""
    return ",".join(line.decode("latin-1") for line in headers.getRawHeaders(name) or ())
