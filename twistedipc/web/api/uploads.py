"""
Uploads of archives: from the connection to the artifact store as they arrive, never in memory as a whole. ``web.api``;
`receive` is asked when the head of a request is there, `put` and `show` are routes.

A builder has a one-time token for one archive of one attempt, or for one package of it that the apiserver publishes.
``HEAD`` tells how much has arrived; ``PUT`` with ``Upload-Offset: N`` brings the part from byte N on. A connection that
breaks loses nothing that was written. After the last byte, and before the answer, the archive is verified by its
SHA-256, and a package also by the SHA-512 of its permit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.storage import artifacts, publications
from twistedipc.storage.artifacts import TooLarge, WrongContent, WrongOffset
from twistedipc.web.access.auth import bearer_of, unauthenticated
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.context import UploadTarget, WebContext
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.problems import ProblemError, conflict, invalid, unavailable

#: Bytes that may wait in memory for the disk before the connection is paused, and that are then written at once.
HIGH_WATER = 1 << 20

_OFFSET = re.compile(r"[0-9]{1,18}\Z")


def target_of(context: WebContext, request: BoundedRequest, attempt: str) -> UploadTarget:
    """Return what the request's token allows. Raises 401, the same for every other attempt."""
    secret = bearer_of(request)
    target = None if secret is None else context.uploads.grant_for(attempt, secret)
    if target is None:
        raise unauthenticated("this upload token is not valid: it is unknown, for another attempt, or was used up")
    return target


def wrong_offset(have: int) -> ProblemError:
    """Return a 409 with the offset at which the upload goes on."""
    problem = conflict(f"the upload goes on at byte {have}", name="wrong-offset")
    problem.headers["Upload-Offset"] = str(have)
    return problem


class Upload:
    """
    One request's body on its way to the disk. Implements `channel.BodySink`: a thread writes what has arrived, while
    more gathers; the connection is paused when too much has gathered.
    """

    _log = Logger()

    def __init__(self, context: WebContext, request: BoundedRequest, target: UploadTarget, offset: int) -> None:
        self._context = context
        self._request = request
        self.target = target
        self.offset = offset  # what is on disk
        self.limit = target.size - offset
        self._gathered: list[bytes] = []
        self._size = 0
        self._writing = False
        self._paused = False
        self._abandoned = False
        self._error: Failure | None = None
        self._done: Deferred[None] | None = None

    @classmethod
    def begin(cls, context: WebContext, request: BoundedRequest, attempt: str) -> Upload:
        """Make the sink of a request whose head is there. Raises 400, 401, 409."""
        target = target_of(context, request, attempt)
        text = request.getHeader("upload-offset")
        if text is None or not _OFFSET.match(text):
            raise ProblemError(400, "the header Upload-Offset is needed: from which byte on this part is")
        offset, have = int(text), context.artifact_store.offset(target.upload)
        if offset != have and not (offset == target.size and have == 0):
            raise wrong_offset(have)
        return cls(context, request, target, offset)

    def write(self, data: bytes) -> None:
        """See `channel.BodySink`."""
        if self._abandoned or self._error is not None:
            return
        self._gathered.append(data)
        self._size += len(data)
        if not self._writing:
            self._write_on()
        elif self._size >= HIGH_WATER and not self._paused:
            self._paused = True
            self._request.pause()

    def abandon(self) -> None:
        """See `channel.BodySink`."""
        self._abandoned = True
        self._gathered.clear()
        self._size = 0

    async def written(self) -> None:
        """Wait until the whole body is written. Raises what the store raised."""
        if self._writing:
            self._done = Deferred()
            await self._done
        if self._error is not None:
            self._error.raiseException()

    def _write_on(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._size = 0
        self._writing = True
        appended: Deferred[int] = self._context.in_thread(
            self._context.artifact_store.append, self.target.upload, self.offset, data
        )
        appended.addCallbacks(self._appended, self._failed).addErrback(
            lambda failure: self._log.failure("writing an upload failed", failure)
        )

    def _appended(self, offset: int) -> None:
        self.offset = offset
        self._writing = False
        if self._gathered:
            self._write_on()
        self._resume()
        self._tell()

    def _failed(self, failure: Failure) -> None:
        # The rest of the body still arrives, and is discarded; the error is the answer when it ends.
        self._error = failure
        self._writing = False
        self._resume()
        self._tell()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._request.resume()

    def _tell(self) -> None:
        if not self._writing and self._done is not None:
            done, self._done = self._done, None
            done.callback(None)


def receive(context: WebContext, request: BoundedRequest, path: Mapping[str, Any]) -> Upload:
    """Make the sink of a request whose head is there. Raises 400, 401, 409."""
    return Upload.begin(context, request, path["attempt"])


async def show(call: Call[None, None]) -> Reply[None]:
    """Show how many bytes have arrived (``Upload-Offset``)."""
    context = call.context
    target = target_of(context, call.request, str(call.path["attempt"]))
    have = await context.in_thread(context.artifact_store.offset, target.upload)
    return Reply(body=None, headers={"Upload-Offset": str(have)})


async def put(call: Call[None, None]) -> Reply[None]:
    """Store the archive, or its part from ``Upload-Offset`` on. With the last byte it is verified by its SHA-256."""
    context, upload = call.context, call.request.sink
    assert isinstance(upload, Upload), "the sink was made when the head came"
    target = upload.target
    try:
        await upload.written()
        if upload.offset < target.size:
            return Reply(body=None, headers={"Upload-Offset": str(upload.offset)})
        about = (target.upload, target.size, target.sha256, target.integrity)
        await context.in_thread(context.artifact_store.complete, *about)
    except WrongOffset as error:
        raise wrong_offset(error.have) from error
    except WrongContent as error:
        raise invalid(str(error), name="wrong-content") from error
    except TooLarge as error:
        raise ProblemError(413, str(error), name="too-large") from error
    except OSError as error:
        Upload._log.error("an upload can't be stored: {error}", error=error)
        raise unavailable("the archive can't be stored now") from error
    if target.target:
        which = (target.attempt, target.target, target.position)
        await context.ledger.write(publications.note_stored, *which, target.sha256, context.now())
    else:
        await context.ledger.write(artifacts.mark_complete, target.attempt, target.sha256)
    context.uploads.revoke(target.attempt)
    return Reply(body=None, headers={"Upload-Offset": str(target.size)})
