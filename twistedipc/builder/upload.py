"""
One try to upload an archive from the attempt's folder to the apiserver's artifact store. Called by ``publishing``.

``HEAD`` asks how much the store has, ``PUT`` sends the rest. After a try that was broken off, the next one continues
where it stopped. The protocol is in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import CooperativeTask, Cooperator, TaskFinished, TaskStopped
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from twistedipc.attempts.room import readable

#: Seconds for an answer to a request without a body.
ANSWER_TIMEOUT = 60.0

#: Seconds without progress of the body, after which the upload is broken off. (An apiserver that receives nothing
#: closes the connection sooner; this is for one that can't. Over a slow line a body moves in large steps.)
PROGRESS_TIMEOUT = 300.0

#: Seconds from the body's last byte to the answer: for the bytes in transit, and for the verification of all of them.
VERIFIED_TIMEOUT = 900.0

#: Each of these times is divided into this many looks, and the looks without progress are counted rather than the time,
#: so that a stopped process doesn't count its own pause.
_LOOKS = 10

_CHUNK = 1 << 16

#: The most bytes that are kept of an answer: the apiserver's are short, and another server's aren't read.
MAX_ANSWER = 1 << 16


class UploadFailed(Exception):
    """The upload was broken off and can be tried again."""

    passes = False  # True if the apiserver itself has answered that it can't store the archive now


class UploadRefused(UploadFailed):
    """The token isn't valid: ask for another. If that happens each time, the address is another apiserver's."""


class NotNow(UploadFailed):
    """The apiserver can't store the archive now."""

    passes = True


class WrongArchive(UploadFailed):
    """The whole archive has arrived and isn't the announced one. The apiserver has deleted it."""


class NoArchive(Exception):
    """The archive on this builder isn't the one that was packed: there is nothing to upload."""


@implementer(IBodyProducer)
class _FilePart:
    """A file from an offset on, as a request's body."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self.length = length
        self.sent = 0  # bytes that the connection has taken
        self._path = path
        self._offset = offset
        self._task: CooperativeTask[Iterator[None]] | None = None
        self._cooperator = Cooperator()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        # Closed here: the answer may come before the whole body was sent, and the body is still read then.
        file = self._path.open("rb")
        file.seek(self._offset)

        def parts() -> Iterator[None]:
            while data := file.read(_CHUNK):
                consumer.write(data)
                self.sent += len(data)
                yield None

        task = self._task = self._cooperator.cooperate(parts())
        done: Deferred[None] = Deferred()

        def ended(result: object) -> None:
            file.close()
            # After stopProducing it must not fire. Otherwise it must: the connection is kept until the body has ended.
            if not isinstance(result, Failure):
                done.callback(None)
            elif result.check(TaskStopped) is None:
                done.errback(result)

        task.whenDone().addBoth(ended)
        return done

    def pauseProducing(self) -> None:
        if self._task is not None:
            self._task.pause()

    def resumeProducing(self) -> None:
        if self._task is not None:
            self._task.resume()

    def stopProducing(self) -> None:
        if self._task is not None:
            try:
                self._task.stop()
            except TaskFinished:
                pass


async def upload(
    agent: Agent,
    clock: IReactorTime,
    url: str,
    token: str,
    archive: Path,
    size: int,
    arrived: Callable[[int], None] = lambda offset: None,
) -> None:
    """
    Send ``archive`` (``size`` bytes) to ``url``, from where an earlier try was broken off; ``arrived`` is called with
    that offset. Raises `UploadRefused`, `NotNow`, `WrongArchive` or `UploadFailed`, whose text is for people;
    `NoArchive` or FileNotFoundError if the archive isn't there.
    """
    _check(archive, size)
    try:
        await _send(agent, clock, url, token, archive, size, arrived)
    except (UploadFailed, NoArchive, FileNotFoundError, CancelledError):
        raise
    except Exception as error:
        raise UploadFailed(_unreachable(url, error)) from error


async def _send(
    agent: Agent,
    clock: IReactorTime,
    url: str,
    token: str,
    archive: Path,
    size: int,
    arrived: Callable[[int], None],
) -> None:
    address = url.encode("ascii")
    headers = {b"authorization": [b"Bearer " + token.encode("ascii")]}
    offset = await _offset(agent, clock, url, headers)
    if offset > size:
        raise UploadFailed(f"the apiserver says that it has {offset} of {size} bytes")
    arrived(offset)
    part = _FilePart(archive, offset, size - offset)
    request = agent.request(
        b"PUT",
        address,
        Headers(
            {
                **headers,
                b"upload-offset": [b"%d" % offset],
                b"content-type": [b"application/octet-stream"],
            }
        ),
        part,
    )
    response = await _patiently(clock, request, part)
    body = await _body(response).addTimeout(ANSWER_TIMEOUT, clock)
    if _is_problem(response) and response.code in (413, 422):
        raise WrongArchive(f"the apiserver answered {response.code}: {_detail(body)}")
    have = _checked_offset(url, response, size - offset, body)
    if have != size:
        raise UploadFailed(f"the apiserver says that it has {have} of {size} bytes")


def _checked_offset(url: str, response: IResponse, sent: int, body: bytes) -> int:
    """Return how much the apiserver has, by its answer to a request with ``sent`` bytes. Raises `UploadFailed`."""
    code = int(response.code)
    if _is_problem(response):
        if code in (401, 403, 404):
            raise UploadRefused(f"the apiserver at {_site(url)} answered {code}: it doesn't know this upload. {_WHERE}")
        raise NotNow(f"the apiserver answered {code}: {_detail(body)}")
    value = (response.headers.getRawHeaders(b"upload-offset") or [b""])[0]
    if code in (200, 201, 204) and value.isdigit():
        return int(value)
    raise UploadFailed(_foreign(url, response, sent))


def _body(response: IResponse) -> Deferred[bytes]:
    """Return an answer's body, at most `MAX_ANSWER` bytes of it. Its connection is closed if that is cancelled."""
    body = _Body()
    response.deliverBody(body)
    return body.done


class _Body(Protocol):
    """Twisted's ``readBody`` keeps all that comes, and leaves the connection open when it is cancelled."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(self._let_go)
        self._kept = b""

    def _let_go(self, _: Deferred[bytes]) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._kept += data[: MAX_ANSWER - len(self._kept)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return  # it was cancelled
        if reason.check(ResponseDone, PotentialDataLoss):  # the latter: its length was not said
            self.done.callback(self._kept)
        else:
            self.done.errback(reason)


def _is_problem(response: IResponse) -> bool:
    """Return whether the apiserver itself refuses: a proxy in front of it doesn't answer with this content type."""
    kind: bytes = (response.headers.getRawHeaders(b"content-type") or [b""])[0]
    return kind.split(b";")[0].strip().lower() == b"application/problem+json"


def _detail(body: bytes) -> str:
    """Return the text of a problem document (RFC 9457)."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return (problem.detail or problem.title)[:500]


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


_WHERE = "The address for uploads comes from http.public_url in apiserver.toml, or from apiserver_url in builder.toml"


def _foreign(url: str, response: IResponse, sent: int) -> str:
    """Return a sentence about an answer that isn't the apiserver's."""
    code, site = int(response.code), _site(url)
    if code == 413:
        return (
            f"{site} answered 413 to {readable(sent)}: a proxy before the apiserver takes no requests of that size. "
            "Raise its limit (nginx: client_max_body_size 0; in the location of the API)"
        )
    if code in (502, 503, 504):
        return f"{site} answered {code}: a proxy before the apiserver can't reach it"
    location = (response.headers.getRawHeaders(b"location") or [b""])[0]
    if 300 <= code < 400 and location:
        return f"{site} answered {code}, and leads to {_site(location.decode('ascii', 'replace'))}. {_WHERE}"
    return f"{site} answered {code}, and not as an apiserver does. {_WHERE}"


def _unreachable(url: str, error: Exception) -> str:
    """Return a sentence about a request without an answer."""
    causes = getattr(error, "reasons", None)  # the failures in the exceptions of Twisted's HTTP client
    if causes:
        return _unreachable(url, causes[0].value)
    match error:
        case ConnectionRefusedError():
            why = "the connection was refused"
        case DNSLookupError():
            why = "there is no such host"
        case TimeoutError() | TCPTimedOutError():
            why = "it doesn't answer"
        case ConnectError():
            why = str(error).strip() or "it can't be connected to"
        case ConnectionDone() | ConnectionLost():
            return f"{_site(url)} closed the connection in the middle of the upload"
        case _:
            why = f"{type(error).__name__}: {error}"
    return f"{_site(url)} can't be reached: {why.rstrip('.')}. {_WHERE}"


def _site(url: str) -> str:
    """Return the scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else url[:200]


async def _patiently(clock: IReactorTime, request: Deferred[IResponse], part: _FilePart) -> IResponse:
    """Return the answer, however long the body takes while it moves. Raises `UploadFailed` when it stalls."""
    why = ""
    seen = looks = 0
    timer: IDelayedCall

    def look() -> None:
        nonlocal why, seen, looks, timer
        moved, seen = part.sent != seen, part.sent
        looks = 0 if moved else looks + 1
        if looks < _LOOKS:
            timer = clock.callLater(_pause(part), look)
            return
        if part.sent < part.length:
            why = f"nothing has moved for {PROGRESS_TIMEOUT:.0f} s"
        else:
            why = f"there was no answer for {VERIFIED_TIMEOUT:.0f} s"
        request.cancel()

    timer = clock.callLater(_pause(part), look)
    try:
        return await request
    except Exception as error:
        if why:
            raise UploadFailed(why) from error
        raise
    finally:
        if timer.active():
            timer.cancel()


def _pause(part: _FilePart) -> float:
    """Return the seconds until the next look."""
    return (PROGRESS_TIMEOUT if part.sent < part.length else VERIFIED_TIMEOUT) / _LOOKS


def _check(archive: Path, size: int) -> None:
    found = archive.stat().st_size
    if found != size:
        raise NoArchive(f"{archive.name} has {found} bytes instead of {size}")


async def _offset(agent: Agent, clock: IReactorTime, url: str, headers: dict[bytes, list[bytes]]) -> int:
    response = await agent.request(b"HEAD", url.encode("ascii"), Headers(headers)).addTimeout(ANSWER_TIMEOUT, clock)
    body = await _body(response).addTimeout(ANSWER_TIMEOUT, clock)
    return _checked_offset(url, response, 0, body)
