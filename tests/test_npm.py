"""Packages, packed and published by real npm, into a small real registry."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.attempt_folder import ROOT, Attempt, repository, toml, until
from tests.node import need_node, node_path
from twistedipc.builds.attempt import Package, Permit, PermitWanted, Publish, Published, Result
from twistedipc.disk.files import read_file, write_file

TOKEN = "npm_S3cretOfTheRegistry"


# -- a registry ------------------------------------------------------------------------------------------------------


class Registry(ThreadingHTTPServer):
    """As much of an npm registry as `npm view` and `npm publish` need; it can be told to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.packages: dict[str, dict[str, object]] = {}
        self.uploads = 0
        self.loses_tags = False  # takes versions without their tags
        self.keeps_tags = False  # and lets no caller set one
        self.tarballs: dict[str, list[str]] = {}  # package -> the names in the last tarball
        self.tokens: list[str | None] = []
        #: answers to the next uploads, instead of taking them: (status, whether it is taken all the same)
        self.faults: list[tuple[int, bool]] = []

    @property
    def url(self) -> str:
        """The registry's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def take(self, name: str, document: dict[str, dict[str, object]]) -> bool:
        """Take an upload, unless its version is there."""
        package = self.packages.setdefault(name, {"name": name, "versions": {}, "dist-tags": {}})
        versions, tags = package["versions"], package["dist-tags"]
        assert isinstance(versions, dict)
        assert isinstance(tags, dict)
        if versions.keys() & document["versions"].keys():
            return False
        versions.update(document["versions"])
        if not self.loses_tags:
            tags.update(document["dist-tags"])
        (attachment,) = document["_attachments"].values()
        assert isinstance(attachment, dict)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(attachment["data"]))) as tar:
            self.tarballs[name] = tar.getnames()
        return True


class _Answers(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        name = unquote(self.path.partition("?")[0].strip("/"))
        if name.endswith("/dist-tags"):
            package = self.server.packages[name.removeprefix("-/package/").removesuffix("/dist-tags")]
            self._answer(200, package["dist-tags"])
            return
        found = self.server.packages.get(name)
        self._answer(200 if found else 404, found or {"error": "not found"})

    def do_PUT(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = unquote(self.path.partition("?")[0].strip("/"))
        if "/dist-tags/" in name:
            self._set_tag(name, document)
            return
        self.server.uploads += 1
        self.server.tokens.append(self.headers["Authorization"])
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "who are you?"})
        elif self.server.faults:
            status, taken = self.server.faults.pop(0)
            if taken:
                self.server.take(name, document)
            self._answer(status, {"error": "misbehaving"})
        else:
            taken = self.server.take(name, document)
            self._answer(201 if taken else 403, {"ok": taken})

    def _set_tag(self, name: str, version: str) -> None:
        package, _, tag = name.removeprefix("-/package/").partition("/dist-tags/")
        if self.server.keeps_tags or self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(403, {"error": "the tags stay"})
            return
        tags = self.server.packages[package]["dist-tags"]
        assert isinstance(tags, dict)
        tags[tag] = version
        self._answer(201, {"ok": True})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def _npm() -> None:
    """There is an npm, on `node_path`."""
    need_node()


npm = pytest.mark.usefixtures("_npm")


def publishing(
    base: Path,
    registry: Registry,
    name: str = "1-1",
    *,
    permit: Permit | None = None,
    sources: dict[str, str] | None = None,
    set_up: str | None = None,
    settings: dict[str, str] | None = None,
    **package: object,
) -> tuple[Attempt, Result]:
    """Run an attempt that publishes a package."""
    described = {"name": "@team/widget", "version": "1.0.0", "files": ["index.js"], **package}
    repository(
        base / "source",
        {
            ".twistedipc.toml": toml("cat index.js; env"),
            "index.js": "export const answer = 42\n",
            "package.json": json.dumps(described),
            **(sources or {}),
        },
    )
    one = Attempt(
        base,
        base / "source",
        name=name,
        publish=Publish(npm=True, registry=registry.url if set_up is None else ""),
        path=node_path(),
        environment={
            "npm_config_fetch_retries": "0",
            **({"npm_config_registry": set_up} if set_up else {}),
            **(settings or {}),
        },
    )
    process = one.start()
    until(lambda: (one.folder / "permit.wanted").exists() or process.poll() is not None, "it asks for a permit")
    if (one.folder / "permit.wanted").exists():
        wanted = read_file(one.folder / "permit.wanted", PermitWanted)
        assert wanted is not None
        assert wanted.package.name == described["name"]
        write_file(one.folder / "permit", permit or Permit(granted=True, token=TOKEN), mode=0o600)
        one.ring()
    return one, one.wait(90)


@npm
def test_published_then_already_published_then_a_conflict(tmp_path: Path, registry: Registry) -> None:
    scripts = dict.fromkeys(("postpack", "publish", "postpublish"), "touch ../never-run")
    one, result = publishing(tmp_path, registry, scripts=scripts)
    assert result.outcome == "succeeded", one.output()
    assert [step.name for step in result.steps] == ["checkout", "s0", "pack", "publish"]
    said = one.notices()
    assert "not run, since the package is published as it was packed: postpack, publish, postpublish" in said
    (published,) = result.published
    assert (published.name, published.version, published.status) == ("@team/widget", "1.0.0", "published")
    assert published.registry == registry.url
    version = registry.packages["@team/widget"]["versions"]["1.0.0"]  # type: ignore[index]
    assert version["dist"]["integrity"] == published.integrity
    assert not (one.folder / "never-run").exists()
    assert not (one.folder / "permit").exists()
    assert not (one.folder / "permit.wanted").exists()
    # The token was nowhere but in the one step's environment.
    everything = [path for path in one.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]

    _one, again = publishing(tmp_path, registry, "1-2", scripts=scripts)
    assert again.outcome == "succeeded"
    assert [p.status for p in again.published] == ["already-published"]
    assert registry.uploads == 1

    _one, other = publishing(tmp_path, registry, "2-1", sources={"index.js": "export const answer = 43\n"})
    assert other.outcome == "failed"
    assert other.reason.startswith("conflict: the registry has @team/widget@1.0.0 with another content")
    assert registry.uploads == 1


@npm
def test_a_runner_of_the_version_before_finds_the_steps_by_the_names_that_it_knows(
    tmp_path: Path, registry: Registry
) -> None:
    """A runner goes on when the builder's program is replaced, and starts its steps from what is installed then."""
    one, result = publishing(tmp_path, registry)
    assert result.outcome == "succeeded"
    for name in ("package.json", "published.json"):
        (one.folder / name).unlink()
    environment = {"PATH": one.spec.path, "HOME": str(one.folder / "home"), "NODE_AUTH_TOKEN": TOKEN}
    for step in ("twistedipc.publish.pack", "twistedipc.publish.npm"):
        subprocess.run([sys.executable, "-m", step, str(one.folder)], cwd=ROOT, env=environment, check=True)
    package = read_file(one.folder / "package.json", Package)
    assert package is not None
    assert package.integrity == result.published[0].integrity
    published = read_file(one.folder / "published.json", list[Published])
    assert published is not None
    assert [each.status for each in published] == ["already-published"]


@npm
def test_the_registry_that_npm_is_set_up_for(tmp_path: Path, registry: Registry) -> None:
    _one, result = publishing(tmp_path, registry, set_up=registry.url, name="1-1")
    assert result.outcome == "succeeded"
    assert result.published[0].registry == registry.url


@npm
def test_a_prerelease_with_its_tag(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(
        tmp_path, registry, version="2.0.0-rc.1", publishConfig={"tag": "next", "access": "public"}
    )
    assert result.outcome == "succeeded", one.output()
    assert registry.packages["@team/widget"]["dist-tags"] == {"next": "2.0.0-rc.1"}


@npm
def test_refused_before_anyone_is_asked(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, version="2.0.0-rc.1")
    assert "is a prerelease: it needs a tag of its own" in result.reason
    assert not (one.folder / "permit.wanted").exists()
    _one, result = publishing(tmp_path, registry, "1-2", publishConfig={"registry": "https://evil.example/"})
    assert "this project publishes to" in result.reason


SAY = """
import json, os, socket
with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
    channel.sendall(json.dumps({"type": "mask", "value": "q7rk-41xz-9"}).encode() + b"\\n")
"""


@npm
@pytest.mark.parametrize(
    ("what", "package"),
    [
        ("the package", {"name": "@team/q7rk-41xz-9"}),
        ("the package", {"version": "1.0.0-q7rk-41xz-9", "publishConfig": {"tag": "next"}}),
        ("the package", {"publishConfig": {"tag": "q7rk-41xz-9"}}),
        ("a file of the package", {}),
    ],
)
def test_what_is_hidden_is_in_no_name_of_what_is_published(
    tmp_path: Path, registry: Registry, what: str, package: dict[str, object]
) -> None:
    """The apiserver, and then all viewers, got the name of a package with the value in it."""
    one, result = publishing(
        tmp_path,
        registry,
        sources={
            "say.py": SAY,
            "of-q7rk-41xz-9.js" if not package else "other.js": "",
            ".twistedipc.toml": toml(f"{sys.executable} say.py"),
            "package.json": json.dumps({"name": "@team/widget", "version": "1.0.0", **package}),
        },
    )
    assert result.outcome == "failed"
    assert result.reason.startswith(f"{what} has a value in its name that the build hides")
    assert not (one.folder / "permit.wanted").exists()
    assert "q7rk" not in (one.folder / "result.json").read_text()


@npm
def test_what_the_author_wants_to_be_run_before_packing_is_a_step_of_the_build(
    tmp_path: Path, registry: Registry
) -> None:
    """A package that `prepack` builds was published with package.json alone in it, and green."""
    scripts = {
        "prepare": "echo 3 >> ../order; npm_is=prepare node -e 'console.log(process.env.MODE)'",
        "prepack": "echo 2 >> ../order; mkdir -p dist && cp index.js dist/; env; (sleep 600 &)",
        "prepublishOnly": "echo 1 >> ../order",
    }
    one, result = publishing(
        tmp_path,
        registry,
        scripts=scripts,
        sources={".twistedipc.toml": toml("true", more='environment = {MODE = "of-the-project"}')},
        files=["dist"],
        main="dist/index.js",
    )
    assert result.outcome == "succeeded", one.output()
    assert [(step.name, step.command) for step in result.steps][2:5] == [
        (name, f"npm run {name}") for name in ("prepublishOnly", "prepack", "prepare")
    ]
    assert (one.folder / "order").read_text() == "1\n2\n3\n"
    assert "of-the-project" in one.output()
    assert TOKEN not in "\n".join(one.output())
    uploaded = registry.tarballs["@team/widget"]
    assert sorted(uploaded) == ["package/dist/index.js", "package/package.json"]


@npm
def test_a_script_that_fails_ends_the_build(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, scripts={"prepublishOnly": "exit 7", "prepare": "touch ../never-run"})
    assert (result.outcome, result.reason) == ("failed", "step prepublishOnly ended with exit code 7")
    assert not (one.folder / "permit.wanted").exists()
    assert not (one.folder / "never-run").exists()


@npm
@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ({"main": "dist/index.js", "files": ["dist"]}, "main leads to dist/index.js"),
        ({"files": ["dist"]}, "the package is empty: `files` in package.json names dist"),
        ({"dependencies": {"@team/base": "workspace:^"}}, 'dependencies["@team/base"] is "workspace:^"'),
    ],
)
def test_a_package_that_is_not_what_it_says_is_not_published(
    tmp_path: Path, registry: Registry, package: dict[str, Any], sentence: str
) -> None:
    one, result = publishing(tmp_path, registry, **package)
    assert result.outcome == "failed"
    assert sentence in result.reason
    assert not (one.folder / "permit.wanted").exists()
    assert registry.uploads == 0


@npm
def test_a_tag_that_was_lost_is_set(tmp_path: Path, registry: Registry) -> None:
    """By real npm: the version was taken, its tag wasn't, and people went on to install the old version."""
    publishing(tmp_path, registry, "1-1")
    registry.loses_tags = True
    one, result = publishing(tmp_path, registry, "1-2", version="1.1.0")
    assert result.outcome == "succeeded", one.output()
    assert registry.packages["@team/widget"]["dist-tags"] == {"latest": "1.1.0"}
    assert [published.notice for published in result.published] == [""]
    registry.keeps_tags = True
    one, result = publishing(tmp_path, registry, "1-3", version="1.2.0")
    assert result.outcome == "succeeded", one.output()
    (published,) = result.published
    assert "its tag latest is at 1.1.0 and can't be set" in published.notice
    assert published.notice in one.notices()


@npm
def test_npms_global_settings_reach_no_registry(tmp_path: Path, registry: Registry) -> None:
    """The settings lie beside Node, where a build may be able to write: a proxy that they named got the token."""
    prefix = tmp_path / "prefix"
    (prefix / "etc").mkdir(parents=True)
    evil = "http://127.0.0.1:9/"
    (prefix / "etc" / "npmrc").write_text(f"proxy={evil}\nhttps-proxy={evil}\nregistry={evil}\n@team:registry={evil}\n")
    settings = {"npm_config_prefix": str(prefix)}
    one, result = publishing(tmp_path, registry, settings=settings)
    assert result.outcome == "succeeded", one.output()
    assert registry.tokens == [f"Bearer {TOKEN}"]
    one, result = publishing(tmp_path, registry, "1-2", settings=settings, set_up=registry.url)
    assert [published.status for published in result.published] == ["already-published"], one.output()


@npm
def test_older_than_latest(tmp_path: Path, registry: Registry) -> None:
    publishing(tmp_path, registry, version="2.0.0")
    _one, result = publishing(tmp_path, registry, "1-2", version="1.9.0")
    assert "1.9.0 is older than 2.0.0, which is `latest` now" in result.reason
    assert registry.uploads == 1


@npm
def test_an_error_of_an_upload_that_was_taken_all_the_same(tmp_path: Path, registry: Registry) -> None:
    registry.faults = [(500, True)]
    _one, result = publishing(tmp_path, registry)
    assert result.outcome == "succeeded"
    assert [p.status for p in result.published] == ["published"]


@npm
def test_a_token_that_isn_t_taken(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, permit=Permit(granted=True, token="another-token"))
    assert result.outcome == "failed"
    assert result.reason == "@team/widget@1.0.0 isn't published: the registry doesn't take the project's token"
    assert "another-token" not in "\n".join(one.output())


@npm
def test_not_permitted(tmp_path: Path, registry: Registry) -> None:
    _one, result = publishing(tmp_path, registry, permit=Permit(granted=False, reason="the project has no npm_token"))
    assert result.outcome == "failed"
    assert result.reason == "publishing wasn't permitted: the project has no npm_token"
    assert registry.uploads == 0


@npm
def test_settings_of_the_repository_and_of_the_build_reach_no_registry(tmp_path: Path, registry: Registry) -> None:
    evil = "http://127.0.0.1:9/"
    poison = f"registry={evil}\\n@team:registry={evil}\\nproxy={evil}\\nignore-scripts=false\\n"
    files = {
        ".npmrc": poison.replace("\\n", "\n"),
        ".twistedipc.toml": toml(f'for f in ~/.npmrc ../.npmrc ../../.npmrc; do printf "{poison}" >$f; done'),
    }
    one, result = publishing(tmp_path, registry, sources=files)
    assert result.outcome == "succeeded", one.output()
    assert registry.tokens == [f"Bearer {TOKEN}"]
