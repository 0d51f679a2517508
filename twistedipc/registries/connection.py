"""
The way to package registries by HTTP: proxies, certificates, deadlines. It follows no redirect: its users do, since
they know where credentials may go.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPResponse
from typing import IO, Any, cast
from urllib.parse import urlsplit, urlunsplit

from twistedipc.registries.npmrc import Npmrc

#: Seconds in which a connection is made.
CONNECT = 30.0


class BadCertificates(Exception):
    """The authorities of certificates can't be read. ``str()`` of it is a sentence for the operator."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class _Patient:
    """
    Mixed into a connection: a server that answers before it has read all of a request, and hangs up, is still heard.
    """

    _gone = False

    def connect(self) -> None:
        connection = cast(http.client.HTTPConnection, self)
        patience, connection.timeout = connection.timeout, CONNECT
        super().connect()  # type: ignore[misc]
        connection.timeout = patience
        connection.sock.settimeout(patience)
        _open.sockets.append(connection.sock)

    def send(self, data: Any) -> None:
        if self._gone:
            return
        try:
            super().send(data)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError):
            self._gone = True  # the answer may have been sent before


class _Plain(_Patient, http.client.HTTPConnection):
    pass


class _Encrypted(_Patient, http.client.HTTPSConnection):
    pass


class _Open(threading.local):
    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []


#: The sockets that this thread's requests have opened, since urllib.request keeps them to itself.
_open = _Open()


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Plain, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._certificates = context

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Encrypted, req, context=self._certificates)


class Connection:
    """
    The way to registries, as npm is set up for it. Raises `BadCertificates`.

    :param environment: the operator's variables, with proxies and certificates
    """

    def __init__(self, npmrc: Npmrc, environment: Mapping[str, str]) -> None:
        self._proxies = _proxies(npmrc, environment)
        tls = _tls(npmrc, environment)
        self._direct, self._by_proxy = (
            urllib.request.build_opener(
                urllib.request.ProxyHandler(proxies), _HTTPHandler(), _HTTPSHandler(tls), _NoRedirect()
            )
            for proxies in ({}, {name: value for name, value in self._proxies.items() if name != "no"})
        )

    def open(self, request: urllib.request.Request, *, silence: float) -> HTTPResponse:
        """
        Make a request. Raises `urllib.error.HTTPError` for every answer but a good one, URLError, OSError, or
        `http.client.HTTPException`.

        :param silence: seconds after which a server that says nothing is given up
        """
        opener = self._direct if _needs_none(request.host, self._proxies.get("no", "")) else self._by_proxy
        return cast(HTTPResponse, opener.open(request, timeout=silence))


class Deadline:
    """Whether the time for a request is over."""

    def __init__(self) -> None:
        self.over = False


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """
    End this thread's requests that are under way after some seconds, whatever they wait for: their connections break
    then. (A timeout of a socket begins again with each byte.)
    """
    state = Deadline()
    sockets = _open.sockets = []

    def end() -> None:
        state.over = True
        for each in list(sockets):
            try:
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # also below TLS, whose own would wait
            except OSError:
                pass  # closed already

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield state
    finally:
        timer.cancel()
        _open.sockets = []


def without_user(url: str) -> str:
    """Return an address without a user or a password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def why(reason: object) -> str:
    """Return what a failed connection says, in a clause."""
    if isinstance(reason, urllib.error.URLError):
        reason = reason.reason
    if isinstance(reason, TimeoutError):
        return "it doesn't answer"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate isn't trusted here ({reason.verify_message})"
    text = getattr(reason, "strerror", None) or str(reason)
    return str(text) or type(reason).__name__


def _proxies(npmrc: Npmrc, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables' proxies, as all programs have them; npm's own settings come first."""
    found = {}
    for name, value in sorted(environment.items()):  # small letters come last, and count
        kind = name.lower().removesuffix("_proxy")
        if name.lower() in ("http_proxy", "https_proxy", "no_proxy") and value:
            found[kind] = value
    return {**found, **npmrc.proxies()}


def _needs_none(netloc: str, no: str) -> bool:
    """Whether a host is among those that need no proxy: names, which are those of their subdomains too, or "*"."""
    host = urlsplit(f"//{netloc}").hostname or ""
    for entry in re.split(r"[\s,]+", no.lower()):
        name = entry.strip().lstrip("*.") if entry != "*" else host
        if name and (netloc == name or host == name or host.endswith(f".{name}")):
            return True
    return False


def _tls(npmrc: Npmrc, environment: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for file in (environment.get("SSL_CERT_FILE"), environment.get("NODE_EXTRA_CA_CERTS"), npmrc.cafile):
        if file:
            try:
                context.load_verify_locations(cafile=os.path.expanduser(file))
            except (OSError, ssl.SSLError) as error:
                raise BadCertificates(f"the certificates in {file} can't be read: {error}") from error
    if not npmrc.strict_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
