"""
What a package registry is asked: which versions a package has, and for a package's archive. Used by ``fetch``.

Every request has a deadline and is tried again where that may help; every answer has a bound. Credentials go only to
addresses for which npm's configuration has them, also where a registry sends the request elsewhere.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from twistedipc.registries.connection import BadCertificates, Connection, why, without_user
from twistedipc.registries.npmrc import Npmrc
from twistedipc.toolchains.integrity import Digests, check_registry
from twistedipc.toolchains.machine import engines_node
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


class _TryAgain(Exception):
    """The request may succeed a little later. ``str()`` of it says what happened."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Registry:
    """
    A registry, as npm is set up for it. Raises `RegistryError`.

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
        try:
            self._connection = Connection(npmrc, environment)
        except BadCertificates as error:
            raise RegistryError(str(error)) from error

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
        return without_user(self.url)

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
                reason, after = why(error), 0.0
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise  # of the disk
                reason, after = why(error), 0.0
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
                without_user(url), headers={"User-Agent": "twistedipc", "Accept-Encoding": "identity", **headers}
            )
            if authorization := self._npmrc.authorization(url):
                request.add_unredirected_header("Authorization", authorization)
            try:
                with self._connection.open(request, silence=SILENCE) as response:
                    return read(response, deadline)
            except urllib.error.HTTPError as error:
                with error:
                    url = self._elsewhere(what, url, error)
        raise RegistryError(f"{what} can't be had from {self.shown}: it sends the request from one address to another")

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
