"""
The package managers and Nodes as they are: each is fetched from the registry that npm is set up for here, and installs
and builds a small project in a real attempt, on a machine that has no Node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, repository, toml
from tests.integration.platform import npm_environment
from tests.node import need_node
from twistedipc.builds.attempt import ToolSettings
from twistedipc.builds.settings import BuildSettings
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.machine import Machine, this_kind
from twistedipc.toolchains.wanted import Wanted

pytestmark = pytest.mark.long

#: What a build needs beside Node.
COMMANDS = ("git", "sh", "env", "cat", "mkdir", "ls", "rm", "uname", "dirname", "basename", "readlink", "sed", "tr")

BUILD = """
const isOdd = require("is-odd");
const fs = require("fs");
fs.mkdirSync("dist", {recursive: true});
fs.writeFileSync("dist/index.html", `<p>${isOdd(3)}`);
console.log("agent", process.env.npm_config_user_agent, process.version);
process.send?.({type: "annotation", level: "warning", message: `said by ${process.version}`});
"""


@pytest.fixture(scope="module")
def registry() -> str:
    """The registry that npm is set up for on this machine."""
    done = subprocess.run(
        [need_node() / "npm", "config", "get", "registry"], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """PATH of a machine without Node."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in COMMANDS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return str(folder)


class Project:
    """A small project, and an attempt to build it."""

    def __init__(self, folder: Path, path: str, store: Path, registry: str) -> None:
        self.folder = folder
        self.path = path
        self.tools = ToolSettings(folder=str(store), registry=registry)

    def build(self, *steps: str, manager: str, node: str = "", files: dict[str, str] | None = None) -> Attempt:
        name = manager.partition("@")[0]
        package = {
            "name": "small",
            "version": "1.0.0",
            "private": True,
            # A script that calls the manager itself.
            "scripts": {"build": f"{name} run inner", "inner": "node build.cjs"},
            "dependencies": {"is-odd": "3.0.1"},
        }
        source = self.folder / "source"
        repository(
            source,
            {
                ".twistedipc.toml": toml(*steps, f"{name} run build", more="output = 'dist'"),
                "package.json": json.dumps(package),
                "build.cjs": BUILD,
                **(files or {}),
            },
        )
        attempt = Attempt(
            self.folder,
            source,
            path=self.path,
            environment=npm_environment(),
            tools=self.tools,
            settings=BuildSettings(manager=manager, node=node),
            timeout=300.0,
            idle_timeout=300.0,
        )
        attempt.start()
        result = attempt.wait(320)
        assert result.outcome == "succeeded", "\n".join([*attempt.output(), result.reason, *attempt.notices()])
        assert (attempt.folder / "work/dist/index.html").read_text() == "<p>true"
        assert "toolchain" not in [step.name for step in result.steps if step.outcome != "succeeded"]
        return attempt


@pytest.fixture
def project(tmp_path: Path, path: str, store: Path, registry: str) -> Project:
    return Project(tmp_path, path, store, registry)


def agent(attempt: Attempt) -> str:
    """What the manager says of itself to scripts."""
    return next(line for line in attempt.output() if line.startswith("agent "))


@pytest.mark.parametrize(
    ("manager", "node", "install", "files", "said"),
    [
        ("npm", "", "npm install", {}, "npm/"),
        ("npm@10", "18", "npm install", {}, "npm/10."),
        ("npm@12", "", "npm install", {}, "npm/12."),
        ("pnpm@9", "20", "pnpm install --no-frozen-lockfile", {}, "pnpm/9."),
        ("pnpm@10", "22", "pnpm install --no-frozen-lockfile", {}, "pnpm/10."),
        ("pnpm@11", "", "pnpm install --no-frozen-lockfile", {}, "pnpm/11."),
        ("pnpm@12", "", "pnpm install --no-frozen-lockfile", {}, "pnpm/12."),
        ("yarn@1", "20", "yarn install", {}, "yarn/1."),
        ("yarn@4", "", "yarn install --no-immutable", {".yarnrc.yml": "nodeLinker: node-modules\n"}, "yarn/4."),
        ("yarn@4", "22", "yarn install --no-immutable", {}, "yarn/4."),
        ("bun", "", "bun install", {}, "bun/1."),
    ],
)
def test_each_manager_installs_and_builds(
    project: Project, manager: str, node: str, install: str, files: dict[str, str], said: str
) -> None:
    attempt = project.build(install, manager=manager, node=node, files=files)
    assert said in agent(attempt)
    assert f" v{node}" in agent(attempt)
    # Node's own channel works with each Node, and below each manager.
    assert [annotation.message[:9] for annotation in attempt.annotations()] == ["said by v"]


@pytest.mark.parametrize("node", ["18", "24"])  # 20 and 22 have it above
def test_the_channel_works_with_each_node(project: Project, node: str) -> None:
    attempt = project.build(
        "npm install", "twistedipc-say annotation warning 'said by another'", manager="npm", node=node
    )
    said = sorted(annotation.message for annotation in attempt.annotations())
    assert said[0] == "said by another"
    assert said[1].startswith("said by v")


def test_a_second_build_fetches_nothing(project: Project) -> None:
    project.build("npm install", manager="npm", node="22")
    project.tools = ToolSettings(folder=project.tools.folder, offline=True)
    second = Project(project.folder / "second", project.path, Path(project.tools.folder), "")
    second.tools = project.tools
    second.folder.mkdir()
    found = second.build("npm install", manager="npm", node="22").result
    assert found is not None
    assert "toolchain" not in [step.name for step in found.steps]


@pytest.mark.parametrize(
    ("manager", "lock"),
    [
        ("npm@10.9.2", "package-lock.json"),
        ("pnpm@10.4.1", "pnpm-lock.yaml"),
        ("yarn@1.22.22", "yarn.lock"),
        ("yarn@4.5.0", "yarn.lock"),
        ("bun@1.2.15", "bun.lock"),
    ],
)
def test_what_is_locked_is_installed_or_nothing_is(
    tmp_path: Path, path: str, store: Path, registry: str, manager: str, lock: str
) -> None:
    """A project that says nothing but its manager and its Node: without a lock file, with it, with an old one."""
    source = tmp_path / "source"
    name, _, version = manager.partition("@")
    package = {
        "name": "small",
        "packageManager": manager,
        "scripts": {"build": f"{name} run inner", "inner": "node build.cjs"},
        "dependencies": {"is-odd": "3.0.1"},
    }

    def build(number: int, files: dict[str, str]) -> Attempt:
        repository(source, {"package.json": json.dumps(package), "build.cjs": BUILD, ".nvmrc": "22\n", **files})
        attempt = Attempt(
            tmp_path,
            source,
            name=f"{number}-1",
            path=path,
            environment=npm_environment(),
            tools=ToolSettings(folder=str(store), registry=registry),
            timeout=300.0,
            idle_timeout=300.0,
        )
        attempt.start()
        attempt.wait(320)
        return attempt

    def outcome(attempt: Attempt) -> str:
        assert attempt.result is not None
        return attempt.result.outcome

    first = build(1, {})
    assert outcome(first) == "succeeded", first.output()
    assert f"{name}/{version}" in agent(first)
    assert " v22." in agent(first)
    locked = {lock: (first.folder / "work" / lock).read_text()} if name != "yarn" or version[0] != "1" else {}
    if not locked:  # what yarn 1 installs without a lock file leaves none
        locked = {lock: YARN_LOCK.replace("REGISTRY", registry)}
    second = build(2, locked)
    assert outcome(second) == "succeeded", second.output()
    package["dependencies"] = {"is-odd": "2.0.0"}
    third = build(3, {})
    assert outcome(third) == "failed", third.output()
    assert not (third.folder / "work/dist").exists()


YARN_LOCK = """# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.
# yarn lockfile v1


is-number@^6.0.0:
  version "6.0.0"
  resolved "REGISTRYis-number/-/is-number-6.0.0.tgz#e6d15ad31fc262887cccf217ae5f9316f81b1995"
  integrity sha512-Wu1VHeILBK8KAWJUAiSZQX94GmOE45Rg6/538fKwiloUu21KncEkYGPqob2oSZ5mUT73vLGrHQjKw3KMPwfDzg==

is-odd@3.0.1:
  version "3.0.1"
  resolved "REGISTRYis-odd/-/is-odd-3.0.1.tgz#65101baf3727d728b66fa62f50cda7f2d3989601"
  integrity sha512-CQpnWPrDwmP1+SMHXZhtLtJv90yiyVfluGsX5iNCVkrhQtU3TQHsUWPG9wkdk9Lgd5yNpAg9jQEo90CBaXgWMA==
  dependencies:
    is-number "^6.0.0"
"""


#: packageManager, as Corepack wrote it for projects out there: pnpm's and npm's hash is of the package, that of a newer
#: yarn of its one file.
WRITTEN = {
    "npm@10.9.2": "8ab88f10f224a0c614cb717a7f7c30499014f77134120e9c1f0211ea3cf33975"
    "92cbe483feb38e0c4b3be1c54e347292c76a1b5edb94a3289d5448484ab8ac81",
    "pnpm@9.15.4": "b2dc20e2fc72b3e18848459b37359a32064663e5627a51e4c74b2c29dd8e8e04"
    "91483c3abb40789cfd578bf362fb6ba8261b05f0387d76792ed6e23ea3b1b6a0",
    "yarn@1.22.22": "a6b2f7906b721bba3d67d4aff083df04dad64c399707841b7acf00f6b133b7ac"
    "24255f2652fa22ae3534329dc6180534e98d17432037ff6fd140556e2bb3137e",
    "yarn@4.5.0": "837566d24eec14ec0f5f1411adb544e892b3454255e61fdef8fd05f342948010"
    "2806bac7446bc9daff3896b01ae4b62d00096c7e989f1596f2af10b927532f39",
}


@pytest.mark.parametrize("manager", WRITTEN)
def test_the_hash_that_corepack_writes_is_right(tmp_path: Path, store: Path, registry: str, manager: str) -> None:
    settings = ToolSettings(folder=str(store), registry=registry)
    machine, clock = Machine(this_kind(), os.defpath), lambda: time.time_ns() // 1_000_000
    fetching = Fetching(settings, npm_environment(), os.defpath, machine, tmp_path, say=print, now=clock)
    name, _, version = manager.partition("@")
    wanted = Wanted(manager=name, version=version, integrity=f"sha512.{WRITTEN[manager]}", node="22")
    assert fetching.prepare(wanted).said[0].startswith(f"{name} {version}, ")
