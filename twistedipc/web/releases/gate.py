"""
The gate of releases that are for the team alone, at their own hosts. ``web.releases``; asked by ``site``.

See ``web.access.visits`` for the way of a browser.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

from werkzeug.http import parse_cookie

from twistedipc.web.access.visits import CODE_SECONDS, VISIT_SECONDS, Visits, challenge_of
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.file_response import plain
from twistedipc.web.http.hosts import authority_of

#: Where a browser comes back with its code.
ENTRANCE = b"/.well-known/twistedipc-visit"

#: Seconds in which a person may sign in.
NUMBER_SECONDS = 3600


class Gate:
    """Lets in who has a visit. ``page``: the API's page; ``address_of``: where a project's release is."""

    def __init__(self, visits: Visits, page: str, address_of: Callable[[str], str]) -> None:
        self._visits = visits
        self._page = page
        self._address_of = address_of

    def stops(self, request: BoundedRequest, project: str, path: str) -> bytes | None:
        """Return the answer for a request for this path that may not go on; None: it may."""
        address = urlsplit(self._address_of(project))
        if address.path != "/":
            return plain(
                request,
                403,
                f"The releases of {project} are for its team, and need a host of their own: releases.public_url in the "
                "configuration must have {project} in its host.",
            )
        host, port = address.netloc, 443 if address.scheme == "https" else 80
        if authority_of(request.getHeader("host") or "", port) != authority_of(host, port):
            request.setHeader(b"Location", f"{address.scheme}://{host}{path}".encode())
            return plain(request, 302, "It is there.")
        if request.path == ENTRANCE:
            return self._enter(request, project, host)
        secret = self._cookie(request, "visit", project)
        if secret and self._visits.admits(secret, project, host):
            return None
        if not _is_of_a_person(request):
            return plain(request, 401, f"The releases of {project} are for its team: open one in a browser first.")
        number = self._visits.number()
        self._set_cookie(request, project, "asked", number, NUMBER_SECONDS)
        parts = (project, host, challenge_of(number), request.uri.decode("latin-1"))
        fragment = "/".join(quote(part, safe="") for part in ("visit", *parts))
        request.setHeader(b"Location", f"{self._page}/#/{fragment}".encode())
        return plain(request, 302, f"The releases of {project} are for its team: sign in at {self._page}/")

    def is_https(self, request: BoundedRequest, project: str) -> bool:
        """Return whether the browser has come by https."""
        return bool(request.isSecure()) or request.remote.secure or self._address_of(project).startswith("https:")

    def _enter(self, request: BoundedRequest, project: str, host: str) -> bytes:
        query = parse_qs(request.uri.partition(b"?")[2].decode("latin-1"))
        code, to = query.get("code", [""])[0], query.get("to", ["/"])[0]
        secret = self._visits.redeem(code, project, host, self._cookie(request, "asked", project))
        if secret is None:
            return plain(
                request,
                403,
                f"This way in isn't valid: it is for one browser, once, within {CODE_SECONDS} seconds. Open the "
                "release again.",
            )
        self._set_cookie(request, project, "visit", secret, VISIT_SECONDS)
        self._set_cookie(request, project, "asked", "", 0)
        # Only a path of this host: what begins with two slashes, or with a backslash, is another host.
        path = to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
        request.setHeader(b"Location", quote(path, safe="/?&=%:@!$'()*+,;~-._").encode())
        return plain(request, 302, "It is there.")

    def _cookie(self, request: BoundedRequest, name: str, project: str) -> str:
        lines = request.requestHeaders.getRawHeaders(b"cookie") or []
        values = parse_cookie("; ".join(line.decode("latin-1") for line in lines)).getlist(
            self._named(request, name, project)
        )
        return values[0] if len(values) == 1 else ""  # of two, another page has set one

    def _set_cookie(self, request: BoundedRequest, project: str, name: str, value: str, seconds: int) -> None:
        cookie = f"{self._named(request, name, project)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
        if self.is_https(request, project):
            cookie += "; Secure"
        request.responseHeaders.addRawHeader(b"Set-Cookie", cookie.encode())

    def _named(self, request: BoundedRequest, name: str, project: str) -> str:
        return f"__Host-twistedipc_{name}" if self.is_https(request, project) else f"twistedipc_{name}"


def _is_of_a_person(request: BoundedRequest) -> bool:
    """Return whether a browser asks for a page for its person to look at."""
    mode = request.getHeader("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in (request.getHeader("accept") or "")
