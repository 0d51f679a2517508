"""
What people do with packages, by the command, with real services and a registry of the tests' own that has stages:
approve a set with one-time passwords, look at the ledger, move tags; and what somebody does at the registry itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import Platform, wait_for
from tests.node import need_node, node_path
from tests.registry import OTP, TOKEN, Registry, running

pytestmark = pytest.mark.long


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        yield registry


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    need_node()
    with Platform(tmp_path, path=node_path()) as platform:
        yield platform


def project(platform: Platform, registry: Registry) -> Path:
    """A project of two packages, of which one needs the other; its repository."""
    target = {"type": "npm", "registry": registry.url}
    repository = platform.repository({".twistedipc.toml": "[build]\nsteps = ['true']\n"} | files("1.0.0"))
    platform.add_project("ui", repository, targets=[target], settings={"packages": ["packages/*"]})
    platform.api("PUT", "/api/v1/projects/ui/secrets/npm_token", {"value": TOKEN})
    return repository


def files(version: str) -> dict[str, str]:
    described = {"app": {"dependencies": {"@ui/base": f"^{version}"}}, "base": {}}
    return {"package.json": '{"private": true}'} | {
        f"packages/{name}/package.json": json.dumps({"name": f"@ui/{name}", "version": version, **more})
        for name, more in described.items()
    }


def latest(registry: Registry, name: str) -> str:
    return str(registry.packages[name]["dist-tags"]["latest"])


def test_a_set_is_approved_by_command_and_its_tags_are_moved(platform: Platform, registry: Registry) -> None:
    repository = project(platform, registry)
    first = platform.build("ui")
    platform.wait(first, {"waiting_approval"})
    assert [each["state"] for each in platform.api("GET", f"/api/v1/builds/{first}")["publications"]] == ["staged"] * 2
    done = platform.command("approve", str(first), "--yes", "--otp", "-", text=f"000000\n{OTP}\n")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said.index("@ui/base@1.0.0: published") < said.index("@ui/app@1.0.0: published")
    assert registry.state.count("approve") == {("@ui/base", "1.0.0"): 1, ("@ui/app", "1.0.0"): 1}
    # The second set: one of its packages is approved at the registry.
    platform.commit(repository, files("1.1.0"))
    second = platform.build("ui")
    platform.wait(second, {"waiting_approval"})
    (stage,) = [each for each in registry.state.stages.values() if each.name == "@ui/base"]
    registry.state.approve(stage.id, "somebody else", 0)

    def base() -> dict[str, str]:
        found: dict[str, str] = platform.api("GET", f"/api/v1/builds/{second}")["publications"][0]
        return found

    wait_for("the approval at the registry is noticed", lambda: base()["state"] != "staged", deadline=90)
    assert base()["approved_by"] == "elsewhere"
    platform.wait(second, {"waiting_approval"})
    done = platform.command("approve", str(second), "--yes", "--otp", "-", text=f"{OTP}\n")
    assert done.returncode == 0, done.stderr
    assert (latest(registry, "@ui/base"), latest(registry, "@ui/app")) == ("1.1.0", "1.1.0")
    shown = platform.command("packages", "ui", "@ui/app")
    assert (shown.returncode, "1.1.0" in shown.stdout, "approve" in shown.stdout) == (0, True, True), shown.stderr
    back = platform.command("packages", "rollback", "ui", "@ui/app", "--yes")
    assert (back.returncode, latest(registry, "@ui/app")) == (0, "1.0.0"), back.stderr
    told = platform.command("packages", "deprecate", "ui", "@ui/app", "1.1.0", "--message", "use 1.0.0", "--yes")
    assert told.returncode == 0, told.stderr
    assert registry.packages["@ui/app"]["versions"]["1.1.0"]["deprecated"] == "use 1.0.0"
    registry.state.set_tag("@ui/app", "latest", "1.1.0", "somebody else", 0)

    def moved() -> list[str]:
        page = platform.api("GET", "/api/v1/projects/ui/packages/@ui/app")
        return [each["text"] for each in page["moved"]]

    wait_for("the tag that was moved is noticed", lambda: bool(moved()), deadline=90)
    assert moved() == ["the tag latest was moved from 1.0.0 to 1.1.0, and not from here"]
    kept = [path for path in platform.folder.rglob("*") if path.is_file() and OTP.encode() in path.read_bytes()]
    assert kept == []
