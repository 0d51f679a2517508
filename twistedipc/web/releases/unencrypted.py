"""
What is answered to requests for releases before their project is looked at: where they come by http, the way to https;
and what an authority asks for that is to certify a host by http (ACME, RFC 8555, section 8.3). ``web.releases``; used
by ``site``.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.file_response import plain
from twistedipc.web.http.hosts import address_of, host_of

#: The address of what an authority asks for, and what it is called: base64url.
CHALLENGES = [".well-known", "acme-challenge"]
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")

#: The most bytes of it. It has about ninety.
_MOST = 4096

#: What is left as it is of an address that somebody is led to.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def lead(request: BoundedRequest, origin: str) -> bytes:
    """Answer with the way to the same path and query at another origin, such as ``https://example.org``."""
    request.setHeader(b"Location", (origin + quote(request.uri, safe=_PRINTABLE)).encode())
    return plain(request, 308, "It is there.")


class Unencrypted:
    """
    ``https_port``: where https is, for requests that come by http; None: they are answered. ``acme_webroot``: the
    folder of an ACME client, which puts its files below ``.well-known/acme-challenge`` in it; None: there is none.
    """

    def __init__(self, https_port: int | None = None, acme_webroot: Path | None = None) -> None:
        self._https_port = https_port
        self._webroot = acme_webroot

    def challenge(self, request: BoundedRequest, segments: list[str]) -> bytes | None:
        """Return what an authority asks for; None: it isn't that, or the client has put nothing there."""
        if self._webroot is None or segments[:-1] != CHALLENGES or _TOKEN.fullmatch(segments[-1]) is None:
            return None
        try:
            content = _content(self._webroot.joinpath(*CHALLENGES, segments[-1]))
        except OSError:
            return None
        if content is None:
            return None
        request.setHeader(b"Content-Type", b"application/octet-stream")
        request.setHeader(b"Content-Length", str(len(content)).encode())
        return content

    def to_https(self, request: BoundedRequest) -> bytes | None:
        """Return the answer that leads to https at the host of the request, which is known; None: it stays here."""
        if self._https_port is None or request.isSecure() or request.remote.secure:
            return None
        host = host_of(request.getHeader("host") or "")
        address = address_of(host)
        if address is not None and address.is_loopback:
            return None  # no certificate is for it, and nothing of it leaves this machine
        named = f"[{host}]" if address is not None and address.version == 6 else host
        return lead(request, f"https://{named}" + (f":{self._https_port}" if self._https_port != 443 else ""))


def _content(path: Path) -> bytes | None:
    """Return what a file holds; None: it is none. Doesn't wait at a FIFO, nor follow a link. Raises OSError."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(opened, _MOST) if stat.S_ISREG(os.fstat(opened).st_mode) else None
    finally:
        os.close(opened)
