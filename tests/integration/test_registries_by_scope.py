"""
A project with two registries, one for a scope and one for all else: real managers install from both, and packages are
published to both. Each has tokens of its own, and no token ever arrives where it isn't for.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.node import npm
from tests.integration.platform import Platform
from tests.node import node_path
from tests.package_registry import archive
from tests.registry import Account, Registry, running
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

pytestmark = pytest.mark.long

OWNER = "npm_WhoPutThemThere"

#: registry -> the token of the builds' install step, and that of what is published
REST, ACME = ("npm_InstallRest", "npm_PublishRest"), ("npm_InstallAcme", "npm_PublishAcme")

#: manager -> how it installs what package.json names
INSTALLS = {"npm": "npm ci", "pnpm": "pnpm install --no-frozen-lockfile", "yarn": "yarn install --no-immutable"}

#: What the build prints shows that both dependencies are there, in the content of their own registry.
CHECK = "console.log('has ' + require('@acme/base') + ', ' + require('plain') + ', ' + require('far'))"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("scopes"), path=node_path()) as platform:
        yield platform


class World:
    """
    Both registries, which show nothing to callers without a token of theirs. Each has a package of the other's kind
    too, whose content is wrong. And a third host, where an archive is that the second names.
    """

    def __init__(self, rest: Registry, acme: Registry, stranger: Registry, folder: Path) -> None:
        self.rest, self.acme, self.stranger = rest, acme, stranger
        self._folder = folder
        for registry, (install, publish) in ((rest, REST), (acme, ACME)):
            registry.state.has_stages = False
            registry.state.private = True
            registry.state.accounts = {
                OWNER: Account(),
                install: Account(may_publish=False),
                publish: Account(),
            }
            for name in ("@acme/base", "plain", "far"):
                right = name.startswith("@acme/") is (registry is acme)
                self._put(registry, name, name if right else "wrong")
        path = "far/-/far-1.0.0.tgz"
        rest.packages["far"]["versions"]["1.0.0"]["dist"]["tarball"] = f"{stranger.url}{path}"
        stranger.state.contents[path] = rest.state.contents.pop(path)
        self.forget()

    def _put(self, registry: Registry, name: str, says: str) -> None:
        path = self._folder / "put.tgz"
        package = {"name": name, "version": "1.0.0", "main": "index.js"}
        path.write_bytes(
            archive({"package.json": json.dumps(package), "index.js": f"module.exports = {json.dumps(says)}\n"})
        )
        answer = Client(registry.url, OWNER, Connection(Npmrc({}), {})).upload(path, tag="latest")
        assert answer.kind is Kind.DONE, answer

    def forget(self) -> None:
        """Forget what was asked until now."""
        for registry in (self.rest, self.acme, self.stranger):
            registry.asked.clear()

    @property
    def registries(self) -> list[dict[str, Any]]:
        """From where a project's builds install."""
        return [
            {"address": self.rest.url, "secret": "REST"},
            {"address": self.acme.url, "secret": "ACME", "scopes": ["@acme"]},
        ]

    @property
    def target(self) -> dict[str, Any]:
        """Where a project's packages go."""
        return {"type": "npm", "registry": self.rest.url, "scopes": [f"@acme={self.acme.url}"]}

    def lock(self, package: dict[str, Any]) -> str:
        """The lock file that a developer has of it."""
        work = self._folder / "developer"
        work.mkdir()
        (work / "package.json").write_text(json.dumps(package))
        (work / ".npmrc").write_text(
            f"registry={self.rest.url}\n{self.rest.url.removeprefix('http:')}:_authToken={REST[0]}\n"
            f"@acme:registry={self.acme.url}\n{self.acme.url.removeprefix('http:')}:_authToken={ACME[0]}\n"
        )
        npm(work, "install", "--package-lock-only")
        self.forget()
        return (work / "package-lock.json").read_text()

    def check(self, manager: str) -> None:
        """Both were asked in both ways, with the token for each, and nothing of it went elsewhere."""
        for registry, (install, publish) in ((self.rest, REST), (self.acme, ACME)):
            reads = {each.headers.get("authorization") for each in registry.asked if each.method == "GET"}
            writes = {each.headers.get("authorization") for each in registry.asked if each.method != "GET"}
            assert reads == {f"Bearer {install}", f"Bearer {publish}"}
            assert writes == {f"Bearer {publish}"}
        assert {each.path for each in self.stranger.asked} == {"/far/-/far-1.0.0.tgz"}
        # Yarn sends what is for the registry wherever that registry says that an archive is; docs/configuration.md too.
        expected = f"Bearer {REST[0]}" if manager == "yarn" else None
        assert {each.headers.get("authorization") for each in self.stranger.asked} == {expected}
        arrived = {registry: repr(registry.asked) for registry in (self.rest, self.acme, self.stranger)}
        assert not [token for token in ACME if token in arrived[self.rest] + arrived[self.stranger]]
        assert not [token for token in REST if token in arrived[self.acme]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running() as rest, running() as acme, running() as stranger:
        yield World(rest, acme, stranger, tmp_path)


@pytest.mark.parametrize("manager", ["npm", "pnpm@10", "yarn@4"])
def test_two_registries(platform: Platform, world: World, manager: str) -> None:
    """Packages of the scope come from its registry and go there, all others from and to the other one."""
    name = manager.partition("@")[0]
    root: dict[str, Any] = {
        "name": "root",
        "private": True,
        "dependencies": {"@acme/base": "^1.0.0", "plain": "^1.0.0", "far": "^1.0.0"},
    }
    files = {
        "package.json": json.dumps(root),
        ".twistedipc.toml": (f"[build]\nsteps = [{{name = 'install', run = '{INSTALLS[name]}'}}, 'node check.js']\n"),
        "check.js": CHECK,
        "packages/ui/package.json": json.dumps({"name": "@acme/ui", "version": "1.0.0", "dependencies": {"kit": "^1"}}),
        "packages/ui/index.js": "module.exports = 1\n",
        "packages/kit/package.json": json.dumps({"name": "kit", "version": "1.0.0"}),
        "packages/kit/index.js": "module.exports = 1\n",
    }
    if name == "npm":
        files["package-lock.json"] = world.lock(root)
    if name == "yarn":
        # It takes no version of today unless it is told to, once for the scope and once for all others.
        files[".yarnrc.yml"] = json.dumps(
            {
                "nodeLinker": "node-modules",
                "npmMinimalAgeGate": 0,
                "npmScopes": {"acme": {"npmMinimalAgeGate": 0}},
            }
        )
    settings: dict[str, Any] = {"packages": ["packages/*"], "hosts": [urlsplit(world.stranger.url).netloc]}
    settings |= {} if name == "npm" else {"manager": manager}
    platform.add_project(name, platform.repository(files), settings=settings, targets=[world.target])
    platform.api("PATCH", f"/api/v1/projects/{name}", {"registries": world.registries})
    secrets = f"/api/v1/projects/{name}/secrets"
    for secret, value in (("REST", REST[0]), ("ACME", ACME[0])):
        platform.api("PUT", f"{secrets}/{secret}", {"value": value, "steps": "install"})
    for secret, value in (("npm_token", REST[1]), ("npm_token@acme", ACME[1])):
        platform.api("PUT", f"{secrets}/{secret}", {"value": value})

    done = platform.succeed(platform.build(name))
    log = platform.log(done["id"])
    assert "has @acme/base, plain, far" in log
    assert [(each["name"], each["status"]) for each in done["attempts"][-1]["published"]] == [
        ("kit", "published"),
        ("@acme/ui", "published"),
    ]
    assert (world.rest.uploaded, world.acme.uploaded) == (["kit"], ["@acme/ui"])
    world.check(name)
    for token in (*REST, *ACME):
        assert token not in log
        found = subprocess.run(["grep", "-rlF", token, str(platform.folder)], capture_output=True, check=False)
        assert found.stdout == b""
