"""
ID tokens: what an apiserver says of an attempt to other services, signed and true for some minutes (OpenID Connect Core
1.0, section 2). A registry that trusts this apiserver gives a token of its own for one, so that none has to be kept
here. ``storage`` layer; used by ``server``, and by ``web``, which publishes the key.

They are signed with RS256, the one algorithm that everybody who checks such tokens must know (section 15.1). The key is
in a file beside ``secret.key`` (mode 0600), made when it is needed first.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from twistedipc.storage.signing import KeyUnusable, load_or_make

ALGORITHM = "RS256"

#: The bits of a new key, and the seconds for which a token is true.
BITS = 3072
LIFETIME = 600


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says of an attempt."""

    project: str
    project_id: int  # of this project alone: another may come to have its name
    repository: str
    build: int
    attempt: str
    ref: str  # as it was asked for
    commit: str
    environment: str = ""  # "": none

    @property
    def subject(self) -> str:
        """Whom a service can give rights to: a project's environment, or one of its refs if there is none."""
        of = f"environment:{self.environment}" if self.environment else f"ref:{self.ref}"
        return f"project:{self.project}:{of}"


class Issuer:
    """
    Who issues ID tokens. Its methods do work of some milliseconds, the first one of half a second, and can be called in
    any thread. They raise `KeyUnusable`, or OSError.

    :param path: the file with the key
    :param address: the apiserver's address without a final slash, by which its documents are found
    :param now: seconds since the epoch
    """

    def __init__(self, path: Path, address: str, *, now: Callable[[], float]) -> None:
        self.address = address
        self._path = path
        self._now = now
        self._key: RSAPrivateKey | None = None
        self._lock = threading.Lock()

    def configuration(self) -> dict[str, Any]:
        """Return the document ``/.well-known/openid-configuration`` (OpenID Connect Discovery 1.0, section 3)."""
        return {
            "issuer": self.address,
            "jwks_uri": f"{self.address}/.well-known/jwks.json",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "scopes_supported": ["openid"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", *Claims.__struct_fields__],
        }

    def keys(self) -> dict[str, Any]:
        """Return the public key, as a set of keys (RFC 7517)."""
        numbers = self._loaded().public_key().public_numbers()
        key = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        return {"keys": [{**key, "kid": _kid(key), "use": "sig", "alg": ALGORITHM}]}

    def mint(self, claims: Claims, audience: str) -> str:
        """Return a token (RFC 7519) for one service, which is to know itself by ``audience``."""
        now = int(self._now())
        body = {
            "iss": self.address,
            "sub": claims.subject,
            "aud": audience,
            "iat": now,
            "nbf": now - 30,  # clocks differ
            "exp": now + LIFETIME,
            "jti": str(uuid.uuid4()),
            **{name: value for name, value in msgspec.structs.asdict(claims).items() if value != ""},
        }
        (key,) = self.keys()["keys"]
        head = {"alg": ALGORITHM, "kid": key["kid"], "typ": "JWT"}
        signed = f"{_text(msgspec.json.encode(head))}.{_text(msgspec.json.encode(body))}"
        return f"{signed}.{_text(self._loaded().sign(signed.encode(), PKCS1v15(), SHA256()))}"

    def _loaded(self) -> RSAPrivateKey:
        with self._lock:
            if self._key is None:
                self._key = _key(self._path)
            return self._key


def _key(path: Path) -> RSAPrivateKey:
    key = load_or_make(path, lambda: generate_private_key(65537, BITS))
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnusable(f"the key in {path} isn't one for RSA")
    return key


def _kid(key: dict[str, str]) -> str:
    """A key's thumbprint (RFC 7638): its members in the order of their names, hashed."""
    return _text(hashlib.sha256(msgspec.json.encode(key)).digest())


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
