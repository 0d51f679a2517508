"""ID tokens, checked by a library that others wrote; and the documents by which the key is found."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import jwt
import pytest
from msgspec.structs import replace

from twistedipc.storage.id_tokens import LIFETIME, Claims, Issuer
from twistedipc.storage.signing import KeyUnusable

NOW = 1_795_942_800.0
ADDRESS = "https://builds.example.org"
SHOP = "https://git.example.org/acme/shop.git"
CLAIMS = Claims(project="shop", project_id=3, repository=SHOP, build=17, attempt="17-1", ref="main", commit="c" * 40)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer") / "id-tokens.key", ADDRESS, now=lambda: NOW)


def test_a_token_is_what_others_can_check(issuer: Issuer) -> None:
    token = issuer.mint(CLAIMS, "npm:registry.example.org")
    (public,) = jwt.PyJWKSet.from_dict(issuer.keys()).keys
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": public.key_id, "typ": "JWT"}
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}  # of the clock's time, see below
    found = jwt.decode(
        token, public, algorithms=["RS256"], audience="npm:registry.example.org", issuer=ADDRESS, options=options
    )
    assert re.fullmatch(r"[0-9a-f-]{36}", found.pop("jti"))
    assert found == {
        "iss": ADDRESS,
        "sub": "project:shop:ref:main",
        "aud": "npm:registry.example.org",
        "iat": NOW,
        "nbf": NOW - 30,
        "exp": NOW + LIFETIME,
        "project": "shop",
        "project_id": 3,
        "repository": SHOP,
        "build": 17,
        "attempt": "17-1",
        "ref": "main",
        "commit": "c" * 40,
    }
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, public, algorithms=["RS256"], audience="npm:other.example.org", options=options)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token[:-8] + "AAAAAAAA", public, algorithms=["RS256"], options={**options, "verify_aud": False})


def test_an_environment_is_whom_rights_are_given_to(issuer: Issuer) -> None:
    claims = replace(CLAIMS, environment="production")
    found = jwt.decode(issuer.mint(claims, "a"), options={"verify_signature": False})
    assert (found["sub"], found["environment"]) == ("project:shop:environment:production", "production")


def test_the_key_is_found_by_the_address(issuer: Issuer) -> None:
    found = issuer.configuration()
    assert (found["issuer"], found["jwks_uri"]) == (ADDRESS, f"{ADDRESS}/.well-known/jwks.json")
    assert {"d", "p", "q"}.isdisjoint(issuer.keys()["keys"][0])


def test_the_key_stays(issuer: Issuer, tmp_path: Path) -> None:
    issuer.keys()
    path = issuer._path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Issuer(path, ADDRESS, now=lambda: NOW).keys() == issuer.keys()
    other = tmp_path / "open.key"
    other.write_bytes(path.read_bytes())
    other.chmod(0o644)
    with pytest.raises(KeyUnusable, match="can be read by others"):
        Issuer(other, ADDRESS, now=lambda: NOW).keys()
    other.chmod(0o600)
    other.write_text("nothing")
    with pytest.raises(KeyUnusable, match="doesn't hold a private key"):
        Issuer(other, ADDRESS, now=lambda: NOW).keys()
