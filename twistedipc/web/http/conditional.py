"""
Conditional requests (RFC 9110, section 13), for everything here that has an ETag. ``web`` layer; used by
``file_response`` and ``page``.

Nothing has a Last-Modified: a release's files say nothing of when they were made. So If-Modified-Since and
If-Unmodified-Since are ignored, as the RFC wants it (13.1.3, 13.1.4), and a date in If-Range is never right.
"""

from __future__ import annotations

from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags, unquote_etag


def status_of_conditions(request: Request, etag: bytes) -> int | None:
    """
    304 or 412 if the request's conditions don't hold for what has this strong ``etag`` (with its quotes); None if the
    request is to be answered. If-Match goes before If-None-Match (13.2.2). Ask this only where the answer without
    conditions would be a success (13.2.1).
    """
    tag = unquote_etag(etag.decode("latin-1"))[0]
    wanted = _etags(request, b"if-match")
    if wanted is not None and tag not in wanted:  # `in` compares strongly
        return 412
    known = _etags(request, b"if-none-match")
    if known is not None and known.contains_weak(tag):
        return 304 if request.method in (b"GET", b"HEAD") else 412
    return None


def send_not_modified(request: Request) -> int:
    """
    Answer with 304 and the headers that are set. Twisted would announce a body of no bytes, and a Content-Length here
    may only be the one that a 200 would have had (RFC 9110, 8.6).
    """
    request.setResponseCode(304)
    request.finish()
    return NOT_DONE_YET


def if_range_holds(request: Request, etag: bytes) -> bool:
    """
    Whether the request's Range may be used: it has no If-Range, or one that is this ``etag`` (13.1.5). The comparison
    is a strong one, of a single tag, so the bytes must be equal.
    """
    condition = request.requestHeaders.getRawHeaders(b"if-range")
    return condition is None or condition == [etag]


def _etags(request: Request, name: bytes) -> ETags | None:
    """The tags of a field, which may be on several lines (RFC 9110, 5.3); None without it."""
    lines = request.requestHeaders.getRawHeaders(name)
    return None if lines is None else parse_etags(b", ".join(lines).decode("latin-1"))
