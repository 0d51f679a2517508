"""Whether the packages of a set fit one another, and what can't be published of one."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.npm_memory import tarball
from tests.registry import TOKEN, running
from twistedipc.builds.attempt import Package
from twistedipc.publish.record import MemoryRecord
from twistedipc.publish.targets.npm.deliver import deliver
from twistedipc.publish.targets.npm.looking import PublishFailed
from twistedipc.publish.targets.npm.package import integrity, read_tarball
from twistedipc.publish.targets.npm.places import only
from twistedipc.publish.targets.npm.sets import check_set, fits
from twistedipc.publish.targets.npm.tarballs import MAX_TARBALL, BadPackage
from twistedipc.publish.targets.target import Delivery


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1.2.3", "^1.0.0", True),
        ("2.0.0", "^1.0.0", False),
        ("1.5.0", "^1", True),
        ("0.2.3", "^0.2.0", True),
        ("0.3.0", "^0.2.0", False),
        ("0.0.3", "^0.0.3", True),
        ("0.0.4", "^0.0.3", False),
        ("1.2.9", "~1.2.3", True),
        ("1.3.0", "~1.2.3", False),
        ("1.5.0", "~1", True),
        ("1.2.3", "1.2.3", True),
        ("1.2.3+build.1", "=1.2.3", True),
        ("1.2.4", "=1.2.3", False),
        ("9.9.9", ">=1.0.0", True),
        ("1.1.0-next.1", "^1.0.0", False),
        ("1.1.0-next.2", "^1.1.0-next.1", True),
        # What npm alone understands is left to it.
        ("1.0.0", "*", None),
        ("1.0.0", "latest", None),
        ("1.0.0", "^1 || ^2", None),
        ("1.0.0", "npm:other@1", None),
    ],
)
def test_whether_a_version_is_in_a_range(version: str, wanted: str, expected: bool | None) -> None:
    assert fits(version, wanted) is expected


def said(*manifests: dict[str, Any]) -> str:
    with pytest.raises(BadPackage) as caught:
        check_set(manifests)
    return str(caught.value)


def test_a_set_whose_ranges_do_not_fit() -> None:
    base = {"name": "@acme/base", "version": "2.0.0"}
    check_set([base, {"name": "@acme/app", "version": "1.0.0", "peerDependencies": {"@acme/base": "^2.0.0"}}])
    app = {"name": "@acme/app", "version": "1.0.0", "dependencies": {"@acme/base": "^1.0.0", "left-pad": "^1.0.0"}}
    assert said(base, app).startswith("@acme/app needs @acme/base ^1.0.0 (dependencies), and this set brings 2.0.0")


@pytest.mark.parametrize(("one", "two"), [("widget", "Widget"), ("ﬁx", "fix"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_nobody_can_tell_apart(one: str, two: str) -> None:
    manifests = [{"name": one, "version": "1.0.0"}, {"name": two, "version": "1.0.0"}]
    assert said(*manifests) == f"the packages {one} and {two} have names that nobody can tell apart"


def test_a_tarball_of_two_gigabytes_is_not_even_read(tmp_path: Path) -> None:
    """Where it is packed, before it goes up to anybody; and where it is published, before anything of the set does."""
    path = tmp_path / "p.tgz"
    path.touch()
    os.truncate(path, 2 << 30)  # a sparse one, to read which takes seconds all the same
    package = Package(file=path.name, name="p", version="1.0.0", integrity="sha512-x")
    delivery = Delivery(
        folder=tmp_path, out=tmp_path, packages=[package], secrets={"npm_token": "x"}, record=MemoryRecord(1)
    )
    begun = time.process_time()
    sentence = f"has {2 << 30} bytes, and {MAX_TARBALL} is the most that can be published"
    with pytest.raises(BadPackage, match=sentence):
        read_tarball(path)
    with pytest.raises(PublishFailed, match=f"p: the package's tarball {sentence}"):
        list(deliver(only("http://127.0.0.1:9/"), "", delivery))
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"version": "1.1.0-rc.1"}, "1.1.0-rc.1 is a prerelease: it needs a tag of its own"),
        ({"publishConfig": {"registry": "https://evil.example/"}}, "publishConfig.registry is https://evil.example/"),
        ({"name": "FIRST"}, "the packages first and FIRST have names that nobody can tell apart"),
        ({"dependencies": {"first": "^2.0.0"}}, "middle needs first ^2.0.0 (dependencies), and this set brings 1.0.0"),
        ({"dependencies": {"first": "workspace:^"}}, """dependencies["first"] is "workspace:^": pnpm, yarn"""),
    ],
)
def test_bad_input_in_one_package_and_nothing_of_the_set_is_published(
    tmp_path: Path, more: dict[str, Any], sentence: str
) -> None:
    manifests: list[dict[str, Any]] = [
        {"name": "first", "version": "1.0.0"},
        {"name": "middle", "version": "1.0.0", **more},
        {"name": "last", "version": "1.0.0"},
    ]
    packages = []
    for number, manifest in enumerate(manifests):
        (tmp_path / str(number)).mkdir()
        path = tarball(tmp_path / str(number), manifest)
        packages.append(
            Package(
                file=f"{number}/{path.name}",
                name=manifest["name"],
                version=manifest["version"],
                integrity=integrity(path),
            )
        )
    with running() as registry:
        delivery = Delivery(
            folder=tmp_path, out=tmp_path, packages=packages, secrets={"npm_token": TOKEN}, record=MemoryRecord(3)
        )
        with pytest.raises((BadPackage, PublishFailed), match=re.escape(sentence)):
            list(deliver(only(registry.url), "never", delivery))
        assert registry.asked == []
