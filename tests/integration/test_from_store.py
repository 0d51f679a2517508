"""
Packages that the apiserver publishes from what was stored, by real services and npm to a registry of the tests' own: no
builder sees the token, and each version is published once, whatever is killed. ``test_kills`` has sets of twenty.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import expect

from tests.integration.browser import chromium
from tests.integration.platform import Platform, Problem, wait_for
from tests.node import need_node, node_path
from tests.registry import TOKEN, Fault, Registry, running
from twistedipc.attempts.crashpoints import CrashPoint

pytestmark = pytest.mark.long


class Wire:
    """A link's way over two sockets in a folder, on which all that is said to the builder is kept."""

    def __init__(self, folder: Path) -> None:
        self.said = bytearray()
        self._folder = folder
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / "apiserver.sock"))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            apiserver, _ = self._server.accept()
            builder = socket.socket(socket.AF_UNIX)
            try:
                builder.connect(str(self._folder / "builder.sock"))
            except OSError:
                apiserver.close()
                continue
            for one, other, kept in ((apiserver, builder, self.said), (builder, apiserver, None)):
                threading.Thread(target=self._carry, args=(one, other, kept), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, kept: bytearray | None) -> None:
        with suppress(OSError), one, other:
            while data := one.recv(1 << 16):
                if kept is not None:
                    kept += data
                other.sendall(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("from-store")


@pytest.fixture(scope="module")
def wire(folder: Path) -> Wire:
    return Wire(folder)


@pytest.fixture(scope="module")
def platform(folder: Path, wire: Wire) -> Iterator[Platform]:
    """A platform whose apiserver has Node, and its builder too."""
    need_node()
    more = {"apiserver_link": {"dial": ["unix:apiserver.sock"]}, "builder_link": {"listen": ["unix:builder.sock"]},
            "publint": True}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, Platform(folder, path=node_path(), **more) as platform:  # type: ignore[arg-type]
        patch.setenv("PATH", f"{node_path()}:{os.environ['PATH']}")  # of the apiservers that are started from now on
        platform.apiserver.stop()
        platform.apiserver.start()
        platform.linked()
        platform.apiserver.crashes = platform.builder.crashes = True
        yield platform


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        registry.state.has_stages = False
        yield registry


def project(platform: Platform, registry: Registry, name: str, at: str = "", **more: Any) -> None:
    """A project of two packages, of which one needs the other."""
    files = {".twistedipc.toml": "[build]\nsteps = ['true']\n", "package.json": '{"private": true}'}
    for package, needs in (("app", {f"@{name}/base": "^1.0.0"}), ("base", {})):
        said = {"name": f"@{name}/{package}", "version": "1.0.0", "dependencies": needs}
        files[f"packages/{package}/package.json"] = json.dumps(said)
        files[f"packages/{package}/index.js"] = f"export const name = '{package}'\n"
    target = {"type": "npm", "registry": registry.url, "publish_at": at}
    settings = {"packages": ["packages/*"]}
    platform.add_project(name, platform.repository(files), targets=[target], settings=settings, **more)
    platform.api("PUT", f"/api/v1/projects/{name}/secrets/npm_token", {"value": TOKEN})


def on_disk(platform: Platform) -> bytes:
    """Files in which the token stands."""
    return subprocess.run(["grep", "-rlF", TOKEN, str(platform.folder)], capture_output=True, check=False).stdout


def test_no_builder_is_sent_the_token(platform: Platform, registry: Registry, wire: Wire) -> None:
    project(platform, registry, "kept")
    done = platform.succeed(platform.build("kept"))
    attempt = done["attempts"][0]
    assert [(each["name"], each["status"]) for each in attempt["published"]] == [
        ("@kept/base", "published"), ("@kept/app", "published"),
    ]  # fmt: skip
    assert registry.uploaded == ["@kept/base", "@kept/app"]
    assert {each.headers["authorization"] for each in registry.uploads} == {f"Bearer {TOKEN}"}
    assert [(step["name"], step["outcome"]) for step in attempt["steps"]][-1] == ("publish", "succeeded")
    log = platform.log(done["id"])
    assert "Publishing @kept/base 1.0.0" in log
    assert attempt["complete"]
    assert f'"attempt":"{done["id"]}-1"'.encode() in wire.said
    assert TOKEN.encode() not in wire.said
    assert on_disk(platform) == b""
    assert list((platform.folder / "apiserver-data/publishing").iterdir()) == []
    assert [path for path in (platform.folder / "apiserver-data/artifacts/complete").rglob("*") if path.is_file()] == []
    # The same, published by a builder: this would have been seen.
    project(platform, registry, "sent", at="builder")
    platform.succeed(platform.build("sent"))
    assert TOKEN.encode() in wire.said


def test_no_token_is_needed_where_the_registry_trusts_the_apiserver(platform: Platform, registry: Registry) -> None:
    """It checks what it is told by the keys that the apiserver serves, as registries do. No token is anywhere."""
    said: list[dict[str, Any]] = []

    def trusts(id_token: str, package: str) -> bool:
        with urllib.request.urlopen(f"{platform.url}/.well-known/openid-configuration", timeout=30) as answer:
            configuration = json.load(answer)
        public = jwt.PyJWKClient(configuration["jwks_uri"]).get_signing_key_from_jwt(id_token)
        found = jwt.decode(id_token, public, ["RS256"], audience="npm:127.0.0.1", issuer=configuration["issuer"])
        said.append(found)
        return bool(found["sub"] == "project:trusted:environment:production" and package.startswith("@trusted/"))

    registry.state.trusts = trusts
    registry.state.private = True
    registry.state.accounts.clear()
    project(platform, registry, "trusted")
    platform.api("DELETE", "/api/v1/projects/trusted/secrets/npm_token")
    target = {"type": "npm", "registry": registry.url, "auth": "oidc"}
    for at, version in (("apiserver", "1.0.0"), ("builder", "1.0.1")):
        changed = platform.api("PATCH", "/api/v1/projects/trusted", {"targets": [{**target, "publish_at": at}]})
        (notice,) = [each for each in changed["notices"] if "subject" in each]
        assert f"issuer {platform.url}, subject project:trusted:environment:production" in notice
        repository = Path(changed["repository"])
        for each, needs in (("app", {"@trusted/base": f"^{version}"}), ("base", {})):
            packed = {"name": f"@trusted/{each}", "version": version, "dependencies": needs}
            platform.commit(repository, {f"packages/{each}/package.json": json.dumps(packed)})
        done = platform.succeed(platform.build("trusted"))
        assert {each["status"] for each in done["attempts"][0]["published"]} == {"published"}
        commit = done["attempts"][0]["commit"]
        assert {(each["attempt"], each.get("commit")) for each in said} == {(f"{done['id']}-1", commit)}
        assert registry.packages["@trusted/app"]["dist-tags"] == {"latest": version}
        assert set(registry.state.accounts) & set(re.findall(r"npm_exchanged\d+", platform.log(done["id"]))) == set()
        assert "eyJ" not in platform.log(done["id"])
        said.clear()


def test_another_person_approves_what_is_published(platform: Platform, registry: Registry) -> None:
    project(platform, registry, "asked")
    platform.succeed(platform.build("asked"))
    platform.api("PATCH", "/api/v1/projects/asked", {"approval": 1})
    repository = Path(platform.api("GET", "/api/v1/projects/asked")["repository"])
    said = {"name": "@asked/base", "version": "1.1.0", "scripts": {"postinstall": "node evil.js"}}
    changes = {"packages/base/package.json": json.dumps(said), "packages/base/evil.js": "evil()\n"}
    platform.commit(repository, changes)
    build, refused = platform.build("asked"), platform.build("asked")
    for each in (build, refused):
        platform.wait(each, {"waiting_approval"})
    assert len(registry.uploads) == 2
    base, app = platform.api("GET", f"/api/v1/builds/{build}/changes")["packages"]
    assert (base["version"], base["published"], base["unknown"]) == ("1.1.0", "1.0.0", "")
    assert [each["path"] for each in base["added"]] == ["evil.js"]
    assert [each["path"] for each in base["changed"]] == ["package.json"]
    assert base["notes"] == [
        "the script postinstall, which is run where the package is installed, is new: node evil.js"
    ]
    assert (app["published"], app["added_count"], app["changed_count"]) == ("1.0.0", 0, 0)
    # publint is fetched from the registry that npm is set up for here.
    assert (base["publint"][:4], base["publint_why"]) == ("0.3.", "")
    levels = [each["level"] for each in base["remarks"]]
    assert levels == sorted(levels, key=["danger", "warning", "info"].index)
    assert any("publint: " in each["text"] and "index.js" in each["text"] for each in base["remarks"])
    with pytest.raises(Problem, match="another person"):
        platform.api("POST", f"/api/v1/builds/{build}/approve")
    ada, platform.token = platform.token, platform.make_token(f"bob-{build}", "publish")
    try:
        done = platform.command("approve", str(build), "--yes")
        assert done.returncode == 0, done.stderr
        assert "evil.js" in done.stdout
        platform.api("POST", f"/api/v1/builds/{refused}/refuse", {"reason": "once is enough"})
    finally:
        platform.token = ada
    found = platform.succeed(build)
    assert [each["status"] for each in found["attempts"][0]["published"]] == ["published", "already-published"]
    assert found["attempts"][0]["complete"]
    assert platform.wait(refused)["state"] == "cancelled"
    assert registry.uploaded == ["@asked/base", "@asked/app", "@asked/base"]
    assert [path for path in (platform.folder / "apiserver-data/artifacts/complete").rglob("*") if path.is_file()] == []
    proven = platform.command("verify", "@asked/base@1.1.0")
    assert proven.returncode == 0, proven.stdout + proven.stderr
    assert f"bob-{build} has approved it" in proven.stdout
    assert f"{registry.url} has @asked/base@1.1.0" in proven.stdout
    (there,) = [place for place in registry.state.contents if "1.1.0" in place]
    registry.state.contents[there] += b"\0"
    assert platform.command("verify", "@asked/base@1.1.0").returncode == 1


def test_the_page_shows_what_waits_and_the_log_goes_on(platform: Platform, registry: Registry) -> None:
    project(platform, registry, "paged", approval=1)
    build = platform.build("paged")
    platform.wait(build, {"waiting_approval"})
    token = platform.make_token("bob-on-the-page", "publish")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{platform.url}/#token={token}")
        expect(page.locator("#who")).to_have_text("bob-on-the-page")
        page.goto(f"{platform.url}/#/builds/{build}")
        expect(page.locator("main")).to_contain_text("@paged/base@1.0.0 to npm as latest")
        expect(page.locator("main")).to_contain_text("2 files are new, 0 changed, 0 gone; nothing is published yet")
        expect(page.locator(".remarks .warning").filter(has_text="publint: ").first).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("main")).to_contain_text("Publishing @paged/app 1.0.0")
        expect(page.locator("main")).to_contain_text("@paged/app@1.0.0 (published)")
        expect(page.locator("main")).to_contain_text("complete, verified (")
    assert registry.uploaded == ["@paged/base", "@paged/app"]


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.APISERVER_UPLOAD_GRANTED,
        CrashPoint.BUILDER_UPLOADED,
        CrashPoint.BUILDER_FINAL_SENT,
        CrashPoint.APISERVER_END_COMMITTED,
        CrashPoint.APISERVER_DELIVERY_BEGUN,
        CrashPoint.APISERVER_STEP_BEGINS,
        CrashPoint.APISERVER_STEP_BEGUN,
        CrashPoint.APISERVER_STEP_ENDS,
        CrashPoint.APISERVER_STEP_ENDED,
        CrashPoint.APISERVER_DELIVERY_LOGGED,
        CrashPoint.APISERVER_DELIVERED,
    ],
)
def test_killed_at(point: CrashPoint, platform: Platform, registry: Registry) -> None:
    name = point.value.partition(":")[2]
    service = platform.apiserver if point.value.startswith("apiserver") else platform.builder
    service.stop()
    service.start(crash_at=point.value)
    platform.linked()
    project(platform, registry, name)
    build = platform.build(name)
    assert wait_for(f"a crash at {point}", service.exited) == -signal.SIGKILL
    service.start()
    platform.linked()
    done: dict[str, Any] = platform.wait(build)
    assert done["state"] == "succeeded", f"{done['reason']}\n{platform.log(build)}"
    assert registry.uploaded == [f"@{name}/base", f"@{name}/app"]
    (attempt,) = done["attempts"]
    assert len(attempt["published"]) == 2
    assert [step["name"] for step in attempt["steps"]].count("publish") == 1
    assert attempt["complete"]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_ended_while_npm_uploads(how: str, platform: Platform, registry: Registry) -> None:
    """The registry has taken the first package when the apiserver ends, and its answer was an error."""
    project(platform, registry, f"midway-{how}")
    registry.faults.then(*[Fault.FAIL_AFTER] * 3)
    build = platform.build(f"midway-{how}")
    wait_for("an upload", lambda: registry.uploads)
    getattr(platform.apiserver, how)()
    platform.apiserver.start()
    platform.linked()
    done: dict[str, Any] = platform.wait(build)
    assert done["state"] == "succeeded", done["reason"]
    for package in registry.packages.values():
        assert list(package["versions"]) == ["1.0.0"]
    assert "the apiserver was stopped meanwhile" in platform.log(build)
