"""
HTTP connections that face strangers: Twisted's channel, request and site with a bound on everything. ``web.http``; the
sites of the API and of the releases are made of these.

Twisted already bounds the size and the number of headers, the idle time of a connection, and pipelining. Added are:

- A deadline: a request must have arrived, head and body, `REQUEST_SECONDS` after its first byte. A body that goes into
  a `BodySink` (an upload) is held to the idle time instead.
- Sizes: the `Front` says how large a body may be when the head is there, and all bodies that wait in memory share one
  budget. A request that is too large is answered at once. Then the connection reads on, to the body's end or for
  `LINGER_SECONDS`, and discards what comes: if it closed earlier, a client that is still sending might never see the
  answer.
- A number of connections at a time, and of one client.
"""

from __future__ import annotations

import fcntl
import io
import sys
import termios
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from twistedipc.server.boundaries import RandomBytes
from twistedipc.web.http.clients import UNIX, Client, Proxies
from twistedipc.web.http.problems import CONTENT_TYPE, ProblemError, unavailable

#: Seconds for a request to arrive, and for a connection to say anything.
REQUEST_SECONDS = 30

#: Seconds that a connection reads on after a request was refused before its end.
LINGER_SECONDS = 3

#: The largest body of JSON, and how many bytes of them may be in memory at a time.
MAX_BODY = 1 << 20
MAX_BODIES = 64 << 20

#: How many connections a site has at a time; and how many of them one client, or an IPv6 client's /64, may have.
#: (WebSockets aren't counted any more once their caller is known.)
MAX_CONNECTIONS = 4096
MAX_CONNECTIONS_OF_ONE = 512

#: Makes a browser forget all cookies of this host, wherever it trusts the connection (https, or the loopback).
CLEAR_COOKIES = {"Clear-Site-Data": '"cookies"'}

#: Cookies of more bytes than this were set by another page of the same host, not by the API.
MAX_COOKIES = 4096

#: A Content-Length with more digits is an error (and int() may refuse it).
_MAX_LENGTH_DIGITS = 18


class BodySink(Protocol):
    """A consumer of a request's body, which gets it as it arrives."""

    @property
    def limit(self) -> int:
        """The largest body in bytes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""

    def abandon(self) -> None:
        """Give up: the connection is lost, or the request was refused, and no more bytes will come. Idempotent."""


class Front(Protocol):
    """What a site serves, as far as it is asked about a request before the body has come."""

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """
        Return the sink for the body, or None to keep the body in memory. Raises `ProblemError` to refuse the request.
        """


class BoundedRequest(Request):
    """
    A request whose body is bounded. ``gone``: the connection is lost. ``id`` names the request in answers and logs.
    """

    defaultContentType = None
    channel: Channel

    def __init__(self, channel: Channel, *args: object, **keywords: object) -> None:
        super().__init__(channel, *args, **keywords)
        self.id = channel.site.random(8).hex()
        self.gone = False
        self.refused = False
        self.sink: BodySink | None = None
        self._received = 0
        self.body = io.BytesIO()  # what arrived, unless there is a sink
        self._held = 0  # bytes of the site's budget
        self.max_body = MAX_BODY  # what is kept in memory; the `Front` may allow more
        self.ready_head = b""  # lines of the response's head that are as they are sent, after those that are set
        self._remote: Client | None = None
        self._proxies = channel.site.proxies  # kept here, since there is no channel any more once the client has gone

    @property
    def remote(self) -> Client:
        """The client, also where trusted proxies are between. All headers must be there."""
        if self._remote is None:
            peer = getattr(self.client, "host", UNIX)
            self._remote = self._proxies.client_of(peer, self.requestHeaders)
        return self._remote

    def begin(self, method: bytes, uri: bytes, version: bytes) -> None:
        """
        Take method and path from the request's line: `gotLength` needs them, and Twisted gives them only after the
        body.
        """
        self.method, self.uri, self.clientproto = method, uri, version
        self.path = uri.partition(b"?")[0]

    def gotLength(self, length: int | None) -> None:
        """Twisted calls this when all headers are there. ``length`` None: the body is chunked."""
        self.content = self.body = io.BytesIO()
        try:
            if len(self.requestHeaders.getRawHeaders(b"host", ())) > 1:
                raise ProblemError(400, "a request has one Host header")  # RFC 9112, section 3.2
            codings = self.requestHeaders.getRawHeaders(b"transfer-encoding", ())
            if [coding.lower() for coding in codings] not in ([], [b"chunked"]):
                # Twisted passes over "identity", and a proxy before it may find another end of the body.
                raise ProblemError(400, "a request is sent whole, or with Transfer-Encoding: chunked")
            self.sink = self.channel.site.front.head_received(self)
            if length is not None and length > self._limit:
                raise self._too_large()
        except ProblemError as problem:
            self.refuse(problem)
            return
        if self.sink is not None:
            self.channel.body_is_streamed()

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted calls this with each part of the body."""
        if self.refused or self.gone:
            return
        self._received += len(data)
        if self._received > self._limit:
            self.refuse(self._too_large())
        elif self.sink is not None:
            self.sink.write(data)
        elif not self.channel.site.hold(len(data)):
            self.refuse(unavailable("too many requests are arriving at the same time"))
        else:
            self._held += len(data)
            self.body.write(data)

    def refuse(self, problem: ProblemError) -> None:
        """Answer before the body has come, and close the connection."""
        self.refused = True
        self.requestHeaders.removeHeader(b"expect")  # the answer is final, so there is no "100 Continue" to send
        if self.sink is not None:
            self.sink.abandon()
        self.channel.linger()
        self.setHeader(b"Connection", b"close")
        send(self, problem.status, problem.body(), CONTENT_TYPE, problem.headers)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted calls this when the connection is closed, by either side."""
        self.gone = True
        self._release()
        if self.sink is not None:
            self.sink.abandon()
        super().connectionLost(reason)

    def write(self, data: bytes) -> None:
        """Write the response's next bytes, its head before the first of them."""
        super().write(data)
        if not self.gone:
            self.channel.write_head()

    def finish(self) -> None:
        """Complete the response."""
        self._release()
        super().finish()

    def pause(self) -> None:
        """Stop reading the body for now."""
        if not self.gone:
            self.channel.transport.pauseProducing()

    def resume(self) -> None:
        """Read the body again."""
        if not self.gone and not self.refused:
            self.channel.transport.resumeProducing()

    def abort(self) -> None:
        """Close the connection at once, without sending what still waits."""
        if not self.gone:
            self.channel.transport.abortConnection()

    def release_connection(self) -> None:
        """Hand the connection over to a WebSocket, which counts it from now on."""
        self._release()
        self.channel.uncount()

    @property
    def _limit(self) -> int:
        return self.max_body if self.sink is None else self.sink.limit

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"the body can have at most {self._limit} bytes", name="too-large")

    def _release(self) -> None:
        self.channel.site.hold(-self._held)
        self._held = 0


class Channel(http.HTTPChannel):
    """One connection of a `BoundedSite`."""

    site: BoundedSite
    transport: Any  # a stream transport, plain or TLS
    requests: list[BoundedRequest]

    def __init__(self) -> None:
        super().__init__()
        self._deadline: IDelayedCall | None = None
        self._linger: IDelayedCall | None = None
        self._lingering = False
        self._closed = False  # what still arrives is discarded
        self._streaming = False
        self._counted = False
        self.neighbourhood: str | None = (
            None  # whose connection it is; None: a trusted proxy's, or one on a UNIX socket
        )
        self._cookies = 0  # bytes of them in the head that is coming
        self._head = b""  # of a response, until its first bytes are there

    def connectionMade(self) -> None:
        """Twisted calls this once."""
        self._counted = True
        self.site.connections.add(self.neighbourhood)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with bytes of the client."""
        if self._closed:
            return
        if self._deadline is None and not (self._handlingRequest or self._streaming or self._lingering):
            self._deadline = self.callLater(REQUEST_SECONDS, self._too_slow)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Twisted calls this with each line of a head."""
        self._count_cookies(line)
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer a line that is too long for any head. (Twisted would close without an answer.)"""
        self._count_cookies(line)
        self._respondToBadRequestAndDisconnect()

    def _count_cookies(self, line: bytes) -> None:
        if line[:7].lower() == b"cookie:":
            self._cookies += len(line)

    def headerReceived(self, line: bytes) -> bool:
        """Twisted calls this with each header."""
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and len(value.strip()) > _MAX_LENGTH_DIGITS:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        """Twisted calls this when the head is complete."""
        self._cookies = 0
        self.requests[-1].begin(self._command, self._path, self._version)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """Twisted calls this when the body is complete."""
        self._streaming = False
        if self._lingering:
            self._close()
        else:
            self._cancel_deadline()
            super().allContentReceived()

    def body_is_streamed(self) -> None:
        """Stop the deadline: a body that goes into a sink may take any time, as long as bytes come."""
        self._streaming = True
        self._cancel_deadline()

    def linger(self) -> None:
        """Read on for a while and discard what comes, then close: the request was answered before its end."""
        self._cancel_deadline()
        self._lingering = True
        self.persistent = 0

    def loseConnection(self) -> None:
        """
        Close when everything is written, and after a refusal only when a client that is still sending could read the
        answer.
        """
        if not self._lingering:
            super().loseConnection()
        elif self._linger is None:
            self._linger = self.callLater(LINGER_SECONDS, self._close)

    def _close(self) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._closed = True
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Clean up: the connection is closed."""
        self.uncount()
        self._cancel_deadline()
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Twisted calls this with a response's head, just before its first bytes."""
        lines = [b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self._head = b"%b %b %b\r\n%b%b\r\n" % (version, code, reason, b"".join(lines), self.requests[0].ready_head)

    def write(self, data: bytes) -> None:
        """Twisted calls this with a response's bytes."""
        head, self._head = self._head, b""
        self.transport.write(head + data if head else data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """Twisted calls this with a chunk of a response."""
        if self._head:
            self.write(b"".join(iovec))
        else:
            self.transport.writeSequence(iovec)

    def write_head(self) -> None:
        """Write the head of a response that has no bytes yet."""
        if self._head:
            self.write(b"")

    def uncount(self) -> None:
        """Give this connection's place back to the site. Idempotent."""
        if self._counted:
            self._counted = False
            self.site.connections.remove(self.neighbourhood)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._answer_and_close(ProblemError(408, f"the request was not complete after {REQUEST_SECONDS} seconds"))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted calls this for whatever isn't HTTP; its own answer has no body.
        problem = ProblemError(400, "this is not a well-formed HTTP request, or its head is too large")
        if self._cookies > MAX_COOKIES:
            # Else every request of this browser would fail from now on.
            problem = ProblemError(400, "the cookies are too large; they are cleared", headers=dict(CLEAR_COOKIES))
        self._answer_and_close(problem)

    def _answer_and_close(self, problem: ProblemError) -> None:
        if self._lingering:
            self._close()  # the request has its answer already
            return
        body = problem.body()
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n%b"
            % (
                problem.status,
                problem.problem.title.encode(),
                CONTENT_TYPE.encode(),
                len(body),
                b"".join(f"{name}: {value}\r\n".encode() for name, value in problem.headers.items()),
                body,
            )
        )
        self.loseConnection()


class Connections:
    """
    The connections of a site, by whose they are, so that no client shuts out the others. None stands for peers that
    have many clients behind them: trusted proxies, and whatever connects to a UNIX socket.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._all = 0
        self._of: Counter[str] = Counter()
        self._refused: set[str] = set()  # those that the log has named, until they have fewer

    def __len__(self) -> int:
        return self._all

    def allow(self, whose: str | None) -> bool:
        """Return whether there may be one more."""
        if self._all >= MAX_CONNECTIONS:
            return False
        if whose is None or self._of[whose] < MAX_CONNECTIONS_OF_ONE:
            return True
        if whose not in self._refused:
            self._refused.add(whose)
            self._log.warn(
                "{address} has {count} connections, and gets no more until it closes some. If it is a proxy, name it "
                "in http.trusted_proxies",
                address=whose,
                count=MAX_CONNECTIONS_OF_ONE,
            )
        return False

    def add(self, whose: str | None) -> None:
        """Count a connection."""
        self._all += 1
        if whose is not None:
            self._of[whose] += 1

    def remove(self, whose: str | None) -> None:
        """Count it no more."""
        self._all -= 1
        if whose is None:
            return
        self._of[whose] -= 1
        if self._of[whose] <= MAX_CONNECTIONS_OF_ONE // 2:
            self._refused.discard(whose)
        if not self._of[whose]:
            del self._of[whose]


class BoundedSite(Site):
    """A site of such connections. The root resource is also the site's `Front`."""

    protocol = Channel  # type: ignore[assignment]  # not behind Twisted's proxy, which is there for HTTP/2
    requestFactory = BoundedRequest
    _requests = Logger()

    def __init__(
        self,
        front: Front,
        resource: IResource,
        reactor: IReactorTime,
        random: RandomBytes,
        proxies: Proxies | None = None,
    ) -> None:
        super().__init__(resource, timeout=REQUEST_SECONDS, reactor=reactor, parsePOSTFormSubmission=False)
        self.front = front
        self.random = random
        self.proxies = proxies or Proxies()
        self.connections = Connections()
        self._bodies = 0

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:  # type: ignore[override]
        """Return a channel for a new connection; None, which closes the connection, when there are too many."""
        neighbourhood = self.proxies.neighbourhood_of(getattr(addr, "host", UNIX))
        if not self.connections.allow(neighbourhood):
            return None
        channel = super().buildProtocol(addr)
        assert isinstance(channel, Channel)
        channel.neighbourhood = neighbourhood
        return channel

    def hold(self, size: int) -> bool:
        """
        Take so many bytes from the budget of bodies in memory, or give them back if negative; return whether they were
        left.
        """
        if size > 0 and self._bodies + size > MAX_BODIES:
            return False
        self._bodies += size
        return True

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols that TLS may agree on: HTTP/1.1 alone, which is what the bounds are written for."""
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        """Log one line for each request, without the query, which may hold a ticket."""
        assert isinstance(request, BoundedRequest)
        self._requests.debug(
            "{address} {method} {path} {code} {size}",
            address=request.remote.address,
            method=request.method.decode("latin-1"),
            path=request.path.decode("latin-1"),
            code=request.code,
            size=request.sentLength,
        )


def leaving(transport: Any) -> tuple[int, int]:
    """
    Return how many bytes wait in the transport (if it can be told), and unacknowledged in the kernel. While nothing is
    written, both change only when the client takes something.
    """
    waiting = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    try:
        queued = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError):
        return waiting, 0  # not a plain socket
    return waiting, int.from_bytes(queued, sys.byteorder)


def set_common_headers(request: BoundedRequest) -> None:
    """Set the headers of every response."""
    request.setHeader(b"Server", b"twistedipc")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    request.setHeader(b"Referrer-Policy", b"no-referrer")
    request.setHeader(b"X-Request-Id", request.id.encode())


def send(
    request: BoundedRequest, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
) -> None:
    """Write a whole response of the API, which may not be stored or framed, and finish the request."""
    set_common_headers(request)
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'")
    request.setHeader(b"Cross-Origin-Resource-Policy", b"same-origin")
    request.setResponseCode(status)
    for name, value in (headers or {}).items():
        request.setHeader(name.encode(), value.encode("latin-1", "replace"))
    if status not in (204, 304):
        request.setHeader(b"Content-Type", content_type.encode())
        request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)
    request.finish()
