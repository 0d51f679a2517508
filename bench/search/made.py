"""
Logs to search in: what front-end tools say, made up line by line, as a ledger with one sealed log, and as a text file.
For `bench.search`.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert, update

from tests.storage_fixtures import add_build, add_project, database, run
from twistedipc.builds.logs import Lines, Record, encoder
from twistedipc.finding.shown import shown
from twistedipc.sealed.making import Made, make
from twistedipc.storage.tables import attempts, sealed_chunks

#: A word that is in few lines.
RARE = "ERR_BENCHED_EXTREMELY_RARELY"

#: In how many chunks it is once.
_EVERY = 500

#: Lines of a chunk, which are about as many bytes as `sealed.chunk.CHUNK_BYTES`.
_LINES = 2500

_WORDS = """build module transform chunk asset vendor react index component deprecated resolve bundle packages lib util
hash router store hooks theme button dialog table form layout footer header sidebar provider context query""".split()


def _line(chance: random.Random) -> str:
    """A download, a bundler's asset or a test in colours (a fifth of all lines), a warning, now and then an error."""
    one, two, three = chance.choices(_WORDS, k=3)
    number, kind = chance.randrange(900), chance.random()
    if kind < 0.55:
        package = f"{one}-{two}"
        tarball = f"{package}-{number % 9}.{number % 31}.{number % 23}.tgz"
        return f"npm http fetch GET 200 https://registry.example/{package}/-/{tarball} {number}ms (cache miss)"
    if kind < 0.62:
        asset = f"{one}-{two}-{chance.getrandbits(32):08x}.js"
        return f"\x1b[2mdist/\x1b[22m\x1b[36massets/{asset}\x1b[39m \x1b[1m{number / 3:.2f} kB\x1b[22m"
    if kind < 0.75:
        return f" \x1b[32m✓\x1b[39m src/{one}/{two}.test.tsx \x1b[2m({number % 30} tests)\x1b[22m {number}ms"
    place = f"src/{one}/{two}.tsx({number},{number % 80})"
    if kind < 0.999:
        return f"{place}: warning TS6133: '{three}' is declared but its value is never read."
    return f"{place}: error TS2307: Cannot find module './{three}' or its type declarations."


def _chunk(number: int) -> tuple[list[Made], bytes]:
    """Return the chunk with this number, and its text."""
    chance = random.Random(number)
    lines: list[Record] = [_line(chance) for _ in range(_LINES)]
    if number % _EVERY == _EVERY // 5:
        lines[chance.randrange(_LINES)] = f"npm error code {RARE} at step {number}"
    batches = [
        Lines(first=number * _LINES + 1 + begin, time=1, step=0, lines=lines[begin : begin + 500])
        for begin in range(0, _LINES, 500)
    ]
    made, _marks = make([encoder.encode(batch) for batch in batches])
    return made, shown("".join(f"{line}\n" for line in lines).encode())


def _chunks(count: int) -> Iterator[tuple[list[Made], bytes]]:
    with multiprocessing.get_context("spawn").Pool() as pool:
        yield from pool.imap(_chunk, range(count))


def make_logs(folder: Path, text_bytes: int) -> tuple[Path, int]:
    """
    Make a ledger in ``folder/data`` with one build, whose log is sealed and has this many bytes of text or some more,
    and the same as ``folder/log.txt``. Return the file, and how many bytes the sealed chunks have.
    """
    data, text = folder / "data", folder / "log.txt"
    data.mkdir()
    sealed = last = 0
    most = text_bytes // (_LINES * 80)  # no chunk has as little
    with database(data) as connection, text.open("wb") as file:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1")
        for made, plain in _chunks(most):
            file.write(plain)
            for each in made:
                sealed += len(each.chunk.data)
                last = each.chunk.first + each.chunk.records
                connection.execute(insert(sealed_chunks).values(_row(each)))
            if file.tell() >= text_bytes:
                break
        connection.execute(update(attempts).values(next_record=last))
    return text, sealed


def _row(made: Made) -> dict[str, object]:
    chunk = made.chunk
    return {
        "build_id": 1,
        "number": 1,
        "first_record": chunk.first,
        "records": chunk.records,
        "plain": chunk.size,
        "began": chunk.began,
        "ended": chunk.ended,
        "damaged": False,
        "size": len(chunk.data),
        "place": None,
        "grams": made.grams,
        "data": chunk.data,
    }
