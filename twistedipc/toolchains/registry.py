"""
What a package registry is asked: which versions a package has, and for a package's archive. Used by ``fetch``.

Every request has a deadline and is tried again where that may help; every answer has a bound. Credentials go only to
addresses for which npm's configuration has them, also where a registry sends the request elsewhere.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import msgspec

from twistedipc.toolchains.integrity import Digests, check_registry
from twistedipc.toolchains.machine import engines_node
from twistedipc.toolchains.npmrc import Npmrc
from twistedipc.toolchains.problems import NoPackage, RegistryError
from twistedipc.toolchains.store import Index, Release

#: Seconds: without a byte, for a package's versions, for its archive.
SILENCE = 30.0
LOOK_UP = 60.0
DOWNLOAD = 600.0

#: The most bytes of both. npm itself has 3 MB of versions, Node an archive of 50 MB.
MAX_INDEX = 64 << 20
MAX_ARCHIVE = 512 << 20

#: How often a request is made, and how long is waited before the next time.
TRIES = 3
PAUSES = (1.0, 4.0)

_MAX_REDIRECTS = 5
_CHUNK = 256 * 1024
_PASSING = (408, 425, 429, 500, 502, 503, 504)

#: Short for what installing needs of a package's versions; a registry that doesn't know it sends all.
_ABBREVIATED = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"


class _Dist(msgspec.Struct):
    tarball: str = ""
    integrity: str = ""
    shasum: str = ""


class _Version(msgspec.Struct):
    dist: msgspec.Raw = msgspec.Raw(b"{}")
    engines: msgspec.Raw = msgspec.Raw(b"null")
    deprecated: Any = None


class _Packument(msgspec.Struct):
    versions: dict[str, _Version] = {}
    tags: dict[str, str] = msgspec.field(default_factory=dict, name="dist-tags")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class _TryAgain(Exception):
    """The request may succeed a little later. ``str()`` of it says what happened."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Registry:
    """
    A registry, as npm is set up for it.

    :param environment: the operator's variables, with proxies and certificates
    :param now: milliseconds since the epoch
    """

    def __init__(
        self,
        npmrc: Npmrc,
        environment: Mapping[str, str],
        *,
        now: Callable[[], int],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = npmrc.registry
        self._npmrc = npmrc
        self._now = now
        self._sleep = sleep
        self._clock = clock
        self._proxies = _proxies(npmrc, environment)
        tls = urllib.request.HTTPSHandler(context=_tls(npmrc, environment))
        self._direct, self._by_proxy = (
            urllib.request.build_opener(urllib.request.ProxyHandler(proxies), tls, _NoRedirect())
            for proxies in ({}, {name: value for name, value in self._proxies.items() if name != "no"})
        )

    def look_up(self, package: str) -> Index:
        """Return the versions of a package. Raises `RegistryError`."""

        def read(response: HTTPResponse, deadline: float) -> _Packument:
            data = bytearray()
            self._read(response, deadline, MAX_INDEX, data.extend)
            try:
                return msgspec.json.decode(data, type=_Packument)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _TryAgain(f"its answer isn't one of a package registry: {error}") from error

        url = urljoin(self.url, quote(package, safe="@"))
        found = self._ask(package, url, {"Accept": _ABBREVIATED}, LOOK_UP, read)
        releases = {text: release for text, each in found.versions.items() if (release := _release(each)) is not None}
        return Index(package=package, registry=self.shown, asked=self._now(), releases=releases, tags=found.tags)

    def download(self, package: str, version: str, release: Release, path: Path) -> dict[str, str]:
        """
        Write the archive of a package to a path, and return its digests, once it is what the registry has announced.
        Raises `RegistryError`, `BadIntegrity`, or OSError of the disk.
        """

        def read(response: HTTPResponse, deadline: float) -> dict[str, str]:
            digests = Digests()
            with path.open("wb") as file:

                def take(data: bytes) -> None:
                    digests.update(data)
                    file.write(data)

                self._read(response, deadline, MAX_ARCHIVE, take)
            return digests.hex()

        found: dict[str, str] | None = None
        for url in self._places(package, version, release):
            try:
                found = self._ask(f"{package} {version}", url, {}, DOWNLOAD, read)
                break
            except NoPackage as error:
                last = error
        if found is None:
            raise last
        check_registry(found, release.integrity, release.shasum)
        return found

    @property
    def shown(self) -> str:
        """The registry's address, for people: without a user or a password in it."""
        return _shown(self.url)

    def _places(self, package: str, version: str, release: Release) -> list[str]:
        """
        Where the archive may be. A mirror may announce the address that the package has elsewhere, which can't be
        reached from here: so its own comes first.
        """
        said = urljoin(self.url, release.tarball)
        if urlsplit(said).scheme not in ("http", "https"):
            raise RegistryError(f"{self.shown} says that {package} {version} is at an address that isn't by http")
        if urlsplit(said).netloc == urlsplit(self.url).netloc:
            return [said]
        own = f"{quote(package, safe='@/')}/-/{quote(package.rpartition('/')[2])}-{quote(version)}.tgz"
        return [urljoin(self.url, own), said]

    def _ask(
        self,
        what: str,
        url: str,
        headers: Mapping[str, str],
        seconds: float,
        read: Callable[[HTTPResponse, float], Any],
    ) -> Any:
        reason, after = "", 0.0
        for attempt in range(TRIES):
            if attempt:
                self._sleep(max(PAUSES[min(attempt, len(PAUSES)) - 1], after))
            try:
                return self._once(what, url, headers, self._clock() + seconds, read)
            except _TryAgain as error:
                reason, after = str(error), min(error.after, SILENCE)
            except urllib.error.URLError as error:
                reason, after = _why(error.reason), 0.0
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise  # of the disk
                reason, after = _why(error), 0.0
        raise RegistryError(f"{what} can't be had from {self.shown}: {reason}")

    def _once(
        self,
        what: str,
        url: str,
        headers: Mapping[str, str],
        deadline: float,
        read: Callable[[HTTPResponse, float], Any],
    ) -> Any:
        for _ in range(_MAX_REDIRECTS):
            request = urllib.request.Request(
                _without_user(url), headers={"User-Agent": "twistedipc", "Accept-Encoding": "identity", **headers}
            )
            if authorization := self._npmrc.authorization(url):
                request.add_unredirected_header("Authorization", authorization)
            try:
                with self._open(request) as response:
                    return read(response, deadline)
            except urllib.error.HTTPError as error:
                with error:
                    url = self._elsewhere(what, url, error)
        raise RegistryError(f"{what} can't be had from {self.shown}: it sends the request from one address to another")

    def _open(self, request: urllib.request.Request) -> HTTPResponse:
        opener = self._direct if _needs_none(request.host, self._proxies.get("no", "")) else self._by_proxy
        return cast(HTTPResponse, opener.open(request, timeout=SILENCE))

    def _elsewhere(self, what: str, url: str, error: urllib.error.HTTPError) -> str:
        """Where an answer sends the request. Raises what the answer means, if it is none of these."""
        code = error.code
        place = error.headers.get("Location")
        if code in (301, 302, 303, 307, 308) and place:
            there = urljoin(url, place)
            scheme = urlsplit(there).scheme
            if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
                raise RegistryError(f"{self.shown} sends the request for {what} to an address that isn't by https")
            return there
        if code in (404, 410):
            raise NoPackage(f"{self.shown} has no {what}")
        if code in (401, 403):
            raise RegistryError(
                f"{self.shown} refuses {what} ({code}): look at the credentials for it in the npmrc of the builder's "
                "user"
            )
        if code in _PASSING:
            after = error.headers.get("Retry-After", "")
            raise _TryAgain(f"it answers {code}", float(after) if after.isdigit() else 0.0)
        raise RegistryError(f"{what} can't be had from {self.shown}: it answers {code}")

    def _read(self, response: HTTPResponse, deadline: float, most: int, take: Callable[[bytes], object]) -> None:
        length = response.headers.get("Content-Length", "")
        read = 0
        while data := response.read1(_CHUNK):
            read += len(data)
            if read > most:
                raise RegistryError(f"{self.shown} answers with more than {most} bytes")
            if self._clock() > deadline:
                raise _TryAgain("its answer takes too long")
            take(data)
        if length.isdigit() and read != int(length):
            raise _TryAgain("its answer ends too early")


def _release(version: _Version) -> Release | None:
    """A version of the registry's answer; None if it isn't one that can be fetched."""
    try:
        dist = msgspec.json.decode(version.dist, type=_Dist)
    except msgspec.DecodeError:
        return None
    if not dist.tarball:
        return None
    return Release(
        tarball=dist.tarball,
        integrity=dist.integrity,
        shasum=dist.shasum,
        node=engines_node(version.engines),
        deprecated=bool(version.deprecated),
    )


def _proxies(npmrc: Npmrc, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables' proxies, as all programs have them; npm's own settings come first."""
    found = {}
    for name, value in sorted(environment.items()):  # small letters come last, and count
        kind = name.lower().removesuffix("_proxy")
        if name.lower() in ("http_proxy", "https_proxy", "no_proxy") and value:
            found[kind] = value
    return {**found, **npmrc.proxies()}


def _needs_none(netloc: str, no: str) -> bool:
    """Whether a host is among those that need no proxy: names, which are those of their subdomains too, or "*"."""
    host = urlsplit(f"//{netloc}").hostname or ""
    for entry in re.split(r"[\s,]+", no.lower()):
        name = entry.strip().lstrip("*.") if entry != "*" else host
        if name and (netloc == name or host == name or host.endswith(f".{name}")):
            return True
    return False


def _tls(npmrc: Npmrc, environment: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for file in (environment.get("SSL_CERT_FILE"), environment.get("NODE_EXTRA_CA_CERTS"), npmrc.cafile):
        if file:
            try:
                context.load_verify_locations(cafile=os.path.expanduser(file))
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"the certificates in {file} can't be read: {error}") from error
    if not npmrc.strict_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


_shown = _without_user


def _why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "it doesn't answer"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate isn't trusted here ({reason.verify_message})"
    text = getattr(reason, "strerror", None) or str(reason)
    return str(text) or type(reason).__name__
