"""`twistedipc inspect`: what a project is, of a folder and of a repository."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.attempt_folder import git, repository
from twistedipc.builds.recognition.tree import CantRead
from twistedipc.cli.inspect import inspect
from twistedipc.trees.folder import FolderTree
from twistedipc.trees.git import GitTree

FILES = {
    "package.json": '{"scripts": {"build": "vite build"},\n"devDependencies": {"vite": "^7"}}',
    "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
    "index.html": "<h1>hello</h1>",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(inspect, list(arguments))


def test_a_folder_and_a_repository_say_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, FILES)
    shown = run(str(source))
    assert shown.exit_code == 0, shown.output
    for words in ("package.json:2", "devDependencies has vite", "pnpm run build", "dist", "single page"):
        assert words in shown.output
    folder = json.loads(run(str(source), "--json").stdout)
    assert folder["recognised"]["framework"] == "vite"
    assert [step["run"].split(" --")[0] for step in folder["steps"]] == ["pnpm install", "pnpm run build"]
    git(tmp_path, "clone", "--quiet", "--bare", str(source), "bare.git")
    for where in (str(tmp_path / "bare.git"), f"file://{source}"):
        assert json.loads(run(where, "--json").stdout) == folder


def test_a_ref_and_settings(tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, FILES)
    git(source, "checkout", "--quiet", "-b", "next")
    (source / "package.json").write_text('{"scripts": {"build": "astro build"}, "dependencies": {"astro": "^5"}}')
    git(source, "commit", "--quiet", "--all", "--message=x")
    git(source, "checkout", "--quiet", "-")
    said = json.loads(run(str(source), "--ref", "next", "--json", "--output", "site", "--manager", "pnpm@11").stdout)
    assert said["recognised"]["framework"] == "astro"
    assert said["recognised"]["manager"]["version"] == "11"
    assert said["outputs"] == ["site"]


def test_what_cannot_be_built_or_found(tmp_path: Path) -> None:
    result = run(str(tmp_path))
    assert result.exit_code == 2
    assert "there is nothing to build" in result.output
    assert run("not/there").exit_code == 2
    assert run(f"file://{tmp_path}/not/there").exit_code == 4
    assert run(str(tmp_path), "--root", "../x").exit_code == 2
    (tmp_path / "package.json").write_text('{"packageManager": "npm@file:../x"}')
    assert "nothing is run that is fetched from an address" in run(str(tmp_path)).output


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    inside = tmp_path / "inside"
    (inside / "docs").mkdir(parents=True)
    (inside / "package.json").symlink_to("../secret")
    (inside / "apps").symlink_to("..")
    (inside / "docs" / "own.json").symlink_to("../real.json")
    (inside / "real.json").write_text("{}")
    tree = FolderTree(inside)
    with pytest.raises(CantRead, match=r"package\.json is a link that leaves the repository"):
        tree.read("package.json")
    assert tree.names("apps") == frozenset()
    assert tree.read("docs/own.json") == b"{}"
    assert (tree.read("none"), tree.read("none/none"), tree.head("package.json")) == (None, None, b"")


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    tree = FolderTree(tmp_path)
    for name in ("folder", "pipe"):
        with pytest.raises(CantRead, match=f"{name} isn't a file"):
            tree.read(name)


def test_a_large_file_of_a_commit_is_not_read(tmp_path: Path) -> None:
    commit = repository(tmp_path, {"package.json": " " * 2_000_000, "a/b": "x"})
    tree = GitTree(tmp_path / ".git", commit)
    with pytest.raises(CantRead, match=r"package\.json has more than 1048576 bytes"):
        tree.read("package.json")
    assert len(tree.head("package.json")) == 4096
    assert (tree.read("a/b"), tree.names("a"), tree.read("a")) == (b"x", {"b"}, None)
