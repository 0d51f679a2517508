"""
Downloads of what builds have made. ``web.api``; ``routes`` has this function.

What is stored has another form, and may leave out what is stored elsewhere. So an archive is made for each download, in
a file without a name, one at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import IO

from msgspec import UnsetType
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from twistedipc.publish.members import BadArchive
from twistedipc.publish.whole import write_whole
from twistedipc.storage import artifacts
from twistedipc.storage.rows import ArtifactRow
from twistedipc.web.access.held import Ending, Holding
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.queries import DownloadFiles
from twistedipc.web.http.channel import BoundedRequest, set_common_headers
from twistedipc.web.http.file_body import FileBody
from twistedipc.web.http.problems import not_found

#: Seconds until an archive is put together, also behind others.
SECONDS = 300.0


class Download:
    """An archive on its way to one reader. Implements `call.Takeover`."""

    def __init__(self, clock: IReactorTime, file: IO[bytes], size: int, name: str) -> None:
        self._clock = clock
        self._file = file
        self._size = size
        self._name = name

    def take_over(self, request: BoundedRequest, holding: Holding) -> None:
        """See `call.Takeover`."""
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Type", b"application/gzip")
        request.setHeader(b"Content-Disposition", f'attachment; filename="{self._name}"'.encode())
        request.setHeader(b"Content-Length", b"%d" % self._size)
        request.notifyFinish().addBoth(lambda _: holding.release())
        with self._file:
            descriptor = os.dup(self._file.fileno())
        FileBody(self._clock, request, descriptor, [range(self._size)]).start()

        def over(_why: Ending) -> None:
            request.abort()

        holding.on_end(over)


async def files(call: Call[DownloadFiles, None]) -> Reply[bytes] | Download:
    """
    Download the files that a build has made, those of its output folder, as a tar.gz. (The packages that it has
    published are at their registry.)
    """
    context, build = call.context, call.build
    number = build.attempt if isinstance(call.query.attempt, UnsetType) else call.query.attempt
    artifact = await context.ledger.read(artifacts.get, f"{build.id}-{number}")
    if artifact is None or not artifact.complete:
        raise not_found(
            f"there is nothing to download of attempt {number} of build {build.id}: it has made no files, or they "
            "aren't kept any more"
        )
    name = f"{build.project}-{build.id}" + ("" if number == build.attempt else f"-{number}")
    async with _alone(context.downloading):
        try:
            file, size = await context.in_thread(_put_together, context, artifact)
        except (BadArchive, FileNotFoundError) as error:
            raise not_found(f"what build {build.id} has made isn't there any more: {error}") from error
    return Download(context.clock, file, size, f"{name}.tar.gz")


def _put_together(context: WebContext, artifact: ArtifactRow) -> tuple[IO[bytes], int]:
    """Return a file without a name that has the whole archive, and its size. Blocks."""
    archive = context.artifact_store.path(artifact.sha256)
    with tempfile.TemporaryFile(dir=archive.parent) as file:  # where there is room for archives
        size = write_whole(archive, partial(context.releasing.stored, artifact.project), file)
        file.flush()
        # Another object of it: one that nobody takes over, since its reader has gone, closes it.
        return os.fdopen(os.dup(file.fileno()), "rb"), size


@asynccontextmanager
async def _alone(lock: DeferredLock) -> AsyncIterator[None]:
    await lock.acquire()
    try:
        yield
    finally:
        lock.release()
