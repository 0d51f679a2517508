"""
Uploads of what was built: from the attempt's folder to the apiserver's artifact store. Called by ``service``.

``HEAD`` tells how much the store has, ``PUT`` sends the rest; broken off, it goes on from there. The protocol is in
``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskFinished, TaskStopped
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

#: Seconds for an answer without a body, and between two parts of one with.
ANSWER_TIMEOUT = 60.0

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
        _FilePart(archive, offset, size - offset),
    )
    # The whole body may take long on a slow line; the apiserver ends a connection on which nothing moves.
    response = await request.addTimeout(3600.0, clock)
    body = await readBody(response).addTimeout(ANSWER_TIMEOUT, clock)
    if response.code in (401, 403, 404):
        raise UploadRefused(f"the apiserver answered {response.code}")
    if response.code in (413, 422):
        raise WrongArchive(f"the apiserver answered {response.code}: {body[:500].decode('utf-8', 'replace')}")
    if response.code not in (200, 201, 204):
        raise UploadFailed(f"the apiserver answered {response.code}: {body[:500].decode('utf-8', 'replace')}")


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
