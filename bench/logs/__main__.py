"""
``python -m bench.logs``: logs as they are stored, of what real tools print.

- ``logs/bytes``: what SQLite's file takes for a line, with its indexes and the rows for searches;
- ``logs/sealing``: lines that are sealed in a second of one processor, from the messages to a chunk that was opened
  again and its row; beside it the same with the ledger's transactions;
- ``logs/open``: a sealed log of 1 GiB, opened at any line.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.logs.corpus import FOLDER, batches, corpus
from bench.path import ways
from tests.integration.platform import Platform
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from twistedipc.builds.logs import Lines, encoder
from twistedipc.sealed.chunk import CHUNK_BYTES as SEALED_BYTES
from twistedipc.sealed.making import make
from twistedipc.server.fanout.commits import CHUNK_BYTES
from twistedipc.storage import attempts, logs, sealed_logs
from twistedipc.storage.engines import engine_for
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.sealed_logs import Placed

SEALED = "sealed"
PLAIN = "as they came"


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them."""
    modules = 30 if options.quick else 300
    size = options.bytes // (20 if options.quick else 1)
    lines = 200_000 if options.quick else 1_000_000
    yield (
        Question(
            name="logs/bytes",
            title="A line of a stored log, of what npm, pnpm, tsc, ESLint, vite, webpack and Jest print",
            unit="bytes",
            ours=SEALED,
            must={"": Bar(8, at_most=True)},
            lower_is_better=True,
            repetitions=1,
        ),
        [Candidate(name, partial(_stored, modules, lines, name == SEALED)) for name in (SEALED, PLAIN)],
    )
    yield (
        Question(
            name="logs/sealing",
            title="Sealing logs: lines in a second of one processor",
            unit="lines/s",
            ours=SEALED,
            must={"": Bar(1_000_000)},
        ),
        [Candidate(SEALED, partial(_sealing, modules, lines))],
    )
    yield (
        Question(
            name="logs/open",
            title=f"A sealed log of {size / (1 << 30):.3g} GiB, 100 records from any line on, the longest",
            unit="ms",
            ours=SEALED,
            must={"": Bar(15, at_most=True)},
            lower_is_better=True,
            repetitions=1,
        ),
        [Candidate(SEALED, partial(_opened, modules, size))],
    )


def _stored(modules: int, count: int, sealed: bool) -> Measured:
    texts = corpus(modules)
    found = _Stored(texts, count, sealed)
    more: dict[str, float] = {}
    if sealed:
        more = {f"{tool}, bytes": _once(texts[tool]) for tool in texts}
    return Measured(found.bytes / found.lines, {"of text, bytes": found.text / found.lines, **more})


def _once(text: str) -> float:
    """Return the bytes a line of chunks and rows of a text by itself: repeated it would be too easy to compress."""
    size = filled = 0
    messages: list[bytes] = []
    found = list(batches({"": text}))
    for batch in found:
        messages.append(encoder.encode(batch))
        filled += len(messages[-1])
        if filled >= SEALED_BYTES or batch is found[-1]:
            made, _marks = make(messages)
            size += sum(len(each.chunk.data) + len(each.grams) for each in made)
            messages, filled = [], 0
    return size / (found[-1].end - 1)


def _sealing(modules: int, count: int) -> Measured:
    found = _Stored(corpus(modules), count, True)
    return Measured(found.lines / found.making, {"with the transactions, lines/s": found.lines / found.seconds})


class _Stored:
    """A ledger with a log of about so many lines of these texts, over and over; what it takes, and has taken."""

    def __init__(self, texts: dict[str, str], count: int, sealed: bool) -> None:
        folder = Path(tempfile.mkdtemp(prefix="twistedipc-bench-"))
        try:
            with database(folder) as connection:
                add_project(connection)
                add_build(connection)
                run(connection, "1-1")
                connection.commit()
            path = folder / "ledger.sqlite"
            empty = path.stat().st_size
            self.lines, self.text = _append(path, texts, count)
            self.seconds = self.making = 0.0
            if sealed:
                self.seconds, self.making = seal_all(path)
            engine = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text("VACUUM"))  # what sealing leaves free is filled by what comes next
            engine.dispose()
            self.bytes = path.stat().st_size - empty
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _append(path: Path, texts: dict[str, str], count: int) -> tuple[int, int]:
    """Append the batches, some in each chunk, as commits do. Return how many lines and bytes of text that was."""
    lines = size = 0
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        while lines < count:
            chunk: list[Lines] = []
            filled = 0
            for batch in batches(texts):
                moved = Lines(first=lines + 1, time=batch.time, step=batch.step, lines=batch.lines)
                chunk.append(moved)
                lines += len(moved.lines)
                said = sum(len(line.encode()) + 1 for line in moved.lines if isinstance(line, str))
                size, filled = size + said, filled + said
                if filled > CHUNK_BYTES // 4:
                    _append_chunk(connection, chunk)
                    chunk, filled = [], 0
            if chunk:
                _append_chunk(connection, chunk)
        attempts.lose(connection, "1-1", HOLDER, "it has ended", NOW)
    engine.dispose()
    return lines, size


def _append_chunk(connection: Connection, chunk: list[Lines]) -> None:
    data = b"".join([encoder.encode(batch) + b"\n" for batch in chunk])
    count = chunk[-1].end - chunk[0].first
    logs.append(connection, [ChunkItem(attempt="1-1", first=chunk[0].first, count=count, data=data)])


def seal_all(path: Path) -> tuple[float, float]:
    """Seal all logs of a ledger, as the apiserver does. Return the processor's seconds: of all of it, and of making."""
    engine = engine_for(make_url(f"sqlite:///{path}"), writes=True, busy_timeout=10, clock=time)
    make([encoder.encode(Lines(first=1, time=1, step=0, lines=["numpy is loaded"]))])
    began, making = time.process_time(), 0.0
    after = ""
    while True:
        with engine.connect() as connection:
            log = sealed_logs.next_unsealed(connection, after)
        if log is None:
            break
        after = log.attempt
        while True:
            with engine.connect() as connection:
                rows = sealed_logs.unsealed(connection, log)
            if not rows:
                break
            start = time.process_time()
            made, marks = make([message for row in rows for message in row.data[:-1].split(b"\n")])
            making += time.process_time() - start
            with engine.begin() as connection:
                plain = [(row.first, row.count) for row in rows]
                assert sealed_logs.replace(connection, log.attempt, plain, [Placed(each) for each in made], marks)
    spent = time.process_time() - began
    engine.dispose()
    return spent, making


def _opened(modules: int, size: int) -> Measured:
    path = FOLDER / f"{modules}-{size}.txt"
    once = "".join(corpus(modules).values()).encode()
    with path.open("wb") as file:
        for _ in range(1 + size // len(once)):
            file.write(once)

    def seal(services: Platform) -> None:
        seal_all(services.folder / "apiserver-data" / "ledger.sqlite")

    try:
        return ways.opened_file(path.absolute(), once.count(b"\n") * (1 + size // len(once)), seal)
    finally:
        path.unlink()


def add_options(parser: ArgumentParser) -> None:
    """Add the options that only this benchmark has."""
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the huge log")


if __name__ == "__main__":
    command("bench.logs", questions, add_options)
