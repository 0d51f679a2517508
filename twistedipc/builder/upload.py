"""
Uploads of what was built: from the attempt's folder to the apiserver's artifact store. Called by ``service``.

``HEAD`` tells how much the store has, ``PUT`` sends the rest; broken off, it goes on from there. The protocol is in
``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskStopped
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


@implementer(IBodyProducer)
class _FilePart:
    """A file from an offset on, as a request's body."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.length = length
        self._file = file
        self._task: CooperativeTask[Iterator[None]] | None = None
        self._cooperator = Cooperator()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        def parts() -> Iterator[None]:
            while data := self._file.read(_CHUNK):
                consumer.write(data)
                yield None

        task = self._task = self._cooperator.cooperate(parts())
        done: Deferred[None] = Deferred()
        task.whenDone().addCallbacks(lambda _: done.callback(None), lambda f: f.trap(TaskStopped) and None)
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
            except TaskStopped:
                pass


async def upload(agent: Agent, clock: IReactorTime, url: str, token: str, archive: Path, size: int) -> None:
    """
    Send ``archive`` (``size`` bytes) to ``url``, from where an earlier try was broken off. Raises `UploadRefused`
    or `UploadFailed`.
    """
    address = url.encode("ascii")
    headers = {b"authorization": [b"Bearer " + token.encode("ascii")]}
    offset = await _offset(agent, clock, address, headers)
    if offset > size:
        raise UploadFailed(f"the apiserver says that it has {offset} of {size} bytes")
    with archive.open("rb") as file:
        file.seek(offset)
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
            _FilePart(file, size - offset),
        )
        # The whole body may take long on a slow line; the apiserver ends a connection on which nothing moves.
        response = await request.addTimeout(3600.0, clock)
    body = await readBody(response).addTimeout(ANSWER_TIMEOUT, clock)
    if response.code in (401, 403, 404):
        raise UploadRefused(f"the apiserver answered {response.code}")
    if response.code not in (200, 201, 204):
        raise UploadFailed(f"the apiserver answered {response.code}: {body[:500].decode('utf-8', 'replace')}")


async def _offset(agent: Agent, clock: IReactorTime, address: bytes, headers: dict[bytes, list[bytes]]) -> int:
    response = await agent.request(b"HEAD", address, Headers(headers)).addTimeout(ANSWER_TIMEOUT, clock)
    await readBody(response).addTimeout(ANSWER_TIMEOUT, clock)
    if response.code in (401, 403, 404):
        raise UploadRefused(f"the apiserver answered {response.code}")
    value = (response.headers.getRawHeaders(b"upload-offset") or [b""])[0]
    if response.code not in (200, 204) or not value.isdigit():
        raise UploadFailed(f"the apiserver answered {response.code}")
    return int(value)
