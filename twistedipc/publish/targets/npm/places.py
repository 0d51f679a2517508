"""
To which registry packages go, and by what one signs in there: what a project's settings say, understood. Pure; used by
``target`` and by the processes that speak with registries.

A project has one registry for all of its packages, and may have others for scopes: ``@acme=https://npm.acme.example/``,
or ``@acme=oidc+https://npm.acme.example/`` where the apiserver's own word is taken. Each has a token of its own, the
secret ``npm_token@acme``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from twistedipc.builds import names
from twistedipc.publish.targets.target import Secret

#: By what one signs in at a registry: a token that is a secret of the project, or the apiserver's own word.
TOKEN = "token"
OIDC = "oidc"

#: The names of the secret, and of what the apiserver signs. Those of a scope's registry have the scope behind them.
NPM_TOKEN = "npm_token"
ID_TOKEN = "npm_id_token"

#: The secret of a project whose packages go to one registry.
THE_TOKEN = Secret(name=NPM_TOKEN, variable="NODE_AUTH_TOKEN", help="the npm registry's token")

#: The most scopes that have a registry of their own.
MAX_SCOPES = 50

_BY_OIDC = "oidc+"
_SCOPE = re.compile(r"@[a-z0-9~-][a-z0-9._~-]{0,99}")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A registry, and what is needed there."""

    registry: str  # its address; "" is the one that npm is set up for
    secret: Secret  # a token, or an ID token that is exchanged for one
    scope: str = ""  # whose packages go there; "": all others

    @property
    def by_oidc(self) -> bool:
        """Whether the secret is an ID token."""
        return bool(self.secret.audience)

    @property
    def name(self) -> str:
        """The registry as people read it."""
        return self.registry or "the registry that npm is set up for"


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The registries of a project."""

    default: Place
    by_scope: Mapping[str, Place] = {}

    def of(self, package: str) -> Place:
        """Return where a package goes."""
        scope, slash, _name = package.partition("/")
        return self.by_scope.get(scope, self.default) if slash else self.default

    @property
    def all(self) -> list[Place]:
        """All of them, the default first."""
        return [self.default, *self.by_scope.values()]

    def by_secret(self, name: str) -> Place | None:
        """Return the place of a token, also while it isn't needed there; None if there is none."""
        scope = name.partition("@")[1] + name.partition("@")[2]
        return self.by_scope.get(scope) if scope else self.default

    def needed(self, packages: Iterable[str] | None) -> list[Place]:
        """Return those to which these packages go; None: all."""
        return self.all if packages is None else list(dict.fromkeys(map(self.of, packages)))


def places(*, registry: str, auth: str, audience: str, scopes: Sequence[str]) -> Places:
    """
    Return the registries of settings, which have been checked.

    :param audience: by which name the project's registry knows itself. Each other is sent a word that is for its host:
        with one that is for the project's registry it could publish there.
    """
    rows = [_row(each) for each in scopes]
    return Places(
        default=_place("", registry, auth, audience),
        by_scope={scope: _place(scope, address, auth, "") for scope, auth, address in rows},
    )


def only(registry: str) -> Places:
    """Return the places where all packages are in this registry."""
    return Places(default=Place(registry=registry, secret=THE_TOKEN))


def check_scopes(scopes: Sequence[str]) -> None:
    """Raise `names.BadValue` unless each names a scope, each another, and a registry."""
    if len(scopes) > MAX_SCOPES:
        raise names.BadValue(f"at most {MAX_SCOPES} scopes can have a registry of their own")
    seen: set[str] = set()
    for each in scopes:
        scope, _auth, address = _row(each)
        if not _SCOPE.fullmatch(scope) or not address:
            raise names.BadValue(
                "scopes are like @acme=https://npm.acme.example/ or @acme=oidc+https://npm.acme.example/, not "
                f"{each[:100]!r}"
            )
        if scope in seen:
            raise names.BadValue(f"the scope {scope} has two registries: it can have one")
        seen.add(scope)
        names.registry(address)


def token_of(name: str) -> Secret | None:
    """Return the secret of this name, if it can be one of a scope's registry."""
    known, at, scope = name.partition("@")
    return _secret(f"@{scope}", "", "") if known == NPM_TOKEN and at and _SCOPE.fullmatch(f"@{scope}") else None


def _row(said: str) -> tuple[str, str, str]:
    """Return the scope, by what one signs in, and the address."""
    scope, _, address = said.partition("=")
    by_oidc = address.startswith(_BY_OIDC)
    return scope, OIDC if by_oidc else TOKEN, address.removeprefix(_BY_OIDC)


def _place(scope: str, registry: str, auth: str, audience: str) -> Place:
    wanted = (audience or f"npm:{urlsplit(registry).hostname}") if auth == OIDC else ""
    return Place(registry=registry, secret=_secret(scope, wanted, registry), scope=scope)


def _secret(scope: str, audience: str, registry: str) -> Secret:
    variable = f"_{scope.encode().hex().upper()}" if scope else ""
    if audience:
        return Secret(
            name=ID_TOKEN + scope,
            variable=f"NPM_ID_TOKEN{variable}",
            help=f"the apiserver's word, for {registry}",
            audience=audience,
        )
    if not scope:
        return THE_TOKEN
    return Secret(
        name=NPM_TOKEN + scope, variable=THE_TOKEN.variable + variable, help=f"the token of {scope}'s registry"
    )
