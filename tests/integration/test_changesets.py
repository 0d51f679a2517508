"""Projects whose versions the real changesets makes, and the commit with them pushed back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, git, repository, until
from tests.integration.node import npm
from tests.node import need_node, node_path
from twistedipc.builds.attempt import Package, Permit, PermitWanted, Result
from twistedipc.builds.versions import Versioning
from twistedipc.disk.files import read_file, write_file

pytestmark = pytest.mark.long

CHANGESETS = "@changesets/cli@2"


class Project:
    """A workspace of two packages whose versions changesets makes, at a host of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.tools = base / "tools"
        self.tools.mkdir()
        (self.tools / "package.json").write_text('{"private": true}')
        npm(self.tools, "install", CHANGESETS)
        self.source = base / "source"
        self.host = base / "host.git"
        config = {"changelog": "@changesets/cli/changelog", "access": "public", "baseBranch": "main"}
        files = {
            ".twistedipc.toml": f'[build]\nsteps = [{{name = "install", run = "cp -a {self.tools}/node_modules ."}}, '
            '"cat packages/app/package.json"]\npackages = ["packages/*"]\n',
            ".gitignore": "node_modules\n",
            "package.json": json.dumps({"name": "top", "private": True, "workspaces": ["packages/*"]}),
            "package-lock.json": "{}",
            ".changeset/config.json": json.dumps(config),
            ".changeset/README.md": "# Changesets\n",
        }
        for name, needs in {"app": {"@team/base": "^1.0.0"}, "base": {}}.items():
            package = {"name": f"@team/{name}", "version": "1.0.0", "dependencies": needs}
            files[f"packages/{name}/package.json"] = json.dumps(package, indent=2) + "\n"
            files[f"packages/{name}/index.js"] = "export {}\n"
        repository(self.source, files)
        git(base, "clone", "--quiet", "--bare", "source", "host.git")
        self._attempts = 0

    def commit(self, files: dict[str, str]) -> None:
        git(self.source, "fetch", "--quiet", str(self.host), "main")
        git(self.source, "reset", "--quiet", "--hard", "FETCH_HEAD")
        repository(self.source, files)
        git(self.source, "push", "--quiet", str(self.host), "HEAD:main")

    def build(self, *, build: int, number: int = 1, commit: str = "") -> tuple[Attempt, Result, list[Package]]:
        """Make an attempt whose packages are left to the apiserver."""
        self._attempts += 1
        one = Attempt(
            self.base / str(self._attempts),
            self.host,
            name=f"{build}-{number}",
            commit=commit,
            targets=[{"type": "npm", "registry": "http://127.0.0.1:9/", "versions": "changesets", "push": True}],
            path=node_path(),
            context="production",
            versioning=Versioning(asked=1_700_000_000_000 + build),
        )
        process = one.start()
        until(lambda: (one.folder / "permit.wanted").exists() or process.poll() is not None, "it asks for a permit")
        wanted = read_file(one.folder / "permit.wanted", PermitWanted)
        packages = [] if wanted is None else [wanted.package, *wanted.also]
        if wanted is not None:
            permit = Permit(granted=True, store=True, packages=len(packages))
            write_file(one.folder / "permit", permit, mode=0o600)
            one.ring()
        return one, one.wait(90), packages

    def show(self, path: str) -> str:
        return git(self.host, "show", f"main:{path}")

    @property
    def tip(self) -> str:
        return git(self.host, "rev-parse", "main")


def test_versions_and_changelogs_are_made_by_changesets_and_pushed(tmp_path: Path) -> None:
    need_node()
    project = Project(tmp_path)

    # Nothing is pending: what is published is what isn't there yet.
    before = project.tip
    one, result, packages = project.build(build=1)
    assert result.outcome == "succeeded", (result.reason, [one.output(step) for step in range(4)])
    assert [(each.name, each.version, each.settled) for each in packages] == [
        ("@team/base", "1.0.0", True),
        ("@team/app", "1.0.0", True),
    ]
    assert project.tip == before

    project.commit({".changeset/blue-fish.md": '---\n"@team/base": major\n---\n\nIt is another one.\n'})
    built = project.tip
    one, result, packages = project.build(build=2)
    assert result.outcome == "succeeded", (result.reason, [one.output(step) for step in range(4)])
    versions = {each.name: (each.version, each.settled) for each in packages}
    assert versions == {"@team/base": ("2.0.0", False), "@team/app": ("1.0.1", False)}
    released = project.tip
    assert git(project.host, "rev-parse", "main^") == built
    assert json.loads(project.show("packages/app/package.json"))["dependencies"] == {"@team/base": "^2.0.0"}
    assert "It is another one." in project.show("packages/base/CHANGELOG.md")
    assert "blue-fish" not in git(project.host, "ls-tree", "-r", "--name-only", "main")

    # Another attempt of the same build, of the same commit: what it would push is there.
    one, result, again = project.build(build=2, number=2, commit=built)
    assert result.outcome == "succeeded", (result.reason, [one.output(step) for step in range(4)])
    assert [(each.name, each.version) for each in again] == [(each.name, each.version) for each in packages]
    assert project.tip == released

    # A build of the commit that was pushed has nothing to do.
    one, result, packages = project.build(build=3)
    assert result.outcome == "succeeded", (result.reason, [one.output(step) for step in range(4)])
    assert all(each.settled for each in packages)
    assert project.tip == released
    assert [step.name for step in result.steps][-1] == "pack"

    # A changeset for a package that isn't there.
    project.commit({".changeset/red-cat.md": '---\n"@team/nobody": minor\n---\n\nNothing.\n'})
    before = project.tip
    one, result, packages = project.build(build=4)
    assert (result.outcome, packages) == ("failed", [])
    assert result.reason.startswith("step versions ended with exit code 1")
    assert result.reason.endswith("nothing is published: the log has the tool's own words")
    assert any("@team/nobody" in line and "not in the workspace" in line for line in one.output(2))
    assert project.tip == before
