"""
Front-end projects as they are: a package with real dependencies is installed and built, and published to a real
registry (Verdaccio), then once more, and then otherwise. Everything comes from the registry that npm is set up for.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node import npm
from tests.integration.platform import Platform
from tests.node import node_path
from tests.registry.verdaccio import Verdaccio, running_verdaccio

pytestmark = pytest.mark.long

# webpack has no packages that exist for one kind of machine only, which not every registry's mirror has all of.
STOREFRONT = {
    "package.json": json.dumps(
        {
            "name": "storefront",
            "private": True,
            "scripts": {"build": "webpack --mode production"},
            "devDependencies": {"webpack": "^5", "webpack-cli": "^6", "html-webpack-plugin": "^5"},
            "dependencies": {"lit": "^3"},
        }
    ),
    "webpack.config.js": (
        'const Html = require("html-webpack-plugin");\n'
        'module.exports = { entry: "./main.js", plugins: [new Html({ title: "Store" })],\n'
        '  output: { filename: "assets/[name]-[contenthash].js", publicPath: "/" } };\n'
    ),
    "main.js": (
        'import { LitElement, html } from "lit";\n'
        'customElements.define("main-page", class extends LitElement { render() { return html`<h1>Open</h1>`; } });\n'
    ),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdaccio]:
    """A registry that the tests of this module share."""
    with running_verdaccio(tmp_path_factory.mktemp("verdaccio")) as registry:
        yield registry


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose builder has Node."""
    with Platform(tmp_path_factory.mktemp("npm"), path=node_path()) as platform:
        yield platform


def commands(build: dict[str, Any]) -> list[str]:
    """What the build's steps ran, without the platform's own."""
    return [step["command"] for step in build["attempts"][0]["steps"] if step["command"]]


def test_a_package_with_real_dependencies_is_built_and_released(platform: Platform, tmp_path: Path) -> None:
    """``npm ci`` from a lock file, ``webpack``, and the release in its own origin, with its hashed assets."""
    made = tmp_path / "made"
    made.mkdir()
    for name, content in STOREFRONT.items():
        (made / name).write_text(content)
    npm(made, "install", "--package-lock-only")
    files = {**STOREFRONT, "package-lock.json": (made / "package-lock.json").read_text()}
    platform.add_project("storefront", platform.repository(files))
    found = platform.succeed(platform.build("storefront"))
    assert commands(found) == ["npm ci --prefer-offline", "npm run build"]
    page = platform.released("storefront")
    found_asset = re.search(r'src="?([^" >]+)', page)
    assert found_asset is not None
    asset = found_asset[1]
    assert asset.startswith("/assets/")
    assert "main-page" in platform.released("storefront", asset)


def test_without_a_lock_file_npm_install_is_run(platform: Platform) -> None:
    """And a project without dependencies needs no network."""
    files = {
        "package.json": json.dumps(
            {"name": "bare", "private": True, "scripts": {"build": "mkdir out && echo hi > out/index.html"}}
        )
    }
    platform.add_project("bare", platform.repository(files))
    found = platform.succeed(platform.build("bare"))
    assert commands(found)[0].startswith("npm install")
    assert platform.released("bare") == "hi\n"


def test_a_package_is_published_then_once_more_then_otherwise(platform: Platform, registry: Verdaccio) -> None:
    """Published; the same again is no error; other content under the same version is a conflict that stops."""
    package = {
        "name": "buttons",
        "version": "1.0.0",
        "files": ["dist"],
        "main": "dist/index.js",
        "scripts": {
            "build": "mkdir -p dist && node -e \"console.log('module.exports = 1')\" > dist/index.js; env",
            "postpublish": "echo SCRIPTS-RAN && exit 1",
        },
    }
    repository = platform.repository({"package.json": json.dumps(package)})
    publish = {"static": False, "npm": True, "registry": registry.url}
    platform.add_project("buttons", repository, publish=publish)
    # Without the project's token nothing is published, and the reason is said.
    found = platform.wait(platform.build("buttons"))
    assert found["state"] == "failed"
    assert "npm_token" in found["reason"]
    platform.api("PUT", "/api/v1/projects/buttons/secrets/npm_token", {"value": registry.token})
    assert platform.api("GET", "/api/v1/projects/buttons")["secrets"] == ["npm_token"]

    first = platform.succeed(platform.build("buttons"))
    (published,) = first["attempts"][0]["published"]
    assert (published["name"], published["version"], published["status"]) == ("buttons", "1.0.0", "published")
    assert registry.package("buttons")["versions"]["1.0.0"]["dist"]["integrity"] == published["integrity"]

    again = platform.succeed(platform.build("buttons"))
    assert again["attempts"][0]["published"][0]["status"] == "already-published"

    package["scripts"] = {"build": "mkdir -p dist && echo 'module.exports = 2' > dist/index.js"}
    platform.commit(repository, {"package.json": json.dumps(package)})
    conflict = platform.wait(platform.build("buttons"))
    assert conflict["state"] == "failed"
    assert "1.0.0" in conflict["reason"]
    assert registry.package("buttons")["versions"]["1.0.0"]["dist"]["integrity"] == published["integrity"]

    # A build that is not to publish builds only.
    quiet = platform.succeed(platform.build("buttons", publish=False))
    assert quiet["attempts"][0]["published"] == []

    logs = [platform.log(each["id"]) for each in (first, again, conflict, quiet)]
    assert not any(registry.token in log or "SCRIPTS-RAN" in log or "NODE_AUTH_TOKEN" in log for log in logs)
    on_disk = subprocess.run(
        ["grep", "-rlF", registry.token, str(platform.folder)], capture_output=True, text=True, check=False
    )
    assert on_disk.stdout == ""
