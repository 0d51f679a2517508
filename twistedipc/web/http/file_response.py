"""A file as a response: conditions, ranges, the body. ``web.http``; used by ``web.releases``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import NOT_DONE_YET

from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.conditional import if_range_holds, send_not_modified, status_of_conditions
from twistedipc.web.http.file_body import BLOCK, FileBody
from twistedipc.web.http.media import content_type
from twistedipc.web.http.ranges import satisfiable_ranges

_OTHER_VERSION = "This file is another version than the one that the request names."


@dataclass(frozen=True)
class ServedFile:
    """A regular file. Its content never changes under this ``etag``, which is a strong one."""

    path: Path  # where its content is
    name: str  # by which it is asked for, and which says what it is
    size: int  # bytes
    etag: bytes
    cache_control: str
    encoding: str = ""  # how its content is compressed, as Content-Encoding names it
    kind: str = ""  # its Content-Type; "": by its name

    @property
    def content_type(self) -> str:
        """Its Content-Type."""
        return self.kind or content_type(self.name)


def serve_file(request: BoundedRequest, clock: IReactorTime, file: ServedFile) -> int | bytes:
    """
    Answer a GET or HEAD with the file: 200, 206, 304, 412 or 416 (RFC 9110, 13.2.2 and 14.2). Raises OSError if it
    can't be opened; nothing is written then.
    """
    request.setHeader(b"ETag", file.etag)
    request.setHeader(b"Cache-Control", file.cache_control.encode())
    status = status_of_conditions(request, file.etag)
    if status == 304:
        return send_not_modified(request)
    if status == 412:
        return plain(request, 412, _OTHER_VERSION)
    request.setHeader(b"Accept-Ranges", b"bytes")
    ranges = _ranges(request, file)
    if ranges is None:
        return serve_whole(request, clock, file)
    if not ranges:
        request.setHeader(b"Content-Range", b"bytes */%d" % file.size)
        return plain(request, 416, f"This file has {file.size} bytes, and none of those that the request names.")
    request.setResponseCode(206)
    if file.encoding:
        request.setHeader(b"Content-Encoding", file.encoding.encode())
    if len(ranges) == 1:
        request.setHeader(b"Content-Range", _content_range(ranges[0], file.size))
        return _send(request, clock, file.path, file.content_type, [ranges[0]])
    return _serve_parts(request, clock, file, ranges)


def serve_whole(request: BoundedRequest, clock: IReactorTime, file: ServedFile) -> int | bytes:
    """Answer with the whole file, under the status that the request has already. Raises OSError as `serve_file`."""
    if file.encoding:
        request.setHeader(b"Content-Encoding", file.encoding.encode())
    return _send(request, clock, file.path, file.content_type, [range(file.size)])


def serve_bytes(request: BoundedRequest, body: bytes, etag: bytes, *, status: int = 200) -> int | bytes:
    """
    Answer a GET or HEAD with a content that is in memory, whole: 200, 304 or 412, or ``status`` without conditions.
    What else is said of it is set already.
    """
    if status == 200:
        request.setHeader(b"ETag", etag)
        condition = status_of_conditions(request, etag)
        if condition == 304:
            return send_not_modified(request)
        if condition == 412:
            return plain(request, 412, _OTHER_VERSION)
    request.setResponseCode(status)
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return b"" if request.method == b"HEAD" else body


def plain(request: BoundedRequest, status: int, text: str) -> bytes:
    """Set up a response that is one sentence and must not be stored, and return its body."""
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader(b"Cache-Control", b"no-cache")
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    body = f"{text}\n".encode()
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def _ranges(request: BoundedRequest, file: ServedFile) -> list[range] | None:
    """Return the ranges to answer with; None for the whole file."""
    fields = request.requestHeaders.getRawHeaders(b"range")
    # Range has a meaning for GET alone (14.2), and isn't a list: a second line would contradict the first.
    if fields is None or len(fields) > 1 or request.method != b"GET" or not if_range_holds(request, file.etag):
        return None
    return satisfiable_ranges(fields[0].decode("latin-1"), file.size)


def _serve_parts(request: BoundedRequest, clock: IReactorTime, file: ServedFile, ranges: list[range]) -> int | bytes:
    """Answer with several ranges as multipart/byteranges (14.6)."""
    boundary = request.channel.site.random(16).hex()
    kind = file.content_type.encode()
    pieces: list[bytes | range] = []
    for each in ranges:
        head = b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n"
        pieces += [head % (boundary.encode(), kind, _content_range(each, file.size)), each]
    pieces.append(b"\r\n--%b--\r\n" % boundary.encode())
    return _send(request, clock, file.path, f"multipart/byteranges; boundary={boundary}", pieces)


def _content_range(part: range, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)


def _send(
    request: BoundedRequest, clock: IReactorTime, path: Path, kind: str, pieces: list[bytes | range]
) -> int | bytes:
    request.setHeader(b"Content-Type", kind.encode())
    request.setHeader(b"Content-Length", b"%d" % sum(map(len, pieces)))
    if request.method == b"HEAD":
        return b""
    # Never through a symbolic link, and without blocking on a FIFO or a device.
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if len(pieces) == 1 and isinstance(whole := pieces[0], range) and 0 < len(whole) <= BLOCK:
        # Most files are small: what a connection takes at once needs no producer.
        try:
            block = os.pread(opened, len(whole), whole.start)
        except OSError:
            block = b""
        if len(block) == len(whole):
            os.close(opened)
            return block
    FileBody(clock, request, opened, pieces).start()
    return NOT_DONE_YET
