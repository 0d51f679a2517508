"""
A set of twenty packages, published by the platform's own client and by the npm command: two registries have the same
in the end. And who installs it, by npm, pnpm and Yarn, gets a tree that works.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node import node_environment, npm
from tests.node import need_node
from tests.package_registry import archive
from tests.registry import OTP, TOKEN, Registry, running
from twistedipc.builds.attempt import Package
from twistedipc.publish.record import MemoryRecord, PersonNeeded
from twistedipc.publish.targets.npm.deliver import deliver
from twistedipc.publish.targets.npm.package import integrity
from twistedipc.publish.targets.npm.places import only
from twistedipc.publish.targets.target import Delivery

pytestmark = pytest.mark.long

SIZE = 20
LAST = f"@set/p{SIZE - 1:02}"

#: What only the client that uploads says of itself.
OF_THE_CLIENT = ("_npmVersion", "_nodeVersion", "_from", "_resolved")

MANAGERS = ("pnpm@10", "yarn@1", "@yarnpkg/cli-dist@4")


@pytest.fixture(autouse=True)
def _node() -> Iterator[None]:
    need_node()
    before = signal.getsignal(signal.SIGTERM)  # the step that publishes has a process of its own, and takes it
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        registry.state.has_stages = False
        yield registry


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Package]:
    """The set: each calls the one before it; their files are named as they stand."""
    folder = tmp_path_factory.mktemp("packed")
    found = []
    for number in range(SIZE):
        name, before = f"@set/p{number:02}", f"@set/p{number - 1:02}"
        manifest = {"name": name, "version": "1.0.0", "main": "index.js", "license": "MIT",
                    "dependencies": {before: "1.0.0"} if number else {}}  # fmt: skip
        count = f"1 + require({json.dumps(before)})()" if number else "1"
        files = {"package.json": json.dumps(manifest), "index.js": f"module.exports = () => {count}\n",
                 "README.md": f"# {name}\n"}  # fmt: skip
        path = folder / f"{number:02}.tgz"
        path.write_bytes(archive(files))
        found.append(Package(file=str(path), name=name, version="1.0.0", integrity=integrity(path)))
    return found


def published_by_us(registry: Registry, packages: list[Package], record: MemoryRecord, otp: str = "") -> list[str]:
    """Return what became of each."""
    folder = Path(packages[0].file).parent
    delivery = Delivery(
        folder=folder, out=folder, packages=packages, secrets={"npm_token": TOKEN}, record=record, set_tag="build-1",
        otp=otp, asks=True,
    )  # fmt: skip
    return [each.status for each in deliver(only(registry.url), "", delivery)]


def by_npm(folder: Path, registry: Registry, *arguments: str) -> str:
    (folder / ".npmrc").write_text(
        f"registry={registry.url}\n{registry.url.removeprefix('http:')}:_authToken={TOKEN}\n"
    )
    return npm(folder, *arguments, "--ignore-scripts")


def has(registry: Registry) -> dict[str, Any]:
    """What a registry has of each package, without its own address, times, and what names the client."""
    found = json.loads(json.dumps(registry.packages).replace(registry.url, "https://npm.example.org/"))
    for package in found.values():
        del package["time"]
        for version in package["versions"].values():
            for key in OF_THE_CLIENT:
                version.pop(key, None)
    return dict(found)


def test_npm_and_the_platform_publish_the_same(registry: Registry, packages: list[Package], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for package in packages:
        by_npm(work, registry, "publish", package.file)
    with running() as other:
        other.state.has_stages = False
        assert published_by_us(other, packages, MemoryRecord(SIZE)) == ["published"] * SIZE
        assert has(other) == has(registry)
    # What npm has published is done, and nothing is uploaded again.
    before = copy.deepcopy(registry.state.changes)
    assert published_by_us(registry, packages, MemoryRecord(SIZE)) == ["already-published"] * SIZE
    assert registry.state.changes == before


def test_npm_and_the_platform_stage_the_same(registry: Registry, packages: list[Package], tmp_path: Path) -> None:
    registry.state.has_stages = True
    version = npm(tmp_path, "--version").partition(".")[0]
    if int(version) < 11:
        pytest.skip(f"npm {version} has no stages")
    work = tmp_path / "work"
    work.mkdir()
    some = packages[:5]
    for package in some:
        by_npm(work, registry, "stage", "publish", package.file)
    for stage in [*registry.state.stages]:
        by_npm(work, registry, "stage", "approve", stage, f"--otp={OTP}")
    with running() as other:
        record = MemoryRecord(len(some))
        with pytest.raises(PersonNeeded, match="5 packages are staged"):
            published_by_us(other, some, record)
        assert published_by_us(other, some, record, OTP) == ["published"] * len(some)
        assert has(other) == has(registry)
        ways = [
            [change.what for change in each.state.changes if change.what in ("stage", "approve")]
            for each in (registry, other)
        ]
        assert ways[0] == ways[1] == ["stage"] * 5 + ["approve"] * 5


def managers() -> Path:
    """Return the folder with package managers, for all tests of this user. The test is skipped if there are none."""
    folder = Path(tempfile.gettempdir()) / f"twistedipc-tests-{os.getuid()}" / "managers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        pytest.skip(f"{folder} is somebody else's")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = folder / "packages"
        if not (folder / "complete").exists():
            packages.mkdir(exist_ok=True)
            (packages / "package.json").write_text('{"private": true}')
            try:
                npm(packages, "install", *MANAGERS)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"{', '.join(MANAGERS)} can't be installed: {str(error)[-300:]}")
            (folder / "complete").touch()
    return packages / "node_modules"


INSTALLS = {
    "npm": ["npm", "install"],
    "pnpm": ["pnpm/bin/pnpm.cjs", "install"],
    "yarn-1": ["yarn/bin/yarn.js", "install", "--non-interactive"],
    "yarn-4": ["@yarnpkg/cli-dist/bin/yarn.js", "install"],
}


@pytest.mark.parametrize("manager", INSTALLS)
def test_who_installs_the_last_one_gets_all(
    registry: Registry, packages: list[Package], tmp_path: Path, manager: str
) -> None:
    published_by_us(registry, packages, MemoryRecord(SIZE))
    work = tmp_path / "work"
    work.mkdir()
    (work / "package.json").write_text(json.dumps({"private": True, "dependencies": {LAST: "latest"}}))
    program, *arguments = INSTALLS[manager]
    node = need_node() / "node"
    command = [str(node.with_name("npm"))] if program == "npm" else [str(node), str(managers() / program)]
    settings = {
        "npm_config_registry": registry.url,
        "npm_config_cache": str(tmp_path / "cache"),
        "YARN_REGISTRY": registry.url,
        "YARN_CACHE_FOLDER": str(tmp_path / "yarn"),
        "YARN_NPM_REGISTRY_SERVER": registry.url,
        "YARN_UNSAFE_HTTP_WHITELIST": "127.0.0.1",
        "YARN_NODE_LINKER": "node-modules",
        "YARN_ENABLE_TELEMETRY": "0",
        "YARN_NPM_MINIMAL_AGE_GATE": "0",  # it takes no version of today by default
        "YARN_ENABLE_IMMUTABLE_INSTALLS": "0",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "CI": "",
    }
    environment = node_environment(tmp_path, settings)
    done = subprocess.run(
        [*command, *arguments], cwd=work, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = subprocess.run(
        [str(node), "-e", f"console.log(require('{LAST}')())"], cwd=work, env=environment, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert asked.stdout == f"{SIZE}\n", asked.stderr
