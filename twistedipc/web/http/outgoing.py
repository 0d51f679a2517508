"""Requests to other services, bounded in size and time. ``web.http``."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as Receiver
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from twistedipc import __version__
from twistedipc.outgoing.addresses import masked
from twistedipc.outgoing.exchange import Answer, Request

#: Seconds from the beginning of a request to the end of its answer, and the most bytes of the answer.
SECONDS: Final = 10.0
MAX_ANSWER: Final = 256 * 1024

#: The same of a page of a list, such as that of the comments of a pull request.
MAX_LIST: Final = 8 * 1024 * 1024


_Asking = Coroutine[Deferred[Any], Any, Answer]


class Unanswered(Exception):
    """There was no answer that can be used. ``str()`` says why."""


class Outgoing(Protocol):
    """Sends requests. A redirect isn't followed."""

    async def get(self, url: str) -> tuple[int, bytes]:
        """Return the status and the body of the answer. Raises `Unanswered`."""

    async def post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a form; return the same."""


class AgentOutgoing:
    """Sends requests by Twisted. Implements `Outgoing`, and `server.boundaries.Requests`."""

    def __init__(self, agent: Agent, clock: IReactorTime) -> None:
        self._agent = agent
        self._clock = clock

    async def get(self, url: str) -> tuple[int, bytes]:
        """See `Outgoing`."""
        answer = await self._within(url, self._ask("GET", url, {}, None, url, MAX_ANSWER))
        return answer.status, answer.body

    async def post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """See `Outgoing`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        answer = await self._within(url, self._ask("POST", url, headers, urlencode(form).encode(), url, MAX_ANSWER))
        return answer.status, answer.body

    async def send(self, request: Request) -> Answer:
        """See `server.boundaries.Requests`. What is said of the address is what people may see of it."""
        shown = masked(request.url)
        most = MAX_LIST if request.method == "GET" else MAX_ANSWER
        body = request.body if request.body or request.method != "GET" else None
        try:
            return await self._within(shown, self._ask(request.method, request.url, request.headers, body, shown, most))
        except Unanswered as error:
            return Answer(problem=str(error))

    async def _within(self, shown: str, asking: _Asking) -> Answer:
        try:
            return await Deferred.fromCoroutine(asking).addTimeout(SECONDS, self._clock)
        except TimeoutError as error:
            raise Unanswered(f"{shown} didn't answer within {SECONDS:g} seconds") from error
        except (Unanswered, CancelledError):
            raise
        except Exception as error:  # the agent's errors have no base of their own
            raise Unanswered(f"{shown} can't be reached: {_reason(error)}") from error

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, shown: str, most: int
    ) -> Answer:
        sent = Headers({"User-Agent": [f"twistedipc/{__version__}"], "Accept": ["application/json"]})
        for name, value in headers.items():
            sent.setRawHeaders(name, [value])
        producer = None if body is None else FileBodyProducer(BytesIO(body))
        response: IResponse = await self._agent.request(method.encode(), url.encode("ascii"), sent, producer)
        collected: Deferred[bytes] = Deferred(lambda _: collecting.abort())
        collecting = _Collecting(shown, collected, most)
        response.deliverBody(collecting)
        names = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(status=response.code, headers=names, body=await collected)


class _Collecting(Receiver):
    """Collects a body, of ``most`` bytes at most."""

    def __init__(self, shown: str, collected: Deferred[bytes], most: int) -> None:
        self._shown = shown
        self._most = most
        self._collected: Deferred[bytes] | None = collected
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with a part of the body."""
        self._size += len(data)
        self._parts.append(data)
        if self._size > self._most:
            self._end(Unanswered(f"{self._shown} answers with more than {self._most} bytes"))
            self.abort()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Twisted calls this at the body's end."""
        # A body without a length ends with its connection: what it holds says whether it is whole.
        whole = reason.check(ResponseDone, PotentialDataLoss) is not None
        self._end(b"".join(self._parts) if whole else Unanswered(f"{self._shown} broke its answer off"))

    def abort(self) -> None:
        """Close the connection at once."""
        # Only some of the agent's transports can be aborted; all can be closed.
        transport: Any = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()

    def _end(self, result: bytes | Unanswered) -> None:
        collected, self._collected = self._collected, None
        if collected is None:
            return
        if isinstance(result, bytes):
            collected.callback(result)
        else:
            collected.errback(result)


def _reason(error: Exception) -> str:
    """Return what an error of the agent's says; some are lists of failures."""
    reasons = getattr(error, "reasons", None)
    inner = reasons[0].value if reasons else error
    return str(inner) or type(inner).__name__
