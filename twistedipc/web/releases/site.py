"""
The releases, on a port of their own: what was built, as static sites. ``web.releases``; made by the composition root.

Their scripts are strangers' scripts, so releases are served without the API's cookies and from another origin than the
API and the page. A project is named by the host, ``PROJECT.DOMAIN`` or a domain of its own, which gives each project an
origin; or, where a host name can't be had, by the first segment of the path, where all projects share an origin. The
latter is done only on hosts that aren't the API's (see ``web.http.hosts``), since cookies are shared by all ports of a
host.

What answers to an address is decided by ``publish.site``: a file of the live release, a redirect, or nothing. An asset
of an earlier release is found too, since a page that is still open may ask for it: by the hash in its name, by the mark
of the release in its address (see ``publish.site.marks``), or by where the request comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.publish.site.answers import Address, File, Missing, OldAsset, Sent, location_of
from twistedipc.publish.site.links import is_about_paths
from twistedipc.publish.site.marks import mark_of, mark_of_referer
from twistedipc.publish.site_paths import problem_of_segment
from twistedipc.publish.targets.static.hashed_names import is_asset, may_be_chunk, may_be_hashed
from twistedipc.publish.targets.static.headers import STRICT_TRANSPORT, for_host_alone, headers_of
from twistedipc.publish.targets.static.release import Release
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.server.boundaries import RandomBytes
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.access.audience import Audience, Sought
from twistedipc.web.access.domains import Domains
from twistedipc.web.http.channel import BodySink, BoundedRequest, BoundedSite, set_common_headers
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.encodings import encoding_for
from twistedipc.web.http.file_response import plain, serve_bytes, serve_file, serve_whole
from twistedipc.web.http.hosts import Hosts, host_of
from twistedipc.web.http.media import content_type
from twistedipc.web.releases import origin
from twistedipc.web.releases.gate import MAX_FORM, PASSWORD, Gate
from twistedipc.web.releases.pages import MarkedPages, Page
from twistedipc.web.releases.ready import ReadyAnswers, Standing, key_of
from twistedipc.web.releases.representation import OF_FILES, Said, private_only, represent, without_caches
from twistedipc.web.releases.unencrypted import Unencrypted, lead

#: Another release may answer next time.
_NOT_KEPT: Said = {"cache-control": ("Cache-Control", "no-cache")}

_ROBOTS = "X-Robots-Tag"


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


class Releases(Resource):
    """Serves all projects' live releases. Implements `channel.Front`."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        store: ReleaseStore,
        domains: Domains,
        clock: IReactorTime,
        audience: Audience | None,
        gate: Gate | None,
        unencrypted: Unencrypted,
    ) -> None:
        super().__init__()
        self._unencrypted = unencrypted
        self._store = store
        self._audience = audience
        self._gate = gate
        self._domains = domains
        self._hosts = domains.hosts
        self._clock = clock
        self._pages = MarkedPages(store.file)
        self._ready = ReadyAnswers()

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        request.max_body = MAX_FORM  # a guest's password
        return None

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request has arrived."""
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-cache")
        if request.method == b"POST" and request.path == PASSWORD and self._gate is not None:
            led = self._led(request, self._hosts.project_of(request.getHeader("host") or ""))
            if led is not None:
                return led
            Deferred.fromCoroutine(self._take_password(request, self._gate))
            return NOT_DONE_YET
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return plain(request, 405, "This can only be read.")
        return self._answered(request, lambda: self._render(request))

    def _answered(self, request: BoundedRequest, answer: Callable[[], int | bytes]) -> int | bytes:
        try:
            return answer()
        except (Refused, BadValue):
            return _nothing(request)
        except OSError as error:
            self._log.error("a release's file can't be read: {error}", error=error)
            return _failed(request, 503, "This can't be read now.")
        except Exception:
            return self._went_wrong(request)

    def _went_wrong(self, request: BoundedRequest) -> bytes:
        """Return the answer to a request at which this program has failed. Called in an ``except``."""
        host, path = request.getHeader("host"), request.path.decode("latin-1")
        self._log.failure("request {id} for a release failed: {host} {path}", id=request.id, host=host, path=path)
        return _failed(request, 500, f"This went wrong here, not with you (incident {request.id}).")

    def _render(self, request: BoundedRequest) -> int | bytes:
        segments = segments_of(request.path)
        if (challenge := self._unencrypted.challenge(request, segments)) is not None:
            return challenge
        host = request.getHeader("host") or ""
        project = self._hosts.project_of(host)
        led = self._led(request, project)
        if led is not None:
            return led
        prefix = ""
        if project is None:
            if not self._hosts.has_paths(host):
                return self._elsewhere(request, segments[0])
            project, segments = segments[0], segments[1:]
            prefix = "/" + _quote(project)
            if not project:
                return _nothing(request)
        names.project(project)
        sought = Sought(project, StaticSettings()) if self._audience is None else self._audience.known(project)
        if sought is None:
            Deferred.fromCoroutine(self._look_up(request, project, segments, prefix))
            return NOT_DONE_YET
        return self._serve(request, sought, project, segments, prefix)

    def _led(self, request: BoundedRequest, project: str | None) -> bytes | None:
        """Return the answer that leads to the project's main domain, or to https; None: this host answers."""
        host = request.getHeader("host") or ""
        if project is not None and (domain := self._domains.sent_to(host_of(host))):
            return lead(request, self._domains.address_of(domain).removesuffix("/"))
        return self._unencrypted.to_https(request) if project is not None or self._hosts.has_paths(host) else None

    async def _look_up(self, request: BoundedRequest, name: str, segments: list[str], prefix: str) -> None:
        """Answer once it is known what the first part of the address is, and for whom."""
        assert self._audience is not None, "it is asked"
        try:
            sought = await self._audience.look_up(name)
        except LedgerUnavailable as error:
            self._log.error("what {name} is can't be looked up: {error}", name=name, error=error)
            body: int | bytes = _failed(request, 503, "This can't be read now.")
        except Exception:
            body = self._went_wrong(request)
        else:
            if request.gone:
                return
            if sought is None:
                body = _nothing(request)
            else:
                known = sought
                body = self._answered(request, lambda: self._serve(request, known, name, segments, prefix))
        _finish(request, body)

    async def _check(
        self, request: BoundedRequest, sought: Sought, name: str, segments: list[str], prefix: str
    ) -> None:
        """Answer once it is known whether the password is right that the request shows."""
        assert self._gate is not None, "it is asked"
        try:
            body: int | bytes | None = await self._gate.check(request, sought)
        except Exception:
            body = self._went_wrong(request)
        if body is None and not request.gone:
            body = self._answered(request, lambda: self._serve(request, sought, name, segments, prefix))
        _finish(request, body)

    async def _take_password(self, request: BoundedRequest, gate: Gate) -> None:
        """Answer a form with the password of a project's previews."""
        name = self._hosts.project_of(request.getHeader("host") or "")
        try:
            sought = None
            if name is not None and self._audience is not None:
                sought = self._audience.known(names.project(name)) or await self._audience.look_up(name)
            if name is None or sought is None or sought.release is None:
                body = _nothing(request)
            else:
                body = await gate.take_password(request, sought, name)
        except BadValue:
            body = _nothing(request)
        except LedgerUnavailable as error:
            self._log.error("what {name} is can't be looked up: {error}", name=name, error=error)
            body = _failed(request, 503, "This can't be read now.")
        except Exception:
            body = self._went_wrong(request)
        _finish(request, body)

    def _serve(
        self, request: BoundedRequest, sought: Sought, name: str, segments: list[str], prefix: str
    ) -> int | bytes:
        """Answer with what is ready, or else as `_make` does."""
        key = None if sought.for_some or sought.release is not None else key_of(request, prefix)
        live = None if key is None else self._store.live(sought.project)
        if key is None or live is None:
            return self._make(request, sought, name, segments, prefix)
        standing = Standing(sought, live, self._store.history(sought.project))
        now = self._clock.seconds()
        ready = self._ready.give(key, standing, request, now)
        if ready is not None:
            return ready
        made = self._make(request, sought, name, segments, prefix, live)
        if isinstance(made, bytes) and request.code == 200:
            self._ready.keep(key, standing, request, made, now)
        return made

    def _make(
        self,
        request: BoundedRequest,
        sought: Sought,
        name: str,
        segments: list[str],
        prefix: str,
        live: Release | None = None,
    ) -> int | bytes:
        """Make the answer. ``live``: the project's live release, as far as it is known."""
        project = sought.project
        https = self._gate is not None and self._gate.is_https(request, project)
        host = host_of(request.getHeader("host") or "")
        self._set_settings(request, sought.settings, host, https=https)
        if sought.release is not None:
            request.setHeader(_ROBOTS.encode(), b"noindex")
        if sought.for_some:
            request.setHeader(b"Vary", b"Cookie")
            if self._gate is not None and self._gate.checks(request, sought):
                Deferred.fromCoroutine(self._check(request, sought, name, segments, prefix))
                return NOT_DONE_YET
            stopped = self._stopped(request, sought, name, segments)
            if stopped is not None:
                return stopped
        release = live or self._release_of(sought)
        if release is None:
            return _nothing(request)
        address = Address(
            segments=tuple(segments) or ("",),
            query=request.uri.partition(b"?")[2].decode("latin-1"),
            scheme="https" if https or request.isSecure() or request.remote.secure else "http",
            host=host,
        )
        if not segments:  # the project's name alone: what is below it counts on the slash
            return _redirect(request, Sent(location_of(("",), address.query)), prefix)
        return self._answer(request, sought, release, address, prefix)

    def _set_settings(self, request: BoundedRequest, settings: StaticSettings, host: str, *, https: bool) -> None:
        """Set the headers of a project's settings."""
        for header, value in headers_of(settings.headers, https=https).items():
            if value and header == STRICT_TRANSPORT.encode() and self._hosts.is_above_api(host):
                value = (for_host_alone(value.decode("ascii")) or "").encode()
            if value:
                request.setHeader(header, value)
            else:
                request.responseHeaders.removeHeader(header)

    def _release_of(self, sought: Sought) -> Release | None:
        """Return the release that is shown: a preview's, or the live one."""
        project, number = sought.project, sought.release
        return self._store.live(project) if number is None else self._store.release(project, number)

    def _answer(
        self,
        request: BoundedRequest,
        sought: Sought,
        release: Release,
        address: Address,
        prefix: str,
    ) -> int | bytes:
        """Answer as the release does."""
        project = sought.project
        number = None if prefix else mark_of(address.segments)
        if number is not None:
            return self._answer_marked(request, sought, release, address, number)
        if not prefix and (answered := self._answer_by_origin(request, sought, release, address)) is not None:
            return answered
        answer = release.site.answer(release, address, lambda path: self._is_old_asset(project, path))
        if isinstance(answer, Sent):
            return _redirect(request, answer, prefix)
        said = self._said(sought, release, address, prefix)
        page = None if prefix else self._marked_page(request, sought, release, address, answer, said)
        if page is not None:
            return page
        if isinstance(answer, OldAsset):
            return self._serve_file(request, sought, self._store.old_assets(project), File(answer.path), said)
        if isinstance(answer, File):
            return self._serve_file(request, sought, release, answer, said)
        if answer.page is None:
            _set_headers(request, said)
            return _nothing(request, answer.status)
        return self._serve_file(request, sought, release, File(answer.page, answer.status), said)

    def _answer_marked(
        self, request: BoundedRequest, sought: Sought, release: Release, address: Address, number: int
    ) -> int | bytes:
        """
        Answer with an asset of the release that the address names, if it has that, or else of the one that is shown, or
        of an older one. Everything else is where it is without a mark.
        """
        address = address._replace(segments=address.segments[1:] or ("",))
        path = "/".join(address.segments)
        answer = release.site.answer(release, address, lambda path: True)
        if isinstance(answer, Sent):
            return _redirect(request, answer, "")
        if isinstance(answer, Missing):
            return _nothing(request, answer.status)
        if not is_asset(path) or answer.path != path:
            return _redirect(request, Sent(location_of(address.segments, address.query)), "")
        said = self._said(sought, release, address)
        own = self._named(sought, release, number)
        if own is not None and own.has(path):
            self._let_referer(request, sought)
            return self._serve_file(request, sought, own, File(path), said, marked=True)
        if not release.has(path):
            release = self._store.old_assets(sought.project)
            if sought.release is not None or not release.has(path):
                return _nothing(request)
        return self._serve_file(request, sought, release, File(path), {**said, **_NOT_KEPT})

    def _answer_by_origin(
        self, request: BoundedRequest, sought: Sought, release: Release, address: Address
    ) -> int | bytes | None:
        """
        Answer a request that comes from a file with a mark, or from a page of another release, with the asset of that
        release, if the one that is shown has another, or none. None: it is answered as any other.
        """
        path = "/".join(address.segments)
        # A service worker outlives all pages: it is always the newest.
        if not is_asset(path) or request.getHeader("service-worker"):
            return None
        number = mark_of_referer(request.getHeader("referer") or "", request.getHeader("host") or "")
        if number is None:
            number = (
                origin.release_of_cookie(request, https=address.scheme == "https") if release.serving.marks else None
            )
        own = None if number is None or number == release.id else self._named(sought, release, number)
        entry = None if own is None else own.files.get(path)
        shown = release.files.get(path)
        if own is None or entry is None or (shown is not None and shown.sha256 == entry.sha256):
            return None
        answer = release.site.answer(release, address, lambda path: True)
        if not isinstance(answer, File | OldAsset) or answer.path != path:
            return None
        self._let_referer(request, sought)
        said = {**self._said(sought, release, address), **_NOT_KEPT}
        return self._serve_file(request, sought, own, File(path), said, varies=("Referer", "Cookie"))

    def _named(self, sought: Sought, shown: Release, number: int) -> Release | None:
        """
        Return the release with this number, if its assets may be asked for: the one that is shown, or one that was
        live. A preview answers for itself alone: it may be for others than the live release is.
        """
        if number == shown.id:
            return shown
        if sought.release is not None:
            return None
        try:
            return self._store.assets_of(sought.project, number)
        except OSError as error:
            self._log.error("an earlier release can't be read: {error}", error=error)
            return None

    def _marked_page(
        self,
        request: BoundedRequest,
        sought: Sought,
        release: Release,
        address: Address,
        answer: File | OldAsset | Missing,
        said: Said,
    ) -> int | bytes | None:
        """Answer with a page whose links name its release; None: it is served as it is."""
        file = File(answer.page or "", answer.status) if isinstance(answer, Missing) else answer
        if isinstance(file, OldAsset) or not file.path.endswith((".html", ".htm")) or not release.serving.marks:
            return None
        kind = said.get("content-type", ("", ""))[1] or content_type(file.path)
        if not kind.startswith("text/html"):
            return None
        if file.status == 200 and sought.release is None and "cache-control" not in said:
            origin.set_cookie(request, release, https=address.scheme == "https")
        policies = request.responseHeaders.getRawHeaders("content-security-policy") or []
        if any(map(is_about_paths, [*policies, said.get("content-security-policy", ("", ""))[1] or ""])):
            return None
        folder = "/".join(address.segments[:-1])
        known = folder if file.status == 200 and release.is_folder(folder) else None
        has_changed = self._store.history(sought.project).has_changed
        page = self._pages.page(sought.project, release, file.path, known, has_changed)
        return None if page is None else self._serve_page(request, sought, page, kind, file.status, said)

    def _serve_page(
        self, request: BoundedRequest, sought: Sought, page: Page, kind: str, status: int, said: Said
    ) -> int | bytes:
        fields = request.requestHeaders.getRawHeaders(b"accept-encoding")
        accepted = None if fields is None else b",".join(fields).decode("latin-1")
        encoding = encoding_for(accepted, page)
        self._let_referer(request, sought)
        _set_headers(request, said)
        request.setHeader(b"Vary", b"Cookie, Accept-Encoding" if sought.for_some else b"Accept-Encoding")
        if encoding is None:
            return plain(request, 406, "This file isn't there in an encoding that the request takes.")
        if status == 200:
            kept = said.get("cache-control", ("", ""))[1] or "no-cache"
            request.setHeader(b"Cache-Control", (private_only(kept) if sought.for_some else kept).encode("ascii"))
        request.setHeader(b"Content-Type", kind.encode("ascii"))
        if encoding:
            request.setHeader(b"Content-Encoding", encoding.encode())
        return serve_bytes(request, page[encoding].body, page[encoding].etag, status=status)

    def _let_referer(self, request: BoundedRequest, sought: Sought) -> None:
        """
        Have the browser say where requests to this host come from. Requests to others say nothing, as before. What the
        project says goes before that.
        """
        if not any(line.lower().startswith("referrer-policy:") for line in sought.settings.headers):
            request.setHeader(b"Referrer-Policy", b"same-origin")

    def _stopped(self, request: BoundedRequest, sought: Sought, name: str, segments: list[str]) -> bytes | None:
        """Return the answer for a request for a release that isn't for everybody; None: it may go on."""
        if self._gate is None:
            return plain(
                request, 403, f"The releases of {sought.project} aren't for everybody, and can't be served here."
            )
        return self._gate.stops(request, sought, name, "/" + "/".join(map(_quote, segments)))

    def _serve_file(
        self,
        request: BoundedRequest,
        sought: Sought,
        release: Release,
        file: File,
        said: Said,
        *,
        marked: bool = False,
        varies: Sequence[str] = (),
    ) -> int | bytes:
        project = sought.project
        changed = self._store.history(project).has_changed(file.path)
        fields = request.requestHeaders.getRawHeaders(b"accept-encoding")
        accepted = None if fields is None else b",".join(fields).decode("latin-1")
        shown = represent(release, file.path, accepted, said, changed=changed, private=sought.for_some, marked=marked)
        _set_headers(request, said)
        vary = [
            *varies,
            *(["Cookie"] if sought.for_some and "Cookie" not in varies else []),
            *(["Accept-Encoding"] if shown.varies else []),
        ]
        if vary:
            request.setHeader(b"Vary", ", ".join(vary).encode())
        if shown.content is None:
            return plain(request, 406, "This file isn't there in an encoding that the request takes.")
        served = shown.served(self._store.file(project, shown.content.sha256))
        if file.status == 200:
            return serve_file(request, self._clock, served)
        request.setResponseCode(file.status)
        return serve_whole(request, self._clock, served)

    def _elsewhere(self, request: BoundedRequest, name: str) -> bytes:
        """Answer with 421: the host that the request is to has no releases. A redirect could lead back here."""
        addresses = self._domains.urls_of(names.project(name)) if name else []
        where = f"The release of {name} is at {' or at '.join(addresses)}\n" if addresses else ""
        return plain(
            request,
            421,
            f"No release is served at this host. {where}"
            "An address with the project in its path needs a host that the API doesn't have, since a browser keeps one "
            "set of cookies for all ports of a host: see releases.public_url in the configuration.",
        )

    def _said(self, sought: Sought, release: Release, address: Address, prefix: str = "") -> Said:
        """Return the headers that the site says for an address."""
        said = release.site.headers_of(address, shared_host=bool(prefix))
        if sought.release is not None:
            said.pop(_ROBOTS.lower(), None)  # what it says of robots is meant for its users' address
        key = STRICT_TRANSPORT.lower()
        if (strict := said.get(key)) is not None and strict[1] and self._hosts.is_above_api(address.host):
            said[key] = (strict[0], for_host_alone(strict[1]))
        return without_caches(said) if sought.for_some else said

    def _is_old_asset(self, project: str, path: str) -> bool:
        """
        Return whether an open page of an earlier release asks for this: only for a file whose name may have a hash,
        never a page or a document.
        """
        if not is_asset(path) or self._store.history(project).has_changed(path):
            return False
        old = self._store.old_assets(project)
        if not old.has(path):
            return False
        above = old.folder(path.rpartition("/")[0])
        return may_be_chunk(path, above.likely_forms) or may_be_hashed(path, above.forms)


def _finish(request: BoundedRequest, body: int | bytes | None) -> None:
    """End an answer that came later, unless something else does."""
    if isinstance(body, bytes) and not request.gone:
        request.write(b"" if request.method == b"HEAD" else body)
        request.finish()


def _nothing(request: BoundedRequest, status: int = 404) -> bytes:
    return plain(request, status, "There is nothing here." if status == 404 else "This is gone.")


def _failed(request: BoundedRequest, status: int, text: str) -> bytes:
    """Answer with one sentence, without what was set up of another answer: its coding, for one, would be a lie."""
    for name in (b"ETag", b"Content-Encoding", b"Content-Range", b"Accept-Ranges", b"Set-Cookie"):
        request.responseHeaders.removeHeader(name)
    return plain(request, status, text)


def _redirect(request: BoundedRequest, sent: Sent, prefix: str) -> bytes:
    location = prefix + sent.location if sent.location.startswith("/") else sent.location
    request.setHeader(b"Location", location.encode("ascii"))
    return plain(request, sent.status, "It is there.")


def _set_headers(request: BoundedRequest, said: Said) -> None:
    """Set what a site says for an address. What ``represent`` has used is set by what serves the file."""
    for key, (name, value) in said.items():
        if value is None:
            request.responseHeaders.removeHeader(name.encode())
        elif key not in OF_FILES:
            request.setHeader(name.encode(), value.encode("ascii"))


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
    domains: Domains | None = None,
    proxies: Proxies | None = None,
    audience: Audience | None = None,
    gate: Gate | None = None,
    unencrypted: Unencrypted | None = None,
) -> BoundedSite:
    """
    Return the site.

    :param reactor: for deadlines.
    :param random: for the names of requests.
    :param domains: where the projects are served, with domains of their own or without; by default below ``localhost``.
    :param proxies: the trusted ones, for the clients' addresses in the log.
    :param audience: for whom the releases are; without it, for everybody.
    :param gate: lets in whom those that aren't for everybody are for.
    :param unencrypted: what is done with requests by http; by default they are answered.
    """
    known = domains or Domains(Hosts(), lambda project: [])
    root = Releases(store, known, reactor, audience, gate, unencrypted or Unencrypted())
    return BoundedSite(root, root, reactor, random, proxies)
