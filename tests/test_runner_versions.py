"""Attempts that give their packages versions, in real runner processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.attempt_folder import Attempt, git, repository, until
from tests.node import need_node, node_path
from tests.test_isolation_bubblewrap import BWRAP, needs_bubblewrap
from tests.test_isolation_landlock import needs_landlock
from twistedipc.builds.attempt import Package, Permit, PermitWanted, Result
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation, Kind
from twistedipc.builds.versions import Canary, Versioning
from twistedipc.disk.beneath import replace_file
from twistedipc.disk.files import read_file, write_file

TOML = '[build]\nsteps = [{name = "install", run = "ls"}, "cat package.json; %s"]\npackages = ["packages/*"]\n'

npm = pytest.mark.usefixtures("_npm")


@pytest.fixture
def _npm() -> None:
    need_node()


def source(folder: Path, step: str = "true", **more: dict[str, object]) -> None:
    """Commit a workspace of two packages, of which one needs the other."""
    described: dict[str, dict[str, object]] = {"app": {"dependencies": {"@team/base": "1.0.0"}}, "base": {}}
    files = {
        ".twistedipc.toml": TOML % step,
        "package.json": '{"name": "top", "private": true, "workspaces": ["packages/*"]}',
    }
    for name, package in described.items():
        content = {"name": f"@team/{name}", "version": "1.0.0", **package, **more.get(name, {})}
        files[f"packages/{name}/package.json"] = json.dumps(content, indent="\t") + "\n"
        files[f"packages/{name}/index.js"] = "export {}\n"
    repository(folder, files)


NO_PERMIT = Permit(granted=False, reason="none is given here")


def asked(
    base: Path,
    versioning: Versioning,
    permit: Permit = NO_PERMIT,
    repository: str = "source",
    isolation: Isolation = NOT_ISOLATED,
    **settings: object,
) -> tuple[Attempt, Result, list[Package]]:
    """Run an attempt that asks for a permit, which it gets or not: what it asked for."""
    one = Attempt(
        base,
        (base / repository).resolve(),
        targets=[{"type": "npm", "registry": "http://127.0.0.1:9/", **settings}],
        path=node_path(),
        versioning=versioning,
        context="production",
        isolation=isolation,
    )
    process = one.start()
    until(lambda: (one.folder / "permit.wanted").exists() or process.poll() is not None, "it asks for a permit")
    wanted = read_file(one.folder / "permit.wanted", PermitWanted)
    if wanted is not None:
        write_file(one.folder / "permit", permit, mode=0o600)
        one.ring()
    result = one.wait(90)
    return one, result, [] if wanted is None else [wanted.package, *wanted.also]


@npm
def test_versions_are_raised_before_the_steps_that_build(tmp_path: Path) -> None:
    source(tmp_path / "source", "cat packages/app/package.json")
    one, _result, packages = asked(tmp_path, Versioning(bump="minor"))
    assert [(each.name, each.version, each.tag) for each in packages] == [
        ("@team/base", "1.1.0", ""),
        ("@team/app", "1.1.0", ""),
    ], one.output()
    assert '\t"version": "1.1.0",' in one.output(2)
    assert '\t\t"@team/base": "1.1.0"' in one.output(2)
    assert "@team/base: 1.0.0 becomes 1.1.0" in one.notices()


ISOLATED = [
    pytest.param(kind, marks=[mark, pytest.mark.long])
    for kind, mark in (("bubblewrap", needs_bubblewrap), ("landlock", needs_landlock))
]


@pytest.mark.parametrize("kind", ISOLATED)
@npm
def test_the_step_that_pushes_is_isolated_too(tmp_path: Path, kind: Kind) -> None:
    source(tmp_path / "source")
    git(tmp_path, "clone", "--quiet", "--bare", "source", "host.git")
    (tmp_path / "data" / "mirrors").mkdir(parents=True)
    isolation = Isolation(kind=kind, program=BWRAP if kind == "bubblewrap" else "", hidden=[str(tmp_path / "data")])
    permit = Permit(granted=True, packages=2, store=True)
    asked(tmp_path / "data", Versioning(bump="patch"), permit, "../host.git", isolation=isolation, push=True)
    assert git(tmp_path / "host.git", "log", "-1", "--format=%s", "main") == "Release @team/base@1.0.1, @team/app@1.0.1"


@pytest.mark.parametrize("push", [True, False])
@npm
def test_the_versions_are_pushed_once_all_is_packed_and_permitted(tmp_path: Path, push: bool) -> None:
    source(tmp_path / "source")
    repository(tmp_path / "source", {"packages/app/CHANGELOG.md": "# app\n\n## 1.0.1\n\n- It works\n"})
    git(tmp_path, "clone", "--quiet", "--bare", "source", "host.git")
    permit = Permit(granted=True, packages=2, store=True)
    settings: dict[str, Any] = {"push": push, "author": "Ann <ann@example.org>"}
    one, result, packages = asked(tmp_path, Versioning(bump="patch"), permit, "host.git", **settings)
    assert result.outcome == "succeeded", one.output()
    assert [(each.git_tag, each.notes) for each in packages] == [
        ("@team/base@1.0.1", ""),
        ("@team/app@1.0.1", "- It works"),
    ]
    assert [each.file for each in result.packed] == ["package/0/team-base-1.0.1.tgz", "package/1/team-app-1.0.1.tgz"]
    steps = [step.name for step in result.steps]
    if not push:
        assert steps[-1] == "pack"
        assert "no commit has the new versions: `twistedipc project set demo --push-versions true` has one pushed" in (
            one.notices()
        )
        return
    assert steps[-2:] == ["pack", "push"]
    shown = git(tmp_path / "host.git", "log", "-1", "--format=%an|%B", "main").splitlines()
    assert shown[0] == "Ann|Release @team/base@1.0.1, @team/app@1.0.1"
    assert {"[skip ci]", "Twistedipc-Build: 1"} < set(shown)
    changed = git(tmp_path / "host.git", "diff", "--name-only", "main^", "main").splitlines()
    assert changed == ["packages/app/package.json", "packages/base/package.json"]


@npm
@pytest.mark.long
def test_a_canary_has_a_tag_of_its_own(tmp_path: Path) -> None:
    source(tmp_path / "source")
    canary = Canary(tag="pr-12", identifier="pr12", number=7)
    _one, _result, packages = asked(tmp_path, Versioning(canary=canary))
    assert [(each.version, each.tag, each.git_tag) for each in packages] == [("1.0.1-pr12.7", "pr-12", "")] * 2


@npm
@pytest.mark.long
def test_a_step_that_changes_the_version_again_ends_the_build(tmp_path: Path) -> None:
    source(tmp_path / "source", "sed -i s/1.0.1/1.0.9/ packages/base/package.json")
    _one, result, packages = asked(tmp_path, Versioning(bump="patch"))
    assert (result.outcome, packages) == ("failed", [])
    assert result.reason == (
        "packages/base: package.json says version 1.0.9, and this build gave the package 1.0.1: a step of the build "
        "has changed it"
    )


def test_a_package_without_a_version_ends_the_build_before_anything_is_built(tmp_path: Path) -> None:
    files = {".twistedipc.toml": '[build]\nsteps = ["touch built"]\n', "package.json": '{"name": "a"}'}
    repository(tmp_path / "source", files)
    one, result, _packages = asked(tmp_path, Versioning(bump="patch"))
    assert result.reason == 'package.json has no version to raise: give it one, for example "0.0.0"'
    assert not (one.folder / "work" / "built").exists()


def test_changesets_that_isnt_installed_ends_the_build(tmp_path: Path) -> None:
    source(tmp_path / "source")
    files = {".changeset/config.json": "{}", ".changeset/x.md": '---\n"@team/app": minor\n---\n'}
    repository(tmp_path / "source", files)
    _one, result, _packages = asked(tmp_path, Versioning(bump="changesets"))
    assert result.reason.startswith("changesets isn't installed, so there are no versions: package.json needs")


FAKE = """#!/bin/sh
test "$1" = version || exit 9
env | grep -i secret && exit 8
grep -q nobody .changeset/*.md && echo 'Found changeset x for package nobody which is not in the workspace' && exit 1
sed -i 's/"version": "1.0.0"/"version": "1.1.0"/' packages/app/package.json
echo '# @team/app' >packages/app/CHANGELOG.md
rm .changeset/x.md
"""


@pytest.mark.parametrize("name", ["@team/app", "nobody"])
@npm
def test_the_projects_own_tool_makes_versions(tmp_path: Path, name: str) -> None:
    source(tmp_path / "source")
    files = {".changeset/config.json": "{}", ".changeset/x.md": f'---\n"{name}": minor\n---\n'}
    files["node_modules/.bin/changeset"] = FAKE
    repository(tmp_path / "source", files)
    os.chmod(tmp_path / "source/node_modules/.bin/changeset", 0o755)
    repository(tmp_path / "source", {})
    one, result, packages = asked(tmp_path, Versioning(bump="changesets"))
    if name == "nobody":
        assert result.reason.startswith("step versions ended with exit code 1: ")
        assert result.reason.endswith("nothing is published: the log has the tool's own words")
        assert any("not in the workspace" in line for line in one.output(2))
        return
    assert [(each.name, each.version, each.settled) for each in packages] == [
        ("@team/base", "1.0.0", True),
        ("@team/app", "1.1.0", False),
    ], one.output()
    assert [step.name for step in result.steps][1:3] == ["install", "versions"]


def test_no_link_is_followed_where_a_version_is_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "package.json").write_text("{}")
    work = tmp_path / "work"
    (work / "packages").mkdir(parents=True)
    (work / "packages/a").symlink_to(outside)
    (work / "package.json").symlink_to(outside / "package.json")
    for path in ("packages/a/package.json", "package.json"):
        with pytest.raises(OSError, match=r".+"):
            replace_file(work, path, b"changed")
    assert (outside / "package.json").read_text() == "{}"
    (work / "packages/package.json").write_text("{}")
    (work / "packages/package.json").chmod(0o640)
    replace_file(work, "packages/package.json", b"changed")
    assert (work / "packages/package.json").read_text() == "changed"
    assert (work / "packages/package.json").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(work / "packages")) == ["a", "package.json"]
