"""
The headers with which releases are served, beside those that say what a file is. Pure; used by ``target``, and by
``web.releases``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from twistedipc.builds import names

#: What every release is served with, unless its project says otherwise: nobody else's page may frame it, and no
#: plugin or foreign base address is for today's sites. All else of a policy would break some of them.
DEFAULTS = {
    "Content-Security-Policy": "frame-ancestors 'self'; object-src 'none'; base-uri 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
}

STRICT_TRANSPORT = "Strict-Transport-Security"

#: The same, over https alone.
OVER_HTTPS = {STRICT_TRANSPORT: "max-age=31536000"}

#: What a project may set. Cookies and what is about the file, the connection or caches is the platform's.
_ALLOWED = {
    each.lower(): each
    for each in (
        *DEFAULTS,
        *OVER_HTTPS,
        "Access-Control-Allow-Origin",
        "Content-Security-Policy-Report-Only",
        "Cross-Origin-Embedder-Policy",
        "Cross-Origin-Opener-Policy",
        "Cross-Origin-Resource-Policy",
        "Permissions-Policy",
        "Reporting-Endpoints",
        "X-Robots-Tag",
    )
}

MAX_HEADERS = 20
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,20})", re.IGNORECASE | re.ASCII)
_LINE = re.compile(r"([A-Za-z-]{1,60}): *([\x20-\x7e]{0,4000})\Z")


def check_headers(lines: Sequence[str]) -> None:
    """Raise `names.BadValue` for what can't be a project's header."""
    if len(lines) > MAX_HEADERS:
        raise names.BadValue(f"a project has at most {MAX_HEADERS} headers")
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            raise names.BadValue(f"{line[:100]!r} isn't a header such as 'X-Robots-Tag: noindex'")
        if found[1].lower() not in _ALLOWED:
            raise names.BadValue(f"the header {found[1]} can't be set; those that can: {', '.join(_ALLOWED.values())}")


def headers_of(lines: Sequence[str], *, https: bool) -> Mapping[bytes, bytes]:
    """Return the headers of a project's releases; an empty one is to be left out."""
    return _headers_of(tuple(lines), https)


def for_host_alone(strict_transport: str) -> str | None:
    """
    Return what of a Strict-Transport-Security (RFC 6797, section 6.1) holds for the host itself: not that names below
    it are reached by https alone. None: nothing does.
    """
    found = _MAX_AGE.search(strict_transport)
    return None if found is None else f"max-age={found[1]}"


@lru_cache(maxsize=1024)
def _headers_of(lines: tuple[str, ...], https: bool) -> Mapping[bytes, bytes]:
    headers = DEFAULTS | (OVER_HTTPS if https else {})
    for line in lines:
        found = _LINE.match(line)
        if found is not None and found[1].lower() in _ALLOWED:
            headers[_ALLOWED[found[1].lower()]] = found[2].strip()
    return {name.encode(): value.encode() for name, value in headers.items()}
