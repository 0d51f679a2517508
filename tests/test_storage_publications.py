"""The rows of publications: steps before and after, facts, and locks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.storage_fixtures import NOW, add_build, add_project, database, run
from twistedipc.builds.attempt import Package
from twistedipc.builds.states import IllegalTransition, PublicationState
from twistedipc.publish.record import Facts, Outcome, Progress, Step
from twistedipc.storage import publications
from twistedipc.storage.errors import NotFound

REGISTRY = "https://npm.example.org/"


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Connection]:
    """A ledger with an attempt, 1-1, that has stored two packages for npm."""
    packages = [
        Package(file=f"{name}.tgz", name=name, version="1.0.0", integrity=f"sha512-{name}") for name in ("core", "ui")
    ]
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1", lease="1-1")
        publications.add(connection, "1-1", "npm", packages, NOW)
        for position in range(2):
            publications.begin_upload(connection, "1-1", "npm", position, 10, NOW)
            publications.note_stored(connection, "1-1", "npm", position, f"{position:064}", NOW)
        yield connection


def test_a_step_is_written_down_before_and_after(stored: Connection) -> None:
    publications.begin_step(stored, "1-1", "npm", 1, Step.PREFLIGHT, "", NOW + 1)
    assert publications.steps_of(stored, "1-1", "npm") == [Progress(position=1, step=Step.PREFLIGHT)]
    known = Facts(registry=REGISTRY, mode="direct", tag_before="0.9.0")
    row = publications.end_step(
        stored, "1-1", "npm", 1, Step.PREFLIGHT, Outcome.DONE, NOW + 2, reached=PublicationState.CHECKED, facts=known
    )
    assert (row.state, row.registry, row.tag_before, row.updated) == (
        PublicationState.CHECKED,
        REGISTRY,
        "0.9.0",
        NOW + 2,
    )
    (step,) = publications.steps_of(stored, "1-1", "npm")
    assert step.outcome is Outcome.DONE
    assert publications.of_attempt(stored, "1-1")[0].state is PublicationState.STORED  # the other is as it was


def test_facts_that_are_not_known_stay_as_they_were(stored: Connection) -> None:
    for facts in (Facts(registry=REGISTRY, stage="s-1"), Facts(set_tag="build-1"), None):
        publications.begin_step(stored, "1-1", "npm", 0, Step.STAGE, "", NOW)
        row = publications.end_step(stored, "1-1", "npm", 0, Step.STAGE, Outcome.DONE, NOW, facts=facts)
    assert (row.registry, row.stage, row.set_tag) == (REGISTRY, "s-1", "build-1")


def test_what_has_not_begun_does_not_end(stored: Connection) -> None:
    with pytest.raises(NotFound):
        publications.end_step(stored, "1-1", "npm", 0, Step.TAG, Outcome.DONE, NOW)
    with pytest.raises(NotFound):
        publications.begin_step(stored, "1-1", "npm", 2, Step.TAG, "", NOW)


def test_only_what_the_table_has_may_follow(stored: Connection) -> None:
    publications.begin_step(stored, "1-1", "npm", 0, Step.TAG, "latest", NOW)
    with pytest.raises(IllegalTransition):
        publications.end_step(stored, "1-1", "npm", 0, Step.TAG, Outcome.DONE, NOW, reached=PublicationState.APPROVED)


def test_packages_are_locked_all_or_none(stored: Connection) -> None:
    assert publications.take_locks(stored, REGISTRY, ["core", "ui"], "1-1", NOW) == ""
    assert publications.take_locks(stored, REGISTRY, ["ui", "docs"], "2-1", NOW) == "1-1"
    assert publications.take_locks(stored, REGISTRY, ["docs"], "3-1", NOW) == ""  # the second has locked nothing
    assert publications.take_locks(stored, "https://other.example.org/", ["ui"], "2-1", NOW) == ""
    assert publications.take_locks(stored, REGISTRY, ["ui", "core"], "1-1", NOW) == ""  # it has them
    publications.free_locks(stored, "1-1")
    assert publications.take_locks(stored, REGISTRY, ["ui"], "2-1", NOW) == ""
