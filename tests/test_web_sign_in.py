"""Signing in by OpenID Connect, against a real provider that behaves, and that doesn't."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.client import Agent

from tests import oidc_provider
from tests.oidc_provider import CLIENT, SECRET, Key
from tests.web_world import Answer, World, eventually, reactor
from twistedipc.storage import audit, people
from twistedipc.storage.rows import PersonRow
from twistedipc.web.access import oidc, provider
from twistedipc.web.access.oidc import Group, Settings, SignInFailed, roles_by_groups, wrong_with
from twistedipc.web.api.sign_in import BEGIN, CALLBACK
from twistedipc.web.http.outgoing import MAX_ANSWER, SECONDS, AgentOutgoing, Unanswered
from twistedipc.web.site import api_site

GROUPS = {
    "admins": Group(admin=True),
    "web": Group(projects={"shop": "publisher", "nowhere": "reader"}),
    "all": Group(projects={"shop": "reader"}),
}


class SignIn(World):
    api_url = "http://api.test"
    settings: ClassVar[dict[str, Any]] = {"allow_new": True, "groups": GROUPS}

    async def prepare(self) -> None:
        await self.project()
        self.idp = oidc_provider.Provider(reactor, self.now)
        self.addCleanup(self.idp.port.stopListening)
        self.clock = Clock()  # of the requests to the provider
        self.with_settings(**self.settings)

    def with_settings(self, **more: Any) -> None:
        """Begin again with a service that has these settings."""
        settings = Settings(issuer=self.idp.issuer, client_id=CLIENT, client_secret=SECRET, name="Acme", **more)
        outgoing = AgentOutgoing(Agent(reactor), self.clock)
        made = provider.Provider(settings, outgoing, self.now, f"{self.api_url}{CALLBACK}")
        site = api_site(replace(self.context, provider=made))
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(site.stop()))
        self.port = listening.getHost().port
        self.site = site

    async def begun(self) -> tuple[str, str]:
        """A browser's cookie, and where it is sent."""
        answer = await self.ask("GET", BEGIN, token=None)
        assert answer.status == 302, answer.raw
        cookie = answer.headers["Set-Cookie"]
        assert "SameSite=Lax" in cookie
        assert "HttpOnly" in cookie
        assert "Max-Age=600" in cookie
        return cookie.partition(";")[0], answer.headers["Location"]

    async def back(self, cookie: str | None, query: dict[str, str]) -> Answer:
        """The answer to a browser that comes back."""
        headers = {} if cookie is None else {"Cookie": cookie}
        return await self.ask("GET", f"{CALLBACK}?{urlencode(query)}", token=None, headers=headers)

    async def signed_in(self) -> Answer:
        """The answer at the end of a whole sign-in."""
        cookie, address = await self.begun()
        return await self.back(cookie, self.idp.authorize(address))

    async def identity(self, answer: Answer) -> Any:
        """Who a browser is that has signed in."""
        assert answer.headers["Location"] == "http://api.test/", answer.raw
        session = answer.headers["Set-Cookie"]
        assert "SameSite=Strict" in session
        headers = {"Cookie": session.partition(";")[0], "Origin": "http://api.test"}
        found = await self.ask("GET", "/api/v1/identity", token=None, headers=headers)
        assert found.status == 200, found.raw
        return found.json

    def failed(self, answer: Answer, code: str) -> None:
        assert answer.headers["Location"] == f"http://api.test/#sign-in-failed={code}", answer.raw
        assert "Set-Cookie" not in answer.headers

    async def everybody(self) -> list[PersonRow]:
        return await self.ledger.read(people.list_all)

    # -- it works

    async def test_a_first_sign_in_makes_an_account_and_the_next_one_finds_it(self) -> None:
        ways = (await self.ask("GET", "/api/v1/sign-in", token=None)).json
        assert ways["provider"] == {"name": "Acme", "url": f"http://api.test{BEGIN}"}
        assert ways["failures"] == dict(oidc.SENTENCES)
        self.idp.more_claims = {"groups": ["web", "all", "others"]}
        first = await self.identity(await self.signed_in())
        assert (first["name"], first["roles"]) == ("Ann Bo", {"shop": "publisher"})
        self.idp.user |= {"name": "Another", "email": "new@example.org"}
        self.idp.more_claims = {"groups": ["all"]}
        assert (await self.identity(await self.signed_in()))["roles"] == {"shop": "reader"}
        (ann,) = await self.everybody()
        assert (ann.name, ann.email, ann.joined) == ("Ann Bo", "new@example.org", self.time)
        assert self.idp.asked.count("/keys") == self.idp.asked.count("/.well-known/openid-configuration") == 1
        rows = await self.ledger.read(lambda connection: audit.list_page(connection, who="Ann Bo", limit=99))
        done = [(row.action, row.person, row.detail.get("role")) for row in reversed(rows)]
        assert done == [
            ("person.join", ann.id, None),
            ("member.set", ann.id, "— → publisher"),
            ("session.begin", ann.id, None),
            ("member.set", ann.id, "publisher → reader"),
            ("session.begin", ann.id, None),
        ]

    async def test_admins_by_group_are_admins_for_as_long_as_they_are_in_it(self) -> None:
        self.idp.more_claims = {"groups": ["admins"]}
        assert (await self.identity(await self.signed_in()))["scopes"] == ["read", "build", "publish", "admin"]
        self.idp.more_claims = {"groups": []}
        assert (await self.identity(await self.signed_in()))["scopes"] == ["read"]

    async def test_each_algorithm_that_is_believed(self) -> None:
        for number, algorithm in enumerate(oidc.ALGORITHMS):
            self.idp.keys = [Key(f"k{number}", algorithm)]
            self.time += provider.KEY_PAUSE
            assert (await self.identity(await self.signed_in()))["name"] == "Ann Bo"

    async def test_a_new_key_is_looked_for_but_not_all_the_time(self) -> None:
        await self.identity(await self.signed_in())
        self.idp.keys = [Key("two")]
        self.failed(await self.signed_in(), "invalid")
        assert self.idp.asked.count("/keys") == 1, "they were fetched a moment ago"
        self.time += provider.KEY_PAUSE
        await self.identity(await self.signed_in())
        assert self.idp.asked.count("/keys") == 2

    async def test_a_secret_in_the_form_where_the_provider_takes_no_other(self) -> None:
        self.idp.more_configuration = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        await self.identity(await self.signed_in())

    # -- whose account it is

    async def test_an_invited_person_is_found_by_a_verified_address(self) -> None:
        self.with_settings(allow_new=False)
        self.failed(await self.signed_in(), "unknown")
        made = await self.ask("POST", "/api/v1/people", {"name": "ann", "email": "Ann@example.org"})
        self.idp.user["email_verified"] = False
        self.failed(await self.signed_in(), "unknown")
        self.idp.user["email_verified"] = True
        assert (await self.identity(await self.signed_in()))["name"] == "ann"
        # The address is another's now: the account stays whose it is.
        self.idp.user["sub"] = "u-2"
        self.failed(await self.signed_in(), "taken")
        self.idp.user["sub"] = "u-1"
        disabled = await self.ask("PATCH", f"/api/v1/people/{made.json['person']['id']}", {"disabled": True})
        assert disabled.status == 200
        self.failed(await self.signed_in(), "disabled")
        assert len(await self.everybody()) == 1

    async def test_names_are_made_different(self) -> None:
        for subject, email in (("a", "a@example.org"), ("b", "b@example.org"), ("c", None)):
            self.idp.user = {"sub": subject, "name": "Ann\u202e Bo", "email": email, "email_verified": True}
            await self.identity(await self.signed_in())
        assert [row.name for row in await self.everybody()] == ["Ann\ufffd Bo", "Ann\ufffd Bo 2", "Ann\ufffd Bo 3"]

    # -- the browser

    async def test_only_the_browser_that_has_begun_comes_in_and_once(self) -> None:
        cookie, address = await self.begun()
        query = self.idp.authorize(address)
        other, _address = await self.begun()
        for wrong, sent in (
            (None, query), (other, query), (cookie, {**query, "state": "x"}), (cookie, {"code": query["code"]}),
            (cookie.replace(cookie[60:70], "A" * 10), query), (f"{cookie}; {cookie}", query),
        ):  # fmt: skip
            self.failed(await self.back(wrong, sent), "browser")
        assert "/token" not in self.idp.asked, "no code was spent"
        await self.identity(await self.back(cookie, query))
        self.failed(await self.back(cookie, query), "browser")
        assert self.idp.asked.count("/token") == 1
        late, address = await self.begun()
        self.time += 600_000
        self.failed(await self.back(late, self.idp.authorize(address)), "browser")

    async def test_a_sealed_secret_of_another_kind_is_no_sign_in(self) -> None:
        cookie, address = await self.begun()
        sealed = self.context.secret_box.seal('{"state": "x", "nonce": "x", "verifier": "x", "expires": 99}').decode()
        name = cookie.partition("=")[0]
        self.failed(await self.back(f"{name}={sealed}", {**self.idp.authorize(address), "state": "x"}), "browser")

    async def test_what_the_provider_says_with_the_browser(self) -> None:
        cookie, address = await self.begun()
        state = parse_qs(urlsplit(address).query)["state"][0]
        refused = {"error": "access_denied", "error_description": "<b>no</b>", "state": state}
        self.failed(await self.back(cookie, refused), "denied")
        query = self.idp.authorize(address)
        self.failed(await self.back(cookie, {**query, "iss": "https://evil.example"}), "invalid")
        self.failed(await self.back(cookie, {**query, "code": "x" * 5000}), "invalid")
        twice = await self.ask("GET", f"{CALLBACK}?state=a&state=b", token=None, headers={"Cookie": cookie})
        self.failed(twice, "invalid")

    async def test_a_code_that_the_provider_does_not_know(self) -> None:
        cookie, address = await self.begun()
        self.failed(await self.back(cookie, {**self.idp.authorize(address), "code": "stolen"}), "invalid")

    # -- the provider doesn't behave

    async def test_tokens_that_cannot_be_believed(self) -> None:
        other = Key("one")
        public = self.idp.keys[0].private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signs: dict[str, Callable[[dict[str, Any]], str]] = {
            "of no signature": lambda claims: jwt.encode(claims, None, "none", headers={"kid": "one"}),
            "by the public key as a secret": lambda claims: _hmac_signed(claims, public),
            "by another key": other.sign,
            "by a key without a name here": lambda claims: Key("three").sign(claims),
            "by another algorithm": lambda claims: Key("one", "EdDSA").sign(claims),
            "that must be understood": lambda claims: self.idp.keys[0].sign(claims, crit=["x"], x=1),
            "that is none": lambda claims: "a.b.c",
            "that is too long": lambda claims: self.idp.keys[0].sign({**claims, "x": "y" * oidc.MAX_TOKEN}),
        }
        for name, sign in signs.items():
            self.idp.sign = sign
            answer = await self.signed_in()
            assert answer.headers["Location"].endswith("#sign-in-failed=invalid"), name
        assert await self.everybody() == []
        await self.site.stop()
        rows = await self.ledger.read(lambda connection: audit.list_page(connection, action="sign_in", limit=9))
        assert [(row.subject, row.detail["times"]) for row in rows] == [("oidc", str(len(signs)))]

    async def test_claims_that_are_wrong(self) -> None:
        now = self.time // 1000
        for more in ({"aud": "other"}, {"nonce": "x"}, {"iss": "https://evil.example"}, {"exp": now - 61}, {"sub": ""}):
            self.idp.more_claims = more
            answer = await self.signed_in()
            assert answer.headers["Location"].endswith("#sign-in-failed=invalid"), more
        self.idp.more_claims = {}
        for missing in ("nonce", "exp", "iat", "aud", "sub"):
            self.idp.without_claims = (missing,)
            answer = await self.signed_in()
            assert answer.headers["Location"].endswith("#sign-in-failed=invalid"), missing

    async def test_documents_that_are_none(self) -> None:
        configuration, keys = "/.well-known/openid-configuration", "/keys"
        for instead in ((200, b"x" * (MAX_ANSWER + 1)), (200, b"<html>"), (200, b"{}"), (500, b"{}"), (302, b"")):
            self.idp.instead = {configuration: instead}
            self.failed(await self.ask("GET", BEGIN, token=None), "unreachable")
        self.idp.instead = {}
        for name, value in (("issuer", "http://127.0.0.1:1"), ("token_endpoint", "http://idp.example/token")):
            self.idp.more_configuration = {name: value}
            self.failed(await self.ask("GET", BEGIN, token=None), "unreachable")
        self.idp.more_configuration = {}
        for body in (b"[]", b'{"keys": 1}', b'{"keys": [1]}', b"x" * (MAX_ANSWER + 1)):
            self.idp.instead = {keys: (200, body)}
            self.failed(await self.signed_in(), "unreachable")
        self.idp.instead = {"/token": (200, b"{}")}
        self.failed(await self.signed_in(), "invalid")
        self.idp.instead = {"/token": (503, b"")}
        self.failed(await self.signed_in(), "unreachable")
        self.idp.instead = {}
        await self.identity(await self.signed_in())

    async def test_a_provider_that_says_nothing(self) -> None:
        self.idp.silent = {"/.well-known/openid-configuration"}
        asking = Deferred.fromCoroutine(self.ask("GET", BEGIN, token=None))
        await eventually(lambda: bool(self.idp.asked))
        self.clock.advance(SECONDS)
        self.failed(await asking, "unreachable")

    async def test_nobody_is_there(self) -> None:
        stopping: Any = self.idp.port.stopListening()
        await stopping
        self.failed(await self.ask("GET", BEGIN, token=None), "unreachable")
        with pytest.raises(Unanswered, match="can't be reached"):
            await AgentOutgoing(Agent(reactor), self.clock).get(self.idp.issuer)

    async def test_where_none_is_set_there_is_none(self) -> None:
        site = api_site(self.context)
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.port = listening.getHost().port
        assert (await self.ask("GET", "/api/v1/sign-in", token=None)).json["provider"] is None
        for path in (BEGIN, CALLBACK):
            self.problem(await self.ask("GET", path, token=None), 404, "sign_in.oidc")


def _hmac_signed(claims: dict[str, Any], secret: bytes) -> str:
    """An ID token signed by HS256 with a public key, which PyJWT itself refuses to make."""
    parts = [
        urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in ({"alg": "HS256", "kid": "one"}, claims)
    ]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256)
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


# -- decisions, without a network

NOW = 1_800_000_000.0
GOOD = {"iss": "https://id.example", "aud": "me", "nonce": "n", "iat": NOW, "exp": NOW + 300, "sub": "u"}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, None),
        ({"aud": ["me"]}, None),
        ({"aud": ["me"], "azp": "me"}, None),
        ({"aud": ["me", "you"], "azp": "me"}, None),
        ({"aud": ["me", "you"]}, "was given to"),
        ({"aud": ["me", "you"], "azp": "you"}, "was given to"),
        ({"azp": "you"}, "was given to"),
        ({"aud": []}, "is for"),
        ({"aud": None}, "is for"),
        ({"aud": "me2"}, "is for"),
        ({"iss": "https://id.example/"}, "is of the issuer"),
        ({"nonce": None}, "of another sign-in"),
        ({"exp": NOW - 59}, None),
        ({"exp": NOW - 60}, "has expired"),
        ({"exp": True}, "by numbers"),
        ({"exp": "9"}, "by numbers"),
        ({"iat": None}, "by numbers"),
        ({"nbf": "now"}, "by numbers"),
        ({"iat": NOW + 60}, None),
        ({"iat": NOW + 61}, "of the future"),
        ({"nbf": NOW + 61}, "of the future"),
        ({"iat": NOW - 660}, None),
        ({"iat": NOW - 661}, "too old"),
        ({"sub": ""}, "who it is about"),
        ({"sub": "x" * 256}, "who it is about"),
        ({"sub": 7}, "who it is about"),
    ],
)
def test_claims(change: dict[str, Any], wrong: str | None) -> None:
    found = wrong_with({**GOOD, **change}, issuer="https://id.example", client_id="me", nonce="n", now=NOW)
    assert (found is None) if wrong is None else (found is not None and wrong in found)


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"email": "a@b.example", "email_verified": True}, "a@b.example"),
        ({"email": "a@b.example", "email_verified": "true"}, "a@b.example"),
        ({"email": "a@b.example", "email_verified": False}, None),
        ({"email": "a@b.example", "email_verified": "yes"}, None),
        ({"email": "a@b.example"}, None),
        ({"email": "a b", "email_verified": True}, None),
        ({"email_verified": True}, None),
    ],
)
def test_an_address_counts_if_it_is_verified(claims: dict[str, Any], email: str | None) -> None:
    assert oidc.verified_email(claims) == email


def test_keys_that_can_sign() -> None:
    shape = jwt.algorithms.RSAAlgorithm
    short = {**_json(shape.to_jwk(rsa.generate_private_key(65537, 1024).public_key())), "kid": "short"}
    good = Key("good", "RS256").public
    keys = [good, short, {"kty": "oct", "k": "AAAA"}, {**good, "use": "enc"}, {**good, "alg": "RS512"}, {"kty": "RSA"}]
    assert oidc.keys_of(_bytes({"keys": keys})) == [good]
    with pytest.raises(SignInFailed, match="at most"):
        oidc.keys_of(_bytes({"keys": [good] * (oidc.MAX_KEYS + 1)}))


def test_what_groups_lead_to() -> None:
    assert roles_by_groups([], GROUPS) == (None, {})
    assert roles_by_groups(["all", "web"], GROUPS) == (None, {"shop": "publisher", "nowhere": "reader"})
    assert roles_by_groups(["web", "all", "else"], GROUPS) == (None, {"shop": "publisher", "nowhere": "reader"})
    assert roles_by_groups(["admins"], GROUPS) == ("admin", {})


def test_whose_account_it_is() -> None:
    active = PersonRow(
        id=1, name="a", email=None, role="member", group_role=None, created=0, joined=None, disabled=None
    )
    gone = replace_row(active, disabled=1)
    table = {
        (active, None, False, False): "known", (active, gone, True, True): "known", (gone, active, False, True):
        "disabled", (None, active, False, False): "link", (None, active, True, True): "taken",
        (None, gone, False, True): "disabled", (None, None, False, True): "new", (None, None, False, False): "unknown",
    }  # fmt: skip
    for given, expected in table.items():
        assert people.outcome(*given) == expected, given


def replace_row(row: PersonRow, **changes: Any) -> PersonRow:
    return msgspec.structs.replace(row, **changes)


def _json(text: Any) -> Any:
    return json.loads(text)


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()
