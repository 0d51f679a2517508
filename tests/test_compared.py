"""What packages would change against what is published: their files, and that an apiserver has it found out."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.apiserver_world import Apiserver
from tests.test_server_delivering import BOB, DATA, PACKAGES, World
from twistedipc.publish.compared import MAX_FILES, MAX_REMARKS, Change, Compared, File, Remark, compared
from twistedipc.publish.stored import Delivered, Job
from twistedipc.server.comparing import COUNTS
from twistedipc.storage import projects


def test_files_that_are_new_gone_and_others() -> None:
    before = {"same": File(size=1, sha256="a"), "gone": File(size=2, sha256="b"), "other": File(size=3, sha256="c")}
    now = {"same": File(size=1, sha256="a"), "new": File(size=4, sha256="d"), "other": File(size=3, sha256="e")}
    found = compared("p", "1.1.0", now, before, published="1.0.0")
    assert (found.added, found.removed, found.changed) == (
        [Change(path="new", after=4)], [Change(path="gone", before=2)], [Change(path="other", before=3, after=3)],
    )  # fmt: skip
    assert (found.size_before, found.size) == (6, 8)


def test_of_many_files_the_first_are_listed_and_all_counted() -> None:
    many = {f"{number:04}": File(size=1, sha256="a") for number in range(3 * MAX_FILES)}
    found = compared("p", "1.0.0", many, {})
    assert (found.added_count, len(found.added), found.size) == (3 * MAX_FILES, MAX_FILES, 3 * MAX_FILES)


def test_of_many_remarks_the_most_dangerous_are_kept() -> None:
    said = [Remark(level="info", about="field", text=str(number)) for number in range(MAX_REMARKS)]
    said.append(Remark(level="danger", about="script", text="danger"))
    found = compared("p", "1.0.0", {}, {}, remarks=said)
    assert (found.remarks[0].text, len(found.remarks), found.more_remarks) == ("danger", MAX_REMARKS, 1)


# -- on an apiserver in memory


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, approval=1)
    world.all_stored()
    return world


def ask(apiserver: Apiserver, world: World) -> list[list[Compared]]:
    """Ask what would change. The answer is in the list once it is there."""
    results: list[list[Compared]] = []
    Deferred.fromCoroutine(apiserver.server.comparing.compare("hello", world.publications)).addCallback(results.append)
    return results


def answer(job: Job) -> Delivered:
    return Delivered(compared=[compared(each.name, each.version, {}, {}, published="0.9.0") for each in job.packages])


def test_many_who_look_at_once_ask_the_registry_once(world: World) -> None:
    apiserver, programs = world.apiserver, world.apiserver.programs
    first, second = ask(apiserver, world), ask(apiserver, world)
    (job,) = programs.jobs
    assert job.compare
    assert [Path(path).read_bytes() for path in job.tarballs] == DATA
    programs.ends(world.attempt, answer(job))
    assert first == second
    assert [each.published for each in first[0]] == ["0.9.0", "0.9.0"]
    programs.compares = answer
    assert ask(apiserver, world) == first
    assert len(programs.jobs) == 1
    world.clock.advance(COUNTS)
    assert ask(apiserver, world) == first
    assert len(programs.jobs) == 2
    assert world.audited().count("permit.give") == 0


def test_what_is_not_known_says_why(world: World) -> None:
    world.apiserver.programs.compares = lambda job: Delivered(reason="the registry doesn't answer")
    ((one, two),) = ask(world.apiserver, world)
    assert one == Compared(name=PACKAGES[0].name, version="1.0.0", unknown="the registry doesn't answer")
    assert two.unknown == one.unknown


def test_what_could_not_be_published_is_not_compared(world: World) -> None:
    world.ledger.now(projects.update, "hello", {"targets": ()}, 9)
    ((one, _two),) = ask(world.apiserver, world)
    assert "it can't be published as it is: project hello publishes no npm package any more" in one.unknown
    assert world.apiserver.programs.jobs == []
    world.ask(world.apiserver.lifecycle.refuse_build(1, "", BOB))
