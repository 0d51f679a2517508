"""The ledger of publications as people look at it: of a build, of a project, of one package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from tests.storage_fixtures import NOW, add_build, add_project, database, run
from twistedipc.builds.attempt import Package
from twistedipc.publish.record import Outcome, Step
from twistedipc.storage import packages, publications
from twistedipc.storage.tables import projects


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_project(connection, "other")
        yield connection


def publish(connection: Connection, *names: str, project: str = "shop", version: str = "1.0.0") -> str:
    """Return the attempt that has packed these packages."""
    attempt = f"{add_build(connection, project).id}-1"
    run(connection, attempt, lease=attempt)
    packed = [Package(file="x", name=name, version=version, integrity=f"sha512-{name}") for name in names]
    publications.add(connection, attempt, "npm", packed, NOW)
    return attempt


def test_what_a_build_publishes_is_in_its_order_with_its_steps(connection: Connection) -> None:
    attempt = publish(connection, "ui", "core")
    publications.begin_step(connection, attempt, "npm", 1, Step.PREFLIGHT, "", NOW + 1)
    publications.end_step(connection, attempt, "npm", 1, Step.PREFLIGHT, Outcome.REFUSED, NOW + 2, reason="no")
    publications.begin_step(connection, attempt, "npm", 1, Step.TAG, "latest", NOW + 3)
    ui, core = packages.of_attempt(connection, attempt)
    assert (ui.publication.name, ui.asked_by, ui.steps) == ("ui", "ann", [])
    assert [(each.step, each.ended, each.outcome, each.reason) for each in core.steps] == [
        (Step.PREFLIGHT, NOW + 2, Outcome.REFUSED, "no"), (Step.TAG, 0, None, ""),
    ]  # fmt: skip
    assert packages.of_attempt(connection, "99-1") == []


def test_packages_are_listed_by_name_each_once(connection: Connection) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        publish(connection, "ui", "core", version=version)
    publish(connection, "app", project="other")
    assert packages.names(connection, "shop", limit=10) == ["core", "ui"]
    assert packages.names(connection, "shop", limit=1) == ["core"]
    assert packages.names(connection, "shop", after="core", limit=10) == ["ui"]
    newest = packages.newest(connection, "shop", ["ui"])["ui"]
    assert [each.publication.version for each in newest] == ["1.3.0", "1.2.0", "1.1.0"]
    connection.execute(update(projects).where(projects.c.name == "shop").values(deleted=NOW))
    assert packages.names(connection, "shop", limit=10) == []
    assert packages.newest(connection, "shop", ["ui"]) == {"ui": []}


def test_the_history_goes_on_where_the_page_before_ended(connection: Connection) -> None:
    made = [publish(connection, "ui", version=f"1.{number}.0") for number in range(5)]
    found: list[str] = []
    before: tuple[int, int] | None = None
    for _ in range(4):
        page, before = packages.history(connection, "shop", "ui", before=before, limit=2)
        found += [each.publication.version for each in page]
        if before is None:
            break
    assert found == ["1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert packages.history(connection, "shop", "nothing", limit=2) == ([], None)
    assert packages.history(connection, "other", "ui", limit=2) == ([], None)
    assert made[-1] == "5-1"
