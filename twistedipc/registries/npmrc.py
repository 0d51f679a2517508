"""
npm's configuration, as far as the platform itself needs it: the registry, its credentials, proxies, certificates.

What the operator has set for npm counts here too: the variables of the steps (``[environment]``), then the operator's
npmrc, then npm's global one, in this order. Which registry npm takes without any of that only npm knows, so it is asked
if it is there.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

#: Where npm's global configuration is, if npm isn't there to say it.
GLOBAL = (Path("/etc/npmrc"), Path("/usr/etc/npmrc"), Path("/usr/local/etc/npmrc"))

#: Seconds in which npm says its configuration.
DEADLINE = 30.0

_MAX_FILE = 1 << 20


class NoRegistry(Exception):
    """It isn't known which registry to ask. ``str()`` of it is a sentence for the operator."""


class _Asked(msgspec.Struct):
    registry: str | None = None
    globalconfig: str | None = None


class Npmrc:
    """The settings of npm, with the names that npm has for them."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)

    @property
    def registry(self) -> str:
        """The registry's address with a final slash; "" if none is set."""
        found = self._settings.get("registry", "").strip()
        return found.rstrip("/") + "/" if found else ""

    def registry_of(self, package: str) -> str:
        """Return the address of a package's registry: that of its scope, if there is one; "" if none is set."""
        scope = package.partition("/")[0] if package.startswith("@") else ""
        found = self._settings.get(f"{scope}:registry", "").strip() if scope else ""
        return found.rstrip("/") + "/" if found else self.registry

    @property
    def cafile(self) -> str:
        """The file with the authorities of certificates; "" is none."""
        return self._settings.get("cafile", "")

    @property
    def strict_ssl(self) -> bool:
        """Whether certificates are checked."""
        return self._settings.get("strict-ssl", "true") != "false"

    @property
    def registries(self) -> list[str]:
        """The addresses of all registries, those for scopes too."""
        scoped = [value for key, value in self._settings.items() if key.endswith(":registry") and key.startswith("@")]
        return [self.registry, *scoped]

    def proxies(self) -> dict[str, str]:
        """Return the proxies, by scheme, and under "no" the hosts that need none."""
        found = {"https": self._settings.get("https-proxy", ""), "http": self._settings.get("proxy", "")}
        found["https"] = found["https"] or found["http"]
        found["no"] = self._settings.get("noproxy", "")
        return {name: value for name, value in found.items() if value and value != "null"}

    def authorization(self, url: str) -> str:
        """
        Return the header for an address: of the credentials for the longest part of it ("//HOST/PATH/") that has some,
        "" without any.
        """
        parts = urlsplit(url)
        path = parts.path
        while True:
            folder = path[: path.rfind("/") + 1] or "/"
            found = self._credentials(f"//{parts.netloc}{folder}") or self._credentials(
                f"//{parts.netloc}{folder}".rstrip("/")
            )
            if found or folder == "/":
                return found
            path = folder.rstrip("/")

    def _credentials(self, place: str) -> str:
        if token := self._settings.get(f"{place}:_authToken"):
            return f"Bearer {token}"
        if basic := self._settings.get(f"{place}:_auth"):
            return f"Basic {basic}"
        user, password = self._settings.get(f"{place}:username"), self._settings.get(f"{place}:_password")
        if user and password:
            try:
                plain = base64.b64decode(password).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
            return "Basic " + base64.b64encode(f"{user}:{plain}".encode()).decode()
        return ""


def read_npmrc(environment: Mapping[str, str], *, userconfig: str, registry: str, npm: str | None, path: str) -> Npmrc:
    """
    Return npm's configuration. Raises `NoRegistry` if it names no registry.

    :param environment: the operator's variables
    :param userconfig: the operator's npmrc, if the variables name no other
    :param registry: the registry that was set for the builder; "" is none
    :param npm: the command npm; None if there is none
    :param path: PATH, for npm
    """
    variables = _of_environment(environment)
    user = Path(variables.get("userconfig") or userconfig or os.devnull)
    asked = _ask(npm, environment, user, path) if npm is not None else _Asked()
    said = asked.globalconfig or variables.get("globalconfig")
    settings: dict[str, str] = {}
    for place in [Path(said)] if said else GLOBAL:
        settings |= _of_file(place, environment)
    settings |= _of_file(user, environment)
    settings |= variables
    settings["registry"] = registry or settings.get("registry", "") or asked.registry or ""
    if not settings["registry"]:
        raise NoRegistry(
            "it isn't known from which package registry tools are to be fetched: set registry under [toolchains] in "
            "builder.toml, or in the npmrc of the builder's user"
        )
    found = Npmrc(settings)
    parts = urlsplit(found.registry)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoRegistry(f"the package registry that npm is set up for has no address by http: {parts.scheme!a}")
    return found


def global_config(node: str | None) -> str | None:
    """Return the path of npm's global configuration on this machine, which has this ``node``; None if there is none."""
    beside = [Path(os.path.realpath(node)).parent.parent / "etc" / "npmrc"] if node is not None else []
    return next((str(place) for place in (*beside, *GLOBAL) if place.is_file()), None)


def _ask(npm: str, environment: Mapping[str, str], userconfig: Path, path: str) -> _Asked:
    import subprocess  # not above: a runner stays small

    try:
        done = subprocess.run(
            [npm, "config", "ls", "-l", "--json"],
            env={**environment, "PATH": path, "HOME": "/", "npm_config_userconfig": str(userconfig)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=_Asked)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, UnicodeDecodeError):
        return _Asked()


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """npm's settings among variables; those for a registry ("//HOST/:_authToken") are taken as they are written."""
    found = {}
    for name, value in environment.items():
        if name.lower().startswith("npm_config_") and value:
            key = name[len("npm_config_") :]
            found[key if key.startswith("//") else key.lower().replace("_", "-")] = value
    return found


def _of_file(path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("utf-8-sig", "replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in ";#[":
            continue
        key, equals, value = line.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if equals and key.strip():
            found[_expanded(key.strip(), environment)] = _expanded(value, environment)
    return found


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """A text with the variables in it that there are, as npm does it: ``${NAME}``, and ``${NAME?}`` may be missing."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1], "" if match[2] else match[0])

    return re.sub(r"\$\{([^}?]+)(\??)\}", value, text)
