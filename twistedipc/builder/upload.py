"""
Uploads of what was built: from the attempt's folder to the apiserver's artifact store. Called by ``service``.

``HEAD`` tells how much the store has, ``PUT`` sends the rest; broken off, it goes on from there. The protocol is in
``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskFinished, TaskStopped
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

#: Seconds for an answer to a request without a body.
ANSWER_TIMEOUT = 60.0

#: Seconds in which nothing of the body leaves, until the upload is broken off. (An apiserver to which nothing comes
#: closes the connection sooner: this is for one that can't say so. Slow lines let a body go in large steps.)
PROGRESS_TIMEOUT = 300.0

#: Seconds from the body's last byte to the answer: what is still on its way, and the verification of it all.
VERIFIED_TIMEOUT = 900.0

#: Into how many looks these times are divided. What counts is how many looks saw nothing move, and not the time: a
#: process that was stopped is no judge of it.
_LOOKS = 10

_CHUNK = 1 << 16


class UploadFailed(Exception):
    """The upload was broken off; it can be tried again."""


class UploadRefused(UploadFailed):
    """The token is not good (any more): ask for another."""


class WrongArchive(UploadFailed):
    """All of it has arrived, and it isn't what was announced. The apiserver has nothing of it now."""


class NoArchive(Exception):
    """The archive on this side isn't what it was: there is nothing to upload."""


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
        # Its own to close: the answer may be there before the body has been sent, and the body goes on.
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
            # Stopped, it must not fire. Else it must: the connection is held until the body has ended somehow.
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


async def upload(agent: Agent, clock: IReactorTime, url: str, token: str, archive: Path, size: int) -> None:
    """
    Send ``archive`` (``size`` bytes) to ``url``, from where an earlier try was broken off. Raises `UploadRefused`,
    `WrongArchive` or `UploadFailed`; `NoArchive` or FileNotFoundError if there is none.
    """
    _check(archive, size)
    address = url.encode("ascii")
    headers = {b"authorization": [b"Bearer " + token.encode("ascii")]}
    offset = await _offset(agent, clock, address, headers)
    if offset > size:
        raise UploadFailed(f"the apiserver says that it has {offset} of {size} bytes")
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
    body = await readBody(response).addTimeout(ANSWER_TIMEOUT, clock)
    if response.code in (401, 403, 404):
        raise UploadRefused(f"the apiserver answered {response.code}")
    if response.code in (413, 422):
        raise WrongArchive(f"the apiserver answered {response.code}: {body[:500].decode('utf-8', 'replace')}")
    if response.code not in (200, 201, 204):
        raise UploadFailed(f"the apiserver answered {response.code}: {body[:500].decode('utf-8', 'replace')}")


async def _patiently(clock: IReactorTime, request: Deferred[IResponse], part: _FilePart) -> IResponse:
    """The answer, however long the body takes, as long as it moves. Raises `UploadFailed` when it doesn't."""
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
    """Seconds until the next look."""
    return (PROGRESS_TIMEOUT if part.sent < part.length else VERIFIED_TIMEOUT) / _LOOKS


def _check(archive: Path, size: int) -> None:
    found = archive.stat().st_size
    if found != size:
        raise NoArchive(f"{archive.name} has {found} bytes instead of {size}")


async def _offset(agent: Agent, clock: IReactorTime, address: bytes, headers: dict[bytes, list[bytes]]) -> int:
    response = await agent.request(b"HEAD", address, Headers(headers)).addTimeout(ANSWER_TIMEOUT, clock)
    await readBody(response).addTimeout(ANSWER_TIMEOUT, clock)
    if response.code in (401, 403, 404):
        raise UploadRefused(f"the apiserver answered {response.code}")
    value = (response.headers.getRawHeaders(b"upload-offset") or [b""])[0]
    if response.code not in (200, 204) or not value.isdigit():
        raise UploadFailed(f"the apiserver answered {response.code}")
    return int(value)
