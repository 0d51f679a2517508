"""
Hosts that builds may reach, as people write them: "registry.example.org", "*.example.org", "10.1.2.3:4873". Bottom
layer, pure, with the standard library alone: the process of a build's gate reads it, and stays small.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The most characters of a host's name (RFC 1035, 2.3.4).
MAX_NAME = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"

#: A name as resolvers take it, in small letters; an underscore is in some.
NAME = rf"{_LABEL}(?:\.{_LABEL})*"

#: What a rule for one of these allows, it allows for all of them.
_LOCALHOST = ("localhost", "127.0.0.1", "::1")

#: The ports of the schemes of addresses.
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git+ssh": 22, "git": 9418}

_SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>[A-Za-z0-9._-]+):(?!//)")

_NAME = re.compile(NAME)
_RULE = re.compile(rf"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<host>(?:\*\.)?{NAME}))(?::(?P<port>[0-9]{{1,5}}))?")


class BadRule(ValueError):
    """A text names no host."""


class Rule(NamedTuple):
    """A host that is allowed, with or without a port."""

    host: str  # in small letters; an address as ``ipaddress`` writes it
    port: int  # 0: every port

    def __str__(self) -> str:
        return place(self.host, self.port)


def place(host: str, port: int) -> str:
    """Return host and port as people write them."""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def rule(text: str) -> Rule:
    """Return what a text allows. Raises `BadRule`."""
    lowered = text.strip().lower()
    if lowered.count(":") > 1 and not lowered.startswith("["):
        lowered = f"[{lowered}]"
    match = _RULE.fullmatch(lowered)
    if match is None or len(lowered) > MAX_NAME + 8 or int(match["port"] or 1) not in range(1, 65536):
        raise BadRule(f'{text[:100]!r} is no host such as "registry.example.org", "*.example.org" or "10.1.2.3:4873"')
    host = match["six"] or match["host"]
    if match["six"] or re.fullmatch(r"[0-9.]+", host):
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError as error:
            raise BadRule(f"{text[:100]!r} is no address") from error
    return Rule(host, int(match["port"] or 0))


def of_address(address: str) -> list[str]:
    """
    Return the rules by which the host of an address can be reached, as texts: of a repository ("https://…", "ssh://…",
    "git@host:path") or a registry. None for a path of the machine.

    What is reached by ssh, or by http, is asked for by https too: large files, and where a redirect leads.
    """
    if match := _SCP.match(address):
        host, ports = match["host"], [22, 443]
    else:
        parts = urlsplit(address)
        scheme, host = parts.scheme, parts.hostname or ""
        if scheme not in _PORTS or not host:
            return []
        ports = [parts.port] if parts.port else [_PORTS[scheme]]
        ports += [] if parts.port and scheme in ("http", "https") else [443]
    try:
        return list(dict.fromkeys(str(rule(place(host, port))) for port in ports))
    except BadRule:
        return []


def literal(host: str) -> Address | None:
    """
    Return the address that a host is given by; None for a name. An IPv4 address written as IPv6 is the former. One with
    a zone ("fe80::1%eth0") is none: it leads where it would without, but is equal to nothing that it is compared with.
    """
    if "%" in host:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_name(host: str) -> bool:
    """Return whether a text, in small letters, can be a host's name."""
    return len(host) <= MAX_NAME and _NAME.fullmatch(host) is not None


def matches(rules: Iterable[Rule], host: str, port: int) -> bool:
    """Return whether one of the rules allows a host."""
    for allowed in rules:
        if allowed.port not in (0, port):
            continue
        if allowed.host == host or (allowed.host.startswith("*.") and host.endswith(allowed.host[1:])):
            return True
        if allowed.host in _LOCALHOST and host in _LOCALHOST:
            return True
    return False
