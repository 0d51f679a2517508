"""The log of a build: a page of it, or all of it as one stream. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.server.boundaries import Cursor
from twistedipc.storage import attempts
from twistedipc.web.api.call import Call, Reply, WebSocket
from twistedipc.web.api.queries import ReadLog, Stream, StreamLog
from twistedipc.web.api.schemas import LogPage
from twistedipc.web.http.problems import not_found
from twistedipc.web.logs.forms import form_of, message_part
from twistedipc.web.logs.stream import TAKE_BYTES, LogStream, fetch

#: Records of a page, unless its reader says otherwise, and its most bytes (but it has one message, at least).
PAGE_RECORDS = 1000
PAGE_BYTES = 4 << 20


async def read(call: Call[ReadLog, None]) -> Reply[LogPage] | LogStream:
    """
    Read the log. As JSON it is a page: ask again with its ``after`` until it has an ``end``. As text, or with
    ``follow=1``, it is one response of any length, for people and ``curl -N``; followed as JSON it has one message on
    each line (``application/x-ndjson``). A response that is broken off has no end, or HTTP shows that it isn't whole.
    """
    query = call.query
    number = await _attempt(call, query.attempt)
    limit = None if query.limit is UNSET else query.limit
    if query.format == "json" and query.follow == "0":
        cursor = call.context.logs.cursor(f"{call.build.id}-{number}", query.after, _not_waited_for)
        try:
            page = await _page(cursor, number, query.after, limit or PAGE_RECORDS)
            return Reply(body=msgspec.json.encode(page))
        finally:
            cursor.close()
    stream = LogStream(
        call.context.clock,
        call.streams,
        call.context.logs,
        f"{call.build.id}-{number}",
        query.after,
        form_of(query.format),
        follow=query.follow == "1",
        limit=limit,
        pace=call.context.log_pace,
    )
    await stream.prepare()
    return stream


async def stream_log(call: Call[StreamLog, None]) -> WebSocket:
    """Follow one log on a WebSocket: see docs/protocol.md."""
    query = call.query
    number = await _attempt(call, query.attempt)
    compress = query.compress == "1"
    sockets = call.context.websockets
    build, after = call.build.id, query.after
    return WebSocket(lambda holding: sockets.log_resource(build, number, after, holding, compress=compress))


async def stream(call: Call[Stream, None]) -> WebSocket:
    """Subscribe to builds' states, to what builds say, and to logs, on one WebSocket: see docs/protocol.md."""
    sockets, compress = call.context.websockets, call.query.compress == "1"
    return WebSocket(lambda holding: sockets.stream_resource(holding, compress=compress))


async def _attempt(call: Call[ReadLog, None] | Call[StreamLog, None], wanted: int | UnsetType) -> int:
    """Return the number of the attempt that is meant. Raises 404 if there is none."""
    newest = call.build.attempt
    if wanted is UNSET or wanted == newest:
        return newest
    assert isinstance(wanted, int)
    if await call.context.ledger.read(attempts.get, f"{call.build.id}-{wanted}") is None:
        raise not_found(f"build {call.build.id} has no attempt {wanted}")
    return wanted


class _EncodedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A `LogPage` whose messages are JSON already: they go out as they are stored."""

    attempt: int
    batches: list[msgspec.Raw]
    after: int
    end: msgspec.Raw | None


async def _page(cursor: Cursor, attempt: int, after: int, limit: int) -> _EncodedPage:
    batches: list[msgspec.Raw] = []
    left, size = limit, 0
    while left > 0 and size < PAGE_BYTES:
        entries = cursor.take(TAKE_BYTES)
        if entries is None:
            await fetch(cursor)
            continue
        if not entries:
            break
        for entry in entries:
            if entry.final:
                return _EncodedPage(attempt=attempt, batches=batches, after=after, end=msgspec.Raw(entry.message))
            if left <= 0:
                break
            message, following = message_part(entry, left)
            left -= following - entry.first
            size += len(message)
            after = following - 1
            batches.append(msgspec.Raw(message))
    return _EncodedPage(attempt=attempt, batches=batches, after=after, end=None)


def _not_waited_for() -> None:
    """Stands for a cursor's ``wake``: a page has what is there now."""
