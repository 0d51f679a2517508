"""
Several packages of one repository, published by builders, real services and managers, to a registry of the tests' own.
``test_from_store`` has what the apiserver publishes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attempt_folder import Attempt, repository, until
from tests.integration.platform import Platform, npm_environment
from tests.node import need_node, node_path
from tests.registry import TOKEN, Registry, running
from twistedipc.builds.attempt import Permit, PermitWanted, Publish, ToolSettings
from twistedipc.builds.settings import BuildSettings
from twistedipc.disk.files import read_file, write_file


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose builder has Node."""
    need_node()
    with Platform(tmp_path_factory.mktemp("packages"), path=node_path()) as platform:
        yield platform


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        yield registry


def files(**packages: dict[str, Any]) -> dict[str, str]:
    """A workspace's files: packages of the scope @team, by their names and folders."""
    top = {"private": True, "workspaces": ["packages/*"]}
    found = {"package.json": json.dumps(top)}
    for name, package in packages.items():
        found[f"packages/{name}/package.json"] = json.dumps({"name": f"@team/{name}", "version": "1.0.0", **package})
        found[f"packages/{name}/index.js"] = f"export const name = '{name}'\n"
    return found


@pytest.mark.long
def test_a_failure_in_the_middle_goes_on_at_a_retry(platform: Platform, registry: Registry) -> None:
    source = platform.repository(
        {
            ".twistedipc.toml": "[build]\nsteps = ['true']\n",
            **files(
                app={"dependencies": {"@team/middle": "^1.0.0"}},
                middle={"dependencies": {"@team/base": "^1.0.0"}},
                base={},
                site={"private": True},
            ),
        }
    )
    target = {"type": "npm", "registry": registry.url, "publish_at": "builder"}
    platform.add_project("ui", source, targets=[target], settings={"packages": ["packages/*"]})
    platform.api("PUT", "/api/v1/projects/ui/secrets/npm_token", {"value": TOKEN})
    registry.state.refuses = {"@team/middle"}
    build = platform.build("ui")
    failed: dict[str, Any] = platform.wait(build)
    assert failed["state"] == "failed"
    assert failed["reason"].startswith("@team/middle@1.0.0 isn't published")
    assert rows(failed) == []  # the first one is there under the set's own tag alone, where nobody looks for it
    assert platform.api("GET", "/api/v1/projects/ui")["targets"][0]["packages"] == [
        "@team/base",
        "@team/middle",
        "@team/app",
    ]

    registry.state.refuses = set()
    again: dict[str, Any] = platform.api("POST", f"/api/v1/builds/{build}/retry")
    done = platform.succeed(again["id"])
    assert rows(done) == [
        ("@team/base", "already-published"),
        ("@team/middle", "published"),
        ("@team/app", "published"),
    ]
    assert registry.uploaded == ["@team/base", "@team/middle", "@team/middle", "@team/app"]
    shown = platform.command("show", str(again["id"])).stdout
    for name, status in rows(done):
        assert f"{name}@1.0.0 ({status})" in shown
    assert TOKEN not in platform.log(again["id"])
    on_disk = subprocess.run(["grep", "-rlF", TOKEN, str(platform.folder)], capture_output=True, check=False)
    assert on_disk.stdout == b""


def rows(build: dict[str, Any]) -> list[tuple[str, str]]:
    """What the last attempt has published."""
    return [(each["name"], each["status"]) for each in build["attempts"][-1]["published"]]


def permit(attempt: Attempt) -> None:
    """Start the attempt, and permit all that it asks to publish."""
    process = attempt.start()
    file = attempt.folder / "permit.wanted"
    until(lambda: file.exists() or process.poll() is not None, "it asks for a permit", 300)
    wanted = read_file(file, PermitWanted)
    assert wanted is not None, "\n".join([*attempt.output(), *attempt.notices()])
    answer = Permit(granted=True, token=TOKEN, packages=1 + len(wanted.also))
    write_file(attempt.folder / "permit", answer, mode=0o600)
    attempt.ring()


@pytest.mark.long
@pytest.mark.parametrize("manager", ["pnpm@10", "yarn@4", "bun@1"])
def test_a_workspaces_own_manager_packs_what_npm_would_not_replace(
    tmp_path: Path, registry: Registry, manager: str
) -> None:
    """Both packages are packed alike at a second build, so that none is a conflict then."""
    sources = files(base={"version": "1.2.3"}, ui={"dependencies": {"@team/base": "workspace:^"}})
    if manager.startswith("pnpm"):
        sources["pnpm-workspace.yaml"] = "packages: ['packages/*']\n"
    repository(tmp_path / "source", sources)
    for number, status in ((1, "published"), (2, "already-published")):
        attempt = Attempt(
            tmp_path,
            tmp_path / "source",
            name=f"1-{number}",
            publish=Publish(npm=True, registry=registry.url),
            path=node_path(),
            environment=npm_environment(),
            tools=ToolSettings(folder=str(tmp_path / "tools")),
            settings=BuildSettings(manager=manager, packages=["packages/*"]),
            timeout=300.0,
            idle_timeout=300.0,
        )
        permit(attempt)
        result = attempt.wait(120)
        assert result.outcome == "succeeded", "\n".join([*attempt.output(), result.reason])
        assert [(each.name, each.status) for each in result.published] == [("@team/base", status), ("@team/ui", status)]
        assert "packing packages/ui" in [step.name for step in result.steps]
    versions: Any = registry.packages["@team/ui"]["versions"]
    assert versions["1.0.0"]["dependencies"] == {"@team/base": "^1.2.3"}
    assert registry.uploaded == ["@team/base", "@team/ui"]
