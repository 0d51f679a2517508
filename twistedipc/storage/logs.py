"""
The ledger's logs: chunks of records, and what their events tell: steps, the log's outline, and the build's gist.
Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

A chunk is what was appended at once: some batches (`builds.logs.Batch`) as JSON, each ended by a newline. Nothing
here decodes them but `verify`. The attempt's row knows what number comes next, and an append is a compare-and-set
on that: chunks neither overlap nor leave holes, whatever is sent how often. Later they are sealed (`sealed_logs`); who
reads a log doesn't notice.

`verify` reads a whole log, which takes a while on a reader's thread if the log is huge. A caller of `append` has the
batches decoded, so it can keep a `builds.logs.LogDigest` itself; then it needs `verify` only after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, bindparam, func, insert, select, update

from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import MAX_SUMMARY, Gap, LogDigest, StepEnded, StepStarted, batch_decoder
from twistedipc.builds.names import shown
from twistedipc.builds.states import LOG_OVER
from twistedipc.sealed.outline import Marked
from twistedipc.storage import changes, rings
from twistedipc.storage.attempts import MAX_STEPS, step_outcome
from twistedipc.storage.columns import MAX_TEXT, exit_code, integer, split_attempt, text
from twistedipc.storage.errors import LogOrder, NotFound
from twistedipc.storage.log_archive import Archives
from twistedipc.storage.outlines import keep_outline
from twistedipc.storage.prepared import Prepared
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import ChunkRow
from twistedipc.storage.sealed_logs import read_later, read_sealed
from twistedipc.storage.tables import attempts, log_chunks, said, steps
from twistedipc.storage.tenures import Tenure, require

__all__ = ["ChunkItem", "LogOrder", "append", "bounds", "next_record", "read", "read_plain", "verify"]

#: How much `verify` holds in memory at a time, and how many chunks one look into the index considers.
_VERIFY_BYTES = 4 * 1024 * 1024
_MOST_CHUNKS = 1024

# An append is what the ledger does most. The names of both statements' parameters are those of `_row`.
_ADVANCE = Prepared(
    update(attempts)
    .where(
        attempts.c.build_id == bindparam("its_build"),
        attempts.c.number == bindparam("its_number"),
        attempts.c.next_record == bindparam("first"),
        *(attempts.c.state != state.value for state in sorted(LOG_OVER)),
    )
    .values(next_record=bindparam("following"), log_bytes=attempts.c.log_bytes + bindparam("bytes"))
)
_INSERT = Prepared(
    insert(log_chunks).values(
        build_id=bindparam("its_build"),
        number=bindparam("its_number"),
        first_record=bindparam("first"),
        records=bindparam("count"),
        size=bindparam("bytes"),
        data=bindparam("chunk"),
    )
)


class ChunkItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The next records of one attempt's log, as a chunk to be stored."""

    attempt: str
    first: int  # the first record's number
    count: int  # how many records are in `data`
    data: bytes  # batches, or gaps, as JSON, each ended by a newline
    events: list[tuple[int, StepStarted | StepEnded]] = []  # those among the records, with their batch's time
    gist: Gist | None = None  # of all events among the records
    marks: list[Marked] = []  # those among the records that an outline may want
    tenure: Tenure | None = None  # of the link that they came by, if several apiservers share the database


#: Of an item, without a Python call.
_tenure_of: Callable[[ChunkItem], Any] = attrgetter("tenure")


@changes.quiet
def append(connection: Connection, items: list[ChunkItem]) -> set[str]:
    """
    Append each item to its log: all of them or, by raising `LogOrder`, none. Of one attempt there may be several,
    in order. However many they are, these are two statements. Returns the attempts whose gist may be another now.
    Raises `TenureLost` likewise.
    """
    if not items:
        return set()
    tenures = set(map(_tenure_of, items))
    tenures.discard(None)
    if tenures:
        require(connection, tenures)
    rows = [_row(item) for item in items]
    if _ADVANCE.run(connection, rows) != len(items):
        raise _refusal(connection, items)
    _INSERT.run(connection, rows)
    changed: set[str] = set()
    for item in items:
        rings.note(connection, Topic.LOG, item.attempt)
        for time, event in item.events:
            _note(connection, *split_attempt(item.attempt), time, event)
        keep_outline(connection, item.attempt, item.marks)
        if item.gist is not None and keep_gist(connection, *split_attempt(item.attempt), item.gist):
            changed.add(item.attempt)
            changes.note_gist(connection, split_attempt(item.attempt)[0])
    return changed


def keep_gist(connection: Connection, build: int, number: int, gist: Gist) -> bool:
    """
    Add the gist of an attempt's next records to what is kept; whether there was anything to keep. What never says
    anything has no row.
    """
    values: dict[str, object] = {
        level: said.c[level] + count
        for level, count in (("errors", gist.errors), ("warnings", gist.warnings), ("notices", gist.notices))
        if count
    }
    if gist.progress is not UNSET:
        values["progress"] = None if gist.progress is None else float(gist.progress.value)
        values["label"] = "" if gist.progress is None else text(gist.progress.label)
    if gist.summary is not UNSET:
        values["summary"] = text(gist.summary, MAX_SUMMARY)
    if not values:
        return False
    which = (said.c.build_id == build) & (said.c.number == number)
    if connection.execute(update(said).where(which).values(values)).rowcount:
        return True
    if not gist.says_something:
        return False
    first = {"errors": gist.errors, "warnings": gist.warnings, "notices": gist.notices}
    connection.execute(insert(said).values({**_NOTHING_SAID, **values, **first, "build_id": build, "number": number}))
    return True


_NOTHING_SAID: dict[str, object] = {"progress": None, "label": "", "summary": ""}


def next_record(connection: Connection, attempt: str) -> int:
    """Return the number of the next record to come. Raises `NotFound`."""
    return bounds(connection, attempt)[0]


def ends(connection: Connection, followed: Sequence[str]) -> dict[str, int]:
    """Return the number of the next record to come of each of these attempts that there is."""
    keys = {split_attempt(attempt): attempt for attempt in followed}
    query = select(attempts.c.build_id, attempts.c.number, attempts.c.next_record).where(
        attempts.c.build_id.in_(sorted({build for build, _number in keys}))
    )
    return {
        keys[row.build_id, row.number]: row.next_record
        for row in connection.execute(query)
        if (row.build_id, row.number) in keys
    }


def bounds(connection: Connection, attempt: str) -> tuple[int, int]:
    """The number of the record that is to come next, and how many bytes there are so far. Raises `NotFound`."""
    build, number = split_attempt(attempt)
    row = connection.execute(
        select(attempts.c.next_record, attempts.c.log_bytes).where(
            attempts.c.build_id == build, attempts.c.number == number
        )
    ).first()
    if row is None:
        raise NotFound(f"there is no attempt {attempt}")
    return row.next_record, row.log_bytes


def read(
    connection: Connection, attempt: str, first: int, limit_bytes: int, archives: Archives | None = None
) -> list[ChunkRow]:
    """
    The chunks with the records from ``first`` on, in order, of about ``limit_bytes`` (at least one chunk, if there
    is one). The first of them may begin before ``first``, and there are holes where records aren't stored. What is
    sealed comes as what was sealed, or, where that can't be read any more, as a gap of its records. Raises
    `LedgerUnavailable` if it can't be read now.

    :param archives: where sealed chunks are that aren't in the database
    """
    found: list[ChunkRow] = []
    while limit_bytes > 0 or not found:
        row = read_sealed(connection, attempt, first, max(1, limit_bytes), archives)
        if row is None:
            break
        found.append(row)
        limit_bytes -= len(row.data)
        first = row.first + row.count
    if limit_bytes > 0 or not found:
        plain = read_plain(connection, attempt, first, limit_bytes)
        if not plain or plain[0].first > first:
            # Record `first` isn't stored: what comes next may be sealed all the same.
            row = read_later(connection, attempt, first, limit_bytes, archives)
            if row is not None:
                return found or [row]
        found += plain
    return found


def read_plain(connection: Connection, attempt: str, first: int, limit_bytes: int) -> list[ChunkRow]:
    """Do what `read` does, with what isn't sealed alone."""
    build, number = split_attempt(attempt)
    of_attempt = (log_chunks.c.build_id == build) & (log_chunks.c.number == number)
    wanted = integer(first)
    # Chunks don't overlap, so the one that holds record `first` is the last that doesn't begin after it.
    beginning = (
        select(func.max(log_chunks.c.first_record))
        .where(of_attempt, log_chunks.c.first_record <= max(1, wanted))
        .scalar_subquery()
    )
    sizes = connection.execute(
        select(log_chunks.c.first_record, log_chunks.c.records, log_chunks.c.size)
        .where(of_attempt, log_chunks.c.first_record >= func.coalesce(beginning, 1))
        .order_by(log_chunks.c.first_record)
        .limit(_MOST_CHUNKS)
    ).all()
    chosen: list[int] = []
    left = limit_bytes
    for begins, records, size in sizes:
        if begins + records <= wanted:
            continue
        if chosen and size > left:
            break
        chosen.append(begins)
        left -= size
    if not chosen:
        return []
    found = connection.execute(
        select(log_chunks.c.first_record, log_chunks.c.records, log_chunks.c.data)
        .where(of_attempt, log_chunks.c.first_record.between(chosen[0], chosen[-1]))
        .order_by(log_chunks.c.first_record)
    )
    return [ChunkRow(first=begins, count=records, data=data) for begins, records, data in found]


def verify(connection: Connection, attempt: str, archives: Archives | None = None) -> tuple[int, str]:
    """Return how many records are stored, and their `LogDigest` ("" if there are gaps), a few megabytes at a time."""
    digest = LogDigest()
    for chunk in _all_chunks(connection, attempt, archives):
        if chunk.first > digest.count + 1:
            digest.add(Gap(digest.count + 1, chunk.first - 1, "not stored"))
        for line in chunk.data.splitlines():
            digest.add(batch_decoder.decode(line))
    return digest.count, digest.hexdigest()


def _all_chunks(connection: Connection, attempt: str, archives: Archives | None) -> Iterator[ChunkRow]:
    first = 1
    while chunks := read(connection, attempt, first, _VERIFY_BYTES, archives):
        yield from chunks
        first = chunks[-1].first + chunks[-1].count


def _row(item: ChunkItem) -> dict[str, object]:
    build, number = split_attempt(item.attempt)
    return {
        "its_build": build,
        "its_number": number,
        "first": item.first,
        "following": item.first + item.count,
        "count": item.count,
        "bytes": len(item.data),
        "chunk": item.data,
    }


def _refusal(connection: Connection, items: list[ChunkItem]) -> LogOrder:
    """
    Which of the items isn't the next of its log. Those that are have moved their logs on by now, so among several a
    duplicate can't be told from them: then the first is named.
    """
    found: list[LogOrder] = []
    for item in items:
        build, number = split_attempt(item.attempt)
        row = connection.execute(
            select(attempts.c.next_record, attempts.c.state).where(
                attempts.c.build_id == build, attempts.c.number == number
            )
        ).first()
        if row is None:
            return LogOrder(item.attempt, 0, item.first)
        found.append(LogOrder(item.attempt, row.next_record, item.first, ended=row.state in LOG_OVER))
        if found[-1].ended or item.first + item.count > row.next_record:
            return found[-1]
    return found[0]


def _note(connection: Connection, build: int, number: int, time: int, event: StepStarted | StepEnded) -> None:
    """Keep a step's row as its events have it. A builder's nonsense (a step twice, ended and never begun) is bounded
    and harmless: it is in the log anyway."""
    if not 0 <= event.index < MAX_STEPS:
        return
    which = (steps.c.build_id == build) & (steps.c.number == number) & (steps.c.step == event.index)
    match event:
        case StepStarted():
            values = {
                "name": shown(event.name, MAX_TEXT),
                "command": shown(event.command, MAX_TEXT, lines=True),
                "outcome": "running",
                "started": integer(time),
                "ended": 0,
                "exit_code": None,
            }
            if not connection.execute(update(steps).where(which).values(**values)).rowcount:
                connection.execute(insert(steps).values(build_id=build, number=number, step=event.index, **values))
        case StepEnded():
            connection.execute(
                update(steps)
                .where(which)
                .values(
                    outcome=step_outcome(event.outcome),
                    ended=integer(time),
                    exit_code=exit_code(event.exit_code),
                )
            )
