"""
The releases, on a port of their own: what was built, as static sites. ``web.releases``; made by the composition root.

Their scripts are strangers' scripts, so releases are served without cookies and from another origin than the API and
the page. A project is named by the host, ``PROJECT.DOMAIN``, which gives each project an origin; or, where a host name
can't be had, by the first segment of the path, where all projects share an origin. The latter is done only on hosts
that aren't the API's (see ``web.http.hosts``), since cookies are shared by all ports of a host.

Only regular files of the live release are served. A missing file is a 404, but for two cases. An asset whose name
contains its hash is also looked for in the newest other releases, since a page that is still open may ask for it. And a
single-page application answers the addresses of its pages with its index.html (``single_page``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.builds.outputs import NOT_FOUND
from twistedipc.publish.site_paths import is_hidden, problem_of_segment
from twistedipc.publish.targets.static.hashed_names import Form, could_be_hashed, forms_among, is_hashed, may_be_hashed
from twistedipc.publish.targets.static.headers import headers_of
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.serving import serving_of
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.server.boundaries import RandomBytes
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.access.audience import Audience
from twistedipc.web.http.channel import BodySink, BoundedRequest, BoundedSite, set_common_headers
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.file_response import ServedFile, plain, serve_file, serve_whole
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.releases.gate import Gate
from twistedipc.web.releases.single_page import PAGES, is_page_address

#: The most other releases in which an old asset is looked for.
OLD_RELEASES = 3

#: The most names of a folder that are looked at to see how a bundler has named its files.
MAX_LOOKED_AT = 2000

IMMUTABLE = "public, max-age=31536000, immutable"

#: What a query may hold beside letters, digits and "-._~" (RFC 3986, 3.4); all else in it is encoded in a Location.
_QUERY = "!$&'()*+,;=:@/?%"


class Refused(Exception):
    """The path can't name anything that is served."""


def segments_of(path: bytes) -> list[str]:
    """
    Return the segments of a request's path, decoded once; a final "" stands for the slash at the end. Raises `Refused`
    for a path that leads anywhere but down.
    """
    if not path.startswith(b"/"):
        raise Refused
    segments: list[str] = []
    for raw in path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused from error
        if segment and problem_of_segment(segment):
            raise Refused
        segments.append(segment)
    if "" in segments[:-1]:
        raise Refused
    return segments


@dataclass(frozen=True)
class Found:
    """A file or folder of a release."""

    path: Path
    stat: os.stat_result


@dataclass(frozen=True)
class Elsewhere:
    """The path, in the same site, at which the thing asked for really is."""

    segments: list[str]


def find(release: Path, segments: list[str]) -> Found | None:
    """Return the file or folder in the release, without following a symbolic link out of it. None if there is none."""
    path = release.joinpath(*segments) if segments else release
    try:
        if os.path.realpath(path) != os.path.join(os.path.realpath(release), *segments):
            return None
        return Found(path, os.stat(path, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def regular(release: Path, segments: list[str]) -> Found | None:
    """Return the regular file in the release; None if there is none."""
    found = find(release, segments)
    return found if found is not None and S_ISREG(found.stat.st_mode) else None


def look_up(release: Path, segments: list[str]) -> Found | Elsewhere | None:
    """
    Return the regular file that answers for a path (which ends in "" if it ends in a slash), or where that file is, or
    None.

    Static exporters count on this: ``/about`` is ``about.html``. A folder with an index.html goes before that, since
    the links in its page count on the slash. ``/about/`` leads to ``/about`` if that is a page and there is no folder
    with an index.html, so that the links in ``about.html`` mean the same either way. Nothing leads back.
    """
    *above, last = segments
    if last == "":
        index = regular(release, [*above, "index.html"])
        if index is None and above and _page(release, above) is not None:
            return Elsewhere(above)
        return index
    found = find(release, segments)
    if found is not None and S_ISREG(found.stat.st_mode):
        return found
    if regular(release, [*segments, "index.html"]) is not None:
        return Elsewhere([*segments, ""])
    return _page(release, segments)


@lru_cache(maxsize=1024)
def forms_of_folder(release: Path, folder: tuple[str, ...]) -> frozenset[Form]:
    """Return the forms of hashed names in a folder of a release. A release never changes, so they are kept."""
    try:
        with os.scandir(release.joinpath(*folder)) as entries:
            names_there = [entry.name for entry in islice(entries, MAX_LOOKED_AT)]
    except OSError:
        return frozenset()
    return forms_among("/".join([*folder, name]) for name in names_there)


def _page(release: Path, segments: list[str]) -> Found | None:
    """Return the page whose address is its name without ".html"."""
    *above, last = segments
    return regular(release, [*above, f"{last}.html"])


class Releases(Resource):
    """Serves all projects' live releases. Implements `channel.Front`."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        store: ReleaseStore,
        hosts: Hosts,
        addresses_of: Callable[[str], list[str]],
        clock: IReactorTime,
        audience: Audience | None,
        gate: Gate | None,
    ) -> None:
        super().__init__()
        self._store = store
        self._audience = audience
        self._gate = gate
        self._hosts = hosts
        self._addresses_of = addresses_of
        self._clock = clock

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        return None

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request has arrived."""
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-cache")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return plain(request, 405, "This can only be read.")
        return self._answered(request, lambda: self._render(request))

    def _answered(self, request: BoundedRequest, answer: Callable[[], int | bytes]) -> int | bytes:
        try:
            return answer()
        except (Refused, BadValue):
            return self._missing(request, None)
        except OSError as error:
            self._log.error("a release's file can't be read: {error}", error=error)
            request.responseHeaders.removeHeader(b"ETag")
            return plain(request, 503, "This can't be read now.")

    def _render(self, request: BoundedRequest) -> int | bytes:
        segments = segments_of(request.path)
        host = request.getHeader("host") or ""
        project = self._hosts.project_of(host)
        prefix = ""
        if project is None:
            if not self._hosts.has_paths(host):
                return self._elsewhere(request, segments[0])
            project, segments = segments[0], segments[1:]
            prefix = "/" + _quote(project)
            if not project:
                return self._missing(request, None)
        names.project(project)
        settings = StaticSettings() if self._audience is None else self._audience.known(project)
        if settings is None:
            Deferred.fromCoroutine(self._look_up(request, project, segments, prefix))
            return NOT_DONE_YET
        return self._serve(request, project, segments, prefix, settings)

    async def _look_up(self, request: BoundedRequest, project: str, segments: list[str], prefix: str) -> None:
        """Answer once it is known for whom the releases are."""
        assert self._audience is not None, "it is asked"
        try:
            settings = await self._audience.look_up(project)
        except LedgerUnavailable:
            body: int | bytes = plain(request, 503, "This can't be read now.")
        else:
            if request.gone:
                return
            if settings is None:
                body = self._missing(request, None)
            else:
                known = settings
                body = self._answered(request, lambda: self._serve(request, project, segments, prefix, known))
        if isinstance(body, bytes) and not request.gone:
            request.write(b"" if request.method == b"HEAD" else body)
            request.finish()

    def _serve(
        self, request: BoundedRequest, project: str, segments: list[str], prefix: str, settings: StaticSettings
    ) -> int | bytes:
        https = self._gate is not None and self._gate.is_https(request, project)
        for name, value in headers_of(settings.headers, https=https).items():
            if value:
                request.setHeader(name.encode(), value.encode())
            else:
                request.responseHeaders.removeHeader(name.encode())
        if settings.for_team:
            request.setHeader(b"Vary", b"Cookie")
            stopped = self._stopped(request, project, segments)
            if stopped is not None:
                return stopped
        release = self._store.live(project)
        if release is None:
            return self._missing(request, None)
        if not segments:
            return self._redirect(request, prefix + "/")
        if is_hidden(segments):
            return self._missing(request, release)
        found = look_up(release, segments)
        if isinstance(found, Elsewhere):
            return self._redirect(request, "/".join([prefix, *map(_quote, found.segments)]))
        if found is not None:
            return self._serve_file(request, self._served(project, release, found), settings)
        instead = self._old_asset(project, segments) or self._single_page(project, release, segments)
        return self._missing(request, release) if instead is None else self._serve_file(request, instead, settings)

    def _stopped(self, request: BoundedRequest, project: str, segments: list[str]) -> bytes | None:
        """Return the answer for a request for a release that is for the team; None: it may go on."""
        if self._gate is None:
            return plain(request, 403, f"The releases of {project} are for its team, and can't be served here.")
        return self._gate.stops(request, project, "/" + "/".join(map(_quote, segments)))

    def _serve_file(self, request: BoundedRequest, file: ServedFile, settings: StaticSettings) -> int | bytes:
        if settings.for_team:
            kept = file.cache_control.removeprefix("public, ")
            file = replace(file, cache_control=f"private, {kept}")
        return serve_file(request, self._clock, file)

    def _elsewhere(self, request: BoundedRequest, name: str) -> bytes:
        """Answer with 421: the host that the request is to has no releases. A redirect could lead back here."""
        addresses = self._addresses_of(names.project(name)) if name else []
        where = f"The release of {name} is at {' or at '.join(addresses)}\n" if addresses else ""
        return plain(
            request,
            421,
            f"No release is served at this host. {where}"
            "An address with the project in its path needs a host that the API doesn't have, since a browser keeps one "
            "set of cookies for all ports of a host: see releases.public_url in the configuration.",
        )

    def _old_asset(self, project: str, segments: list[str]) -> ServedFile | None:
        """
        Return what an open page of an earlier release asks for: only a file with its hash in its name, never a page or
        a document.
        """
        path = "/".join(segments)
        if not could_be_hashed(path) or self._store.history(project).has_changed(path):
            return None
        for release in self._store.once_live(project)[:OLD_RELEASES]:
            found = regular(release, segments)
            if found is not None and may_be_hashed(path, forms_of_folder(release, tuple(segments[:-1]))):
                return self._served(project, release, found)
        return None

    def _single_page(self, project: str, release: Path, segments: list[str]) -> ServedFile | None:
        """Return the page that answers for an address of a single-page application."""
        if not serving_of(release).spa or not is_page_address(release, segments):
            return None
        pages = (regular(release, [name]) for name in PAGES)
        found = next((page for page in pages if page is not None), None)
        return None if found is None else self._served(project, release, found)

    def _served(self, project: str, release: Path, found: Found) -> ServedFile:
        # A release never changes, so its number, with what tells its files apart, is a strong validator. Times aren't:
        # archives are deterministic, so that all their files may have the same.
        stat = found.stat
        etag = f'"{release.name}-{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"'.encode()
        path = found.path.relative_to(release)
        immutable = (
            could_be_hashed(path.as_posix())
            and is_hashed(path.as_posix(), forms_of_folder(release, path.parent.parts))
            and not self._store.history(project).has_changed(path.as_posix())
        )
        return ServedFile(found.path, stat.st_size, etag, IMMUTABLE if immutable else "no-cache")

    def _missing(self, request: BoundedRequest, release: Path | None) -> int | bytes:
        """Answer with 404, and with the release's own page for that, if it has one."""
        page = None if release is None else regular(release, [NOT_FOUND])
        if release is None or page is None:
            return plain(request, 404, "There is nothing here.")
        request.setResponseCode(404)
        return serve_whole(request, self._clock, page.path, page.stat.st_size)

    def _redirect(self, request: BoundedRequest, path: str) -> bytes:
        query = request.uri.partition(b"?")[2]
        location = path.encode() + (b"?" + quote(query, safe=_QUERY).encode() if query else b"")
        request.setHeader(b"Location", location)
        return plain(request, 302, "It is there.")


def _quote(segment: str) -> str:
    """
    Encode a segment for a Location. All slashes of either kind in it are encoded, so that no path begins with two.
    """
    return quote(segment, safe="")


def releases_site(
    store: ReleaseStore,
    reactor: IReactorTime,
    random: RandomBytes,
    *,
    hosts: Hosts | None = None,
    addresses_of: Callable[[str], list[str]] = lambda project: [],
    proxies: Proxies | None = None,
    audience: Audience | None = None,
    gate: Gate | None = None,
) -> BoundedSite:
    """
    Return the site.

    :param reactor: for deadlines.
    :param random: for the names of requests.
    :param hosts: where the site is served; by default below ``localhost``.
    :param addresses_of: where a project's release is, for clients that look for it at another host.
    :param proxies: the trusted ones, for the clients' addresses in the log.
    :param audience: for whom the releases are; without it, for everybody.
    :param gate: lets in whom those that aren't for everybody are for.
    """
    root = Releases(store, hosts or Hosts(), addresses_of, reactor, audience, gate)
    return BoundedSite(root, root, reactor, random, proxies)
