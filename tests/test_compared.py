"""What packages would change against what is published: their files, and what their package.json says."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.apiserver_world import Apiserver
from tests.test_server_delivering import BOB, DATA, PACKAGES, World
from twistedipc.publish.compared import MAX_FILES, Change, Compared, File, compared
from twistedipc.publish.stored import Delivered, Job
from twistedipc.publish.targets.npm.compare import contents_of
from twistedipc.publish.targets.npm.manifests import differences
from twistedipc.publish.targets.npm.package import BadPackage
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


@pytest.mark.parametrize(
    ("now", "before", "sentences"),
    [
        ({}, {}, []),
        ({"version": "2.0.0", "description": "x"}, {"version": "1.0.0"}, []),
        ({"scripts": {"postinstall": "node x"}}, {}, ["the script postinstall, which is run where the package is "
                                                      "installed, is new: node x"]),
        ({"scripts": {"test": "a"}}, {"scripts": {"test": "b"}}, []),
        ({"dependencies": {"a": "^2", "b": "1"}}, {"dependencies": {"a": "^1", "c": "3"}},
         ["dependencies: a was ^1, and is ^2", "dependencies: b is new: 1", "dependencies: c is gone: it was 3"]),
        ({"devDependencies": {"a": "1"}}, {}, []),
        ({"license": "GPL-3.0"}, {"license": "MIT"}, ["license was MIT, and is GPL-3.0"]),
        ({"exports": {".": "./a.js"}}, {"exports": "./a.js"}, ["exports was ./a.js, and is {'.': './a.js'}"]),
        ({"engines": None}, {"engines": {"node": ">=20"}}, ["engines was {'node': '>=20'}, and is None"]),
        ({"scripts": "x", "dependencies": []}, {"scripts": None}, []),
        ({"main": "x" * 300}, {}, ["main is new: " + "x" * 200 + "…"]),
    ],
)  # fmt: skip
def test_what_a_package_json_says_otherwise(now: dict[str, Any], before: dict[str, Any], sentences: list[str]) -> None:
    assert list(differences(now, before)) == sentences


def tarball(path: Path, files: dict[str, str], top: str = "package") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def test_what_is_in_a_package(tmp_path: Path) -> None:
    manifest = json.dumps({"name": "p", "version": "1.0.0"})
    found = contents_of(tarball(tmp_path / "p.tgz", {"package.json": manifest, "lib/a.js": "a"}))
    assert found.manifest["name"] == "p"
    assert {path: file.size for path, file in found.files.items()} == {"package.json": len(manifest), "lib/a.js": 1}
    (tmp_path / "bad.tgz").write_bytes(b"no tarball")
    with pytest.raises(BadPackage):
        contents_of(tmp_path / "bad.tgz")


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
