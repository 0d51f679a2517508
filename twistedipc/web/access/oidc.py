"""
OpenID Connect without a network: what a provider's documents say, and whether an ID token can be believed (OpenID
Connect Core 1.0, section 3.1.3.7). Pure; used by ``provider``, ``web.api`` and the command. ``web.access``.

Signatures are checked by PyJWT, which is imported when it is needed: it comes with the extra ``oidc``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeGuard
from urllib.parse import urlencode, urlsplit

import msgspec

from twistedipc.builds import names
from twistedipc.builds.names import BadValue, open_road
from twistedipc.builds.roles import PlatformRole, Role, highest

#: The algorithms of signatures that are believed, each with what its keys are. None of them has a secret that the
#: provider's public documents could hold.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}

#: PyJWT's options: of what it could check, only the signature.
_SIGNATURE_ALONE: Any = {
    f"verify_{each}": each == "signature" for each in ("signature", "exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}

#: The fewest bytes of an RSA key's modulus, the most bytes of an ID token, and the most keys of a provider.
MIN_MODULUS: Final = 256
MAX_TOKEN: Final = 32 * 1024
MAX_KEYS: Final = 100

#: Seconds by which the clocks may differ, and the age that a new ID token may have.
LEEWAY: Final = 60
MAX_AGE: Final = 600

#: Why a sign-in has failed, as the page's address says it.
FailureCode = Literal["browser", "denied", "unreachable", "invalid", "unknown", "disabled", "taken"]

#: What people are told of it.
SENTENCES: Final[Mapping[FailureCode, str]] = {
    "browser": "This sign-in didn't begin in this browser, or took too long: begin again.",
    "denied": "The provider hasn't signed you in: begin again, or ask who looks after it.",
    "unreachable": "The provider can't be reached, or gives no proper answer: try again later. The log has why.",
    "invalid": "What the provider says of you can't be believed. The apiserver's log has why: ask an admin to look.",
    "unknown": "You have no account here. Ask an admin to invite you by the address that the provider has of you.",
    "disabled": "Your account here is disabled. Ask an admin.",
    "taken": "Your address for mail is that of an account with another sign-in at the provider. Ask an admin.",
}


class SignInFailed(Exception):
    """A sign-in that can't go on. ``code`` is what the person learns of, ``str()`` what the operator does."""

    def __init__(self, code: FailureCode, why: str) -> None:
        super().__init__(why)
        self.code = code


class UnknownKey(Exception):
    """An ID token is signed by a key that isn't among those that are known."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """What the members of a group may do."""

    admin: bool = False
    projects: Mapping[str, Role] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the configuration says of the provider."""

    issuer: str
    client_id: str
    client_secret: str = ""  # "": none, for a public client
    name: str = ""  # on the page's button
    scopes: Sequence[str] = ("email", "profile")
    groups_claim: str = "groups"
    groups: Mapping[str, Group] = field(default_factory=dict)
    allow_new: bool = False  # accounts are made at the first sign-in


# -- what a provider publishes


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's configuration (OpenID Connect Discovery 1.0, section 3), as far as it matters here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


def discovery_url(issuer: str) -> str:
    """Return where an issuer publishes its configuration."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def discovery_of(data: bytes, issuer: str) -> Discovery:
    """Return the configuration that an issuer publishes. Raises `SignInFailed`."""
    try:
        found = msgspec.json.decode(data, type=Discovery)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SignInFailed(
            "unreachable", f"{discovery_url(issuer)} isn't a provider's configuration: {error}"
        ) from error
    if found.issuer != issuer:
        raise SignInFailed(
            "unreachable",
            f"{discovery_url(issuer)} is the configuration of {found.issuer[:200]!r}, and not of {issuer!r}",
        )
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        check_address(getattr(found, name), name)
    return found


def check_address(address: str, name: str) -> None:
    """Refuse an address of a provider that isn't https, but on this machine. Raises `SignInFailed`."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("https", "http") and bool(parts.hostname) and address.isascii() and " " not in address
        usable = usable and parts.username is None and not parts.fragment and not open_road(address)
    except ValueError:
        usable = False
    if not usable:
        raise SignInFailed("unreachable", f"the provider's {name} is no https address: {address[:200]!r}")


def keys_of(data: bytes) -> list[dict[str, Any]]:
    """Return the keys of a JSON Web Key Set (RFC 7517) that can sign. Raises `SignInFailed`."""
    try:
        found = msgspec.json.decode(data, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SignInFailed("unreachable", f"the provider's keys aren't JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(key, dict) for key in found) or len(found) > MAX_KEYS:
        raise SignInFailed("unreachable", f"the provider's keys aren't a list of at most {MAX_KEYS} keys")
    return [key for key in found if any(suits(key, algorithm) for algorithm in ALGORITHMS)]


def suits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Return whether a key can be meant for signatures by this algorithm."""
    kind, curve = ALGORITHMS[algorithm]
    if key.get("kty") != kind or (curve is not None and key.get("crv") != curve):
        return False
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
        return False
    return kind != "RSA" or _bytes_of(key.get("n")) >= MIN_MODULUS


def _bytes_of(number: object) -> int:
    """Return how many bytes a number has, as keys have numbers; 0 if it is none."""
    try:
        return len(base64.urlsafe_b64decode(f"{number}==").lstrip(b"\0"))
    except (binascii.Error, ValueError):
        return 0


# -- the way there


def authorization_url(
    discovery: Discovery, settings: Settings, *, redirect_uri: str, state: str, nonce: str, verifier: str
) -> str:
    """Return where a browser signs in at the provider, by the code flow with PKCE."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": settings.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(["openid", *settings.scopes]),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if urlsplit(discovery.authorization_endpoint).query else "?"
    return f"{discovery.authorization_endpoint}{joint}{urlencode(query)}"


# -- the ID token


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Who has signed in, as a provider says it."""

    issuer: str
    subject: str
    name: str
    email: str | None  # only if the provider has verified it
    groups: frozenset[str]


def shown_by(token: str, keys: Sequence[Mapping[str, Any]], settings: Settings, *, nonce: str, now: float) -> Shown:
    """
    Return who an ID token says has signed in, if it can be believed. Raises `SignInFailed`, and `UnknownKey` if the
    key isn't among ``keys``.

    :param now: seconds since the epoch
    """
    claims = signed_claims(token, keys)
    if (
        wrong := wrong_with(claims, issuer=settings.issuer, client_id=settings.client_id, nonce=nonce, now=now)
    ) is not None:
        raise SignInFailed("invalid", f"the ID token {wrong}")
    subject = claims["sub"]
    email = verified_email(claims)
    return Shown(
        issuer=settings.issuer,
        subject=subject,
        name=_name(claims, email) or f"person {hashlib.sha256(subject.encode()).hexdigest()[:8]}",
        email=email,
        groups=frozenset(_texts(claims.get(settings.groups_claim))),
    )


def signed_claims(token: str, keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the claims of an ID token whose signature is good by one of the keys. Raises `SignInFailed`, `UnknownKey`.
    """
    import jwt  # not above: it is there only where this is set up

    if len(token) > MAX_TOKEN:
        raise SignInFailed("invalid", f"the ID token has more than {MAX_TOKEN} bytes")
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise SignInFailed("invalid", f"the ID token isn't one: {error}") from error
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise SignInFailed("invalid", f"the ID token is signed by {str(algorithm)[:50]!r}, which isn't believed")
    if "crit" in header:
        raise SignInFailed("invalid", "the ID token has extensions that must be understood, and aren't")
    able = [key for key in keys if suits(key, algorithm) and (kid is None or key.get("kid") == kid)]
    if len(able) != 1:
        raise UnknownKey(f"the provider has {len(able)} keys for {algorithm} named {str(kid)[:100]!r}, and not one")
    try:
        key: Any = jwt.PyJWK(dict(able[0]), algorithm=algorithm).key
        # What is claimed is checked below, by the time that we are given.
        found: Any = jwt.decode(token, key=key, algorithms=[algorithm], options=_SIGNATURE_ALONE)
    except jwt.PyJWTError as error:
        raise SignInFailed("invalid", f"the ID token's signature isn't good: {error}") from error
    claims: dict[str, Any] = found
    return claims


def wrong_with(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: float) -> str | None:
    """Return what is wrong with the claims of an ID token whose signature is good; None: nothing."""
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else _texts(audience)
    subject, expires, issued = claims.get("sub"), claims.get("exp"), claims.get("iat")
    not_before = claims.get("nbf", 0)
    if claims.get("iss") != issuer:
        return f"is of the issuer {str(claims.get('iss'))[:200]!r}, and not of {issuer!r}"
    if client_id not in audiences:
        return f"is for {str(audience)[:200]!r}, and not for {client_id!r}"
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        return f"was given to {str(claims.get('azp'))[:200]!r}, and not to {client_id!r}"
    if claims.get("nonce") != nonce:
        return "is of another sign-in: its nonce isn't ours"
    if not _is_number(expires) or not _is_number(issued) or not _is_number(not_before):
        return "doesn't say by numbers when it was made and when it expires"
    if expires + LEEWAY <= now:
        return "has expired"
    if issued - LEEWAY > now or not_before - LEEWAY > now:
        return "is of the future: the provider's clock and the apiserver's differ"
    if issued + MAX_AGE + LEEWAY < now:
        return "is too old"
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isascii():
        return "doesn't say who it is about"
    return None


def verified_email(claims: Mapping[str, Any]) -> str | None:
    """Return the address in these claims, if the provider has verified it."""
    email = claims.get("email")
    # Some providers write the truth as a string.
    if claims.get("email_verified") not in (True, "true") or not isinstance(email, str):
        return None
    try:
        return names.email(email)
    except BadValue:
        return None


def _name(claims: Mapping[str, Any], email: str | None) -> str:
    """Return how a person is called: the first that the claims have, as people can read it."""
    found = [claims.get("name"), claims.get("preferred_username"), None if email is None else email.partition("@")[0]]
    return next((names.shown(each.strip(), 100) for each in found if isinstance(each, str) and each.strip()), "")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


# -- what it leads to


def roles_by_groups(groups: Collection[str], known: Mapping[str, Group]) -> tuple[PlatformRole | None, dict[str, Role]]:
    """Return what somebody in these groups is on the platform (None: these say nothing), and in which projects."""
    mine = [known[group] for group in groups if group in known]
    roles: dict[str, Role] = {}
    for group in mine:
        for project, role in group.projects.items():
            roles[project] = highest(role, roles.get(project, role))
    return ("admin" if any(group.admin for group in mine) else None), roles
