"""
What is read of logs to search in them: some chunks at a time, from either end, each time by one short query. Functions
for `Ledger.read`; ``storage`` layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Integer, Select, bindparam, func, select, text

from twistedipc.sealed.chunk import Damaged
from twistedipc.sealed.grams import bits_of, may_hold
from twistedipc.storage.columns import integer, split_attempt
from twistedipc.storage.log_archive import Archives, NotFetched, Wanted
from twistedipc.storage.sealed_logs import sealed_data
from twistedipc.storage.tables import attempts, builds, log_chunks, sealed_chunks

#: How many chunks are considered in one call, and by one look into an index: by the first, and by the largest, since
#: the looks grow while nothing can match. The row of one for searches has 16 KiB at most, and mostly some, so only as
#: many are read as are wanted.
_MOST_CHUNKS: Final = 1024
_PAGE: Final = 32
_LARGEST_PAGE: Final = 256

# Written out, as its index has it: SQLite takes an index with a condition only for the very same words.
_HAS_LOG: Final = text("builds.has_log = true")

#: What a text must hold to be searched: each of these, by one of its sets of trigrams (`sealed.grams.grams_of`).
Needs = tuple[tuple[frozenset[int], ...], ...]


class LogPart(msgspec.Struct, frozen=True, gc=False):
    """Records from ``first`` on: a sealed chunk, or messages as `storage.logs` keeps them."""

    first: int
    count: int
    sealed: bool
    data: bytes


class LogParts(msgspec.Struct, frozen=True, gc=False):
    """
    Some parts of a log, in the order in which they are searched. ``first`` and ``last``: the records that are left for
    the next time; none, if ``first`` is the larger one. ``skipped``: records (the first and the last of each
    run) that aren't in these parts because nothing that is needed is in them. ``damaged``: the first records of chunks
    that can't be read any more.
    """

    parts: list[LogPart]
    first: int
    last: int
    skipped: list[tuple[int, int]] = []
    damaged: list[int] = []


class AttemptLog(msgspec.Struct, frozen=True, gc=False):
    """An attempt with a log of so many records."""

    build: int
    number: int
    records: int


def some_parts(
    connection: Connection,
    attempt: str,
    first: int,
    last: int,
    limit_bytes: int,
    *,
    newest: bool,
    needs: Needs = (),
    archives: Archives | None = None,
) -> LogParts:
    """
    Return the next parts of an attempt's records ``first`` to ``last``, of about ``limit_bytes`` as they are stored:
    from the first record on, or, if ``newest``, from the last one back. They may have records outside of that, and
    there may be none although some are left. A record that is in no part, isn't skipped and isn't left isn't there, or
    can't be read any more, as all of a log whose removal has begun. Raises `LedgerUnavailable` if it can't be read now.

    :param archives: where sealed chunks are that aren't in the database
    """
    if _is_removed(connection, attempt):
        return LogParts([], last + 1, last)
    # What is sealed is at the front of a log.
    if newest:
        found = _plain(connection, attempt, first, last, limit_bytes, newest)
        if found is not None:
            return found
    of_sealed = _sealed(connection, attempt, first, last, limit_bytes, newest, needs, archives)
    if of_sealed is not None:
        return of_sealed
    found = None if newest else _plain(connection, attempt, first, last, limit_bytes, newest)
    return found or LogParts([], last + 1, last)


# A search asks these for some chunks at a time: to make each statement anew would take longer than to read them.
_REMOVED: Final = select(attempts.c.log_removed).where(
    attempts.c.build_id == bindparam("build"), attempts.c.number == bindparam("number")
)


@cache
def _statement(table: Any, columns: tuple[Any, ...], newest: bool) -> Select[Any]:
    """Return what asks the index of a table for the next chunks with some records, in the order of the search."""
    begins = table.c.first_record
    which = (table.c.build_id == bindparam("build"), table.c.number == bindparam("number"))
    # Chunks don't overlap, so the one that holds the first record is the last that doesn't begin after it.
    lowest = select(func.max(begins)).where(*which, begins <= bindparam("first")).scalar_subquery()
    return (
        select(begins, table.c.records, table.c.size, *columns)
        .where(*which, begins >= func.coalesce(lowest, 1), begins <= bindparam("last"))
        .order_by(begins.desc() if newest else begins)
        .limit(bindparam("most", type_=Integer))
    )


_DATA: Final = select(sealed_chunks.c.first_record, sealed_chunks.c.data).where(
    sealed_chunks.c.build_id == bindparam("build"),
    sealed_chunks.c.number == bindparam("number"),
    sealed_chunks.c.first_record.in_(bindparam("begins", expanding=True)),
)


def _named(attempt: str) -> dict[str, Any]:
    """Return what names an attempt in these statements."""
    build, number = split_attempt(attempt)
    return {"build": build, "number": number}


def _is_removed(connection: Connection, attempt: str) -> bool:
    return connection.execute(_REMOVED, _named(attempt)).scalar() is not None


def _plain(
    connection: Connection, attempt: str, first: int, last: int, limit_bytes: int, newest: bool
) -> LogParts | None:
    """Return the same of what isn't sealed; None: there is nothing of that."""
    build, number = split_attempt(attempt)
    which = (log_chunks.c.build_id == build, log_chunks.c.number == number)
    found = _look(connection, log_chunks, attempt, (first, last), limit_bytes, newest)
    if found is None:
        return None
    begins = log_chunks.c.first_record
    ends = (found.chosen[0].first_record, found.chosen[-1].first_record)
    rows = connection.execute(
        select(begins, log_chunks.c.records, log_chunks.c.data)
        .where(*which, begins.between(min(ends), max(ends)))
        .order_by(begins.desc() if newest else begins)
    )
    return LogParts([LogPart(begin, records, False, bytes(data)) for begin, records, data in rows], *found.left)


def _sealed(
    connection: Connection,
    attempt: str,
    first: int,
    last: int,
    limit_bytes: int,
    newest: bool,
    needs: Needs,
    archives: Archives | None,
) -> LogParts | None:
    """Return the same of what is sealed; None: there is nothing of that."""
    columns = (sealed_chunks.c.place, sealed_chunks.c.began, *((sealed_chunks.c.grams,) if needs else ()))
    found = _look(connection, sealed_chunks, attempt, (first, last), limit_bytes, newest, columns, needs)
    if found is None:
        return None
    damaged: list[int] = []
    parts = _read(connection, attempt, found.chosen, archives, damaged)
    return LogParts(parts, *found.left, found.skipped, damaged)


class _Look(msgspec.Struct, frozen=True):
    """What the index says: which rows are to be read, which can't match, and which records are left then."""

    chosen: list[Any]
    skipped: list[tuple[int, int]]
    left: tuple[int, int]


def _look(
    connection: Connection,
    table: Any,
    attempt: str,
    span: tuple[int, int],
    limit_bytes: int,
    newest: bool,
    columns: tuple[Any, ...] = (),
    needs: Needs = (),
) -> _Look | None:
    """Consider the chunks with these records, in the order of the search; None: there are none."""
    chosen: list[Any] = []
    skipped: list[tuple[int, int]] = []
    considered = 0
    page = _PAGE
    while considered < _MOST_CHUNKS:
        before = len(chosen)
        rows = _index(connection, table, attempt, span, newest, columns, page)
        for row in rows:
            end = row.first_record + row.records - 1
            if not needs or _may_match(row, needs):
                if chosen and row.size > limit_bytes:
                    return _Look(chosen, skipped, span)
                chosen.append(row)
                limit_bytes -= row.size
            else:
                skipped.append((row.first_record, end))
            span = (span[0], row.first_record - 1) if newest else (end + 1, span[1])
        considered += len(rows)
        if not rows:
            break
        if len(chosen) == before:
            page = min(2 * page, _LARGEST_PAGE)
    return _Look(chosen, skipped, span) if considered else None


def _index(
    connection: Connection,
    table: Any,
    attempt: str,
    span: tuple[int, int],
    newest: bool,
    columns: tuple[Any, ...],
    page: int,
) -> list[Any]:
    """Return what the index says of the next ``page`` chunks with some of these records, in the order of the search."""
    asked = _named(attempt) | {"first": max(1, integer(span[0])), "last": integer(span[1]), "most": page}
    rows = connection.execute(_statement(table, columns, newest), asked).all()
    return [row for row in rows if row.first_record + row.records > span[0]]


def _may_match(row: Any, needs: Needs) -> bool:
    # A gap's chunk has no text: it isn't searched, but missing.
    if row.began == 0:
        return True
    bits = bits_of(bytes(row.grams))
    return all(any(may_hold(bits, needed) for needed in either) for either in needs)


def _read(
    connection: Connection, attempt: str, rows: Sequence[Any], archives: Archives | None, damaged: list[int]
) -> list[LogPart]:
    """Return these chunks, but those that can't be read any more: they are ``damaged``."""
    here = [row.first_record for row in rows if row.place is None]
    asked = _named(attempt) | {"begins": here}
    kept: dict[int, bytes] = (
        {first: bytes(data or b"") for first, data in connection.execute(_DATA, asked)} if here else {}
    )
    parts: list[LogPart] = []
    wanted: list[Wanted] = []  # all of them are fetched at once
    for row in rows:
        try:
            data = kept.get(row.first_record) or sealed_data(connection, row, attempt, archives)
        except Damaged:
            damaged.append(row.first_record)
            continue
        except NotFetched as error:
            wanted += error.wanted
            continue
        parts.append(LogPart(row.first_record, row.records, True, data))
    if wanted:
        raise NotFetched(*wanted)
    return parts


def attempts_of(
    connection: Connection,
    project: int,
    *,
    before: tuple[int, int] | None,
    after: tuple[int, int] | None,
    newest: bool,
    limit: int,
) -> list[AttemptLog]:
    """
    Return up to ``limit`` attempts of a project's builds whose log is kept, and has something in it: those before and
    after an attempt (build and number; None: any), ``newest`` first or oldest first.
    """
    # The builds are walked in their order, from where the last look ended, and each one's attempts are found by key.
    # The order must be by `builds.id`, and not by `attempts.build_id`, or all of the project is read and sorted.
    # `attempts.build_id` is bounded too, for a database that goes through both tables side by side.
    build, number = builds.c.id, attempts.c.number
    query = (
        select(build, number, attempts.c.next_record)
        .join(attempts, attempts.c.build_id == build)
        .where(builds.c.project_id == project, _HAS_LOG)
        .where(attempts.c.next_record > 1, attempts.c.log_removed.is_(None))
        .order_by(*((build.desc(), number.desc()) if newest else (build, number)))
        .limit(limit)
    )
    if before is not None:
        end = integer(before[0])
        query = query.where(build <= end, attempts.c.build_id <= end, (build < end) | (number < before[1]))
    if after is not None:
        begin = integer(after[0])
        query = query.where(build >= begin, attempts.c.build_id >= begin, (build > begin) | (number > after[1]))
    return [AttemptLog(each.id, each.number, each.next_record - 1) for each in connection.execute(query)]
