"""
Addresses at which no project's repository is: those of a machine itself, and those of its cloud. Pure.

Whoever may change a project could else have the apiserver's or a builder's machine ask services that are there for
that machine alone: a cloud's metadata service, which hands out credentials, or what listens on the loopback.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from twistedipc.builds import names

#: Metadata services of clouds that have an address beside the link-local ones.
_METADATA = frozenset({"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})

#: Where an IPv6 network reaches IPv4 addresses (RFC 6052, section 2.1): they are the last four bytes.
_TRANSLATED = IPv6Network("64:ff9b::/96")


#: What an operator can do about it.
ALLOW = "The operator of the apiserver can allow the host by http.internal_repositories in its configuration"


class Place(NamedTuple):
    """An address that a name leads to, and whether the machine that looked has it itself."""

    address: str
    own: bool


def place_of(repository: str) -> tuple[str, str]:
    """Return host, and host with port, of a repository's address; "" and "" for a folder."""
    try:
        parts = urlsplit(names.host(repository))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", ""
    if not host:
        return "", ""
    return host, host if port is None else f"{host}:{port}"


def is_named(repository: str, hosts: Collection[str]) -> bool:
    """Return whether the host of a repository is one of these, which are names with a port or without."""
    host, with_port = place_of(repository)
    return bool(host) and (host in hosts or with_port in hosts)


def problem_of(host: str, places: Iterable[Place]) -> str:
    """Return why nothing may be fetched from a host, which has these addresses; "" if it may."""
    for place in places:
        what = _reserved(place)
        if what:
            shown = host if host == place.address else f"{host} ({place.address})"
            return f"{shown} is {what}, from which nothing is fetched"
    return ""


def _reserved(place: Place) -> str:
    try:
        address = _meant(ip_address(place.address.partition("%")[0]))
    except ValueError:
        return ""
    if place.own or address.is_loopback or address.is_unspecified:
        return "this machine itself"
    if str(address) in _METADATA:
        return "a cloud's metadata service"
    if address.is_link_local:
        return "a link-local address, as metadata services of clouds have"
    if address.is_multicast or (isinstance(address, IPv4Address) and address.is_reserved):
        return "no address of a host"
    return ""


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
