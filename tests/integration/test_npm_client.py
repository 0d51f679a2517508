"""The client of npm registries against a registry that others wrote (Verdaccio); what it publishes, npm installs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.node import npm
from tests.package_registry import archive
from tests.registry.verdaccio import Verdaccio, running_verdaccio
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def verdaccio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdaccio]:
    with running_verdaccio(tmp_path_factory.mktemp("verdaccio")) as verdaccio:
        yield verdaccio


def tarball(folder: Path, version: str, text: str = "") -> Path:
    path = folder / f"{version}{text}.tgz"
    package = {"name": "@acme/tool", "version": version, "bin": "./tool.js", "dependencies": {}}
    tool = f"#!/usr/bin/env node\nconsole.log('tool {version}{text}')\n"
    path.write_bytes(archive({"package.json": json.dumps(package), "tool.js": tool, "README.md": "# Tool\n"}))
    return path


def test_what_is_published_there_is_found_tagged_deprecated_and_installed(verdaccio: Verdaccio, tmp_path: Path) -> None:
    client = Client(verdaccio.url, verdaccio.token, Connection(Npmrc({}), {}))
    absent = client.look("@acme/tool")
    assert isinstance(absent, Answer)
    assert absent.kind is Kind.ABSENT
    assert client.has_staging() is False

    for version, tag in (("1.0.0", "latest"), ("1.1.0", "build-17")):
        answer = client.upload(tarball(tmp_path, version), tag=tag)
        assert answer.kind is Kind.DONE, answer
    again = client.upload(tarball(tmp_path, "1.0.0", "other"), tag="latest")
    assert (again.kind, again.unsure) == (Kind.TAKEN, True), again
    stranger = Client(verdaccio.url, "no-token-of-theirs", Connection(Npmrc({}), {}))
    assert stranger.upload(tarball(tmp_path, "1.2.0"), tag="latest").kind is Kind.DENIED

    assert client.set_tag("@acme/tool", "latest", "1.1.0").kind is Kind.DONE
    assert client.remove_tag("@acme/tool", "build-17").kind is Kind.DONE
    assert client.deprecate("@acme/tool", ["1.0.0"], "use 1.1.0").kind is Kind.DONE
    found = client.look("@acme/tool")
    assert isinstance(found, Found)
    assert dict(found.tags) == {"latest": "1.1.0"}
    assert [found.versions[version].deprecated for version in ("1.0.0", "1.1.0")] == ["use 1.1.0", ""]
    assert client.fetch("@acme/tool", "1.0.0", tmp_path / "fetched", 1 << 20).kind is Kind.DONE
    assert (tmp_path / "fetched").read_bytes() == (tmp_path / "1.0.0.tgz").read_bytes()

    home = tmp_path / "home"
    home.mkdir()
    (home / "package.json").write_text('{"private": true}')
    more = {"npm_config_registry": verdaccio.url}
    npm(home, "install", "@acme/tool", more=more)
    assert npm(home, "exec", "--", "tool", more=more).strip() == "tool 1.1.0"
