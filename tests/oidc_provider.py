"""
A small provider of OpenID Connect for tests: a real HTTP server, real keys and signatures. It can be told to misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

CLIENT = "twistedipc"
SECRET = "s3cret/+ä"


class Key:
    """A key of the provider's."""

    _algorithms: ClassVar[dict[str, tuple[Callable[[], Any], Any]]] = {
        "RS256": (lambda: rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
        "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
        "EdDSA": (ed25519.Ed25519PrivateKey.generate, jwt.algorithms.OKPAlgorithm),
    }

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        make, self._shape = self._algorithms[algorithm]
        self.kid, self.algorithm, self.private = kid, algorithm, make()

    @property
    def public(self) -> dict[str, Any]:
        """As the provider publishes it."""
        return {**json.loads(self._shape.to_jwk(self.private.public_key())), "kid": self.kid, "use": "sig"}

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """An ID token."""
        token: str = jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid, **headers})
        return token


class Provider(Resource):
    """The provider. ``now``: milliseconds since the epoch."""

    isLeaf = True

    def __init__(self, reactor: Any, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self.keys = [Key("one")]
        self.user: dict[str, Any] = {"sub": "u-1", "name": "Ann Bo", "email": "ann@example.org", "email_verified": True}
        self.codes: dict[str, dict[str, str]] = {}  # what was asked for with each, until it is taken
        self.asked: list[str] = []
        self.more_claims: dict[str, Any] = {}
        self.without_claims: tuple[str, ...] = ()
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: self.keys[0].sign(claims)
        self.more_configuration: dict[str, Any] = {}
        self.instead: dict[str, tuple[int, bytes]] = {}  # path -> status and body
        self.silent: set[str] = set()  # paths to which nothing is answered
        self.port: IListeningPort = reactor.listenTCP(0, Site(self), interface="127.0.0.1")
        self.issuer = f"http://127.0.0.1:{self.port.getHost().port}"

    def authorize(self, address: str) -> dict[str, str]:
        """What a person does in a browser that was sent here: sign in. The query with which it is sent back."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = f"code-{len(self.codes)}-{query['state'][:8]}"
        self.codes[code] = query
        return {"code": code, "state": query["state"], "iss": self.issuer}

    def render(self, request: Any) -> Any:
        """Answer a request."""
        path = request.path.decode()
        self.asked.append(path)
        if path in self.silent:
            return NOT_DONE_YET
        if path in self.instead:
            status, body = self.instead[path]
            request.setResponseCode(status)
            return body
        request.setHeader("Content-Type", "application/json")
        match path:
            case "/.well-known/openid-configuration":
                return json.dumps(self._configuration()).encode()
            case "/keys":
                return json.dumps({"keys": [key.public for key in self.keys]}).encode()
            case "/token":
                return self._token(request)
        request.setResponseCode(404)
        return b""

    def _configuration(self) -> dict[str, Any]:
        endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        found = {name: f"{self.issuer}/{path}" for name, path in endpoints.items()}
        return {"issuer": self.issuer, **found, **self.more_configuration}

    def _token(self, request: Any) -> bytes:
        form = {name.decode(): values[0].decode() for name, values in request.args.items()}
        query = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        good = query is not None and query["code_challenge"] == challenge.rstrip("=")
        good = good and query is not None and query["redirect_uri"] == form["redirect_uri"]
        if not good or not self._is_client(request, form):
            request.setResponseCode(400)
            return b'{"error": "invalid_grant"}'
        assert query is not None
        now = self._now() // 1000
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": query["nonce"]}
        claims = {**claims, **self.user, **self.more_claims}
        token = self.sign({name: value for name, value in claims.items() if name not in self.without_claims})
        return json.dumps({"access_token": "x", "token_type": "Bearer", "id_token": token}).encode()

    @staticmethod
    def _is_client(request: Any, form: dict[str, str]) -> bool:
        if "client_secret" in form:
            return form["client_secret"] == SECRET
        # Twisted decodes Basic as Latin-1, and not as a form: what RFC 6749 wants is ASCII on the way.
        header = request.getHeader("authorization") or ""
        pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        return pair == "twistedipc:s3cret%2F%2B%C3%A4"
