"""
Conditional requests (RFC 9110, section 13), for everything that has an ETag. ``web.http``; used by ``file_response``
and ``web.page``.

Nothing has a Last-Modified, since the files of a release don't say when they were made. So If-Modified-Since and
If-Unmodified-Since are ignored, as the RFC wants it (13.1.3, 13.1.4), and a date in If-Range never matches.
"""

from __future__ import annotations

from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags, unquote_etag


def status_of_conditions(request: Request, etag: bytes) -> int | None:
    """
    Return 304 or 412 if the request's conditions don't hold for this strong ``etag`` (with its quotes); None if the
    request is to be answered. If-Match goes before If-None-Match (13.2.2). Call this only where the answer without
    conditions would be a success (13.2.1).
    """
    tag = unquote_etag(etag.decode("latin-1"))[0]
    wanted = _etags(request, b"if-match")
    if wanted is not None and tag not in wanted:  # `in` is the strong comparison
        return 412
    known = _etags(request, b"if-none-match")
    if known is not None and known.contains_weak(tag):
        return 304 if request.method in (b"GET", b"HEAD") else 412
    return None


def send_not_modified(request: Request) -> int:
    """
    Answer with 304 and the headers that are set. Twisted would announce an empty body, and a Content-Length in a 304
    must be the one that a 200 would have had (RFC 9110, 8.6).
    """
    request.setResponseCode(304)
    request.finish()
    return NOT_DONE_YET


def if_range_holds(request: Request, etag: bytes) -> bool:
    """
    Return whether the request's Range may be used: there is no If-Range, or it is this ``etag`` (13.1.5). The
    comparison is strong and of a single tag, so the bytes must be equal.
    """
    condition = request.requestHeaders.getRawHeaders(b"if-range")
    return condition is None or condition == [etag]


def _etags(request: Request, name: bytes) -> ETags | None:
    """Return the tags of a field, which may be on several lines (RFC 9110, 5.3); None without the field."""
    lines = request.requestHeaders.getRawHeaders(name)
    return None if lines is None else parse_etags(b", ".join(lines).decode("latin-1"))
