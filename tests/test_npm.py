"""Packages: the rules for them, and real npm against a small real registry."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest

from tests.attempt_folder import Attempt, repository, toml, until
from tests.node import need_node, node_path
from twistedipc.builds.attempt import Permit, PermitWanted, Publish, Result, read_file, write_file
from twistedipc.publish.npm import Ran, found_integrity
from twistedipc.publish.package import BadPackage, Description, check, describe, integrity, older

TOKEN = "npm_S3cretOfTheRegistry"


# -- the rules -------------------------------------------------------------------------------------------------------


def described(**values: object) -> Description:
    return msgspec.convert({"name": "x", "version": "1.0.0", **values}, Description)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"private": True}, "private"),
        ({"name": ""}, "needs a name"),
        ({"name": "-x"}, "needs a name"),
        ({"name": "--registry=x"}, "needs a name"),
        ({"name": "../x"}, "needs a name"),
        ({"name": "a b"}, "needs a name"),
        ({"version": ""}, "needs a version"),
        ({"version": "1.0"}, "needs a version"),
        ({"version": "1.0.0; x"}, "needs a version"),
        ({"version": "1.0.0-rc.1"}, "is a prerelease"),
        ({"version": "1.0.0-rc.1", "publishConfig": {"tag": "next"}}, None),
        ({"version": "1.0.0+build-1"}, None),
        ({"publishConfig": {"tag": "--x"}}, "can't be the name of a tag"),
        ({"publishConfig": {"tag": 1}}, "can't be the name of a tag"),
        ({"publishConfig": {"proxy": "http://evil"}}, "publishConfig.proxy isn't allowed"),
        ({"publishConfig": {"strict-ssl": False}}, "publishConfig.strict-ssl isn't allowed"),
        ({"publishConfig": {"//r/:_authToken": "x"}}, "isn't allowed"),
        ({"publishConfig": {"registry": "https://other.example/"}}, "publishConfig.registry is https://other.example/"),
        ({"publishConfig": {"registry": "https://r.example", "access": "public"}}, None),
    ],
)
def test_what_may_be_published(values: dict[str, object], sentence: str | None) -> None:
    if sentence is None:
        check(described(**values), "https://r.example/")
        return
    with pytest.raises(BadPackage) as raised:
        check(described(**values), "https://r.example/")
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "ascending",
    [
        [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ]
    ],
)
def test_order_of_versions(ascending: list[str]) -> None:
    for i, first in enumerate(ascending):
        for j, second in enumerate(ascending):
            assert older(first, second) == (i < j)
    assert not older("1.0.0+a", "1.0.0+b")
    assert not older("nonsense", "1.0.0")


def test_a_tarball_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    content = b'{"name": "@s/x", "version": "1.0.0", "publishConfig": {"tag": "next"}}'
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("package/package.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    description = describe(path)
    assert (description.name, description.scope, description.tag) == ("@s/x", "@s", "next")
    assert integrity(path) == "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadPackage):
        describe(path)


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (Ran(0, '"sha512-x"\n'), "sha512-x"),
        (Ran(0, '["sha512-x"]'), "sha512-x"),
        (Ran(0, ""), ""),
        (Ran(1, '{"error": {"code": "E404"}}'), ""),
        (Ran(1, "", "npm error code E404\n"), ""),
        (Ran(1, "", "npm ERR! code E404\n"), ""),
        (Ran(1, "", "npm error code ECONNREFUSED"), None),
        (Ran(1, ""), None),
        (Ran(0, "<html>"), None),
    ],
)
def test_what_npm_view_found(ran: Ran, expected: str | None) -> None:
    assert found_integrity(ran) == expected


# -- a registry ------------------------------------------------------------------------------------------------------


class Registry(ThreadingHTTPServer):
    """As much of an npm registry as `npm view` and `npm publish` need; it can be told to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.packages: dict[str, dict[str, object]] = {}
        self.uploads = 0
        self.tokens: list[str | None] = []
        #: answers to the next uploads, instead of taking them: (status, whether it is taken all the same)
        self.faults: list[tuple[int, bool]] = []

    @property
    def url(self) -> str:
        """Its address."""
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
        tags.update(document["dist-tags"])
        return True


class _Answers(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        name = unquote(self.path.partition("?")[0].strip("/"))
        package = self.server.packages.get(name)
        self._answer(200 if package else 404, package or {"error": "not found"})

    def do_PUT(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.uploads += 1
        self.server.tokens.append(self.headers["Authorization"])
        name = unquote(self.path.partition("?")[0].strip("/"))
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
    files: dict[str, str] | None = None,
    set_up: str | None = None,
    **package: object,
) -> tuple[Attempt, Result]:
    """Run an attempt that publishes a package."""
    described = {"name": "@team/widget", "version": "1.0.0", "files": ["index.js"], **package}
    scripts = dict.fromkeys(("prepublishOnly", "prepack", "prepare", "publish", "postpublish"), "touch ../never-run")
    repository(
        base / "source",
        {
            ".twistedipc.toml": toml("cat index.js; env"),
            "index.js": "export const answer = 42\n",
            "package.json": json.dumps({**described, "scripts": scripts}),
            **(files or {}),
        },
    )
    one = Attempt(
        base,
        base / "source",
        name=name,
        publish=Publish(npm=True, registry=registry.url if set_up is None else ""),
        path=node_path(),
        environment={"npm_config_fetch_retries": "0", **({"npm_config_registry": set_up} if set_up else {})},
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
    one, result = publishing(tmp_path, registry)
    assert result.outcome == "succeeded", one.output()
    assert [step.name for step in result.steps] == ["checkout", "s0", "pack", "publish"]
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

    _one, again = publishing(tmp_path, registry, "1-2")
    assert again.outcome == "succeeded"
    assert [p.status for p in again.published] == ["already-published"]
    assert registry.uploads == 1

    _one, other = publishing(tmp_path, registry, "2-1", files={"index.js": "export const answer = 43\n"})
    assert other.outcome == "failed"
    assert other.reason.startswith("conflict: the registry has @team/widget@1.0.0 with another content")
    assert registry.uploads == 1


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
    one, result = publishing(tmp_path, registry, files=files)
    assert result.outcome == "succeeded", one.output()
    assert registry.tokens == [f"Bearer {TOKEN}"]
