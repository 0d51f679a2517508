"""
Secrets of builds on real services: which builds and steps are given them, that nothing shows them, and that no disk of
the builder's ever has them. And a private package, which npm installs from a registry that wants a token.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.integration.platform import Platform, find, git, wait_for
from tests.node import need_node, node_path

VALUE = 'correct horse/battery"staple'
SHOW = "echo KEY=${KEY-none} OTHER=${OTHER-none}"
SITE = "mkdir -p dist; echo hi > dist/index.html"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("secrets"), path=node_path()) as platform:
        yield platform


def plan(*steps: tuple[str, str]) -> dict[str, str]:
    """A repository with these steps, each a name and a command."""
    listed = ", ".join(f"{{name = {json.dumps(name)}, run = {json.dumps(run)}}}" for name, run in steps)
    return {".twistedipc.toml": f"[build]\nsteps = [{listed}]\n"}


def on_disk(platform: Platform, value: str) -> list[str]:
    """The files of both services that have a value in them, but for the repositories of the test."""
    found = subprocess.run(["grep", "-rlF", "-e", value, str(platform.folder)], capture_output=True, check=False)
    return found.stdout.decode().splitlines()


def output(platform: Platform, build: int, step: int) -> list[str]:
    """The lines of a step."""
    page = platform.api("GET", f"/api/v1/builds/{build}/log?limit=10000")
    batches = [batch for batch in page["batches"] if batch.get("step") == step]
    return [line for batch in batches for line in batch["lines"] if isinstance(line, str)]


def test_each_build_and_step_has_what_is_for_it(platform: Platform) -> None:
    encoded = 'printf %s "$KEY" | base64; printf %s "$KEY" | od -An -tx1 | tr -d \' \\n\'; echo'
    wait = "touch running; while [ ! -e go ]; do sleep 0.05; done"
    repository = platform.repository(
        plan(("install", SHOW), ("make", f"{SHOW}; {encoded}; cat forms; {wait}; {SITE}"))
        | {"forms": 'https://x/?q=correct%20horse%2Fbattery%22staple {"key": "correct horse/battery\\"staple"}\n'}
    )
    platform.add_project("kinds", repository)
    platform.command("project", "secret", "set", "kinds", "KEY", "--steps", "build", "--production", text=VALUE)
    platform.command("project", "secret", "set", "kinds", "OTHER", "--steps", "install", text="other-value-of-it")
    shown = platform.api("GET", "/api/v1/projects/kinds")
    assert [(each["name"], each["steps"], each["builds"]) for each in shown["build_secrets"]] == [
        ("KEY", "build", "production"),
        ("OTHER", "install", "all"),
    ]
    build = platform.build("kinds")
    data = platform.folder
    running = wait_for("the step runs", lambda: find(data, "running"))
    assert on_disk(platform, VALUE) == on_disk(platform, "other-value-of-it") == []
    assert on_disk(platform, "kinds")  # the search finds what there is
    (running.parent / "go").touch()
    platform.succeed(build)
    assert output(platform, build, 1) == ["KEY=none OTHER=***"]
    make = output(platform, build, 2)
    assert make[0] == "KEY=*** OTHER=none"
    assert make[3] == 'https://x/?q=*** {"key": "***"}'
    log = platform.log(build)
    assert VALUE not in log
    assert base64.b64encode(VALUE.encode()).decode()[:20] not in log
    assert VALUE.encode().hex()[:20] not in log
    assert on_disk(platform, VALUE) == on_disk(platform, "other-value-of-it") == []


def test_each_environment_has_its_own(platform: Platform) -> None:
    repository = platform.repository(plan(("make", f"{SHOW}; echo $TWISTEDIPC_ENVIRONMENT $MODE; {SITE}")))
    git(repository, "branch", "feature")
    git(repository, "branch", "staging")
    platform.add_project("previews", repository, default_ref="main")
    platform.command("project", "secret", "set", "previews", "KEY", "--production", text=VALUE)
    platform.command("project", "env", "set", "previews", "MODE=p", "--production")
    platform.command("project", "env", "set", "previews", "MODE=v", "--previews")
    platform.command("project", "environment", "add", "previews", "staging", "--ref", "staging")
    platform.command("project", "env", "set", "previews", "MODE=s", "--environment", "staging")
    platform.command("project", "secret", "set", "previews", "OTHER", "--environment", "staging", text=VALUE[::-1])
    platform.command("project", "caches", "clear", "previews")
    for ref, expected in (
        ("main", ["KEY=*** OTHER=none", "production p"]),
        ("feature", ["KEY=none OTHER=none", "preview v"]),
        ("staging", ["KEY=none OTHER=***", "staging s"]),
    ):
        build = platform.build("previews", ref=ref)
        platform.succeed(build)
        assert output(platform, build, 1) == expected


def test_a_build_that_asks_in_its_runner_s_name_is_given_nothing(platform: Platform) -> None:
    """It asks for what its step isn't given, and shows the answer backwards; but nobody hears it in its sandbox."""
    ask = (
        "python3 - <<'END'\nimport json, os, socket, time\nos.chdir('..')\n"
        "s = socket.socket(socket.AF_UNIX); s.bind('secrets'); s.listen(1); s.settimeout(5)\n"
        "open('new', 'w').write(json.dumps({'uses': ['steps']})); os.rename('new', 'secrets.wanted')\n"
        "c = s.accept()[0]\nprint(b''.join(iter(lambda: c.recv(9999), b''))[::-1].decode())\nEND\n"
    )
    platform.add_project("asking", platform.repository(plan(("make", ask + SITE))))
    platform.command("project", "secret", "set", "asking", "KEY", "--steps", "install", text=VALUE)
    build = platform.build("asking")
    platform.succeed(build)
    log = platform.log(build)
    assert VALUE[::-1] not in log
    assert "has begun"[::-1] not in log
    assert "Error: " in log, log


class PrivateRegistry:
    """A registry with one package, for those who have its token."""

    TOKEN = "npm_TokenOfThePrivateRegistry"

    def __init__(self) -> None:
        registry = self
        self.asked: list[tuple[str, str]] = []  # path, Authorization

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append((self.path, self.headers.get("Authorization", "")))
                allowed = self.headers.get("Authorization") == f"Bearer {registry.TOKEN}"
                body = registry.answer(self.path) if allowed else b'{"error":"who are you?"}'
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/team/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        package = {"name": "@acme/private", "version": "1.0.0", "main": "index.js"}
        self._tarball = _tarball(package, "index.js", b"module.exports = 'private code'")

    def answer(self, path: str) -> bytes:
        """What an allowed caller gets."""
        if path.endswith(".tgz"):
            return self._tarball
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(self._tarball).digest()).decode()
        version = {
            "name": "@acme/private",
            "version": "1.0.0",
            "dist": {"tarball": self.url + "private-1.0.0.tgz", "integrity": integrity},
        }
        return json.dumps(
            {"name": "@acme/private", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        ).encode()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def _tarball(package: dict[str, str], name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, data in (("package.json", json.dumps(package).encode()), (name, content)):
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def registry() -> Iterator[PrivateRegistry]:
    registry = PrivateRegistry()
    yield registry
    registry.stop()


BUILD = (
    "mkdir dist && node -e \"require('fs').writeFileSync('dist/index.html', require('@acme/private'))\" && echo "
    "TOKEN=${NPM_TOKEN-none} && test ! -e ~/.npmrc"
)
PACKAGE = {
    "name": "app",
    "private": True,
    "dependencies": {"@acme/private": "1.0.0"},
    "scripts": {"build": BUILD},
}


@pytest.mark.long
def test_a_private_package_is_installed(platform: Platform, registry: PrivateRegistry) -> None:
    """From a registry of the project, whose token the step that installs has, and no other."""
    need_node()
    platform.add_project("private", platform.repository({"package.json": json.dumps(PACKAGE)}))
    assert platform.wait(platform.build("private"))["state"] == "failed"
    platform.command("project", "secret", "set", "private", "NPM_TOKEN", "--steps", "install", text=registry.TOKEN)
    platform.command(
        "project", "registry", "add", "private", registry.url, "--token-secret", "NPM_TOKEN", "--scope", "@acme"
    )
    build = platform.build("private")
    platform.succeed(build)
    assert "TOKEN=none" in platform.log(build)
    assert platform.released("private") == "private code"
    assert {authorization for _path, authorization in registry.asked} == {f"Bearer {registry.TOKEN}"}
    assert on_disk(platform, registry.TOKEN) == []


@pytest.mark.long
def test_a_project_s_own_npmrc_finds_its_token(platform: Platform, registry: PrivateRegistry) -> None:
    need_node()
    where = registry.url.partition(":")[2]
    npmrc = f"@acme:registry={registry.url}\n{where}:_authToken=${{NPM_TOKEN}}\n"
    platform.add_project("own-npmrc", platform.repository({"package.json": json.dumps(PACKAGE), ".npmrc": npmrc}))
    host = registry.url.removeprefix("http://").rstrip("/").partition("/")[0]
    platform.command("project", "set", "own-npmrc", "--host", host)  # nothing else leads builds to this machine
    platform.command("project", "secret", "set", "own-npmrc", "NPM_TOKEN", "--steps", "install", text=registry.TOKEN)
    build = platform.build("own-npmrc")
    platform.succeed(build)
    assert registry.TOKEN not in platform.log(build)
    assert platform.released("own-npmrc") == "private code"


@pytest.mark.long
def test_a_builder_that_was_killed_gives_them_all_the_same(platform: Platform) -> None:
    """The builder has died when the runner asks; another one answers."""
    platform.add_project("killed", platform.repository(plan(("make", f"{SHOW}; {SITE}"))))
    platform.command("project", "secret", "set", "killed", "KEY", text=VALUE)
    platform.builder.kill()
    build = platform.build("killed")
    platform.builder.start(crash_at="builder:runner-spawned")
    wait_for("the runner asks", lambda: find(platform.folder, "secrets.wanted"))
    wait_for("the builder has died", platform.builder.exited)
    platform.builder.start()
    platform.succeed(build)
    assert output(platform, build, 1) == ["KEY=*** OTHER=none"]
