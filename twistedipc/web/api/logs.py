"""
The log of a build: a page of it, all of it as one stream, or its outline. ``web.api``; ``routes`` has these functions.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.builds.attempt import StepResult
from twistedipc.builds.states import LOG_OVER
from twistedipc.sealed.outline import Span
from twistedipc.server.boundaries import Cursor
from twistedipc.storage import attempts
from twistedipc.storage.outlines import outlined
from twistedipc.web.api.call import Call, Reply, WebSocket, moment
from twistedipc.web.api.queries import OutlineLog, ReadLog, Stream, StreamLog
from twistedipc.web.api.schemas import (
    AnnotationCounts,
    LogOutline,
    LogPage,
    OutlineAnnotation,
    OutlineError,
    OutlineGroup,
    OutlineStep,
)
from twistedipc.web.http.problems import invalid, not_found
from twistedipc.web.logs.forms import form_of, message_part
from twistedipc.web.logs.stream import TAKE_BYTES, LogStream, fetch

#: Records of a page, unless its reader says otherwise, and its most bytes (but it has one message, at least).
PAGE_RECORDS = 1000
PAGE_BYTES = 4 << 20

#: Of a file that a browser keeps.
_SUFFIXES = {"json": "ndjson", "text": "txt", "ansi": "log"}


async def read(call: Call[ReadLog, None]) -> Reply[LogPage] | LogStream:
    """
    Read the log. As JSON it is a page: ask again with its ``after`` until it has an ``end``. As text, or with
    ``follow=1``, it is one response of any length, for people and ``curl -N``; followed as JSON it has one message on
    each line (``application/x-ndjson``). A response that is broken off has no end, or HTTP shows that it isn't whole.
    With ``download=1`` it is a file for a browser to keep, also as JSON. ``numbers=true``: each line of a text has
    before it the number by which everything else knows it.
    """
    query = call.query
    if query.numbers == "true" and query.format == "json":
        raise invalid("numbers are for format=text and format=ansi: as JSON, a log has them anyway")
    number = await _attempt(call, query.attempt)
    limit = None if query.limit is UNSET else query.limit
    if query.format == "json" and query.follow == "0" and query.download == "0":
        cursor = call.context.logs.cursor(f"{call.build.id}-{number}", query.after, _not_waited_for)
        try:
            page = await _page(cursor, number, query.after, limit or PAGE_RECORDS)
            return Reply(body=msgspec.json.encode(page))
        finally:
            cursor.close()
    logs, attempt = call.context.logs, f"{call.build.id}-{number}"
    stream = LogStream(
        call.context.clock,
        call.streams,
        lambda wake: logs.cursor(attempt, query.after, wake),
        form_of(query.format, numbers=query.numbers == "true"),
        follow=query.follow == "1",
        limit=limit,
        pace=call.context.log_pace,
        file=f"build-{attempt}.{_SUFFIXES[query.format]}" if query.download == "1" else None,
    )
    await stream.prepare()
    return stream


async def outline(call: Call[OutlineLog, None]) -> Reply[LogOutline]:
    """
    Say where things are in a log: its steps, groups, annotations and errors, by the numbers of their records. The log
    isn't read for that. Of a build that runs it is what has come so far.
    """
    build, wanted = call.build, call.query.attempt
    number = build.attempt if wanted is UNSET else wanted
    name = f"{build.id}-{number}"
    found = await call.context.ledger.read(outlined, name)
    if found is None:
        raise not_found(f"build {build.id} has no attempt {number}")
    row, records, size, known = found
    spans = {span.index: span for span in known.steps}
    return Reply(
        body=LogOutline(
            attempt=row.number,
            records=records,
            bytes=size,
            complete=row.state in LOG_OVER and row.log_removed is None and (row.complete or records == 0),
            steps=[_step(step, spans.get(step.index)) for step in row.steps],
            groups=[
                OutlineGroup(record=each.record, step=each.step, time=moment(each.time), name=each.name)
                for each in known.groups
            ],
            annotation_counts=AnnotationCounts(
                errors=row.gist.errors, warnings=row.gist.warnings, notices=row.gist.notices
            ),
            annotations=[
                OutlineAnnotation(
                    record=each.record,
                    step=each.step,
                    level=each.level,
                    message=each.message,
                    file=each.file,
                    line=each.line,
                    column=each.column,
                )
                for each in known.remarks
            ],
            errors=[
                OutlineError(record=each.record, step=each.step, what=each.what, message=each.message)
                for each in known.errors
            ],
        )
    )


def _step(step: StepResult, span: Span | None) -> OutlineStep:
    outcome: Any = step.outcome  # one of the schema's, by the ledger's own rule
    return OutlineStep(
        index=step.index,
        name=step.name,
        outcome=outcome,
        exit_code=step.exit_code,
        started=moment(step.started),
        ended=moment(step.ended) if step.ended else None,
        first=None if span is None else span.first,
        last=None if span is None or not span.last else span.last,
    )


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
