"""The client of npm registries, over real connections to a registry of the tests' own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
import trustme

from tests import registry as registries
from tests.package_registry import archive
from tests.registry import OTP, TOKEN, Account, Change, Fault, Registry
from twistedipc.publish.targets.npm import client as module
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Stage, TokenFacts, Version
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc
from twistedipc.storage.id_tokens import Claims, Issuer

NAME = "@acme/ui"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with registries.running() as registry:
        yield registry


@pytest.fixture
def client(registry: Registry) -> Client:
    return connected(registry.url)


CONNECTION = Connection(Npmrc({}), {})


def connected(url: str, token: str = TOKEN) -> Client:
    return Client(url, token, CONNECTION)


def tarball(folder: Path, version: str = "1.0.0", name: str = NAME, **manifest: Any) -> Path:
    """A package's tarball."""
    path = folder / f"{version}.tgz"
    package = {"name": name, "version": version, **manifest}
    path.write_bytes(archive({"package.json": json.dumps(package), "index.js": "1\n", "README.md": f"# {version}\n"}))
    return path


def found(answer: Found | Answer) -> Found:
    assert isinstance(answer, Found), answer
    return answer


def staged(answer: Stage | Answer) -> Stage:
    assert isinstance(answer, Stage), answer
    return answer


def all_staged(client: Client, name: str = "") -> list[Stage]:
    stages = client.stages(name)
    assert not isinstance(stages, Answer), stages
    return list(stages)


# -- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "unsure"),
    [
        (Answer(kind=Kind.DONE, status=201), False),
        (Answer(kind=Kind.TAKEN, status=409), True),
        (Answer(kind=Kind.UNREACHABLE), True),
        (Answer(kind=Kind.BUSY, status=503), True),
        (Answer(kind=Kind.BUSY, status=429), False),
        (Answer(kind=Kind.FORBIDDEN, status=403), True),
        (Answer(kind=Kind.DENIED, status=401), False),
    ],
)
def test_an_answer_says_whether_the_request_may_have_been_carried_out(answer: Answer, unsure: bool) -> None:
    assert answer.unsure is unsure


def test_a_version_has_its_manifest() -> None:
    assert Version(described=msgspec.Raw(b'{"bin": {"a": "b"}}')).manifest == {"bin": {"a": "b"}}
    assert Version(described=msgspec.Raw(b'"nothing"')).manifest == {}


# -- publishing --------------------------------------------------------------------------------------------------------


def test_a_version_is_published_and_looked_at(registry: Registry, client: Client, tmp_path: Path) -> None:
    assert (client.address, client.look(NAME)) == (
        registry.url,
        Answer(
            kind=Kind.ABSENT,
            status=404,
            said="the registry has no such package, or this token can't see it (404: document not found)",
        ),
    )
    path = tarball(tmp_path)
    registry.headers["npm-notice"] = "Tokens\x1b[1m change"
    assert client.upload(path, tag="build-17") == Answer(kind=Kind.DONE, status=201, notice="Tokens\ufffd[1m change")
    seen = found(client.look(NAME))
    version = seen.versions["1.0.0"]
    data = path.read_bytes()
    assert version.dist.integrity == "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    assert version.dist.shasum == hashlib.sha1(data, usedforsecurity=False).hexdigest()
    assert version.manifest["readme"] == "# 1.0.0\n"
    assert (seen.tags["build-17"], seen.times["1.0.0"][:10], version.deprecated) == ("1.0.0", "2026-11-29", "")
    assert registry.state.changes == [Change("publish", NAME, "1.0.0", "build-17")]
    put = registry.uploads[0]
    sent = ("npm-command", "npm-auth-type", "content-type", "authorization")
    assert [put.headers.get(name) for name in sent] == ["publish", "web", "application/json", f"Bearer {TOKEN}"]
    assert (put.path, "npm-otp" in put.headers, "transfer-encoding" in put.headers) == ("/@acme%2Fui", False, False)


def test_a_version_that_is_there_is_taken(client: Client, tmp_path: Path) -> None:
    client.upload(tarball(tmp_path), tag="latest")
    answer = client.upload(tarball(tmp_path), tag="latest")
    assert (answer.kind, answer.unsure) == (Kind.TAKEN, True)
    assert "cannot publish over" in answer.said


def test_the_version_that_is_fetched_is_the_one_that_was_published(client: Client, tmp_path: Path) -> None:
    path, to = tarball(tmp_path), tmp_path / "fetched"
    client.upload(path, tag="latest")
    assert client.fetch(NAME, "1.0.0", to, 1 << 20).kind is Kind.DONE
    assert to.read_bytes() == path.read_bytes()
    assert client.fetch(NAME, "1.0.1", to, 1 << 20).said == "the registry has no @acme/ui@1.0.1"
    assert client.fetch(NAME, "1.0.0", tmp_path / "short", 10).said == (
        "the tarball is too large: it has more than 10 bytes"
    )
    assert not (tmp_path / "short").exists()


def test_another_tarball_than_the_registry_says_is_not_kept(registry: Registry, client: Client, tmp_path: Path) -> None:
    client.upload(tarball(tmp_path), tag="latest")
    (path,) = registry.state.contents
    registry.state.contents[path] += b"!"
    answer = client.fetch(NAME, "1.0.0", tmp_path / "fetched", 1 << 20)
    assert (answer.kind, answer.said) == (Kind.REFUSED, "the tarball isn't what the registry says of it")
    assert not (tmp_path / "fetched").exists()


def test_a_tarball_that_can_not_be_published_is_not_sent(registry: Registry, client: Client, tmp_path: Path) -> None:
    small = Client(registry.url, TOKEN, CONNECTION, limit=100)
    answers = [
        small.upload(tarball(tmp_path), tag="latest"),
        client.upload(tarball(tmp_path, private=True), tag="latest"),
        client.stage(tarball(tmp_path, name="Not A Name"), tag="latest"),
        client.upload(tarball(tmp_path), tag="latest", provenance=b"{}"),
    ]
    assert [answer.kind for answer in answers if isinstance(answer, Answer)] == [Kind.REFUSED] * 4
    said = [answer.said for answer in answers if isinstance(answer, Answer)]
    assert "and 100 is the most that can be published" in said[0]
    assert "private" in said[1]
    assert "needs a name" in said[2]
    assert "isn't a Sigstore bundle" in said[3]
    assert registry.asked == []


def test_provenance_is_attached_as_npm_does_it(registry: Registry, client: Client, tmp_path: Path) -> None:
    bundle = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "note": "ä𝄞"}
    assert client.upload(tarball(tmp_path), tag="next", provenance=json.dumps(bundle).encode()).kind is Kind.DONE
    attached = registry.uploads[0].document["_attachments"]["@acme/ui-1.0.0.sigstore"]
    assert attached["content_type"] == bundle["mediaType"]
    assert json.loads(attached["data"]) == bundle
    assert attached["length"] == len(attached["data"]) + 1  # JavaScript counts a clef as two


# -- stages ----------------------------------------------------------------------------------------------------------


def test_a_stage_is_approved_with_a_one_time_password(registry: Registry, client: Client, tmp_path: Path) -> None:
    registry.state.accounts[TOKEN] = Account(may_publish=False)
    assert client.has_staging() is True
    assert client.upload(tarball(tmp_path), tag="latest").kind is Kind.FORBIDDEN
    path = tarball(tmp_path)
    stage = staged(client.stage(path, tag="build-17"))
    assert (stage.name, stage.version, stage.tag) == (NAME, "1.0.0", "build-17")
    asked = registry.asked[-1]
    assert (asked.method, asked.path, asked.headers["npm-command"]) == ("POST", "/-/stage/package/@acme%2Fui", "stage")
    (listed,) = all_staged(client, NAME)
    assert (listed.id, listed.shasum, listed.dist.hashes) == (stage.id, stage.shasum, {"sha1": {stage.shasum}})
    assert registry.asked[-1].path == "/-/stage?page=0&perPage=100&package=%40acme%2Fui"
    assert client.stages("other") == []
    assert staged(client.staged(stage.id)).name == NAME
    assert client.staged_tarball(stage.id, tmp_path / "staged").kind is Kind.DONE
    assert (tmp_path / "staged").read_bytes() == path.read_bytes()
    wrong = client.approve(stage.id, "000000")
    assert (wrong.kind, wrong.status) == (Kind.OTP, 401)
    assert client.approve(stage.id, OTP).kind is Kind.DONE
    assert registry.asked[-1].headers["content-length"] == "0"
    assert found(client.look(NAME)).tags["build-17"] == "1.0.0"
    assert [client.approve(stage.id, OTP).kind, client.staged(stage.id)] == [
        Kind.ABSENT,
        Answer(kind=Kind.ABSENT, status=404, said="the registry has no such stage (404: Stage not found)"),
    ]


def test_a_stage_is_rejected(registry: Registry, client: Client, tmp_path: Path) -> None:
    stage = staged(client.stage(tarball(tmp_path), tag="latest"))
    assert client.reject(stage.id, "").kind is Kind.OTP
    assert client.reject(stage.id, OTP).kind is Kind.DONE
    assert [change.what for change in registry.state.changes] == ["stage", "reject"]


def test_what_is_no_id_of_a_stage_is_not_asked_for(registry: Registry, client: Client, tmp_path: Path) -> None:
    for wrong in ("", "../x", "a/b", "a?b", "a\nb"):
        assert [client.approve(wrong, OTP).kind, client.staged_tarball(wrong, tmp_path / "x").kind] == [Kind.ABSENT] * 2
    assert registry.asked == []


def test_stages_of_many_pages(registry: Registry, client: Client, tmp_path: Path, monkeypatch: Any) -> None:
    for patch in range(5):
        client.stage(tarball(tmp_path, f"1.0.{patch}"), tag="latest")
    monkeypatch.setattr(module, "PAGE", 2)
    assert [stage.version for stage in all_staged(client)] == [f"1.0.{n}" for n in range(5)]
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    assert client.stages() == Answer(kind=Kind.REFUSED, said="the registry lists more than 4 stages")


def test_a_registry_without_stages(registry: Registry, client: Client, tmp_path: Path) -> None:
    registry.state.has_stages = False
    assert client.has_staging() is False
    answer = client.stage(tarball(tmp_path), tag="latest")
    assert isinstance(answer, Answer)
    assert (answer.kind, answer.said) == (Kind.UNSUPPORTED, "the registry has no stages (404: no such address)")


# -- tags and deprecations ---------------------------------------------------------------------------------------------


def test_tags_are_set_and_removed(registry: Registry, client: Client, tmp_path: Path) -> None:
    client.upload(tarball(tmp_path), tag="build-17")
    registry.state.accounts[TOKEN] = Account(otp_to_tag=True)
    assert client.set_tag(NAME, "next", "1.0.0").kind is Kind.OTP
    assert client.set_tag(NAME, "next", "1.0.0", OTP).kind is Kind.DONE
    assert (registry.asked[-1].path, registry.asked[-1].body) == ("/-/package/@acme%2Fui/dist-tags/next", b'"1.0.0"')
    assert client.remove_tag(NAME, "build-17", OTP).kind is Kind.DONE
    again = client.remove_tag(NAME, "build-17", OTP)
    assert (again.kind, again.said) == (Kind.ABSENT, "@acme/ui has no tag build-17")
    assert client.set_tag("@acme/other", "next", "1.0.0", OTP).kind is Kind.ABSENT
    assert found(client.look(NAME)).tags == {"latest": "1.0.0", "next": "1.0.0"}


def test_versions_are_deprecated_and_it_is_taken_back(registry: Registry, client: Client, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.1"):
        client.upload(tarball(tmp_path, version), tag="latest")
    assert client.deprecate(NAME, ["1.0.1"], "broken: use 1.0.0").kind is Kind.DONE
    versions = found(client.look(NAME)).versions
    assert [versions[each].deprecated for each in ("1.0.0", "1.0.1")] == ["", "broken: use 1.0.0"]
    assert client.deprecate(NAME, ["1.0.1"], "").kind is Kind.DONE
    assert found(client.look(NAME)).versions["1.0.1"].deprecated == ""
    assert client.deprecate(NAME, ["3.0.0"], "x").said == "the registry has no @acme/ui@3.0.0"
    assert [change.what for change in registry.state.changes] == ["publish", "publish", "deprecate", "deprecate"]


# -- a registry that misbehaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "done"),
    [
        (Fault.CUT_BEFORE, Kind.UNREACHABLE, False),
        (Fault.CUT_AFTER, Kind.UNREACHABLE, True),
        (Fault.CUT_IN_ANSWER, Kind.UNREACHABLE, True),
        (Fault.FAIL_BEFORE, Kind.BUSY, False),
        (Fault.FAIL_AFTER, Kind.BUSY, True),
        (Fault.BUSY, Kind.BUSY, False),
        (Fault.PAGE, Kind.BUSY, False),
        (Fault.REFUSE_OTP, Kind.OTP, False),
        (Fault.LOSE_TAG, Kind.DONE, True),
    ],
)
def test_an_upload_that_goes_wrong(
    registry: Registry, client: Client, tmp_path: Path, fault: Fault, kind: Kind, done: bool
) -> None:
    registry.faults.then(fault)
    answer = client.upload(tarball(tmp_path), tag="next", otp=OTP)
    assert answer.kind is kind
    assert bool(registry.state.changes) is done
    assert answer.unsure or not done or kind is Kind.DONE
    assert answer.after == (1.0 if fault is Fault.BUSY else 0.0)


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these bytes as its answers, one a connection: its address, and what it was sent."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    sent.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", sent
        thread.join(10)


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(status: str, to: str) -> bytes:
    return http(status, Location=to)


def test_an_answer_before_the_upload_has_ended_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "large.tgz"
    manifest = json.dumps({"name": NAME, "version": "1.0.0"}).encode()
    with tarfile.open(path, "w:gz", compresslevel=0) as tar:
        for name, content in (("package/package.json", manifest), ("package/large", bytes(32 << 20))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with answering(http("413 Too Large", b"<html><title>413 Request Entity Too Large</title></html>")) as (url, _):
        answer = connected(url).upload(path, tag="latest")
    # What the client hasn't sent yet makes the server's end reset the connection: the answer may be lost by that.
    assert answer.kind in (Kind.REFUSED, Kind.UNREACHABLE)


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_no_redirect_takes_the_token_along(registry: Registry, tmp_path: Path, status: str) -> None:
    elsewhere = registry.url.replace("127.0.0.1", "localhost")
    with answering(redirect(status, f"{elsewhere}@acme%2Fui")) as (url, sent):
        looked = connected(url).look(NAME)
    assert isinstance(looked, Answer)
    assert (looked.kind, registry.asked) == (Kind.ABSENT, [])
    assert TOKEN.encode() in sent[0]
    with answering(redirect(status, f"{elsewhere}-/package/x/dist-tags/y")) as (url, sent):
        answer = connected(url).set_tag(NAME, "next", "1.0.0", OTP)
    assert answer.kind is Kind.REFUSED
    assert answer.said.endswith(f"another address, {elsewhere}: set that as the project's registry")
    assert (registry.asked, OTP.encode() in sent[0]) == ([], True)


def test_a_tarball_elsewhere_is_fetched_without_the_token(registry: Registry, client: Client, tmp_path: Path) -> None:
    path = tarball(tmp_path)
    client.upload(path, tag="latest")
    packument = json.dumps(registry.packages[NAME]).encode()
    elsewhere = f"{registry.url}@acme/ui/-/ui-1.0.0.tgz"
    registry.asked.clear()
    with answering(http("200 OK", packument), redirect("302 Found", elsewhere)) as (url, sent):
        answer = connected(url).fetch(NAME, "1.0.0", tmp_path / "fetched", 1 << 20)
    assert (answer.kind, (tmp_path / "fetched").read_bytes()) == (Kind.DONE, path.read_bytes())
    assert [TOKEN.encode() in each for each in sent] == [True, True]
    assert ["authorization" in asked.headers for asked in registry.asked] == [False]


def test_redirects_without_an_end(registry: Registry) -> None:
    answers = [redirect("302 Found", "/again")] * 5
    with answering(*answers) as (url, _):
        answer = connected(url).look(NAME)
    assert isinstance(answer, Answer)
    assert answer.said == "the registry sends the request from one address to another"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!doctype html><title>Sign in</title>", "the answer isn't a package registry's: it is a page"),
        (b"", "the answer isn't a package registry's: "),
        (b"[1]", "the answer isn't a package registry's: "),
        (b'{"versions": 7}', "the answer isn't a package registry's: "),
        (b'{"a":' * 100_000, "the answer isn't a package registry's: "),
    ],
)
def test_what_is_no_packument(body: bytes, said: str) -> None:
    with answering(http("200 OK", body)) as (url, _):
        answer = connected(url).look(NAME)
    assert isinstance(answer, Answer)
    assert answer.kind is Kind.REFUSED
    assert answer.said.startswith(said)


def test_the_registry_is_searched(registry: Registry, client: Client) -> None:
    for name in ("@acme/ui", "@acme/UI", "other"):
        registry.state.have(name, "1.0.0")
    assert client.search("@acme/ui") == ["@acme/ui", "@acme/UI"]
    assert client.search("a&b=c#é") == []
    assert registry.asked[-1].path == "/-/v1/search?text=a%26b%3Dc%23%C3%A9&size=100"
    assert registry.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"objects": []}', []),
        (b'{"objects": [7, {}, {"package": 1}, {"package": {"name": 2}}, {"package": {"name": "x"}}]}', ["x"]),
        (b'{"objects": null}', Kind.REFUSED),
        (b"[]", Kind.REFUSED),
        (b"<html></html>", Kind.REFUSED),
        (bytes((8 << 20) + 1), Kind.REFUSED),
    ],
)
def test_what_a_search_may_find(body: bytes, expected: object) -> None:
    with answering(http("200 OK", body)) as (url, _):
        answer = connected(url).search(NAME)
    assert (answer.kind if isinstance(answer, Answer) else answer) == expected


@pytest.mark.parametrize(
    ("said", "name"), [("@ACME/ui", "@ACME/ui"), (NAME, NAME), (7, NAME), (None, NAME), ("", NAME)]
)
def test_a_package_has_the_name_that_the_registry_says(said: object, name: str) -> None:
    with answering(http("200 OK", json.dumps({"name": said, "versions": {}}).encode())) as (url, _):
        assert found(connected(url).look(NAME)).name == name


def test_a_page_after_a_change_says_nothing_of_it(tmp_path: Path) -> None:
    with answering(http("200 OK", b"<html></html>")) as (url, _):
        answer = connected(url).set_tag(NAME, "next", "1.0.0")
    assert (answer.kind, answer.unsure) == (Kind.UNREACHABLE, True)


def test_a_package_of_which_there_is_too_much_is_read_in_its_short_form(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_PACKUMENT", 1000)
    short = json.dumps({"versions": {"1.0.0": {"dist": {"shasum": "00"}}}, "dist-tags": {"latest": "1.0.0"}}).encode()
    with answering(http("200 OK", bytes(2000)), http("200 OK", short)) as (url, sent):
        seen = found(connected(url).look(NAME))
    assert (seen.tags, dict(seen.times), seen.versions["1.0.0"].dist.shasum) == ({"latest": "1.0.0"}, {}, "00")
    assert [b"npm.install-v1" in each for each in sent] == [False, True]
    with answering(http("200 OK", bytes(2000)), http("200 OK", bytes(2000))) as (url, _):
        answer = connected(url).look(NAME)
    assert answer == Answer(
        kind=Kind.REFUSED, said="what the registry has of @acme/ui is too much to be read: it has more than 1000 bytes"
    )


def test_odd_values_in_a_packument_are_left_out() -> None:
    packument = {
        "versions": {
            "1.0.0": {"dist": {"integrity": None, "shasum": 7}, "deprecated": True},
            "1.0.1": "nothing",
            "1.0.2": {"deprecated": False},
        },
        "dist-tags": {"latest": "1.0.0", "odd": 7},
        "time": {"1.0.0": "2026-11-29T08:00:00Z", "unpublished": {}},
    }
    with answering(http("200 OK", json.dumps(packument).encode())) as (url, _):
        seen = found(connected(url).look(NAME))
    assert (seen.tags, seen.times) == ({"latest": "1.0.0"}, {"1.0.0": "2026-11-29T08:00:00Z"})
    assert [version.deprecated for version in seen.versions.values()] == ["deprecated", "", ""]
    assert [version.dist.hashes for version in seen.versions.values()] == [{}, {}, {}]


def test_an_answer_without_an_end_is_given_up() -> None:
    class Dripping:
        """Sends a byte now and then, so that no wait for one is long."""

        def __init__(self) -> None:
            self.server = socket.create_server(("127.0.0.1", 0))
            self.over = threading.Event()

        def serve(self) -> None:
            connection, _ = self.server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not self.over.wait(0.02):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

    dripping = Dripping()
    thread = threading.Thread(target=dripping.serve)
    thread.start()
    try:
        client = Client(f"http://127.0.0.1:{dripping.server.getsockname()[1]}/", "", CONNECTION, asking=0.2)
        assert client.staged("1") == Answer(
            kind=Kind.UNREACHABLE, said="the registry can't be reached: it takes longer than 0.2 seconds"
        )
    finally:
        dripping.over.set()
        thread.join()
        dripping.server.close()


def test_no_registry_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = connected(f"http://127.0.0.1:{port}/").look(NAME)
    assert answer == Answer(kind=Kind.UNREACHABLE, said="the registry can't be reached: Connection refused")


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer") / "key", "https://builds.example.org", now=time.time)


CLAIMS = Claims(project="shop", project_id=3, repository="", build=17, attempt="17-1", ref="main", commit="c")
SENT = "issuer https://builds.example.org, subject project:shop:ref:main, audience npm:127.0.0.1"


@pytest.fixture
def trusting(registry: Registry, issuer: Issuer) -> Registry:
    """A registry that checks ID tokens by the issuer's keys, for this registry, this project and this scope."""
    (public,) = jwt.PyJWKSet.from_dict(issuer.keys()).keys

    def trusts(id_token: str, package: str) -> bool:
        try:
            claims = jwt.decode(id_token, public, ["RS256"], audience="npm:127.0.0.1", issuer=issuer.address)
        except jwt.InvalidTokenError as error:
            raise registries.Refused(401, f"OIDC token exchange error - {error}") from error
        return bool(claims["project"] == "shop" and package.startswith("@acme/"))

    registry.state.trusts = trusts
    return registry


def trusted(registry: Registry, issuer: Issuer, audience: str = "npm:127.0.0.1", **options: Any) -> Client:
    """A client that has ID tokens, and no token."""
    return Client(registry.url, "", CONNECTION, id_tokens=lambda: issuer.mint(CLAIMS, audience), **options)


def exchanges(registry: Registry) -> list[str]:
    return [asked.path for asked in registry.asked if "/oidc/" in asked.path]


def test_an_id_token_gives_a_token_for_each_package(trusting: Registry, issuer: Issuer, tmp_path: Path) -> None:
    client = trusted(trusting, issuer)
    for name in (NAME, "@acme/base"):
        assert client.upload(tarball(tmp_path, name=name), tag="next").kind is Kind.DONE
        assert client.set_tag(name, "latest", "1.0.0").kind is Kind.DONE
    asked = [(asked.method, asked.path) for asked in trusting.asked if "/oidc/" in asked.path]
    assert asked == [
        ("POST", "/-/npm/v1/oidc/token/exchange/package/@acme%2Fui"),
        ("POST", "/-/npm/v1/oidc/token/exchange/package/@acme%2Fbase"),
    ]
    assert {change.by for change in trusting.state.changes} == {"trusted"}


def test_a_refused_id_token_is_named_with_what_it_says(trusting: Registry, issuer: Issuer, tmp_path: Path) -> None:
    other = trusted(trusting, issuer).upload(tarball(tmp_path, name="other"), tag="next")
    assert other == Answer(
        kind=Kind.DENIED,
        said="the registry gives no token for this apiserver's word: see whom it trusts to publish the package (401: "
        f"OIDC token exchange error - invalid token); it was sent {SENT}, and has to trust these for other",
        status=401,
    )
    elsewhere = trusted(trusting, issuer, "npm:elsewhere").look(NAME)
    assert isinstance(elsewhere, Answer)
    assert elsewhere.said == (
        "the registry gives no token for this apiserver's word, since it expects another audience (401: OIDC token "
        "exchange error - Audience doesn't match); it was sent issuer https://builds.example.org, subject "
        f"project:shop:ref:main, audience npm:elsewhere, and has to trust these for {NAME}"
    )


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (404, "no such address", "the registry has no such exchange of ID tokens for one of its own"),
        (405, "", "the registry has no such exchange of ID tokens for one of its own"),
        (404, "OIDC token exchange error - package not found", "the registry gives no token for this apiserver's word"),
        (422, "unable to fetch https://builds.example.org/.well-known/jwks.json", "the registry can't read this api"),
        (400, "token is not yet valid (nbf)", "the registry finds that this apiserver's word isn't good at this time"),
        (401, "Signature has expired", "the registry finds that this apiserver's word isn't good at this time"),
        (403, "claim sub doesn't match", "the registry gives no token for this apiserver's word"),
    ],
)
def test_what_a_registry_says_to_an_id_token(
    registry: Registry, issuer: Issuer, status: int, words: str, said: str
) -> None:
    def trusts(id_token: str, package: str) -> bool:
        raise registries.Refused(status, words)

    registry.state.trusts = trusts
    answer = trusted(registry, issuer).look(NAME)
    assert isinstance(answer, Answer)
    assert answer.kind is Kind.DENIED
    assert answer.said.startswith(said)
    assert answer.said.endswith(f"; it was sent {SENT}, and has to trust these for {NAME}")


def test_a_registry_whose_clock_is_another(registry: Registry, issuer: Issuer) -> None:
    def trusts(id_token: str, package: str) -> bool:
        raise registries.Refused(401, "used too early", {"Date": "Sun, 29 Nov 2020 08:00:00 GMT"})

    registry.state.trusts = trusts
    answer = trusted(registry, issuer).set_tag(NAME, "a", "1.0.0")
    assert "; and its clock says 2020-11-29 08:00:00 UTC while it is 20" in answer.said
    assert answer.said.endswith(" UTC here: set the one that is wrong")


def test_a_token_that_ends_is_exchanged_again(trusting: Registry, issuer: Issuer, tmp_path: Path) -> None:
    """After three requests it is refused: the fourth is made with another, and each version is published once."""
    trusting.state.exchanged_for = 3
    trusting.state.private = True
    client = trusted(trusting, issuer)
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        client.look(NAME)
        assert client.upload(tarball(tmp_path, version), tag="next").kind is Kind.DONE
        assert client.set_tag(NAME, "latest", version).kind is Kind.DONE
    assert len(exchanges(trusting)) == 3
    assert set(trusting.state.count("publish").values()) == {1}


def test_a_token_that_is_refused_at_once_is_not_exchanged_again(trusting: Registry, issuer: Issuer) -> None:
    trusting.state.exchanged_for = 0
    answer = trusted(trusting, issuer).set_tag(NAME, "latest", "1.0.0")
    assert (answer.kind, len(exchanges(trusting))) == (Kind.DENIED, 1)


@pytest.mark.parametrize(
    "says",
    [
        {"expires_in": 60},
        {"created": "2020-11-29T08:00:00Z", "expires": "2020-11-29T08:01:00Z"},
    ],
)
def test_a_token_is_used_no_longer_than_the_registry_says(
    trusting: Registry, issuer: Issuer, says: dict[str, Any]
) -> None:
    """The registry's clock may be another: what counts is for how long the token is good."""
    times = [1000.0]
    trusting.state.exchanged_says = says
    client = trusted(trusting, issuer, clock=lambda: times[-1])
    for seconds, most in ((0.0, 1), (40.0, 1), (15.0, 2), (5.0, 2)):
        times.append(times[-1] + seconds)
        client.look(NAME)
        assert len(exchanges(trusting)) == most


def test_an_old_token_may_have_ended_where_the_registry_hides_that(trusting: Registry, issuer: Issuer) -> None:
    """The public registry says 404 to an upload with an expired token, not 401."""
    times = [1000.0]
    client = trusted(trusting, issuer, clock=lambda: times[-1])
    client.set_tag(NAME, "latest", "1.0.0")
    client.set_tag(NAME, "latest", "1.0.0")
    assert len(exchanges(trusting)) == 1
    times.append(1100.0)
    assert client.set_tag(NAME, "latest", "1.0.0").kind is Kind.ABSENT
    assert len(exchanges(trusting)) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CUT_BEFORE, Kind.UNREACHABLE),
        (Fault.CUT_AFTER, Kind.UNREACHABLE),
        (Fault.CUT_IN_ANSWER, Kind.UNREACHABLE),
        (Fault.FAIL_BEFORE, Kind.BUSY),
        (Fault.FAIL_AFTER, Kind.BUSY),
        (Fault.BUSY, Kind.BUSY),
        (Fault.PAGE, Kind.BUSY),
    ],
)
def test_an_exchange_that_fails_can_be_made_again(
    trusting: Registry, issuer: Issuer, fault: Fault, kind: Kind, tmp_path: Path
) -> None:
    trusting.faults.then(fault)
    client = trusted(trusting, issuer)
    assert client.upload(tarball(tmp_path), tag="next").kind is kind
    assert trusting.uploads == []
    assert client.upload(tarball(tmp_path), tag="next").kind is Kind.DONE


def test_an_answer_without_a_token_is_none(trusting: Registry, issuer: Issuer) -> None:
    for token in ("", "with a space", 7):
        trusting.state.exchanged_says = {"token": token}
        answer = trusted(trusting, issuer).look(NAME)
        assert isinstance(answer, Answer)
        assert (answer.kind, answer.said) == (
            Kind.UNREACHABLE,
            "the answer isn't a package registry's: it has no token",
        )


def test_what_is_only_looked_at_needs_a_token_where_it_is_private(
    trusting: Registry, issuer: Issuer, tmp_path: Path
) -> None:
    """Tags are looked at all the time: that is no reason to exchange tokens where all can see them."""
    assert trusted(trusting, issuer).upload(tarball(tmp_path), tag="latest").kind is Kind.DONE
    before = len(exchanges(trusting))
    client = trusted(trusting, issuer, openly=True)
    assert client.tags(NAME) == {"latest": "1.0.0"}
    assert len(exchanges(trusting)) == before
    trusting.state.private = True
    assert client.tags(NAME) == {"latest": "1.0.0"}
    assert len(exchanges(trusting)) == before + 1


def test_stages_are_asked_for_with_the_token_of_a_package(trusting: Registry, issuer: Issuer, tmp_path: Path) -> None:
    client = trusted(trusting, issuer, package=NAME)
    assert client.has_staging() is True
    stage = staged(client.stage(tarball(tmp_path), tag="latest"))
    assert client.approve(stage.id, OTP).kind is Kind.DONE
    assert len(exchanges(trusting)) == 1


def test_what_the_registry_says_of_a_token(registry: Registry, client: Client) -> None:
    absent = Answer(kind=Kind.ABSENT, said="the registry doesn't list this token")
    assert client.token_facts() == absent
    registry.state.accounts[TOKEN].expires = "2026-12-24T08:00:00.000Z"
    registry.state.accounts["npm_another"] = Account(expires="2027-01-01T00:00:00.000Z")
    assert client.token_facts() == TokenFacts(expires="2026-12-24T08:00:00.000Z", bypasses_otp=True)
    with answering(http("404 Not Found", b"{}")) as (url, _):
        nothing = connected(url).token_facts()
    assert isinstance(nothing, Answer)
    assert nothing.kind is Kind.UNSUPPORTED
    with answering(http("200 OK", b'{"objects": [7, {"token": "npm"}, {"token": 7}]}')) as (url, _):
        assert connected(url).token_facts() == absent


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_by_https_with_authorities_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with registries.running() as registry:
        registry.socket = context.wrap_socket(registry.socket, server_side=True)
        url = registry.url.replace("http:", "https:")
        registry.state.address = url
        stranger = connected(url).look(NAME)
        assert isinstance(stranger, Answer)
        assert stranger.said == (
            "the registry can't be reached: its certificate isn't trusted here (unable to get local issuer certificate)"
        )
        environment = {"NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem")}
        client = Client(url, TOKEN, Connection(Npmrc({}), environment))
        path = tarball(tmp_path)
        assert client.upload(path, tag="latest").kind is Kind.DONE
        (upload,) = registry.uploads
        # npm writes http here also for https, and nobody asks for it by http for that.
        assert upload.document["versions"]["1.0.0"]["dist"]["tarball"].startswith("http://127.0.0.1:")
        registry.packages[NAME]["versions"]["1.0.0"]["dist"]["tarball"] = registry.url + "@acme/ui/-/ui-1.0.0.tgz"
        assert client.fetch(NAME, "1.0.0", tmp_path / "fetched", 1 << 20).kind is Kind.DONE
        assert (tmp_path / "fetched").read_bytes() == path.read_bytes()


def test_an_answer_without_an_end_is_given_up_by_https_too(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            accepted, _ = server.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    while not over.wait(0.02):
                        connection.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection(Npmrc({"cafile": str(tmp_path / "ca.pem")}), {})
        client = Client(f"https://127.0.0.1:{server.getsockname()[1]}/", "", connection, asking=0.4)
        answer = client.staged("1")
        over.set()
        thread.join()
    assert answer == Answer(
        kind=Kind.UNREACHABLE, said="the registry can't be reached: it takes longer than 0.4 seconds"
    )


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_what_is_secret_is_in_no_answer(client: Client) -> None:
    said = f"no: {TOKEN} with {OTP} {'x' * 300}".encode()
    with answering(http("403 No", said, npm_notice=f"{TOKEN} {OTP}")) as (url, _):
        answer = connected(url).set_tag(NAME, "next", "1.0.0", OTP)
    assert "no: *** with ***" in answer.said
    assert answer.notice == "*** ***"
    assert TOKEN not in repr(client) + str(vars(Answer))


def test_what_no_header_can_hold_is_not_sent(registry: Registry, client: Client) -> None:
    answers = [connected(registry.url, "a\r\nb").look(NAME), client.approve("1", "12 34\r\nX: y")]
    assert answers == [
        Answer(kind=Kind.DENIED, said="the token has characters that can't be sent"),
        Answer(kind=Kind.OTP, said="the one-time password has characters that can't be sent"),
    ]
    assert registry.asked == []


def test_an_address_with_a_password_is_shown_without_it() -> None:
    assert connected("https://user:secret@registry.example.org/npm").address == "https://registry.example.org/npm/"
