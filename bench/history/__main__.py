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

from sqlalchemy import text
from twisted.internet.task import Clock

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.history.made import DAYS, Shape, engine_of, fill
from tests.instant import InstantLedger
from tests.retention_world import NOW, Remover
from tests.storage_fixtures import new_ledger
from twistedipc.builds.retention import Rules
from twistedipc.storage import attempts, builds
from twistedipc.storage.migrations import upgrade

LARGE = "three years"
SMALL = "a hundredth of it"


class History:
    """A ledger in a file, with so many builds."""

    def __init__(self, folder: Path, count: int, log_bytes: int) -> None:
        self.folder = folder
        self.count = count
        self.path = new_ledger(folder)
        self.ledger = InstantLedger()
        self.ledger.engine = engine_of(self.path)
        fill(self.ledger.engine, Shape(builds=count, log_bytes=log_bytes), NOW)

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
    remover = Remover(history.folder, history.ledger, rules, clock=_Ticking())
    more["a plan of what goes in a day, ms"] = _once(remover.plan)
    longest = _Longest(history.ledger)
    more["what goes in a day, ms"] = _once(remover.run)
    more["of that, the longest transaction, ms"] = longest.milliseconds
    more["builds that went in a day"] = history.count - now(_count)
    more["of what goes in a day, each build, ms"] = more["what goes in a day, ms"] / more["builds that went in a day"]
    return Measured(_median(page(frozenset({"p1"}), None)), more)


class _Ticking(Clock):
    """A clock that goes on while something is done, so that it is seen how long that takes; pauses are skipped."""

    def seconds(self) -> float:
        """See `Clock`."""
        return super().seconds() + time.perf_counter()


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
