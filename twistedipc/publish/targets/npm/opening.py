"""
Which registry a package is in, and a client for it. Used by ``compare``, and by the command ``twistedipc verify``.

Where a project names no registry, it is the one that npm is set up for on this machine, as its variables, its
configuration and, if it is there, npm itself say.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.places import Places
from twistedipc.publish.targets.target import CantDeliver
from twistedipc.registries.connection import BadCertificates, Connection
from twistedipc.registries.npmrc import NoRegistry, Npmrc, read_npmrc

_NO_REGISTRY = "no registry is named, and this machine's npm isn't set up for one: name it (--registry)"


class Registries:
    """
    The registries of packages. Raises `CantDeliver` if there is none.

    :param places: where the project's packages go
    :param secrets: what is needed there, by name; None: what npm's configuration has for the registry
    :param environment: variables, with PATH, proxies and certificates
    :param userconfig: a person's npmrc; "": none
    :param openly: whether what is only looked at is asked for without a token first, where tokens are exchanged
    """

    def __init__(
        self,
        places: Places,
        secrets: Mapping[str, str] | None,
        environment: Mapping[str, str],
        userconfig: str = "",
        *,
        openly: bool = False,
    ) -> None:
        self._places = places
        self._secrets = secrets
        self._openly = openly
        self._knows_default = True
        first = next((place.registry for place in places.all if place.registry), "")
        npm = None if places.default.registry else shutil.which("npm", path=environment.get("PATH", ""))
        try:
            self._npmrc = self._read(environment, userconfig, npm, first)
            self._connection = Connection(self._npmrc, environment)
        except NoRegistry as error:
            raise CantDeliver(_NO_REGISTRY) from error
        except BadCertificates as error:
            raise CantDeliver(str(error)) from error

    def _read(self, environment: Mapping[str, str], userconfig: str, npm: str | None, first: str) -> Npmrc:
        """Read what npm is set up for. Where it isn't, the registry of a scope does. Raises `NoRegistry`."""
        path = environment.get("PATH", "")
        try:
            default = self._places.default.registry
            return read_npmrc(environment, userconfig=userconfig, registry=default, npm=npm, path=path)
        except NoRegistry:
            if not first:
                raise
            self._knows_default = False
            return read_npmrc(environment, userconfig=userconfig, registry=first, npm=None, path=path)

    def of(self, package: str) -> Client:
        """Return the client of the registry that a package is in."""
        place = self._places.of(package)
        if not place.registry and not self._knows_default:
            raise CantDeliver(_NO_REGISTRY)
        address = place.registry or self._npmrc.registry_of(package)
        if self._secrets is None:
            kind, _, value = self._npmrc.authorization(address.rstrip("/") + "/").partition(" ")
            return Client(address, value if kind == "Bearer" else "", self._connection)
        if not place.by_oidc:
            return Client(address, self._secrets.get(place.secret.name, ""), self._connection)
        secrets, name = self._secrets, place.secret.name

        def id_token() -> str:
            return secrets.get(name, "")  # another one may have come meanwhile

        return Client(address, "", self._connection, id_tokens=id_token, package=package, openly=self._openly)
