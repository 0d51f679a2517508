"""Versions that a request raises, and canaries, from the API to the registry, with real services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform, git
from tests.node import need_node, node_path
from tests.registry import TOKEN, Registry, running

pytestmark = pytest.mark.long


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        registry.state.has_stages = False
        yield registry


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    need_node()
    with Platform(tmp_path, path=node_path()) as platform:
        yield platform


def published(registry: Registry, version: str) -> dict[str, Any]:
    """What the registry has of the package that needs the other, in this version, which both must have."""
    assert version in registry.packages["@acme/base"]["versions"]
    found: dict[str, Any] = registry.packages["@acme/app"]["versions"][version]
    return found


def test_versions_by_request_and_canaries(platform: Platform, registry: Registry) -> None:
    files = {".twistedipc.toml": "[build]\nsteps = ['true']\n", "package.json": '{"private": true}'}
    for name, needs in (("app", {"@acme/base": "^1.0.0"}), ("base", {})):
        said = {"name": f"@acme/{name}", "version": "1.0.0", "dependencies": needs}
        files[f"packages/{name}/package.json"] = json.dumps(said)
        files[f"packages/{name}/index.js"] = f"export const name = '{name}'\n"
    repository = platform.repository(files)
    target = {"type": "npm", "registry": registry.url, "canary": True}
    platform.add_project("ui", repository, targets=[target], settings={"packages": ["packages/*"]})
    platform.api("PUT", "/api/v1/projects/ui/secrets/npm_token", {"value": TOKEN})

    def latest() -> list[str]:
        return [registry.packages[f"@acme/{name}"]["dist-tags"]["latest"] for name in ("base", "app")]

    done = platform.succeed(platform.build("ui", bump="patch"))
    assert [(each["name"], each["version"]) for each in done["attempts"][0]["published"]] == [
        ("@acme/base", "1.0.1"), ("@acme/app", "1.0.1"),
    ]  # fmt: skip
    assert published(registry, "1.0.1")["dependencies"] == {"@acme/base": "^1.0.1"}
    assert latest() == ["1.0.1", "1.0.1"]

    # Nobody has committed that version: the next patch isn't that one again.
    platform.succeed(platform.build("ui", bump="patch"))
    assert latest() == ["1.0.2", "1.0.2"]

    asked = platform.command("build", "ui", "--bump", "minor", "--follow")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert published(registry, "1.1.0")["dependencies"] == {"@acme/base": "^1.1.0"}
    assert latest() == ["1.1.0", "1.1.0"]

    git(repository, "checkout", "-q", "-b", "feature-x")
    platform.commit(repository, {"packages/base/index.js": "export const name = 'preview'\n"})
    preview = platform.api("POST", "/api/v1/projects/ui/builds", {"ref": "feature-x"})
    assert preview["canary"] == "feature-x"
    platform.succeed(preview["id"])
    version = f"1.0.3-feature-x.{preview['id']}"  # after the versions of the builds, before the patch that is next
    assert published(registry, version)["dependencies"] == {"@acme/base": version}
    assert registry.packages["@acme/app"]["dist-tags"] == {"latest": "1.1.0", "feature-x": version}
    assert latest() == ["1.1.0", "1.1.0"]

    # The ledger has the same, and who did what.
    page = platform.api("GET", "/api/v1/projects/ui/packages/@acme/app")
    kept = {each["version"] for each in page["publications"]}
    assert kept == {"1.0.1", "1.0.2", "1.1.0", version} == set(registry.packages["@acme/app"]["versions"])
    counts = registry.state.count("publish")
    assert set(counts.values()) == {1}
    assert len(counts) == 8
