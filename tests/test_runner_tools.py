"""The Node and the manager of an attempt's steps: real attempts, a registry of the tests' own, and no Node on PATH."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import package_registry
from tests.attempt_folder import Attempt, repository, toml
from tests.package_registry import PackageRegistry, put_on_path
from twistedipc.builds.attempt import Result, ToolSettings
from twistedipc.builds.settings import BuildSettings
from twistedipc.toolchains.machine import this_kind

NODE = f"node-{this_kind().os}-{this_kind().cpu}"


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    with package_registry.running() as registry:
        for each in ("20.1.0", "22.13.0"):
            registry.add(NODE, each, package_registry.node(each))
        registry.add("npm", "10.9.0", package_registry.manager("npm", "10.9.0", commands=["npm", "npx"]))
        registry.add("pnpm", "9.15.0", package_registry.manager("pnpm", "9.15.0", commands=["pnpm", "pnpx"]))
        yield registry


@pytest.fixture
def path(tmp_path: Path) -> str:
    """PATH with what a build needs, but Node."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in ("git", "sh", "cat", "mkdir", "env"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return str(folder)


class Builder:
    """A builder of which attempts are run."""

    def __init__(self, folder: Path, path: str, registry: PackageRegistry) -> None:
        self.folder = folder
        self.path = path
        self.tools = ToolSettings(folder=str(folder / "toolchains"), registry=registry.url)
        self.number = 0

    def run(self, *steps: str, manager: str = "", node: str = "") -> Attempt:
        """An attempt with these steps, of a project with a package.json."""
        self.number += 1
        source = self.folder / f"source{self.number}"
        repository(source, {".twistedipc.toml": toml(*steps), "package.json": json.dumps({"name": "x"})})
        attempt = Attempt(
            self.folder,
            source,
            name=f"{self.number}-1",
            path=self.path,
            tools=self.tools,
            settings=BuildSettings(manager=manager, node=node),
        )
        attempt.run()
        return attempt


def said(attempt: Attempt) -> str:
    """All of its output."""
    return "\n".join([*attempt.output(), ""])


def result(attempt: Attempt) -> Result:
    found = attempt.result
    assert found is not None
    return found


@pytest.fixture
def builder(tmp_path: Path, path: str, registry: PackageRegistry) -> Builder:
    return Builder(tmp_path, path, registry)


def steps(attempt: Attempt) -> list[str]:
    return [step.name for step in result(attempt).steps]


def test_a_machine_without_node_builds_projects_of_node(builder: Builder) -> None:
    attempt = builder.run("node --version; npm run; npx y")
    assert result(attempt).outcome == "succeeded", said(attempt)
    assert steps(attempt) == ["checkout", "toolchain", "s0"]
    assert [line for line in said(attempt).splitlines() if line][-5:] == [
        "npm 10.9.0, from the registry: it comes with Node 22",
        "node 22.13.0, from the registry: the project asks for none",
        "v22.13.0",
        "npm 10.9.0 run",
        "npx 10.9.0 y",
    ]
    # From then on there is nothing to fetch, and no step for it.
    attempt = builder.run("node --version")
    assert steps(attempt) == ["checkout", "s0"]
    assert "node 22.13.0, in the builder's store: the project asks for none" in attempt.notices()


def test_a_project_gets_what_it_asks_for(builder: Builder) -> None:
    put_on_path(builder.folder / "path", "node", "echo v18.0.0")
    attempt = builder.run("node --version; pnpm a", "echo $npm_config_prefix", manager="pnpm@9", node="20")
    assert result(attempt).outcome == "succeeded", said(attempt)
    assert "v20.1.0\npnpm 9.15.0 a\n" in said(attempt)
    assert f"{attempt.folder}/home/.npm-global\n" in said(attempt)
    assert said(builder.run("node --version")).endswith("v18.0.0\n")


def test_a_program_of_a_script_finds_the_tools_too(builder: Builder) -> None:
    attempt = builder.run("sh -c 'sh -c \"pnpm inside\"'", manager="pnpm", node="20")
    assert "pnpm 9.15.0 inside\n" in said(attempt)


def test_what_there_is_not_fails_with_a_sentence(builder: Builder) -> None:
    attempt = builder.run("touch ran", node="23")
    assert result(attempt).outcome == "failed"
    assert result(attempt).reason == (
        "node 23 (the project's setting) doesn't exist in the package registry: near it, the registry has only 20.1.0"
        " and 22.13.0"
    )
    assert steps(attempt) == ["checkout", "toolchain"]
    attempt = builder.run("touch ran", node="next")
    assert steps(attempt) == ["checkout"]
    assert result(attempt).reason == (
        "node can't be chosen (the project's setting): "
        '"next" is neither a version nor a range of versions that npm knows'
    )
    assert not (attempt.folder / "work/ran").exists()


def test_a_builder_of_before_brings_nothing(builder: Builder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml("echo $PATH"), "package.json": "{}"})
    attempt = Attempt(tmp_path, source, path=builder.path, settings=BuildSettings(node="20"))
    attempt.run()
    assert steps(attempt) == ["checkout", "s0"]
    assert said(attempt).endswith(f":{builder.path}\n")


def test_a_store_with_a_colon_in_its_name(builder: Builder) -> None:
    builder.tools = ToolSettings(folder=f"{builder.folder}/a:b/tools", registry=builder.tools.registry)
    attempt = builder.run("node --version; pnpm a", manager="pnpm@9")
    assert "v22.13.0\npnpm 9.15.0 a\n" in said(attempt)


def test_what_the_operator_forbids(builder: Builder) -> None:
    builder.tools = ToolSettings(folder=builder.tools.folder, registry=builder.tools.registry, forbid=["node@22"])
    assert "v20.1.0\n" in said(builder.run("node --version"))


def test_the_steps_of_the_platform_prefer_what_the_operator_has(builder: Builder) -> None:
    """The pack step, which may run npm, has the tools too, after the operator's own."""
    attempt = builder.run("mkdir dist; echo '<p>' > dist/index.html")
    assert result(attempt).outcome == "succeeded", said(attempt)
    assert steps(attempt)[-1] == "pack"


def test_the_variables_of_corepack_are_off(builder: Builder) -> None:
    attempt = builder.run("env", manager="pnpm@9")
    variables = dict(line.partition("=")[::2] for line in said(attempt).splitlines())
    assert variables["COREPACK_ENABLE_STRICT"] == "0"
    assert variables["npm_config_manage_package_manager_versions"] == "false"
    assert os.path.basename(variables["PATH"].split(":")[0]) == "bin"
