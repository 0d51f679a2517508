"""
The ledger's sealed logs: what was appended (`logs`) moves into chunks that are compressed and searched (``sealed``).
Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

Of each log a part at its front may be sealed, and all behind it isn't. It moves in one transaction, `replace`: there is
no moment at which a record is stored twice, or not at all. So a table of what waits isn't needed: `log_chunks` is it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_, update

from twistedipc.builds.logs import Gap, encoder
from twistedipc.builds.states import LOG_OVER
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import CHUNK_BYTES, Damaged
from twistedipc.sealed.making import Made
from twistedipc.sealed.outline import Marked
from twistedipc.storage import changes
from twistedipc.storage.columns import integer, split_attempt
from twistedipc.storage.errors import LedgerUnavailable, PartUnavailable
from twistedipc.storage.log_archive import Archives, Kind, NotHere
from twistedipc.storage.outlines import keep_outline
from twistedipc.storage.rows import ChunkRow
from twistedipc.storage.tables import attempts, log_archive, log_chunks, outlines, sealed_chunks

#: How many rows one look at what isn't sealed considers: some of them may hold one line each. A few mostly suffice.
_MOST_ROWS = 8192
_LOOKS = (64, 1024, _MOST_ROWS)

#: Before the id of an archive that is to be made, in the place of its mark.
_TO_BE = "to be made: "

#: A log that goes on is sealed when so many bytes of it aren't: its newest records are read, and appended to, most.
RUNNING_BYTES = 4 * CHUNK_BYTES


class Unsealed(msgspec.Struct, frozen=True, kw_only=True):
    """A log of which something isn't sealed."""

    attempt: str
    over: bool  # nothing is added to it any more


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A chunk to be stored. ``place``: where it is in an archive; None: it is to be in the database."""

    made: Made
    place: int | None = None


# -- reading ---------------------------------------------------------------------------------------------------------


def read_sealed(
    connection: Connection, attempt: str, first: int, limit: int, archives: Archives | None
) -> ChunkRow | None:
    """
    Return messages from record ``first`` on, of about ``limit`` bytes; None if that record isn't sealed. In the place
    of a chunk that can't be read any more there is a gap: exactly its records. Raises `LedgerUnavailable`.
    """
    wanted = max(1, integer(first))
    row = connection.execute(
        select(*PLACE, sealed_chunks.c.data, sealed_chunks.c.damaged)
        .where(*sealed(attempt), sealed_chunks.c.first_record <= wanted)
        .order_by(sealed_chunks.c.first_record.desc())
        .limit(1)
    ).first()
    if row is None or row.first_record + row.records <= wanted:
        return None
    try:
        part = chunk.part(sealed_data(connection, row, attempt, archives, row.data), wanted, limit)
        if not row.first_record <= part.first <= wanted < part.first + part.count <= row.first_record + row.records:
            raise Damaged("it is another chunk than the ledger says")
    except Damaged as error:
        if row.place is not None and archives is not None:
            _check(connection, archives, Kind.of(row.place))
        gap = Gap(row.first_record, row.first_record + row.records - 1, f"the stored log is damaged: {error}"[:200])
        data = encoder.encode(gap) + b"\n"
        return ChunkRow(first=row.first_record, count=row.records, data=data, damaged=not row.damaged)
    return ChunkRow(first=part.first, count=part.count, data=b"".join([message + b"\n" for message in part.messages]))


def read_later(
    connection: Connection, attempt: str, first: int, limit: int, archives: Archives | None
) -> ChunkRow | None:
    """Do what `read_sealed` does, with the first record after ``first`` with which a sealed chunk begins."""
    query = select(func.min(sealed_chunks.c.first_record)).where(
        *sealed(attempt), sealed_chunks.c.first_record > max(1, integer(first))
    )
    later = connection.execute(query).scalar()
    return None if later is None else read_sealed(connection, attempt, later, max(1, limit), archives)


def sealed_data(
    connection: Connection, row: Any, attempt: str, archives: Archives | None, data: bytes | None = None
) -> bytes:
    """Return the chunk of a row that has `PLACE`'s columns. Raises `Damaged` and `LedgerUnavailable`."""
    if row.place is None:
        if data is None:
            which = (*sealed(attempt), sealed_chunks.c.first_record == row.first_record)
            query = select(sealed_chunks.c.data).where(*which)
            data = connection.execute(query).scalar_one()
        return bytes(data or b"")
    kind = Kind.of(row.place)
    archive = None if archives is None else archives.of(kind)
    if archives is None or archive is None:
        where = "files" if kind is Kind.FILES else "S3 (stores.s3)"
        raise PartUnavailable(f"the log of {attempt} is in {where}, and nobody says where that is")
    try:
        return archive.get(attempt, row.place, row.size)
    except Damaged:
        _check(connection, archives, kind)
        raise
    except OSError as error:
        unavailable = LedgerUnavailable if isinstance(error, NotHere) else PartUnavailable
        raise unavailable(f"the log of {attempt} can't be read: {error}") from error


def _check(connection: Connection, archives: Archives, kind: Kind) -> None:
    """Raise `LedgerUnavailable` if what seems to be damaged only isn't here: see `Archive.check`."""
    mark, archive = archive_mark(connection, kind), archives.of(kind)
    try:
        if mark is not None and archive is not None:
            archive.check(mark)
    except OSError as error:
        raise LedgerUnavailable(f"logs can't be read: {error}") from error


def archive_mark(connection: Connection, kind: Kind) -> str | None:
    """
    Return the mark of the archive of this kind that has chunks of this ledger, or will have; None: there is none yet.
    """
    mark = connection.execute(select(log_archive.c.mark).where(log_archive.c.id == kind)).scalar()
    return None if mark is None or mark.startswith(_TO_BE) else mark


def archive_id(connection: Connection, id: str, kind: Kind) -> str:
    """
    Keep the id with which this ledger's archive of this kind is to be made, before it is; return the one that was kept
    before, if there is one.
    """
    kept: str | None = connection.execute(select(log_archive.c.mark).where(log_archive.c.id == kind)).scalar()
    if kept is not None:
        return kept.removeprefix(_TO_BE)
    connection.execute(insert(log_archive).values(id=kind, mark=f"{_TO_BE}{id}"))
    return id


def keep_archive_mark(connection: Connection, mark: str, kind: Kind) -> None:
    """Keep the mark of this ledger's archive of this kind, which was made, before anything is put there."""
    kept = connection.execute(update(log_archive).where(log_archive.c.id == kind).values(mark=mark))
    if not kept.rowcount:
        connection.execute(insert(log_archive).values(id=kind, mark=mark))


#: The columns of `sealed_chunks` that `sealed_data` needs.
PLACE = (sealed_chunks.c.first_record, sealed_chunks.c.records, sealed_chunks.c.size, sealed_chunks.c.place)


def sealed(attempt: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on `sealed_chunks` that a row is of this attempt."""
    build, number = split_attempt(attempt)
    return (sealed_chunks.c.build_id == build, sealed_chunks.c.number == number)


def _plain(attempt: str) -> tuple[ColumnElement[bool], ...]:
    build, number = split_attempt(attempt)
    return (log_chunks.c.build_id == build, log_chunks.c.number == number)


def note_damaged(connection: Connection, attempt: str, first: int) -> bool:
    """
    Note that the chunk that begins with this record isn't what was sealed: so its log isn't whole, and never called so
    again. Whether that wasn't known.
    """
    changed = connection.execute(
        update(sealed_chunks)
        .where(*sealed(attempt), sealed_chunks.c.first_record == first, ~sealed_chunks.c.damaged)
        .values(damaged=True)
    ).rowcount
    note_lost(connection, attempt)
    return changed > 0


def note_lost(connection: Connection, attempt: str) -> bool:
    """Note that something of a log isn't there any more, so that it is never called complete. Whether that is new."""
    build, number = split_attempt(attempt)
    which = (attempts.c.build_id == build, attempts.c.number == number, attempts.c.complete)
    return connection.execute(update(attempts).where(*which).values(complete=False)).rowcount > 0


# -- sealing ---------------------------------------------------------------------------------------------------------


def next_unsealed(connection: Connection, after: str) -> Unsealed | None:
    """Return the first log after this attempt's (of all: "") of which something isn't sealed; None: there is none."""
    build, number = split_attempt(after) if after else (0, 0)
    row = connection.execute(
        select(attempts.c.build_id, attempts.c.number, attempts.c.state)
        .join(log_chunks, (log_chunks.c.build_id == attempts.c.build_id) & (log_chunks.c.number == attempts.c.number))
        .where(tuple_(log_chunks.c.build_id, log_chunks.c.number) > (build, number))
        .order_by(log_chunks.c.build_id, log_chunks.c.number)
        .limit(1)
    ).first()
    if row is None:
        return None
    return Unsealed(attempt=f"{row.build_id}-{row.number}", over=row.state in LOG_OVER)


def unsealed(connection: Connection, log: Unsealed) -> list[ChunkRow]:
    """
    Return what is to be sealed next of a log, some `CHUNK_BYTES` from the first record on that isn't. Of a log that
    goes on nothing, until `RUNNING_BYTES` of it aren't sealed.
    """
    which = _plain(log.attempt)
    query = select(log_chunks.c.first_record, log_chunks.c.size).where(*which).order_by(log_chunks.c.first_record)
    enough = CHUNK_BYTES if log.over else RUNNING_BYTES
    for most in _LOOKS:
        sizes = connection.execute(query.limit(most)).all()
        found = sum(row.size for row in sizes)
        if found >= enough or len(sizes) < most:
            break
    if not sizes or (not log.over and found < enough and len(sizes) < _MOST_ROWS):
        return []
    size = 0
    for row in sizes:
        last = row.first_record
        size += row.size
        if size >= CHUNK_BYTES:
            break
    rows = connection.execute(
        select(log_chunks.c.first_record, log_chunks.c.records, log_chunks.c.data)
        .where(*which, log_chunks.c.first_record <= last)
        .order_by(log_chunks.c.first_record)
    )
    return [ChunkRow(first=first, count=count, data=bytes(data)) for first, count, data in rows]


def next_place(connection: Connection, attempt: str) -> int:
    """Return where the attempt's file in the archive ends, by what is known of it."""
    query = select(func.max(sealed_chunks.c.place + sealed_chunks.c.size)).where(
        *sealed(attempt), sealed_chunks.c.place >= 0
    )
    return connection.execute(query).scalar_one() or 0


def replace(
    connection: Connection, attempt: str, plain: list[tuple[int, int]], chunks: list[Placed], marks: list[Marked]
) -> bool:
    """
    Put sealed chunks in the place of what they were made of, all or nothing; False if that isn't there any more.

    :param plain: the first record and the count of each row that was sealed, from `unsealed`
    :param marks: the events among their records, for the outline
    """
    first, last = plain[0][0], plain[-1][0]
    which = (*_plain(attempt), log_chunks.c.first_record.between(first, last))
    found = connection.execute(
        select(log_chunks.c.first_record, log_chunks.c.records).where(*which).order_by(log_chunks.c.first_record)
    ).all()
    if [tuple(row) for row in found] != plain:
        return False
    build, number = split_attempt(attempt)
    connection.execute(delete(log_chunks).where(*which))
    connection.execute(
        insert(sealed_chunks),
        [
            {
                "build_id": build,
                "number": number,
                "first_record": each.made.chunk.first,
                "records": each.made.chunk.records,
                "plain": each.made.chunk.size,
                "began": integer(each.made.chunk.began),
                "ended": integer(each.made.chunk.ended),
                "damaged": False,
                "size": len(each.made.chunk.data),
                "place": each.place,
                "grams": each.made.grams,
                "data": each.made.chunk.data if each.place is None else None,
            }
            for each in chunks
        ],
    )
    keep_outline(connection, attempt, marks)
    return True


def is_left(connection: Connection, attempt: str) -> bool:
    """Return whether anything of a log is stored: what `remove` would remove."""
    build, number = split_attempt(attempt)
    whole = (outlines.c.build_id == build, outlines.c.number == number)
    return any(
        connection.execute(select(table.c.number).where(*which).limit(1)).first() is not None
        for table, which in ((sealed_chunks, sealed(attempt)), (log_chunks, _plain(attempt)), (outlines, whole))
    )


def remove_all(connection: Connection, chosen: Collection[int]) -> None:
    """Remove all logs of these builds at once: see `remove`, for what is too large for that."""
    for table in (sealed_chunks, log_chunks, outlines):
        connection.execute(delete(table).where(table.c.build_id.in_(chosen)))


def remove(connection: Connection, attempt: str, limit: int) -> int:
    """
    Remove what is stored of a log, oldest first, about ``limit`` bytes of it; its outline goes with the last of it.
    Return how many bytes that were; 0: nothing was left. What is in an archive is removed by
    `server.sealing`, once nothing names it.
    """
    freed = 0
    for table, which in ((sealed_chunks, sealed(attempt)), (log_chunks, _plain(attempt))):
        if freed >= limit:
            return freed
        rows = connection.execute(
            select(table.c.first_record, table.c.size).where(*which).order_by(table.c.first_record).limit(_MOST_ROWS)
        ).all()
        if not rows:
            continue
        for first, size in rows:
            last = first
            freed += size
            if freed >= limit:
                break
        connection.execute(delete(table).where(*which, table.c.first_record <= last))
    if not freed:
        build, number = split_attempt(attempt)
        connection.execute(delete(outlines).where(outlines.c.build_id == build, outlines.c.number == number))
    return freed


def filed(connection: Connection, names: Iterable[str], kind: Kind) -> set[str]:
    """Return those of these attempts of which chunks are in the archive of this kind."""
    there = _is_in(kind)
    return {
        name
        for name in names
        if connection.execute(select(sealed_chunks.c.place).where(*sealed(name), there).limit(1)).first()
    }


@changes.quiet
def is_filed(connection: Connection, attempt: str, kind: Kind) -> bool:
    """
    Return whether chunks of this attempt are in the archive of this kind. As a write it changes nothing, but comes
    after all writes that were made before, and fails in an apiserver that has lost the ledger.
    """
    return bool(filed(connection, (attempt,), kind))


def _is_in(kind: Kind | None) -> ColumnElement[bool]:
    """Return the condition that a chunk is in the archive of this kind; None: in the database. See `Kind.of`."""
    if kind is None:
        return sealed_chunks.c.place.is_(None)
    return sealed_chunks.c.place >= 0 if kind is Kind.FILES else sealed_chunks.c.place < 0


# -- moving ----------------------------------------------------------------------------------------------------------


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed chunk that isn't where it is to be."""

    attempt: str
    first: int
    place: int | None


class Looked(msgspec.Struct, frozen=True):
    """Chunks that are to be moved, and behind which chunk the next look begins; None: there is no other."""

    found: list[Elsewhere]
    after: tuple[int, int, int] | None


def elsewhere(connection: Connection, after: tuple[int, int, int], kind: Kind | None, looked: int = 256) -> Looked:
    """
    Look through the next chunks after one (its build, number and first record) for those that aren't in the archive of
    this kind (None: in the database), of logs to which nothing is added any more. So many are looked at, and not so
    many found: else a look that finds nothing would take as long as the table is.
    """
    key = (sealed_chunks.c.build_id, sealed_chunks.c.number, sealed_chunks.c.first_record)
    rows = connection.execute(
        select(*key, sealed_chunks.c.place, sealed_chunks.c.damaged, attempts.c.state)
        .join(attempts, (attempts.c.build_id == key[0]) & (attempts.c.number == key[1]))
        .where(tuple_(*key) > after)
        .order_by(*key)
        .limit(looked)
    ).all()
    found = [
        Elsewhere(attempt=f"{row.build_id}-{row.number}", first=row.first_record, place=row.place)
        for row in rows
        if (None if row.place is None else Kind.of(row.place)) is not kind and row.state in LOG_OVER and not row.damaged
    ]
    last = rows[-1] if len(rows) == looked else None
    return Looked(found, None if last is None else (last.build_id, last.number, last.first_record))


def sealed_chunk(connection: Connection, chunk: Elsewhere, archives: Archives | None) -> bytes | None:
    """Return a chunk, wherever it is; None: it isn't there any more. Raises `Damaged` and `LedgerUnavailable`."""
    row = connection.execute(
        select(*PLACE).where(*sealed(chunk.attempt), sealed_chunks.c.first_record == chunk.first)
    ).first()
    return None if row is None or row.place != chunk.place else sealed_data(connection, row, chunk.attempt, archives)


def move(connection: Connection, chunk: Elsewhere, place: int | None, data: bytes) -> bool:
    """
    Note that a chunk is at another place, where ``data`` is already (None: put it into the database); False if it isn't
    any more where it was.
    """
    old = sealed_chunks.c.place.is_(None) if chunk.place is None else sealed_chunks.c.place == chunk.place
    changed = connection.execute(
        update(sealed_chunks)
        .where(*sealed(chunk.attempt), sealed_chunks.c.first_record == chunk.first, old)
        .values(place=place, data=data if place is None else None)
    )
    return changed.rowcount > 0
