"""
What a client says to the gate's proxy (RFC 9110, 9.3.6 and 7.1): CONNECT, and requests for http:// addresses. Pure.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import urlsplit

from twistedipc.builds.host_rules import is_name, literal

#: The most bytes of a request's head.
MAX_HEAD = 16 << 10

_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) HTTP/1\.[01]")

#: Headers that are between the client and its proxy. Each connection is for one request.
_HOP = re.compile(rb"(?i)(?:proxy-[a-z-]+|connection|keep-alive|te|upgrade)\s*:")


class BadRequest(ValueError):
    """A request that isn't one for a proxy."""


class Asked(NamedTuple):
    """Where a client wants to go."""

    host: str
    port: int
    connect: bool  # it speaks to the host itself from here on
    head: bytes = b""  # otherwise what is sent to the host, before the rest


def asked(head: bytes) -> Asked:
    """Return what a client asks for. Raises `BadRequest`. ``head``: up to and with the empty line."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _LINE.fullmatch(lines[0])
    if match is None:
        raise BadRequest("this is a proxy: CONNECT, or a request with a whole address")
    method, target = match[1].decode(), match[2].decode()
    if method == "CONNECT":
        host, port = _place(f"//{target}", 0)
        return Asked(host, port, connect=True)
    if not target.startswith("http://"):
        raise BadRequest("this is a proxy for http:// addresses; others ask with CONNECT")
    host, port = _place(target, 80)
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in lines[1:] if not _HOP.match(line)]
    first = f"{method} {path} HTTP/1.1".encode()
    return Asked(host, port, connect=False, head=b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))


def _place(url: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().removesuffix("."), parts.port or default
    except ValueError as error:
        raise BadRequest(f"{url[:200]!r} is no address") from error
    if not port or not (literal(host) or is_name(host)):
        raise BadRequest(f"{url[:200]!r} is no address of a host with a port")
    address = literal(host)
    return (str(address) if address else host), port


def shows(head: bytes, credentials: str) -> bool:
    """Return whether the head of a request shows these credentials ("name:password"; RFC 9110, 11.7.2; RFC 7617)."""
    wanted = b"Basic " + b64encode(credentials.encode())
    shown = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return any(name.lower() == b"proxy-authorization" and _are_alike(value.strip(), wanted) for name, _, value in shown)


def _are_alike(one: bytes, other: bytes) -> bool:
    """Compare two secrets, in a time that doesn't say where they differ. (``hmac`` would bring OpenSSL: megabytes.)"""
    return len(one) == len(other) and sum(mine ^ theirs for mine, theirs in zip(one, other, strict=True)) == 0


def response(code: int, phrase: str, text: str, *more: str) -> bytes:
    """Return an answer of the proxy's own. ``more``: further headers."""
    body = text.encode() + b"\n"
    headers = "".join(f"{header}\r\n" for header in more)
    head = (
        f"HTTP/1.1 {code} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{headers}X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
