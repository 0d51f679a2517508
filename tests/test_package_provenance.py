"""Provenance of packages: who approved is signed too, and `twistedipc verify NAME@VERSION` compares the registry."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from tests.cli_server import Server, as_json, problem, serving
from tests.registry import Registry, running
from tests.test_cli_commands import run
from tests.test_evidence import packed
from tests.test_provenance import signed, statement
from tests.test_server_delivering import BOB, PACKAGES, World
from tests.web_world import World as Web
from twistedipc.builds import provenance as form
from twistedipc.builds.attempt import Published
from twistedipc.builds.provenance import Envelope
from twistedipc.publish.stored import Delivered
from twistedipc.storage import provenance
from twistedipc.storage.signing import SigningKey

PURL = "pkg:npm/%40acme/ui@1.4.0"


# -- what is signed


def statements(world: World) -> list[tuple[str, form.Statement]]:
    found = world.ledger.now(provenance.of_build, 1)
    key = world.apiserver.server.outside.signing_key.public
    for each in found:
        payload = form.payload_of(each.envelope)
        assert key.has_signed(form.signed_bytes(payload), form.decoded(each.envelope.signatures[0].sig))
    return [(each.name, form.read_statement(form.payload_of(each.envelope))) for each in found]


def test_each_package_has_a_statement_that_says_who_approved_it(tmp_path: Path) -> None:
    world = World(tmp_path, approval=1)
    world.all_stored()
    world.ask(world.apiserver.lifecycle.approve_build(1, BOB))
    world.apiserver.programs.ends(world.attempt)
    found = statements(world)
    assert [name for name, _ in found] == ["pkg:npm/%40acme/p0@1.0.0", "pkg:npm/%40acme/p1@1.0.0"]
    for (name, said), package in zip(found, PACKAGES, strict=True):
        (subject,) = said.subject
        integrity = base64.b64decode(package.integrity.removeprefix("sha512-")).hex()
        assert (subject.name, subject.digest) == (name, {"sha512": integrity})
        parameters = said.predicate.buildDefinition.internalParameters
        assert (parameters["approvedBy"], parameters["attempt"]) == ("bob", world.attempt)
        assert parameters["approvedOn"].endswith("Z")


def test_without_an_approval_nobody_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.all_stored()
    world.apiserver.programs.ends(world.attempt)
    assert len(statements(world)) == 2
    assert all("approvedBy" not in each.predicate.buildDefinition.internalParameters for _, each in statements(world))


def test_one_that_was_there_already_has_a_statement_once(tmp_path: Path) -> None:
    """An attempt before may have published it, and failed at another: then there is none yet."""
    world = World(tmp_path)
    world.all_stored()
    first = PACKAGES[0]
    known = form.Statement(
        type=form.STATEMENT, predicateType=form.PREDICATE, predicate=statement().predicate,
        subject=[form.Subject(name="pkg:npm/%40acme/p0@1.0.0", digest=form.digest_of_integrity(first.integrity))],
    )  # fmt: skip
    envelope = signed(world.apiserver.server.outside.signing_key, known)
    world.ledger.now(provenance.add, world.attempt, "package", known.subject[0].name, envelope, 5)
    there = [
        Published(name=each.name, version=each.version, integrity=each.integrity, status="already-published",
                  registry="https://r.example/", target="npm")
        for each in PACKAGES
    ]  # fmt: skip
    world.apiserver.programs.ends(world.attempt, Delivered(published=there))
    assert [name for name, _ in statements(world)] == ["pkg:npm/%40acme/p0@1.0.0", "pkg:npm/%40acme/p1@1.0.0"]


class Served(Web):
    async def test_statements_about_a_package(self) -> None:
        await self.project()
        number = await self.build()
        envelope = signed(self.server.outside.signing_key, statement())
        await self.ledger.write(provenance.add, f"{number}-1", "package", PURL, envelope, self.time)
        await self.ledger.write(_published, f"{number}-1")
        query = "/api/v1/provenance?package=@acme/ui&version=1.4.0"
        answer = (await self.ask("GET", query)).json
        (found,) = answer["statements"]
        assert (answer["name"], found["build"], found["attempt"]) == ("@acme/ui", number, 1)
        assert (found["registry"], found["status"], found["approved_by"]) == ("https://r.example/", "published", "")
        assert msgspec.convert(found["envelope"], Envelope) == envelope
        missing = "/api/v1/provenance?package=@acme/ui&version=1.4.1"
        self.problem(await self.ask("GET", missing), 404, "no statement about @acme/ui@1.4.1")
        stranger = await self.token("eve", "read", projects=["other"])
        self.problem(await self.ask("GET", query, token=stranger), 404, "none that you may see")
        self.problem(await self.ask("GET", "/api/v1/provenance?package=@acme/ui&version=1%2F2"), 422, "version")


def _published(connection: Any, attempt: str) -> None:
    from sqlalchemy import update

    from twistedipc.storage.tables import attempts

    published = Published(name="@acme/ui", version="1.4.0", integrity="sha512-x", status="published",
                          registry="https://r.example/", target="npm")  # fmt: skip
    connection.execute(update(attempts).values(published=msgspec.json.encode([published]).decode()))


# -- the command


class Proof:
    """An apiserver and a registry that have the same package, and the apiserver's key."""

    def __init__(self, folder: Path, server: Server, registry: Registry) -> None:
        self.folder, self.server, self.registry = folder, server, registry
        self.key = SigningKey(folder / "signing.key")
        self.tarball = packed(folder / "ui.tgz", [("package.json", b'{"name": "@acme/ui", "version": "1.4.0"}')])
        self.data = self.tarball.read_bytes()
        self.has(self.data)
        self.says(self.envelope(self.data))
        server.on("GET /api/v1/signing-key", as_json({"keyid": self.key.public.keyid, "pem": self.key.public.pem}))

    def envelope(self, data: bytes, *, name: str = PURL, key: SigningKey | None = None) -> Envelope:
        said = statement()
        subject = form.Subject(name=name, digest={"sha512": hashlib.sha512(data).hexdigest()})
        definition = msgspec.structs.replace(
            said.predicate.buildDefinition,
            externalParameters={"project": "ui"},
            internalParameters={"attempt": "17-1", "requestedBy": "ann", "approvedBy": "bob"},
        )
        predicate = msgspec.structs.replace(said.predicate, buildDefinition=definition)
        return signed(key or self.key, msgspec.structs.replace(said, subject=[subject], predicate=predicate))

    def says(self, *envelopes: Envelope) -> None:
        """The apiserver has these statements."""
        common = {"project": "ui", "build": 17, "attempt": 1, "integrity": "", "registry": self.registry.url,
                  "status": "published", "requested_by": "ann", "approved_by": "bob",
                  "created": "2026-01-02T03:04:05.678Z"}  # fmt: skip
        found = [{**common, "envelope": msgspec.to_builtins(each)} for each in envelopes]
        answer = {"name": "@acme/ui", "version": "1.4.0", "statements": found}
        self.server.on("GET /api/v1/provenance", as_json(answer))

    def has(self, data: bytes, announced: bytes | None = None) -> None:
        """The registry has this content."""
        digest = hashlib.sha512(data if announced is None else announced).digest()
        dist = {"integrity": "sha512-" + base64.b64encode(digest).decode(),
                "tarball": f"{self.registry.url}@acme/ui/-/ui-1.4.0.tgz"}  # fmt: skip
        version = {"name": "@acme/ui", "version": "1.4.0", "dist": dist}
        self.registry.packages["@acme/ui"] = {"name": "@acme/ui", "versions": {"1.4.0": version}, "dist-tags": {}}
        self.registry.state.contents["@acme/ui/-/ui-1.4.0.tgz"] = data

    def verify(self, *options: str, what: str = "@acme/ui@1.4.0") -> Result:
        return run(self.server, "verify", what, *options)

    def refused(self, *options: str) -> list[str]:
        """What doesn't hold."""
        result = self.verify(*options)
        assert result.exit_code == 1, result.output
        assert "@acme/ui@1.4.0 isn't proven" in result.stderr
        return [line for line in result.stdout.splitlines() if line.startswith("NOT")]


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proof]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as server, running() as registry:
        yield Proof(tmp_path, server, registry)


def test_all_of_it_holds(proof: Proof) -> None:
    result = proof.verify()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    for said in (
        f"{proof.registry.url} has @acme/ui@1.4.0",
        f"signed by the key {proof.key.public.keyid}",
        "commit cccccccc",
        "built by https://builds.example/builders/one",
        "package.tgz is what it is about: its sha512 is the same",
        "attempt 17-1 of ui: ann has asked for it, and bob has approved it",
    ):
        assert any(said in line for line in lines), said
    assert proof.server.asked[0].query == {"package": "@acme/ui", "version": "1.4.0"}
    assert proof.verify("--key", str(proof.folder / "signing.pub")).exit_code == 0
    # The registry is asked with the token that npm has for it.
    (proof.folder / ".npmrc").write_text(f"//{proof.registry.url.split('/')[2]}/:_authToken=t0ken\n")
    assert proof.verify().exit_code == 0
    assert proof.registry.asked[-1].headers["authorization"] == "Bearer t0ken"
    assert "authorization" not in proof.registry.asked[0].headers


def test_a_file_takes_the_place_of_the_registrys(proof: Proof) -> None:
    proof.registry.packages.clear()
    assert proof.verify("--file", str(proof.tarball)).exit_code == 0
    other = packed(proof.folder / "other.tgz", [("package.json", b"{}")])
    (line,) = proof.refused("--file", str(other))
    assert "it is another" in line


def test_a_registry_with_another_content(proof: Proof) -> None:
    other = packed(proof.folder / "other.tgz", [("package.json", b"{}"), ("evil.js", b"")]).read_bytes()
    proof.has(other)
    (line,) = proof.refused()
    assert "One of the 1 statements about it is about this content: no" in line
    proof.has(other, announced=proof.data)
    (line,) = proof.refused()
    assert "isn't what the registry says of it" in line
    proof.registry.packages.clear()
    (line,) = proof.refused()
    assert f"{proof.registry.url} has @acme/ui@1.4.0: no" in line


def test_statements_that_prove_nothing(proof: Proof, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    evil = SigningKey(tmp_path / "evil" / "signing.key")
    proof.says(proof.envelope(proof.data, key=evil))
    (line,) = proof.refused()
    assert f"It isn't signed by the key {proof.key.public.keyid}" in line
    proof.says(proof.envelope(proof.data, name="pkg:npm/%40acme/other@1.4.0"))
    assert "is about this content: no" in proof.refused()[0]
    proof.says(msgspec.structs.replace(proof.envelope(proof.data), payload="!"))
    assert "It is provenance: no, something in it isn't base64." in proof.refused()[0]
    # Among several, those about this content count.
    proof.says(proof.envelope(b"another try"), proof.envelope(proof.data))
    result = proof.verify()
    assert (result.exit_code, "1 other statements are about other contents" in result.stdout) == (0, True)
    (tmp_path / "evil" / "signing.pub").write_text(evil.public.pem)
    assert "It isn't signed by the key" in proof.refused("--key", str(tmp_path / "evil" / "signing.pub"))[0]


def test_a_package_that_nobody_knows(proof: Proof) -> None:
    proof.server.on("GET /api/v1/provenance", problem(404, "there is no statement about @acme/ui@1.4.0"))
    assert "no, there is no statement about @acme/ui@1.4.0" in proof.refused()[0]
    proof.server.on("GET /api/v1/provenance", problem(401, "who are you?"))
    assert proof.verify().exit_code == 3
    for nonsense in ("@acme/ui", "@acme/ui@latest", "no-such-file.json", "../x@1.0.0", "x" * 5000, "@ACME/ui@1.0.0"):
        result = proof.verify(what=nonsense)
        assert (result.exit_code, "neither a file nor the version" in result.stderr) == (2, True), nonsense
