"""
The gate of releases that aren't for everybody, at their own hosts: for the team, or of previews for guests who know the
project's password. ``web.releases``; asked by ``site``.

See ``web.access.visits`` for the way of a browser of the team, and ``web.access.guests`` for passwords.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from werkzeug.http import parse_cookie

from twistedipc.web.access.audience import Sought
from twistedipc.web.access.guests import GUEST_SECONDS, Guests, TooManyTries
from twistedipc.web.access.visits import CODE_SECONDS, VISIT_SECONDS, Visits, challenge_of
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.file_response import plain
from twistedipc.web.http.hosts import authority_of
from twistedipc.web.releases.password_page import POLICY, password_page

#: Where a browser of the team begins, and comes back with its code.
ENTRANCE = b"/.well-known/twistedipc-visit"

#: Where guests send their password.
PASSWORD = b"/.well-known/twistedipc-password"

#: Seconds in which a person may sign in.
NUMBER_SECONDS = 3600

#: The most bytes of what a form sends.
MAX_FORM = 16 << 10


class Gate:
    """
    Lets in who has a visit, or knows the password. ``page``: the API's page; ``addresses_of``: where a project's
    release is, the best address first, or a preview of one, which has a name too (`builds.labels`).
    """

    def __init__(self, visits: Visits, guests: Guests, page: str, addresses_of: Callable[[str], list[str]]) -> None:
        self._visits = visits
        self._guests = guests
        self._page = page
        self._addresses_of = addresses_of

    def stops(self, request: BoundedRequest, sought: Sought, name: str, path: str) -> bytes | None:
        """
        Return the answer for a request for this path that may not go on; None: it may. Ask `checks` first.

        :param name: the project's, or that of a preview of it
        """
        project, place = sought.project, self._place(request, sought, name, path)
        if isinstance(place, bytes):
            return place
        if request.path == ENTRANCE:
            return self._enter(request, project, place)
        secret = self._cookie(request, "visit", project)
        if secret and self._visits.admits(secret, project, place):
            return None
        if sought.password:
            cookie = self._cookie(request, "guest", project)
            if cookie and self._guests.admits(cookie, sought.password, place):
                return None
            given = _basic_password(request)
            if given is not None and self._guests.remembers(request.remote, project, given, sought.password):
                return None
        request.setHeader(b"Cache-Control", b"no-store")
        if not _is_of_a_person(request):
            return self._refuse_program(request, sought)
        to = request.uri.decode("latin-1")
        if sought.password:
            return _ask(request, project, to, 401)
        return self._begin(request, project, place, to)

    def checks(self, request: BoundedRequest, sought: Sought) -> bool:
        """Return whether the request shows a password that must be checked (`check`) before `stops` is asked."""
        given = _basic_password(request) if sought.password else None
        return given is not None and not self._guests.remembers(request.remote, sought.project, given, sought.password)

    async def check(self, request: BoundedRequest, sought: Sought) -> bytes | None:
        """Return the answer for a request whose password isn't right; None: it is, and is remembered."""
        try:
            given = _basic_password(request) or ""
            if await self._guests.check(request.remote, sought.project, given, sought.password):
                return None
        except TooManyTries as error:
            return _too_many(request, error)
        request.setHeader(b"Cache-Control", b"no-store")
        return self._refuse_program(request, sought)

    async def take_password(self, request: BoundedRequest, sought: Sought, name: str) -> bytes:
        """Return the answer for a form with a password (at `PASSWORD`)."""
        place = self._place(request, sought, name, "/")
        if isinstance(place, bytes):
            return place
        request.body.seek(0)
        try:
            form = parse_qs(request.body.read(MAX_FORM).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:
            form = {}  # it has more fields than the page's own
        to, given = form.get("to", ["/"])[0], form.get("password", [""])[0]
        request.setHeader(b"Cache-Control", b"no-store")
        if sought.password:
            try:
                right = await self._guests.check(request.remote, sought.project, given, sought.password)
            except TooManyTries as error:
                request.setHeader(b"Retry-After", b"%d" % error.seconds)
                return _ask(request, sought.project, to, 429, f"{str(error).capitalize()}.")
            if not right:
                return _ask(request, sought.project, to, 401, "This isn't the password.")
            cookie = self._guests.cookie(sought.password, place)
            self._set_cookie(request, sought.project, "guest", cookie, GUEST_SECONDS)
        request.setHeader(b"Location", _path_of_this_host(to))
        return plain(request, 303, "It is there.")

    def is_https(self, request: BoundedRequest, project: str) -> bool:
        """Return whether the browser has come by https."""
        return bool(request.isSecure()) or request.remote.secure or self._addresses_of(project)[0].startswith("https:")

    def _place(self, request: BoundedRequest, sought: Sought, name: str, path: str) -> str | bytes:
        """Return the host of what is asked for to which the request is; the answer, if it is to none of them."""
        asked = request.getHeader("host") or ""
        addresses = [parts for parts in map(urlsplit, self._addresses_of(name)) if parts.path == "/"]
        if not addresses:
            whom = "have a password" if sought.password else "are for its team"
            return plain(
                request,
                403,
                f"The releases of {sought.project} {whom}, and need a host of their own: releases.public_url in the "
                "configuration must have {project} in its host.",
            )
        address = next((parts for parts in addresses if _is_at(asked, parts)), None)
        if address is None:
            request.setHeader(b"Location", f"{addresses[0].scheme}://{addresses[0].netloc}{path}".encode())
            return plain(request, 302, "It is there.")
        return address.netloc

    def _refuse_program(self, request: BoundedRequest, sought: Sought) -> bytes:
        if not sought.password:
            return plain(
                request, 401, f"The releases of {sought.project} are for its team: open one in a browser first."
            )
        if request.getHeader("sec-fetch-mode") is None:  # else a browser would ask its person in a window of its own
            request.setHeader(b"WWW-Authenticate", b'Basic realm="preview", charset="UTF-8"')
        return plain(
            request,
            401,
            f"The previews of {sought.project} have a password: open one in a browser, or send it as the password of "
            "any user (curl --user guest).",
        )

    def _begin(self, request: BoundedRequest, project: str, host: str, to: str) -> bytes:
        """Send a browser to the page, where its person signs in."""
        number = self._visits.number()
        self._set_cookie(request, project, "asked", number, NUMBER_SECONDS)
        parts = (project, host, challenge_of(number), to)
        fragment = "/".join(quote(part, safe="") for part in ("visit", *parts))
        request.setHeader(b"Location", f"{self._page}/#/{fragment}".encode())
        return plain(request, 302, f"The releases of {project} are for its team: sign in at {self._page}/")

    def _enter(self, request: BoundedRequest, project: str, host: str) -> bytes:
        query = parse_qs(request.uri.partition(b"?")[2].decode("latin-1"))
        code, to = query.get("code", [""])[0], query.get("to", ["/"])[0]
        if not code:
            return self._begin(request, project, host, to if to.isprintable() else "/")
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
        request.setHeader(b"Location", _path_of_this_host(to))
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


def _is_at(host: str, address: SplitResult) -> bool:
    port = 443 if address.scheme == "https" else 80
    return authority_of(host, port) == authority_of(address.netloc, port)


def _ask(request: BoundedRequest, project: str, to: str, status: int, remark: str = "") -> bytes:
    """Answer with the page on which guests give the password."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
    request.setHeader(b"Content-Security-Policy", POLICY)
    request.setHeader(b"Referrer-Policy", b"no-referrer")
    request.setHeader(b"X-Frame-Options", b"DENY")
    return password_page(project, to, action=PASSWORD, entrance=ENTRANCE, remark=remark)


def _too_many(request: BoundedRequest, error: TooManyTries) -> bytes:
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"Retry-After", b"%d" % error.seconds)
    return plain(request, 429, f"{str(error).capitalize()}.")


def _path_of_this_host(to: str) -> bytes:
    """Return a path for a Location. What begins with two slashes, or with a backslash, is another host: then "/"."""
    path = to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
    return quote(path, safe="/?&=%:@!$'()*+,;~-._").encode()


def _basic_password(request: BoundedRequest) -> str | None:
    """Return the password that a request shows by the Basic scheme (RFC 7617); None if it shows none."""
    scheme, _, encoded = (request.getHeader("authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _is_of_a_person(request: BoundedRequest) -> bool:
    """Return whether a browser asks for a page for its person to look at."""
    mode = request.getHeader("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in (request.getHeader("accept") or "")
