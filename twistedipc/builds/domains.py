"""
Domains of projects: host names beside those that the platform gives. How one is written, and who may add it. Bottom
layer, pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

import idna

from twistedipc.builds.names import BadValue, shown

#: The most characters of a name (RFC 1035, 2.3.4).
MAX_DOMAIN = 253

#: The most domains of a project.
MAX_DOMAINS = 20

#: What a name alone can't have: the parts of an address, spaces, characters that no one sees.
_NOT_A_NAME = re.compile(r"[\s/\\@?#:\[\]\x00-\x1f\x7f]")

#: Browsers take a name for an IPv4 address if its last part is such a number (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def domain(text: str) -> str:
    """
    Return a domain as it is kept: in small letters and in the ASCII form of IDNA 2008 (RFC 5891), without a final dot.
    Raises `BadValue` for what no project's domain can be.
    """
    said = shown(text, 80)
    if len(text) > MAX_DOMAIN + 1:
        raise BadValue(f"a domain has at most {MAX_DOMAIN} characters")
    if _is_address(text):
        raise BadValue(f"{said} is an address: a domain is a name, such as www.example.org")
    if _NOT_A_NAME.search(text):
        raise BadValue(f"{said} isn't a name alone, such as www.example.org: leave out the scheme, port and path")
    if "*" in text:
        raise BadValue(f"{said} has a *: add each name by itself")
    try:
        name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii").removesuffix(".")
    except UnicodeError as error:
        raise BadValue(f"{said} can't be the name of a host: {error}") from error
    parts = name.split(".")
    if len(parts) < 2:
        raise BadValue(f"{said} has one part only: a domain has two at least, such as example.org")
    if _is_address(name) or _NUMBER.fullmatch(parts[-1]):
        raise BadValue(f"{said} is an address to browsers, since it ends in a number")
    if parts[-1] == "localhost":
        raise BadValue(f"{said} is always the machine of the person who looks")
    return name


def readable(name: str) -> str:
    """Return a domain in its own script, as people write it: bücher.example of xn--bcher-kva.example."""
    try:
        return idna.decode(name)
    except UnicodeError:
        return name


def pattern(text: str) -> str:
    """
    Return a pattern of domains as it is compared: a domain, ``*.`` before one for all names below it, or ``*`` for all.
    Raises `BadValue`.
    """
    if text == "*":
        return text
    below = text.removeprefix("*.")
    return text[: len(text) - len(below)] + domain(below)


def is_among(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of these patterns is for a domain."""
    return any(
        each in ("*", name) or (each.startswith("*.") and is_below(name, each.removeprefix("*."))) for each in patterns
    )


def is_below(name: str, above: str) -> bool:
    """Return whether a name is below another one: a.b.example is below b.example."""
    return name.endswith(f".{above}")


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
