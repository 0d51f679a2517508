"""`twistedipc prune`, `pin`, `project set --keep` and `ledger compact`: what is asked, and what is printed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from msgspec import UNSET

from tests.cli_server import Server, as_json, problem, serving
from tests.storage_fixtures import new_ledger
from tests.test_cli_commands import run
from twistedipc.builds.retention import Own
from twistedipc.cli.compacting import ledger
from twistedipc.cli.prune import with_rules
from twistedipc.storage import guard
from twistedipc.storage.guard import FolderLock

AT = "2026-01-02T03:04:05.678Z"
LINE = {"project": "shop", "kind": "logs", "count": 3, "size": 2 << 20, "rules": ["logs = 90 days"],
        "stays": {"it is pinned": 2}, "whole": True, "nothing_left": False}  # fmt: skip
RUN = {"by": "ann", "began": AT, "ended": AT, "freed": {"logs": {"count": 3, "size": 2 << 20}},
       "files": {"count": 1, "size": 5}, "given_back": 1 << 20, "problem": ""}  # fmt: skip


def pruning(*lines: dict[str, Any], run: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"removes": True, "whole": True, "plan": list(lines), "run": run}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_plan_can_be_read_before_it_acts(server: Server) -> None:
    server.on("GET /api/v1/prune", as_json(pruning(LINE)))
    result = run(server, "prune", "--dry-run", "--project", "shop")
    assert result.exit_code == 0, result.output
    for part in ("shop", "logs", "3", "2.0 MiB", "logs = 90 days", "2 (it is pinned)"):
        assert part in result.stdout
    assert [each.query for each in server.asked] == [{"project": "shop"}]


def test_it_is_removed_when_a_person_has_said_yes(server: Server) -> None:
    server.on("GET /api/v1/prune", as_json(pruning(LINE)))
    server.on("POST /api/v1/prune", as_json({**RUN, "ended": None, "freed": {}}, 202))
    server.on("GET /api/v1/prune/run", as_json({**RUN, "ended": None, "freed": {}}), as_json(RUN))
    result = run(server, "prune", "--yes")
    assert result.exit_code == 0, result.output
    assert "removed: 3 logs (2.0 MiB), 1 file (5 B); the database's file is 1.0 MiB smaller" in result.stderr
    assert [each.json for each in server.asked if each.body] == [{"confirm": False}]
    server.on("GET /api/v1/prune", as_json(pruning(LINE)))
    assert run(server, "prune").exit_code != 0  # nobody said anything
    assert len([each for each in server.asked if each.body]) == 1


def test_what_builders_remove_is_said_as_far_as_it_is_known(server: Server) -> None:
    caches = {"projects": {"shop": 7, "docs": 30, "site": 30}, "unaware": ["old"]}
    server.on("GET /api/v1/prune", as_json({**pruning(), "caches": caches}))
    said = run(server, "prune", "--dry-run").stderr
    assert "caches of shop go 7 days after a build last used them" in said
    assert "caches of docs, site go 30 days after a build last used them" in said
    assert "of an older version, and remove caches by limits of their own alone: old" in said


def test_that_nothing_is_old_enough_is_said(server: Server) -> None:
    server.on("GET /api/v1/prune", as_json({**pruning(), "removes": False}))
    result = run(server, "prune")
    assert result.exit_code == 0, result.output
    assert "no rule says that anything is removed" in result.stderr
    assert "nothing is old enough to go" in result.output


def test_what_leaves_nothing_is_confirmed(server: Server) -> None:
    server.on("GET /api/v1/prune", as_json(pruning({**LINE, "nothing_left": True})))
    server.on("POST /api/v1/prune", as_json(RUN, 202))
    assert run(server, "prune", "--yes", "--no-wait").exit_code == 0
    assert server.asked[-1].json == {"confirm": True}


def test_what_the_plan_did_not_have_is_asked_back_about(server: Server) -> None:
    server.on("GET /api/v1/prune", as_json({**pruning(LINE), "whole": False, "busy": True}))
    refused = problem(409, "it would take too long to find out", type="urn:twistedipc:problem:confirm")
    server.on("POST /api/v1/prune", refused, as_json(RUN, 202))
    result = run(server, "prune", "--yes")
    assert result.exit_code == 0, result.output
    assert "it would take too long to find out" in result.stderr
    assert "a run goes on that isn't of your projects alone" in result.stderr
    assert [each.json for each in server.asked if each.body] == [{"confirm": False}, {"confirm": True}]


def test_a_build_is_pinned(server: Server) -> None:
    build = {"id": 7, "project": "shop", "ref": "main", "publish": True, "live": False, "parameters": {},
             "requested_by": "ann", "state": "failed", "reason": "", "attempt": 1, "commit": "", "subject": "",
             "author": "", "cancel_requested": False, "created": AT, "started": None, "ended": AT, "progress": None,
             "annotations": {"errors": 0, "warnings": 0, "notices": 0}}  # fmt: skip
    server.on("PUT /api/v1/builds/7/pin", as_json({**build, "pinned": AT}))
    server.on("DELETE /api/v1/builds/7/pin", as_json(build))
    assert "build 7 of shop is pinned" in run(server, "pin", "7").output
    assert "build 7 of shop is kept for as long as the rules say" in run(server, "pin", "7", "--remove").output


def test_rules_of_a_project_are_changed_one_by_one() -> None:
    before = Own(logs=30, artifacts=10)
    found = with_rules(before, ["logs=2 years", "artifacts=", "releases=forever", "last-success=false", "newest=3"])
    assert msgspec.structs.asdict(found) == {
        **{field.name: UNSET for field in msgspec.structs.fields(Own)},
        "logs": 730, "releases": "forever", "last_success": False, "newest": 3,
    }  # fmt: skip


def test_the_audit_is_of_no_project(server: Server) -> None:
    line = {**LINE, "project": "", "kind": "audit", "nothing_left": True}
    server.on("GET /api/v1/prune", as_json(pruning(line)))
    server.on("POST /api/v1/prune", as_json(RUN, 202))
    assert "Not even the newest would be left of the audit." in run(server, "prune").stderr
    assert run(server, "prune", "--yes", "--no-wait").exit_code == 0
    assert server.asked[-1].json == {"confirm": True}


@pytest.mark.parametrize(
    "said", ["logs", "audit=90d", "logs=soon", "logs=0", "newest=forever", "last_success=yes", "builds=3d", "newest=-1"]
)
def test_nonsense_is_refused(said: str) -> None:
    with pytest.raises(click.UsageError, match="--keep"):
        with_rules(Own(logs=30), [said])


# -- the database's file -----------------------------------------------------------------------------------------------


def _configured(folder: Path, database: str = "") -> list[str]:
    file = folder / "apiserver.toml"
    file.write_text(f'data = "."\n[link]\ndial = ["unix:s"]\n[database]\nurl = "{database}"\n')
    return ["compact", "--config", str(file)]


def test_a_file_of_an_older_version_is_made_smaller(tmp_path: Path) -> None:
    path = new_ledger(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE large (data BLOB)")
        connection.execute("INSERT INTO large VALUES (zeroblob(4000000))")
        connection.commit()
        connection.execute("DELETE FROM large")
        connection.commit()
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    before = path.stat().st_size
    result = CliRunner().invoke(ledger, _configured(tmp_path))
    assert result.exit_code == 0, result.output
    assert path.stat().st_size < before - 3_900_000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_isnt_done_while_an_apiserver_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.0)
    new_ledger(tmp_path)
    lock = FolderLock(tmp_path)
    lock.acquire()
    try:
        result = CliRunner().invoke(ledger, _configured(tmp_path))
    finally:
        lock.release()
    assert (result.exit_code, "Stop that one first" in result.output) == (5, True)


def test_what_cant_be_made_smaller_is_said(tmp_path: Path) -> None:
    assert "there is no database" in CliRunner().invoke(ledger, _configured(tmp_path)).output
    result = CliRunner().invoke(ledger, _configured(tmp_path, "postgresql+psycopg://u@/d"))
    assert (result.exit_code, "VACUUM FULL" in result.output) == (2, True)


def test_a_person_is_asked_before_rules_that_leave_nothing(server: Server) -> None:
    asked = problem(409, "even the newest logs of shop would be removed", type="urn:twistedipc:problem:confirm")
    server.on("PATCH /api/v1/projects/shop", asked)
    server.on("GET /api/v1/projects/shop", as_json(_project()))
    result = run(server, "project", "set", "shop", "--keep", "logs=1d")
    assert result.exit_code != 0
    assert "even the newest logs of shop would be removed" in result.output
    server.on("PATCH /api/v1/projects/shop", as_json(_project()))
    assert run(server, "project", "set", "shop", "--keep", "logs=1d", "--yes").exit_code == 0
    assert [each.json for each in server.asked if each.method == "PATCH"] == [
        {"retention": {"logs": 1}},
        {"retention": {"logs": 1}, "confirm": True},
    ]


def _project() -> dict[str, Any]:
    return {"name": "shop", "repository": "r", "default_ref": "main", "publish": {}, "environment": {},
            "timeout": 1.0, "idle_timeout": 1.0, "secrets": [], "release_url": "", "created": AT,
            "updated": AT}  # fmt: skip
