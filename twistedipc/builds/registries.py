"""
The registries from which a project installs packages: what may be said of them, and the configuration files that make
package managers use them. Bottom layer, pure.

No file has a token in it, only the name of the variable that has it, which is in the environment of the install step
alone. Each token is bound to its registry's address: a manager sends it nowhere else, but for Yarn from version 2 on,
which also sends it where that registry says that a package's archive is.

Where the rules come from: npm's ``npmrc`` ("Auth related configuration", which pnpm, Yarn 1 and Bun read too), and
Yarn's ``.yarnrc.yml`` (``npmScopes``, ``npmRegistries``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from twistedipc.builds import names

#: An address without what means something in a configuration file.
ADDRESS = rf"{names.WEB_HOST}(?:/[A-Za-z0-9._~!&()*+,;=:@%/-]*)?"
SCOPE = r"@[a-z0-9~][a-z0-9._~-]*"

MAX_REGISTRIES = 20
MAX_SCOPES = 50

_ADDRESS = re.compile(ADDRESS)
_SCOPE = re.compile(SCOPE)


def _shown(pattern: str, length: int) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema={"pattern": f"^(?:{pattern})$", "maxLength": length})


class Registry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registry of packages."""

    address: Annotated[str, _shown(ADDRESS, names.MAX_ADDRESS)]
    secret: Annotated[str, _shown(f"(?:{names.VARIABLE})?", 128)] = ""  # the secret that is its token; "": none
    scopes: Annotated[
        list[Annotated[str, _shown(SCOPE, names.MAX_PACKAGE)]], msgspec.Meta(max_length=MAX_SCOPES)
    ] = []  # whose packages come from there; none: all that no other registry has


def check(registries: Sequence[Registry]) -> None:
    """Raise `names.BadValue` if a project can't have these registries."""
    if len(registries) > MAX_REGISTRIES:
        raise names.BadValue(f"a project can have at most {MAX_REGISTRIES} registries")
    places: set[str] = set()
    scopes: set[str] = set()
    for registry in registries:
        if len(registry.address) > names.MAX_ADDRESS or not _ADDRESS.fullmatch(registry.address):
            raise names.BadValue(
                f"a registry has an address of at most {names.MAX_ADDRESS} characters, such as "
                "https://npm.example.org/, without credentials, a query, quotes, brackets or $"
            )
        if names.place(registry.address) in places:
            raise names.BadValue(f"the registry {registry.address} is there twice")
        places.add(names.place(registry.address))
        if registry.secret and not re.fullmatch(names.VARIABLE, registry.secret):
            raise names.BadValue(f"{registry.secret[:64]!r} can't be the name of a secret")
        if len(registry.scopes) > MAX_SCOPES:
            raise names.BadValue(f"a registry can have at most {MAX_SCOPES} scopes")
        for scope in registry.scopes:
            if len(scope) > names.MAX_PACKAGE or not _SCOPE.fullmatch(scope):
                raise names.BadValue(f"{scope[:64]!r} isn't a scope, such as @acme")
        for scope in registry.scopes or [""]:
            if scope in scopes:
                what = f"packages of {scope}" if scope else "packages without a scope of their own"
                raise names.BadValue(f"only one registry can be for {what}")
            scopes.add(scope)


def default_of(registries: Sequence[Registry]) -> str:
    """Return the address of the registry for all packages that no scope says; "" if none of these is for them."""
    return next((_address(registry) for registry in registries if not registry.scopes), "")


def npmrc(registries: Sequence[Registry], given: Collection[str]) -> str:
    """
    Return the user configuration of npm, pnpm, Yarn 1 and Bun.

    :param given: the secrets that are in the environment; a registry whose secret isn't has no token
    """
    lines: list[str] = []
    for registry in registries:
        address = _address(registry)
        lines += [f"{scope}:registry={address}" for scope in registry.scopes] or [f"registry={address}"]
        if registry.secret in given:
            parts = urlsplit(address)
            lines.append(f"//{parts.netloc}{parts.path}:_authToken=${{{registry.secret}}}")
    return "".join(f"{line}\n" for line in lines)


def yarnrc(registries: Sequence[Registry], given: Collection[str]) -> str:
    """Return the configuration of Yarn from version 2 on: YAML, which JSON is a part of. Otherwise as `npmrc`."""
    settings: dict[str, object] = {}
    scopes: dict[str, dict[str, object]] = {}
    bound: dict[str, dict[str, object]] = {}
    for registry in registries:
        address = _address(registry).rstrip("/")
        if not registry.scopes:
            settings["npmRegistryServer"] = address
        for scope in registry.scopes:
            scopes[scope.removeprefix("@")] = {"npmRegistryServer": address}
        if registry.secret in given:
            token = f"${{{registry.secret}-}}"
            bound[address.partition(":")[2]] = {"npmAuthToken": token, "npmAlwaysAuth": True}
    hosts = sorted(
        {urlsplit(registry.address).hostname or "" for registry in registries if registry.address.startswith("http://")}
    )
    more: dict[str, object] = {"npmScopes": scopes, "npmRegistries": bound, "unsafeHttpWhitelist": hosts}
    settings |= {name: value for name, value in more.items() if value}
    return msgspec.json.encode(settings).decode() + "\n"


def _address(registry: Registry) -> str:
    return registry.address.rstrip("/") + "/"
