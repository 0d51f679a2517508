"""
The cookie of a browser's session: its name, and how it is read, set and cleared. ``web.access``; used by ``auth`` and
``web.api.tokens``.

A page at another port of the same host, or at a name below or beside it, can set cookies here, under any name that it
knows. So the name is random for each installation; over https it begins with ``__Host-``, which a browser lets nobody
else set (draft-ietf-httpbis-rfc6265bis, section 4.1.3.2); and if two cookies have this name, neither is believed.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from werkzeug.http import parse_cookie

from twistedipc.web.http.channel import CLEAR_COOKIES, BoundedRequest
from twistedipc.web.http.hosts import Hosts, authority_of


class SeveralCookies(Exception):
    """A browser has sent more than one session: another page has set one of them."""


class SessionCookie:
    """
    The cookie. ``key``: this installation's own; ``always_secure``: browsers reach it by https only; ``api_url``: where
    they find the page. If that is https, the cookie is one for https at that host, whatever a proxy leaves out.
    ``same_site``: "Lax" if browsers are to show it when another site has sent them here.
    """

    def __init__(
        self,
        key: str,
        hosts: Hosts,
        *,
        always_secure: bool = False,
        api_url: str = "",
        same_site: Literal["Strict", "Lax"] = "Strict",
    ) -> None:
        self._name = f"twistedipc_{key}"
        self._hosts = hosts
        self._always_secure = always_secure
        self._same_site = same_site
        url = urlsplit(api_url)
        self._secure_at = authority_of(url.netloc, 443) if url.scheme == "https" else None

    def possible(self, request: BoundedRequest) -> bool:
        """Return whether there can be a session at the host that the request is to."""
        return self._hosts.has_sessions(request.getHeader("host") or "")

    def value(self, request: BoundedRequest) -> str | None:
        """Return the session that the request shows. Raises `SeveralCookies`."""
        lines = request.requestHeaders.getRawHeaders(b"cookie")
        if not lines or not self.possible(request):
            return None
        values = parse_cookie("; ".join(line.decode("latin-1") for line in lines)).getlist(self._name_for(request))
        if len(values) > 1:
            raise SeveralCookies
        return values[0] or None if values else None

    def set(self, request: BoundedRequest, secret: str, seconds: int) -> dict[str, str]:
        """Return the headers that begin a session."""
        return {"Set-Cookie": self._cookie(request, secret, seconds)}

    def clear(self, request: BoundedRequest) -> dict[str, str]:
        """Return the headers that make a browser forget this cookie alone."""
        return {"Set-Cookie": self._cookie(request, "", 0)}

    def clear_all(self, request: BoundedRequest, *, storage: bool = False) -> dict[str, str]:
        """
        Return the headers that make a browser forget all cookies of this host, and with ``storage`` what pages stored.
        """
        cleared = {"Clear-Site-Data": CLEAR_COOKIES["Clear-Site-Data"] + (', "storage"' if storage else "")}
        return self.clear(request) | cleared

    def _cookie(self, request: BoundedRequest, value: str, seconds: int) -> str:
        cookie = f"{self._name_for(request)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={self._same_site}"
        return f"{cookie}; Secure" if self._secure(request) else cookie

    def _name_for(self, request: BoundedRequest) -> str:
        return f"__Host-{self._name}" if self._secure(request) else self._name

    def _secure(self, request: BoundedRequest) -> bool:
        if self._always_secure or bool(request.isSecure()) or request.remote.secure:
            return True
        return authority_of(request.getHeader("host") or "", 443) == self._secure_at
