"""Where releases and packages come from: what is signed, by which key, and what `twistedipc verify` says of it."""

from __future__ import annotations

import base64
import hashlib
import stat
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.web_world import World
from twistedipc.builds import provenance as form
from twistedipc.builds.provenance import Envelope
from twistedipc.cli.main import commands
from twistedipc.storage import provenance
from twistedipc.storage.id_tokens import Claims
from twistedipc.storage.signing import KeyUnusable, PublicKey, SigningKey

ARCHIVE = b"what was built"


def statement(**more: Any) -> form.Statement:
    log = form.Resource(name="log", digest={"sha256": "ab" * 32}, annotations={"complete": more.pop("complete", True)})
    return form.Statement(
        type=form.STATEMENT,
        predicateType=more.pop("predicate_type", form.PREDICATE),
        subject=[form.Subject(name="shop/static/7", digest={"sha256": hashlib.sha256(ARCHIVE).hexdigest()})],
        predicate=form.Predicate(
            buildDefinition=form.BuildDefinition(
                buildType=more.pop("build_type", form.BUILD_TYPE),
                externalParameters={"ref": "main"},
                internalParameters={},
                resolvedDependencies=[
                    form.Resource(uri="git+https://git.example/shop.git@main", digest={"gitCommit": "c" * 40})
                ],
            ),
            runDetails=form.RunDetails(
                builder=form.Builder(id="https://builds.example/builders/one"),
                metadata=form.Metadata(invocationId="x", startedOn="2026-01-31T12:00:00Z", finishedOn="x"),
                byproducts=[log],
            ),
        ),
    )


def signed(key: SigningKey, said: form.Statement) -> Envelope:
    payload = msgspec.json.encode(said)
    return form.envelope(payload, key.public.keyid, key.sign(form.signed_bytes(payload)))


class Place:
    """A folder with a key, an artifact and a statement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey(folder / "signing.key")
        self.file = folder / "statement.json"
        self.artifact = folder / "archive"
        self.artifact.write_bytes(ARCHIVE)
        self.write(signed(self.key, statement()))

    def write(self, *envelopes: Envelope) -> None:
        self.file.write_bytes(b"\n".join(msgspec.json.encode(each) for each in envelopes))

    def verify(self, *options: str, key: bool = True) -> Result:
        with_key = ["--key", str(self.folder / "signing.pub")] if key else []
        return CliRunner().invoke(commands, ["verify", str(self.file), *with_key, *options])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_all_is_well(place: Place) -> None:
    result = place.verify("--artifact", str(place.artifact))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    for part in ("signed by the key", "shop/static/7", "c" * 40, "builders/one", "verified complete", "the same"):
        assert any(part in line for line in lines), part


def test_several_in_one_file(place: Place) -> None:
    place.write(signed(place.key, statement()), signed(place.key, statement()))
    assert place.verify().exit_code == 0
    place.write(signed(place.key, statement()), signed(place.key, statement(complete=False)))
    assert place.verify().exit_code == 1


def test_without_a_key_it_proves_nothing(place: Place) -> None:
    result = place.verify(key=False)
    assert result.exit_code == 1
    assert place.key.public.keyid in result.stdout
    assert "--key" in result.stdout


def test_another_key(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = SigningKey(tmp_path / "other/signing.key")
    place.write(signed(other, statement()))
    result = place.verify()
    assert result.exit_code == 1
    assert "NOT  It isn't signed by the key" in result.stdout


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"complete": False}, "Its log was verified complete"),
        ({"build_type": "https://actions.example/workflow/v1"}, "It is about a build of this platform: no"),
        ({"predicate_type": "https://spdx.dev/Document"}, "not SLSA's provenance v1"),
    ],
)
def test_what_does_not_hold_is_said(place: Place, more: dict[str, Any], part: str) -> None:
    place.write(signed(place.key, statement(**more)))
    result = place.verify()
    assert result.exit_code == 1
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("NOT"))
    assert part in line


def test_another_artifact(place: Place) -> None:
    place.artifact.write_bytes(b"something else")
    result = place.verify("--artifact", str(place.artifact))
    assert result.exit_code == 1
    assert "isn't what it is about" in result.stdout


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"payload":"!","payloadType":"x","signatures":[]}']
)
def test_files_that_are_something_else(place: Place, data: bytes) -> None:
    place.file.write_bytes(data)
    result = place.verify()
    assert result.exit_code == 1
    assert result.stdout.startswith("NOT")


@given(data=st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("provenance"))
    envelope = signed(place.key, statement())
    payload, signature = (
        bytearray(base64.b64decode(envelope.payload)),
        bytearray(base64.b64decode(envelope.signatures[0].sig)),
    )
    changed = data.draw(st.sampled_from([payload, signature]))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    place.write(form.envelope(bytes(payload), place.key.public.keyid, bytes(signature)))
    result = place.verify()
    assert result.exit_code == 1
    assert "NOT" in result.stdout


def test_the_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first, again = SigningKey(path), SigningKey(path)
    assert first.public.keyid == again.public.keyid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PublicKey.read((tmp_path / "signing.pub").read_bytes()).keyid == first.public.keyid
    assert first.public.has_signed(b"x", again.sign(b"x"))
    assert not first.public.has_signed(b"y", again.sign(b"x"))
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        SigningKey(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(KeyUnusable, match="in PEM"):
        SigningKey(path)


@pytest.mark.parametrize(
    ("integrity", "digest"),
    [
        ("sha512-" + base64.b64encode(b"\1" * 64).decode(), {"sha512": "01" * 64}),
        ("sha1-AAAA sha256-" + base64.b64encode(b"\2" * 32).decode(), {"sha256": "02" * 32}),
        ("", {}),
        ("sha512-!", {}),
        ("md5-AAAA", {}),
    ],
)
def test_the_digest_of_an_integrity(integrity: str, digest: dict[str, str]) -> None:
    assert form.digest_of_integrity(integrity) == digest


def test_names_of_packages() -> None:
    assert form.package_name("npm", "@acme/ui", "1.0.0") == "pkg:npm/%40acme/ui@1.0.0"
    assert form.package_name("npm", "left-pad", "1.0.0") == "pkg:npm/left-pad@1.0.0"


class Served(World):
    async def test_statements_and_the_key(self) -> None:
        await self.project()
        number = await self.build()
        key = self.server.outside.signing_key
        envelope = signed(key, statement())
        await self.ledger.write(provenance.add, f"{number}-1", "release", "shop/static/7", envelope, self.time)
        answer = await self.ask("GET", f"/api/v1/builds/{number}/provenance")
        (found,) = answer.json["statements"]
        assert (found["attempt"], found["kind"], found["name"]) == (f"{number}-1", "release", "shop/static/7")
        assert msgspec.convert(found["envelope"], Envelope) == envelope
        shown = (await self.ask("GET", "/api/v1/signing-key", token=None)).json
        assert shown["keyid"] == key.public.keyid
        assert PublicKey.read(shown["pem"].encode()).keyid == key.public.keyid

    async def test_whoever_gets_an_id_token_finds_how_to_check_it(self) -> None:
        issuer = self.server.outside.issuer
        shown = (await self.ask("GET", "/.well-known/openid-configuration", token=None)).json
        assert (shown["issuer"], shown["jwks_uri"]) == (self.api_url, f"{self.api_url}/.well-known/jwks.json")
        keys = (await self.ask("GET", "/.well-known/jwks.json", token=None)).json
        claims = Claims(project="shop", project_id=1, repository="", build=1, attempt="1-1", ref="main", commit="c")
        token = issuer.mint(claims, "npm:example.org")
        (public,) = jwt.PyJWKSet.from_dict(keys).keys
        options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}  # the world's clock is another
        found = jwt.decode(token, public, algorithms=["RS256"], audience="npm:example.org", options=options)
        assert (found["iss"], found["project"]) == (self.api_url, "shop")
