"""
An apiserver that dies while it removes what isn't kept any more, and at its named points: after a batch of rows, after
releases, and with a file gone whose row isn't yet. Real services; what is live is served all the while, no row names a
file that isn't there, and the next run ends the work.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import BARE, Platform, wait_for
from twistedipc.attempts.crashpoints import CrashPoint

pytestmark = pytest.mark.long

POINTS = [CrashPoint.APISERVER_PRUNED_RELEASES, CrashPoint.APISERVER_PRUNED, CrashPoint.APISERVER_PRUNED_FILES]

#: Three years, in milliseconds.
AGO = 3 * 365 * 86_400_000


def grow_old(ledger: Path) -> None:
    """Make all builds but the newest three years older."""
    with closing(sqlite3.connect(ledger)) as connection:
        for table, columns in (("builds", ("created",)), ("attempts", ("created", "ended"))):
            key = "id" if table == "builds" else "build_id"
            changes = ", ".join(f"{column} = {column} - {AGO}" for column in columns)
            connection.execute(f"UPDATE {table} SET {changes} WHERE {key} < (SELECT max(id) FROM builds)")
        connection.commit()


def check(platform: Platform, live: int) -> None:
    """What is live is served, and whatever a row names is there."""
    assert platform.released("shop") == f"{live}\n"
    data = platform.folder / "apiserver-data"
    with closing(sqlite3.connect(data / "ledger.sqlite")) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        names = {name for (name,) in connection.execute("SELECT sha256 FROM artifacts")}
        assert connection.execute("SELECT count(*) FROM releases WHERE state = 'live'").fetchone() == (1,)
    assert names <= {path.name for path in (data / "artifacts" / "complete").glob("*/*")}


def prune(platform: Platform) -> dict[str, Any]:
    """Have it removed; the run, at its end."""
    platform.api("POST", "/api/v1/prune", {"confirm": True})

    def ended() -> dict[str, Any] | None:
        run: dict[str, Any] = platform.api("GET", "/api/v1/prune")["run"]
        return run if run["ended"] else None

    run: dict[str, Any] = wait_for("what isn't kept is removed", ended)
    return run


def test_a_kill_leaves_nothing_that_the_next_run_does_not_end(tmp_path: Path) -> None:
    with Platform(tmp_path, isolation=BARE) as platform:
        step = "mkdir -p dist && echo $TWISTEDIPC_BUILD > dist/index.html"
        repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = ['''{step}''']\n"})
        platform.add_project("shop", repository)
        for _ in range(6):  # one after another: the last one is live
            live = platform.build("shop")
            platform.succeed(live)
        rules = {"logs": 90, "artifacts": 30, "releases": 1, "builds": 365, "newest": 1, "last_success": False}
        platform.api("PATCH", "/api/v1/projects/shop", {"retention": rules, "confirm": True})
        platform.apiserver.stop()
        grow_old(platform.folder / "apiserver-data" / "ledger.sqlite")
        platform.apiserver.crashes = True
        for point in POINTS:
            platform.apiserver.start(crash_at=point)
            wait_for("the apiserver answers", platform.health)
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                platform.api("POST", "/api/v1/prune", {"confirm": True})
            assert wait_for(f"a crash at {point}", platform.apiserver.exited) == -signal.SIGKILL
            platform.apiserver.start()
            wait_for("the apiserver answers", platform.health)
            check(platform, live)
            platform.apiserver.stop()
        platform.apiserver.start()
        wait_for("the apiserver answers", platform.health)
        assert prune(platform)["problem"] == ""
        check(platform, live)
        assert [each["id"] for each in platform.api("GET", "/api/v1/builds")["builds"]] == [live]
        assert prune(platform)["freed"] == {}
        files = list((platform.folder / "apiserver-data" / "artifacts" / "complete").glob("*/*"))
        assert len(files) == 1
