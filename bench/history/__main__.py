"""
``python -m bench.history [--builds 547500]``: listings, a start, a look at a build, and what is removed in a day, with
three years of history and with a hundredth of it.

The history is rows that SQL makes: builds of 40 projects with attempts, steps, archives and sealed logs of
``--log-bytes`` each (20,000 lines take some 120 KB; the default is less, for the disk's sake). Each figure is the
median of several, on SQLite; the statements that decide are held to their indexes by ``tests/test_retention.py``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from tests.instant import InstantLedger
from tests.retention_world import NOW, Remover, add_project
from tests.storage_fixtures import new_ledger
from twistedipc.builds.retention import DAY, Rules
from twistedipc.storage import attempts, builds
from twistedipc.storage.engines import engine_for
from twistedipc.storage.migrations import upgrade

PROJECTS = 40
DAYS = 3 * 365
LARGE = "three years"
SMALL = "a hundredth of it"

#: How many builds one statement makes.
_AT_ONCE = 20_000

_MADE = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
_STATEMENTS = (
    "INSERT INTO builds (id, project_id, ref, publish, parameters, requested_by, created, attempt, state) "
    "SELECT i, 1 + i % :projects, CASE i % 7 WHEN 0 THEN 'main' ELSE 'fix-' || (i / 700) END, 1, '{}', 'ann', "
    ":now - CAST((:total - i) * :span / :total AS INTEGER), 1, CASE i % 5 WHEN 0 THEN 'failed' ELSE 'succeeded' END "
    "FROM n",
    "INSERT INTO attempts (build_id, number, state, reason, requested_by, lease, builder, cancel_reason, created, "
    "ended, commit_id, subject, author, next_record, log_bytes, lines, sha256, complete, published) "
    "SELECT id, 1, state, '', 'ann', '', 'one', '', created, created, 'c', 's', 'a', 20001, 4 * :log, 20000, 'd', 1, "
    "'[]' FROM builds WHERE id BETWEEN :first AND :last",
    "INSERT INTO steps (build_id, number, step, name, command, outcome, started, ended) "
    "SELECT id, 1, s, 'build', 'npm run build', 'succeeded', created, created FROM builds, "
    "(SELECT 0 AS s UNION SELECT 1 UNION SELECT 2) WHERE id BETWEEN :first AND :last",
    "INSERT INTO said (build_id, number, label, errors, warnings, notices, summary) "
    "SELECT id, 1, '', 0, 1, 0, '' FROM builds WHERE id BETWEEN :first AND :last",
    "INSERT INTO artifacts (build_id, number, size, sha256, complete, created) "
    "SELECT id, 1, 5000000, printf('%064x', id), 1, created FROM builds WHERE id BETWEEN :first AND :last",
    "INSERT INTO sealed_chunks (build_id, number, first_record, records, plain, began, ended, damaged, size, grams, "
    "data) SELECT id, 1, 1, 20000, 4 * :log, created, created, 0, :log, x'00', zeroblob(:log) FROM builds "
    "WHERE id BETWEEN :first AND :last",
)


class History:
    """A ledger in a file, with so many builds."""

    def __init__(self, folder: Path, count: int, log_bytes: int) -> None:
        self.folder = folder
        self.count = count
        self.path = new_ledger(folder)
        engine = engine_for(make_url(f"sqlite:///{self.path}"), writes=True, busy_timeout=5, clock=time)
        with engine.begin() as connection:
            for project in range(1, PROJECTS + 1):
                add_project(connection, project)
        for first in range(1, count + 1, _AT_ONCE):
            last = min(count, first + _AT_ONCE - 1)
            values = {"first": first, "last": last, "total": count, "projects": PROJECTS, "now": NOW,
                      "span": DAYS * DAY, "log": log_bytes}  # fmt: skip
            with engine.begin() as connection:
                for number, statement in enumerate(_STATEMENTS):
                    made = statement.replace(" SELECT i,", f" {_MADE}SELECT i,", 1) if number == 0 else statement
                    connection.execute(text(made), values)
        self.ledger = InstantLedger()
        self.ledger.engine = engine

    @property
    def size(self) -> float:
        """Bytes of its file."""
        return float(self.path.stat().st_size)

    def close(self) -> None:
        """Let its file go."""
        self.ledger.engine.dispose()


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them."""
    count = options.builds // (100 if options.quick else 1)
    question = Question(
        name="history/size",
        title=f"A history of {count:,} builds: the newest page of one project",
        unit="ms",
        ours=LARGE,
        must={"": Bar(10, at_most=True)},
        lower_is_better=True,
        repetitions=1,
    )
    yield (
        question,
        [
            Candidate(LARGE, partial(_measured, count, options.log_bytes)),
            Candidate(SMALL, partial(_measured, max(DAYS, count // 100), options.log_bytes)),
        ],
    )


def _measured(count: int, log_bytes: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-") as folder:
        history = History(Path(folder), count, log_bytes)
        try:
            return _figures(history)
        finally:
            history.close()


def _figures(history: History) -> Measured:
    now, middle = history.ledger.now, history.count // 2

    def page(projects: frozenset[str] | None, before: int | None) -> Callable[[], Any]:
        return lambda: now(builds.list_page, projects=projects, states=None, before=before, limit=50)

    more = {
        "all projects' newest page, ms": _median(page(None, None)),
        "a page in the middle, ms": _median(page(None, middle)),
        "a build and its attempts, ms": _median(lambda: (now(builds.get, middle), now(builds.attempts, middle))),
        "what a start asks, ms": _median(
            lambda: (now(upgrade), now(attempts.leased, None), now(attempts.next_queued, 50))
        ),
        "the file, MiB": history.size / (1 << 20),
    }
    rules = Rules(logs=DAYS - 1, artifacts=DAYS - 1, builds=DAYS - 1, newest=1, last_success=False)
    remover = Remover(history.folder, history.ledger, rules)
    more["a plan of what goes in a day, ms"] = _once(remover.plan)
    longest = _Longest(history.ledger)
    more["what goes in a day, ms"] = _once(remover.run)
    more["of that, the longest transaction, ms"] = longest.milliseconds
    more["builds that went in a day"] = history.count - now(_count)
    return Measured(_median(page(frozenset({"p1"}), None)), more)


class _Longest:
    """How long the longest write of a ledger takes."""

    def __init__(self, ledger: InstantLedger) -> None:
        self.milliseconds = 0.0
        write = ledger.write

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            found = write(*args, **kwargs)
            self.milliseconds = max(self.milliseconds, 1000 * (time.perf_counter() - began))
            return found

        ledger.write = timed  # type: ignore[method-assign]


def _count(connection: Any) -> int:
    found: int = connection.execute(text("SELECT count(*) FROM builds")).scalar_one()
    return found


def _median(ask: Callable[[], object]) -> float:
    return statistics.median(_once(ask) for _ in range(21))


def _once(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--builds", type=int, default=547_500, help="of the large history")
    parser.add_argument("--log-bytes", type=int, default=2000, help="of each sealed log")


if __name__ == "__main__":
    command("bench.history", questions, _options)
