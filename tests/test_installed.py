"""What an install makes, and attempts that take it over from earlier ones: with a real npm, without a registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, git, repository
from tests.node import need_node
from tests.trees import TreeInMemory
from twistedipc.builds.logs import Notice
from twistedipc.builds.plan import make_plan
from twistedipc.builds.recognition.installed import LIFECYCLE, Installed, installed, keep_to_themselves
from twistedipc.builds.recognition.recognise import recognise
from twistedipc.builds.settings import BuildSettings
from twistedipc.runner.modules import modules_of
from twistedipc.trees.folder import FolderTree

_LOCK = {"lockfileVersion": 3, "requires": True, "packages": {}}


def found(files: dict[str, object], **settings: object) -> Installed | None:
    tree = TreeInMemory(files)
    return installed(tree, recognise(tree, BuildSettings(**settings)))  # type: ignore[arg-type]


def site(**package: object) -> dict[str, object]:
    return {
        "package.json": {"name": "site", "devDependencies": {"vite": "6"}, **package},
        "package-lock.json": _LOCK,
        "vite.config.js": "",
    }


def test_what_an_install_makes_depends_on_the_lock_file_and_package_json() -> None:
    assert found(site(scripts={"build": "vite build"})) == Installed(
        folders=["node_modules"], files=["package-lock.json", ".npmrc", "package.json"], lock="package-lock.json"
    )


@pytest.mark.parametrize("script", LIFECYCLE)
def test_an_install_that_runs_a_script_may_make_anything(script: str) -> None:
    assert found(site(scripts={"build": "vite build", script: "node generate.js"})) is None


@pytest.mark.parametrize("command", ["husky", "husky install", " is-ci || husky "])
def test_hooks_of_git_make_nothing_that_a_build_needs(command: str) -> None:
    assert found(site(scripts={"build": "vite build", "prepare": command})) is not None


def test_an_addon_is_built_by_npm() -> None:
    assert found({**site(), "binding.gyp": "{}"}) is None


def test_nothing_is_known_without_a_lock_file_or_with_an_own_command() -> None:
    files = site()
    assert found(files, install="npm ci && ./more.sh") is None
    del files["package-lock.json"]
    assert found(files) is None


def test_all_of_a_workspace_counts() -> None:
    files = {
        "package.json": {"name": "all", "workspaces": ["apps/*"]},
        "package-lock.json": _LOCK,
        "apps/web/package.json": {"name": "web", "scripts": {"build": "vite build"}, "devDependencies": {"vite": "6"}},
        "apps/web/vite.config.js": "",
        "apps/api/package.json": {"name": "api"},
    }
    one = found(files, root="apps/web")
    assert one is not None
    assert set(one.folders) == {"node_modules", "apps/web/node_modules", "apps/api/node_modules"}
    assert "apps/api/package.json" in one.files
    files["apps/api/package.json"] = {"name": "api", "scripts": {"postinstall": "make"}}
    assert found(files, root="apps/web") is None


def test_programs_of_the_repository_are_made_executable_by_npm() -> None:
    assert found(site(dependencies={"tool": "file:./tool"})) is None
    assert found(site(dependencies={"tool": "file:./tool-1.0.0.tgz"})) is not None
    files = {
        "package.json": {"name": "all", "workspaces": ["apps/*"], "devDependencies": {"vite": "6"}, "bin": "top.js"},
        "package-lock.json": _LOCK,
        "vite.config.js": "",
        "apps/tool/package.json": {"name": "tool"},
    }
    assert found(files) is not None
    files["apps/tool/package.json"] = {"name": "tool", "bin": "tool.js"}
    assert found(files) is None


@pytest.mark.parametrize(
    ("packages", "kept"),
    [
        ({"node_modules/vite": {}}, True),
        ({"": {"hasInstallScript": True}}, True),
        ({"node_modules/vite/node_modules/esbuild": {"hasInstallScript": True}}, True),
        ({"node_modules/bundler": {"hasInstallScript": True, "name": "esbuild"}}, True),
        ({"node_modules/@fortawesome/core": {"hasInstallScript": True}}, True),
        ({"node_modules/@prisma/client": {"hasInstallScript": True}}, False),
        ({"node_modules/puppeteer": {"hasInstallScript": True}}, False),
        ({"node_modules/esbuild": {"hasInstallScript": True, "name": "cypress"}}, False),
    ],
)
def test_only_known_packages_may_have_install_scripts(packages: dict[str, object], kept: bool) -> None:
    assert keep_to_themselves(json.dumps({"lockfileVersion": 3, "packages": packages}).encode()) is kept


@pytest.mark.parametrize("lock", [b"", b"{}", b'{"lockfileVersion": 1, "dependencies": {}}', b'{"packages": []}'])
def test_a_lock_file_that_does_not_say_which_packages_have_scripts(lock: bytes) -> None:
    assert not keep_to_themselves(lock)


def test_what_the_key_depends_on(tmp_path: Path) -> None:
    """A variable that an install script may read, and not where the attempt is."""
    for name, content in site(scripts={"build": "vite build"}).items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    plan = make_plan(FolderTree(tmp_path), BuildSettings())

    def key(said: dict[str, str] | None = None, **more: str) -> str:
        found = modules_of(tmp_path, plan, {"PATH": "/usr/bin", **more, **(said or {})}, said or {}, [])
        assert found is not None
        return found.key

    assert key() == key(HOME="/attempts/2-1/home", TWISTEDIPC_BUILD="2")
    assert key() == key(npm_config_prefix="/attempts/2-1/home/.npm-global", npm_config_cache="/attempts/2-1/caches/npm")
    assert key() != key(npm_config_omit="dev")
    assert key() != key({"SENTRYCLI_SKIP_DOWNLOAD": "1"})


# -- attempts


_PACKAGE = {"name": "site", "dependencies": {"dep": "file:dep-1.0.0.tgz"}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a project with a dependency in a file, so that npm needs no registry."""
    need_node()
    base = tmp_path_factory.mktemp("template")
    dep, site = base / "dep", base / "site"
    for folder in (dep, site):
        folder.mkdir()
    (dep / "package.json").write_text(json.dumps({"name": "dep", "version": "1.0.0", "bin": "dep.js"}))
    (dep / "dep.js").write_text("#!/usr/bin/env node\nconsole.log('dep works')\n")
    (site / "package.json").write_text(json.dumps(_PACKAGE))
    npm = ["npm", "--offline", f"--cache={base / 'npm'}", "--no-audit", "--silent"]
    for command in ([*npm, "pack", str(dep)], [*npm, "install", "--package-lock-only"]):
        subprocess.run(command, cwd=site, check=True, capture_output=True, timeout=120)
    return site


class Project:
    """A copy of the template, with what it runs as its build."""

    def __init__(self, base: Path, template: Path, build: str = "dep") -> None:
        self.base = base
        self.source = base / "source"
        self._attempts = 0
        shutil.copytree(template, self.source)
        package = {**_PACKAGE, "scripts": {"build": build}}
        repository(self.source, {"package.json": json.dumps(package), "README.md": "a site"})

    def commit(self, name: str, content: str) -> None:
        (self.source / name).write_text(content)
        git(self.source, "add", "-A")
        git(self.source, "commit", "-qm", f"Change {name}")

    def build(self, context: str = "production") -> Attempt:
        self._attempts += 1
        one = Attempt(
            self.base,
            self.source,
            name=f"{self._attempts}-1",
            caches=str(self.base / "caches" / "site"),
            context=context,  # type: ignore[arg-type]
        )
        assert one.run().outcome == "succeeded", one.output()
        return one


def steps(one: Attempt) -> list[str]:
    result = one.result
    assert result is not None
    return [step.name for step in result.steps if step.name in ("install", "build")]


def says(one: Attempt) -> bool:
    notices = [event.message for event in one.events() if isinstance(event, Notice)]
    return "npm ci --prefer-offline isn't run: package-lock.json and all else are as they were" in notices


def test_an_install_is_taken_over_until_what_it_depends_on_changes(tmp_path: Path, template: Path) -> None:
    project = Project(tmp_path, template)
    assert steps(project.build("preview")) == ["install", "build"]
    assert steps(project.build()) == ["install", "build"], "what a preview installed was kept"
    project.commit("README.md", "another commit")
    second = project.build()
    assert steps(second) == ["build"]
    assert says(second)
    assert "dep works" in second.output()
    assert steps(project.build("preview")) == ["build"]
    for name in ("package.json", ".npmrc"):
        path = project.source / name
        project.commit(name, (path.read_text() if path.exists() else "") + "\n")
        assert steps(project.build()) == ["install", "build"], name


def test_what_a_build_has_changed_is_not_kept(tmp_path: Path, template: Path) -> None:
    project = Project(tmp_path, template, build="dep && sh change.sh")
    for change in ("rm -r node_modules/dep", "touch node_modules/dep2", "echo >>node_modules/.package-lock.json", ":"):
        project.commit("change.sh", change)
        assert steps(project.build()) == ["install", "build"], "what the build before has changed was kept"


def test_what_tools_leave_in_node_modules_is_not_kept_with_it(tmp_path: Path, template: Path) -> None:
    """Vite makes .vite-temp for a moment, TypeScript puts what it has built into .tmp: packages stay as they were."""
    left = "mkdir -p node_modules/.vite-temp node_modules/.tmp && touch node_modules/.tmp/tsconfig.tsbuildinfo"
    project = Project(
        tmp_path, template, build=f"test ! -e node_modules/.tmp && dep && {left} && touch node_modules/.file"
    )
    project.build()
    assert steps(project.build()) == ["build"]
