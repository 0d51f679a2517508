"""
The page: its files, from the package, at ``/`` and ``/static/``; and the documentation. ``web.page``; used by
``web.site``.

The files need no token: they hold code alone, which asks the API for everything else, and what everybody can read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from twisted.web.resource import Resource

from twistedipc.web.http.channel import BoundedRequest, send, set_common_headers
from twistedipc.web.http.conditional import send_not_modified, status_of_conditions
from twistedipc.web.http.media import content_type
from twistedipc.web.http.problems import CONTENT_TYPE, ProblemError, not_found
from twistedipc.web.page.documentation import documents, listed

INDEX = "index.html"

#: What the page's library is in, which no clone of the sources has: hatch_build.py puts it there.
LIBRARY = "vendor/htm-preact.js"
_NO_LIBRARY = (
    "the page's library isn't there: this is a clone of the sources that hasn't been installed since it needs one. "
    "Run `python hatch_build.py` there, or install it again, and restart"
)

#: The page's own files and the API ('self', which includes its WebSockets); no frame, no plugin, no base.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _File:
    body: bytes
    content_type: str
    etag: bytes


class Page(Resource):
    """Serves the page's files, which are read once."""

    isLeaf = True

    def __init__(self, folder: Traversable | None = None) -> None:
        super().__init__()
        static = files("twistedipc.web.page") / "static" if folder is None else folder
        self._files = {f"/static/{name}": file for name, file in _read(static, "")}
        if index := self._files.pop(f"/static/{INDEX}", None):
            self._files["/"] = index
        pages = documents()
        self._files |= {f"/docs/{name}": _file(name, body) for name, body in pages.items()}
        self._files["/llms.txt"] = _file("llms.txt", listed(pages).encode())

    @staticmethod
    def serves(path: bytes) -> bool:
        """Return whether this path is the page's."""
        return path in (b"/", b"/llms.txt") or path.startswith((b"/static/", b"/docs/"))

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request has arrived."""
        try:
            return self._render(request)
        except ProblemError as problem:
            send(request, problem.status, problem.body(), CONTENT_TYPE, problem.headers)
            return 1  # NOT_DONE_YET, since `send` has finished the request

    def _render(self, request: BoundedRequest) -> int | bytes:
        if request.method not in (b"GET", b"HEAD"):
            raise ProblemError(405, "this can only be read", headers={"Allow": "GET, HEAD"})
        path = request.path.decode("latin-1")
        file = self._files.get(path)
        if path == "/" and f"/static/{LIBRARY}" not in self._files:
            raise ProblemError(503, _NO_LIBRARY)
        if file is None:
            raise not_found()
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-cache")
        request.setHeader(b"Content-Security-Policy", _POLICY.encode())
        request.setHeader(b"Content-Type", file.content_type.encode())
        request.setHeader(b"X-Frame-Options", b"DENY")
        request.setHeader(b"Cross-Origin-Opener-Policy", b"same-origin")
        request.setHeader(b"Cross-Origin-Resource-Policy", b"same-origin")
        request.setHeader(b"ETag", file.etag)
        status = status_of_conditions(request, file.etag)
        if status == 304:
            return send_not_modified(request)
        if status == 412:
            raise ProblemError(412, "this file is another version than the one that the request names")
        if request.method == b"HEAD":
            request.setHeader(b"Content-Length", b"%d" % len(file.body))
            return b""
        return file.body


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
            continue
        found.append((prefix + entry.name, _file(entry.name, entry.read_bytes())))
    return found


def _file(name: str, body: bytes) -> _File:
    return _File(body, content_type(name), b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode())
