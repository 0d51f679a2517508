"""Searches in logs: of one build, or of a project's builds. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec import UNSET, UnsetType

from twistedipc.finding.messages import LogHit, SearchedLog
from twistedipc.finding.query import BadQuery, Query
from twistedipc.server.boundaries import Asked, LogRange, ProjectRange, Search, TooManySearches
from twistedipc.storage import attempts, logs
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.queries import SearchLog, SearchLogs
from twistedipc.web.api.schemas import LogSearchPage
from twistedipc.web.http.problems import invalid, not_found, unavailable
from twistedipc.web.logs.found import found_stream, worth_saying
from twistedipc.web.logs.stream import LogStream

#: Seconds after which who was refused may ask again.
RETRY_AFTER = 5


async def one(call: Call[SearchLog, None]) -> Reply[LogSearchPage] | LogStream:
    """
    Search the log of a build: each line by itself, as people see it, without colours. ``q`` is what to search for, as
    it is or (``kind=regex``) as a regular expression of RE2. What the log has now is searched, also of a build that
    runs. As ``ndjson`` hits come as they are found, one message on each line, and the end last.
    """
    query = call.query
    number = call.build.attempt if query.attempt is UNSET else query.attempt
    assert isinstance(number, int)
    name = f"{call.build.id}-{number}"
    row = await call.context.ledger.read(attempts.get, name)
    if row is None:
        raise not_found(f"build {call.build.id} has no attempt {number}")
    following, _size = await call.context.ledger.read(logs.bounds, name)
    last = following - 1 if query.before is UNSET else min(following, query.before) - 1
    within = LogRange(build=call.build.id, attempt=number, first=query.after + 1, last=last, removed=row.removal)
    return await _answer(call, call.context.searches.log(_asked(call, newest=query.order == "newest"), within))


async def of_project(call: Call[SearchLogs, None]) -> Reply[LogSearchPage] | LogStream:
    """
    Search the logs of a project's builds, the newest first or the oldest, each from its beginning on. ``next`` says
    behind which attempt to go on: give it as ``before``, or as ``after`` if the oldest come first.
    """
    query = call.query
    within = ProjectRange(
        project=call.project.id,
        newest=query.order == "newest",
        before=_pair(query.before),
        after=_pair(query.after),
        logs=query.logs,
        each=query.each,
    )
    return await _answer(call, call.context.searches.logs(_asked(call, newest=False), within))


def _asked(call: Call[SearchLog, None] | Call[SearchLogs, None], *, newest: bool) -> Asked:
    query = call.query
    return Asked(
        who=call.counted_as,
        query=Query(text=query.q, kind=query.kind, case=query.case == "1"),
        newest=newest,
        most=query.limit,
        context=query.context,
        count=query.count == "1",
    )


def _pair(attempt: str | UnsetType) -> tuple[int, int] | None:
    if attempt is UNSET:
        return None
    build, _, number = str(attempt).partition("-")
    return int(build), int(number)


async def _answer(
    call: Call[SearchLog, None] | Call[SearchLogs, None], begun: Awaitable[Search]
) -> Reply[LogSearchPage] | LogStream:
    try:
        search = await begun
    except BadQuery as error:
        raise invalid(str(error)) from error
    except TooManySearches as error:
        raise unavailable(str(error), retry_after=RETRY_AFTER) from error
    if call.query.format == "ndjson":
        stream = found_stream(call.context.clock, call.streams, search, call.context.log_pace)
        await stream.prepare()
        return stream
    hits: list[LogHit] = []
    searched: list[SearchedLog] = []
    try:
        while search.end is None:
            for message in await search.more():
                if isinstance(message, LogHit):
                    hits.append(message)
                elif worth_saying(message):
                    searched.append(message)
    finally:
        search.close()
    end = search.end
    page = LogSearchPage(
        hits=hits,
        logs=searched,
        matches=end.matches,
        searched=end.searched,
        missing=end.missing,
        complete=end.complete,
        next=end.next,
    )
    return Reply(body=page)
