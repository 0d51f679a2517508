"""
The client of npm registries by HTTP: `registry.Registry`, implemented. It is what npm's own requests are, made without
npm; none of them is tried again here, since only the caller knows what was done before.

Every request has a deadline, and every answer a bound. Token and one-time password go to the registry's own address
alone: a request that changes something follows no redirect at all, and the others take nothing along to another host.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import msgspec

import twistedipc
from twistedipc.publish.targets.npm.answers import HASHES, Dist
from twistedipc.publish.targets.npm.document import Document, document, read_packed
from twistedipc.publish.targets.npm.exchanging import Exchanges, explained, token_in
from twistedipc.publish.targets.npm.refusals import Act, notice_of, refusal
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Stage, TokenFacts, Version
from twistedipc.publish.targets.npm.tarballs import MAX_TARBALL, BadPackage
from twistedipc.registries.connection import Connection, deadline, why, without_user

#: Seconds for an answer, for one of many megabytes, and for an upload; without a byte, when something was changed too.
ASKING = 60.0
DOWNLOAD = 600.0
UPLOAD = 1800.0
SILENCE = 30.0
SILENCE_CHANGED = 300.0

#: The most bytes of what a registry has of a package. There are packages of which it is more than 100 MB; of these the
#: short form is asked for, which is some tenth of it and has no times and no whole manifests.
MAX_PACKUMENT = 64 << 20

#: The most bytes of any other answer, and of what is read of a refusal.
MAX_ANSWER = 8 << 20
MAX_REFUSAL = 64 << 10

#: Stages are listed in pages of so many, as npm asks for them, and at most this many pages.
PAGE = 100
MAX_PAGES = 50

#: As many names are asked for when the registry is searched.
MAX_NAMES = 100

#: What the public registry shows of a new package while its first version waits in the stage: it is no version.
_PLACEHOLDER = "0.0.0-stage"

_MAX_REDIRECTS = 5
_BLOCK = 256 * 1024
_WHOLE = "application/json"
_SHORT = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"

_SECRET = re.compile(r"[\x21-\x7e]{1,4096}\Z")
_STAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")

T = TypeVar("T")


class _Refused(Exception):
    """A request has come to nothing."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.said)
        self.answer = answer


@dataclass(frozen=True)
class _Request:
    """A request, with what is secret in it."""

    act: Act
    method: str
    headers: Mapping[str, str]
    body: bytes | Document | None
    token: str = field(repr=False)
    otp: str = field(repr=False)
    package: str = ""  # for which a token is asked for

    @property
    def changes(self) -> bool:
        """Whether something is another afterwards."""
        return self.method != "GET"

    @property
    def unsendable(self) -> Answer | None:
        """What is wrong with what is secret in it; None if nothing is."""
        for secret, what, kind in ((self.token, "token", Kind.DENIED), (self.otp, "one-time password", Kind.OTP)):
            if secret and not _SECRET.match(secret):
                return Answer(kind=kind, said=f"the {what} has characters that can't be sent")
        return None

    def hide(self, text: str) -> str:
        """Take what is secret out of a text: a registry may repeat what it was sent."""
        for secret in (self.token, self.otp):
            text = text.replace(secret, "***") if secret else text
        return text


class _TooLarge(Exception):
    """An answer has more bytes than its bound."""


class _Dist(msgspec.Struct):
    integrity: object = None
    shasum: object = None
    tarball: object = None


class _Version(msgspec.Struct):
    dist: msgspec.Raw = msgspec.Raw(b"{}")
    deprecated: object = None


class _Packument(msgspec.Struct):
    name: object = None
    versions: dict[str, msgspec.Raw] | None = None
    tags: dict[str, object] | None = msgspec.field(default=None, name="dist-tags")
    times: dict[str, object] | None = msgspec.field(default=None, name="time")


class Client:
    """
    A registry, with a token for it.

    :param address: the registry's address
    :param token: "" asks without one
    :param limit: the most bytes of a tarball
    :param asking: seconds for an answer that is short
    :param id_tokens: in the place of a token: returns a signed statement of what is being built, by an issuer that the
        registry trusts. The registry gives a token for each package for it, by which that is looked at and published
        ("trusted publishing"); one that ends meanwhile is asked for again
    :param package: whose token is used, of those, for requests that name no package
    :param openly: whether what is only looked at is asked for without a token first
    :param clock: seconds, which only grow
    """

    def __init__(
        self,
        address: str,
        token: str,
        connection: Connection,
        *,
        limit: int = MAX_TARBALL,
        asking: float = ASKING,
        id_tokens: Callable[[], str] | None = None,
        package: str = "",
        openly: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = without_user(address).rstrip("/") + "/"
        self._token = token
        self._connection = connection
        self._limit = limit
        self._asking = asking
        self._exchanges = None if id_tokens is None else Exchanges(id_tokens, clock)
        self._package = package
        self._openly = openly

    @property
    def address(self) -> str:
        """The registry's address with a final slash, for people: without a user or a password in it."""
        return self._url

    # -- what there is

    def look(self, name: str) -> Found | Answer:
        """Return what there is of a package; `Kind.ABSENT` if there is no such package."""

        def read(response: HTTPResponse, notice: str) -> Found:
            return _found(name, _json(_read(response, MAX_PACKUMENT), _Packument), notice)

        last = ""
        for form in (_WHOLE, _SHORT):
            try:
                return self._ask(Act.LOOK, "view", _escaped(name), read, accept=form, seconds=DOWNLOAD, package=name)
            except _TooLarge as error:
                last = str(error)
        return Answer(kind=Kind.REFUSED, said=f"what the registry has of {name} is too much to be read: {last}")

    def search(self, text: str) -> Sequence[str] | Answer:
        """Return names of packages that the registry finds for a text, the best first; not all that there are."""

        def read(response: HTTPResponse, notice: str) -> list[str]:
            objects = _json(_read(response, MAX_ANSWER), dict[str, Any]).get("objects")
            if not isinstance(objects, list):
                raise msgspec.DecodeError("it lists no packages")
            packages = [each.get("package") for each in objects if isinstance(each, dict)]
            named = [each.get("name") for each in packages if isinstance(each, dict)]
            return [name for name in named if isinstance(name, str)]

        query = urlencode({"text": text, "size": MAX_NAMES})
        try:
            return self._ask(Act.SEARCH, "search", f"-/v1/search?{query}", read)
        except _TooLarge as error:
            return Answer(kind=Kind.REFUSED, said=f"the registry's answer is too much to be read: {error}")

    def fetch(self, name: str, version: str, to: Path, limit: int) -> Answer:
        """Write a version's tarball to a path, once its content is what the registry says of it."""
        found = self.look(name)
        if isinstance(found, Answer):
            return found
        if (there := found.versions.get(version)) is None:
            return Answer(kind=Kind.ABSENT, said=f"the registry has no {name}@{version}")
        answer = Answer(kind=Kind.ABSENT, said=f"the registry gives no address for {name}@{version}")
        for place in self._places(name, version, there.tarball):
            answer = self._download(Act.FETCH, "view", place, to, limit, there.dist, package=name)
            if answer.kind is not Kind.ABSENT:
                break
        return answer

    def _places(self, name: str, version: str, said: str) -> Iterable[str]:
        """
        Where a tarball may be. A registry behind a proxy may not know its own address: so the path counts, at the
        address that is known to work; and a mirror may name an address that can't be reached from here.
        """
        own, there = urlsplit(self._url), urlsplit(urljoin(self._url, said))
        if there.hostname == own.hostname:
            yield there._replace(scheme=own.scheme, netloc=own.netloc).geturl()
            return
        yield urljoin(self._url, f"{_escaped(name)}/-/{quote(name.rpartition('/')[2])}-{quote(version)}.tgz")
        if there.scheme in ("http", "https") and not (own.scheme == "https" and there.scheme == "http"):
            yield there.geturl()

    def _download(
        self, act: Act, command: str, url: str, to: Path, limit: int, dist: Dist, *, package: str = ""
    ) -> Answer:
        """Write what is at an address to a path, and compare it with these hashes."""

        def read(response: HTTPResponse, notice: str) -> Answer:
            digests = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in HASHES}
            with to.open("wb") as file:
                for block in _blocks(response, limit):
                    file.write(block)
                    for digest in digests.values():
                        digest.update(block)
            wanted = dist.hashes
            algorithm = next((each for each in HASHES if each in wanted), None)
            if algorithm is not None and digests[algorithm].hexdigest() not in wanted[algorithm]:
                to.unlink()
                return Answer(kind=Kind.REFUSED, said="the tarball isn't what the registry says of it")
            return Answer(kind=Kind.DONE, status=response.status, notice=notice)

        try:
            return self._ask(act, command, url, read, accept="*/*", seconds=DOWNLOAD, package=package)
        except _TooLarge as error:
            to.unlink(missing_ok=True)
            return Answer(kind=Kind.REFUSED, said=f"the tarball is too large: {error}")

    # -- publishing

    def upload(
        self, tarball: Path, *, tag: str, access: str = "", provenance: bytes | None = None, otp: str = ""
    ) -> Answer:
        """Publish a tarball under a dist-tag. ``access``: "public", "restricted", or "" for the registry's default."""
        try:
            packed = read_packed(tarball, self._limit)
            body = document(packed, self._url, tag=tag, access=access, provenance=provenance)
        except BadPackage as error:
            return Answer(kind=Kind.REFUSED, said=str(error))
        return self._change(Act.UPLOAD, "publish", "PUT", _escaped(packed.name), body, otp=otp, package=packed.name)

    def has_staging(self) -> bool | Answer:
        """Return whether the registry knows stages at all."""
        found = self._stage_page("", 0)
        if not isinstance(found, Answer):
            return True
        # (A page instead of an answer: a registry that takes every unknown address for one of its pages.)
        return False if found.kind is Kind.UNSUPPORTED or found.status == 200 else found

    def stage(self, tarball: Path, *, tag: str, access: str = "", otp: str = "") -> Stage | Answer:
        """Upload a tarball that is published once a person approves it."""
        try:
            packed = read_packed(tarball, self._limit)
            body = document(packed, self._url, tag=tag, access=access)
        except BadPackage as error:
            return Answer(kind=Kind.REFUSED, said=str(error))

        def read(response: HTTPResponse, notice: str) -> Stage:
            said = _json(_read(response, MAX_ANSWER), dict[str, Any])
            stage_id = said.get("stageId")
            if not isinstance(stage_id, str) or not _STAGE_ID.match(stage_id):
                raise msgspec.DecodeError("it names no stage")
            return Stage(
                id=stage_id,
                name=packed.name,
                version=packed.version,
                tag=tag,
                integrity=f"sha512-{packed.sha512}",
                shasum=packed.sha1,
                notice=notice,
            )

        path = f"-/stage/package/{_escaped(packed.name)}"
        return self._ask(
            Act.STAGE, "stage", path, read, method="POST", body=body, otp=otp, seconds=UPLOAD, package=packed.name
        )

    def stages(self, name: str = "") -> Sequence[Stage] | Answer:
        """Return what waits for approval, of this package or all that the token can see."""
        stages: list[Stage] = []
        for page in range(MAX_PAGES):
            found = self._stage_page(name, page)
            if isinstance(found, Answer):
                return found
            items, total = found
            stages += items
            if len(stages) >= total or len(items) < PAGE:
                return stages
        return Answer(kind=Kind.REFUSED, said=f"the registry lists more than {PAGE * MAX_PAGES} stages")

    def _stage_page(self, name: str, page: int) -> tuple[list[Stage], int] | Answer:
        def read(response: HTTPResponse, notice: str) -> tuple[list[Stage], int]:
            said = _json(_read(response, MAX_ANSWER), dict[str, Any])
            items, total = said.get("items"), said.get("total")
            if not isinstance(items, list):
                raise msgspec.DecodeError("it lists no stages")
            stages = [stage for each in items if (stage := _stage(each)) is not None]
            return stages, total if isinstance(total, int) else 0

        query = {"page": page, "perPage": PAGE, **({"package": name} if name else {})}
        return self._ask(Act.LIST_STAGES, "stage", f"-/stage?{urlencode(query)}", read)

    def staged(self, stage_id: str) -> Stage | Answer:
        """Return one stage; `Kind.ABSENT` once it is approved, rejected, or was never there."""

        def read(response: HTTPResponse, notice: str) -> Stage:
            stage = _stage(_json(_read(response, MAX_ANSWER), dict[str, Any]))
            if stage is None:
                raise msgspec.DecodeError("it describes no stage")
            return stage

        return self._of_stage(stage_id, lambda path: self._ask(Act.VIEW_STAGE, "stage", path, read))

    def staged_tarball(self, stage_id: str, to: Path) -> Answer:
        """Write a stage's tarball to a path."""
        return self._of_stage(
            stage_id,
            lambda path: self._download(
                Act.VIEW_STAGE, "stage", urljoin(self._url, f"{path}/tarball"), to, self._limit, Dist()
            ),
        )

    def approve(self, stage_id: str, otp: str) -> Answer:
        """Publish what waits."""
        return self._of_stage(
            stage_id, lambda path: self._change(Act.APPROVE, "stage", "POST", f"{path}/approve", None, otp=otp)
        )

    def reject(self, stage_id: str, otp: str) -> Answer:
        """Delete what waits."""
        return self._of_stage(stage_id, lambda path: self._change(Act.REJECT, "stage", "DELETE", path, None, otp=otp))

    def _of_stage(self, stage_id: str, ask: Callable[[str], T]) -> T | Answer:
        if not _STAGE_ID.match(stage_id):
            return Answer(kind=Kind.ABSENT, said="that isn't the id of a stage")
        return ask(f"-/stage/{stage_id}")

    # -- tags and deprecations

    def tags(self, name: str) -> dict[str, str] | Answer:
        """Return the dist-tags of a package, in a short answer; `Kind.ABSENT` also where a registry has no such one."""

        def read(response: HTTPResponse, notice: str) -> dict[str, str]:
            return _tags(_json(_read(response, MAX_ANSWER), dict[str, object]))

        try:
            return self._ask(Act.LOOK, "dist-tag", f"-/package/{_escaped(name)}/dist-tags", read, package=name)
        except _TooLarge as error:
            return Answer(kind=Kind.REFUSED, said=f"the registry's answer is too much to be read: {error}")

    def set_tag(self, name: str, tag: str, version: str, otp: str = "") -> Answer:
        """Let a dist-tag lead to a version."""
        path = f"-/package/{_escaped(name)}/dist-tags/{quote(tag, safe='')}"
        answer = self._change(Act.TAG, "dist-tag", "PUT", path, msgspec.json.encode(version), otp=otp, package=name)
        return self._or_no_tags(name, answer)

    def remove_tag(self, name: str, tag: str, otp: str = "") -> Answer:
        """Remove a dist-tag; `Kind.ABSENT` if there is none."""
        path = f"-/package/{_escaped(name)}/dist-tags/{quote(tag, safe='')}"
        answer = self._change(Act.UNTAG, "dist-tag", "DELETE", path, None, otp=otp, package=name)
        return self._or_no_tags(name, answer, tag)

    def _or_no_tags(self, name: str, answer: Answer, tag: str = "") -> Answer:
        """What 404 means: no such package, no such tag, or a registry without the addresses of tags."""
        if answer.kind is not Kind.ABSENT:
            return answer
        found = self.look(name)
        if isinstance(found, Answer):
            return answer if found.kind is Kind.ABSENT else found
        if tag and tag not in found.tags:
            return Answer(kind=Kind.ABSENT, said=f"{name} has no tag {tag}", status=answer.status)
        said = "the registry has no requests for dist-tags, or this token may not make them"
        return Answer(kind=Kind.UNSUPPORTED, said=said, status=answer.status)

    def deprecate(self, name: str, versions: Sequence[str], message: str, otp: str = "") -> Answer:
        """Deprecate these versions with a message; "" takes a deprecation back."""

        def read(response: HTTPResponse, notice: str) -> dict[str, Any]:
            return _json(_read(response, MAX_PACKUMENT), dict[str, Any])

        try:
            found = self._ask(
                Act.LOOK, "deprecate", f"{_escaped(name)}?write=true", read, seconds=DOWNLOAD, package=name
            )
        except _TooLarge as error:
            return Answer(kind=Kind.REFUSED, said=f"what the registry has of {name} is too much to be changed: {error}")
        if isinstance(found, Answer):
            return found
        there = found.get("versions")
        described = {version: (there if isinstance(there, dict) else {}).get(version) for version in versions}
        for version, manifest in described.items():
            if not isinstance(manifest, dict):
                return Answer(kind=Kind.ABSENT, said=f"the registry has no {name}@{version}")
            manifest["deprecated"] = message
        return self._change(
            Act.DEPRECATE, "deprecate", "PUT", _escaped(name), msgspec.json.encode(found), otp=otp, package=name
        )

    # -- tokens

    def token_facts(self) -> TokenFacts | Answer:
        """Return what the registry says of this token; `Kind.ABSENT` or `Kind.UNSUPPORTED` if it says nothing."""

        def read(response: HTTPResponse, notice: str) -> TokenFacts | Answer:
            said = _json(_read(response, MAX_ANSWER), dict[str, Any])
            objects = said.get("objects")
            own = [each for each in objects if isinstance(each, dict)] if isinstance(objects, list) else []
            mine = [each for each in own if _is_shown_as(self._token, each.get("token"))]
            if len(mine) != 1:
                return Answer(kind=Kind.ABSENT, said="the registry doesn't list this token", notice=notice)
            expiry = mine[0].get("expiry")
            return TokenFacts(
                expires=expiry if isinstance(expiry, str) else "",
                bypasses_otp=mine[0].get("bypass_2fa") is True,
                notice=notice,
            )

        return self._ask(Act.TOKENS, "token", "-/npm/v1/tokens", read)

    def _token_for(self, package: str) -> str | Answer:
        """
        Return the token for requests about a package. Where there are ID tokens, one is exchanged for it, as npm does
        it (its lib/utils/oidc.js).
        """
        exchanges = self._exchanges
        if exchanges is None or not package:
            return self._token
        token = exchanges.token(package)
        if not token:

            def read(response: HTTPResponse, notice: str) -> dict[str, Any]:
                said = _json(_read(response, MAX_ANSWER), dict[str, Any])
                if not token_in(said):
                    raise msgspec.DecodeError("it has no token")
                return said

            path = f"-/npm/v1/oidc/token/exchange/package/{_escaped(package)}"
            found = self._asked(
                _Request(Act.EXCHANGE, "POST", _headers_of("publish"), None, exchanges.mint(), "", package),
                path,
                read,
                self._asking,
            )
            if isinstance(found, Answer):
                return found
            token = exchanges.keep(package, found, datetime.now(UTC))
        return token

    # -- requests

    def _change(
        self,
        act: Act,
        command: str,
        method: str,
        path: str,
        body: bytes | Document | None,
        *,
        otp: str,
        package: str = "",
    ) -> Answer:
        """Make a request that changes something, the answer to which has no content."""

        def read(response: HTTPResponse, notice: str) -> Answer:
            said = _read(response, MAX_ANSWER)
            if said.lstrip()[:1] == b"<":
                raise msgspec.DecodeError("it is a page")
            return Answer(kind=Kind.DONE, status=response.status, notice=notice)

        seconds = UPLOAD if isinstance(body, Document) else SILENCE_CHANGED + ASKING
        try:
            return self._ask(
                act, command, path, read, method=method, body=body, otp=otp, seconds=seconds, package=package
            )
        except _TooLarge:  # of an answer that says nothing more
            return Answer(kind=Kind.DONE)

    def _ask(
        self,
        act: Act,
        command: str,
        path: str,
        read: Callable[[HTTPResponse, str], T],
        *,
        method: str = "GET",
        body: bytes | Document | None = None,
        otp: str = "",
        accept: str = _WHOLE,
        seconds: float = 0.0,
        package: str = "",
    ) -> T | Answer:
        """
        Make a request, and read its answer. Raises `_TooLarge` if ``read`` does, or OSError of the disk.

        :param path: below the registry, or a whole address
        :param seconds: in which it must be done; 0.0 for as many as a short answer has
        :param package: the one that it is about, if another token may be needed for that
        """
        package = package or self._package
        headers = _headers_of(command, accept, otp=bool(otp))
        exchanges, seconds = self._exchanges, seconds or self._asking
        if exchanges is not None and self._openly and act in Act.READS:
            found = self._asked(_Request(act, method, headers, body, "", otp), path, read, seconds)
            if not isinstance(found, Answer) or found.kind not in (Kind.DENIED, Kind.FORBIDDEN, Kind.ABSENT):
                return found
        while True:
            token = self._token_for(package)
            if isinstance(token, Answer):
                return token
            request = _Request(act, method, headers, body, token, otp)
            found = self._asked(request, path, read, seconds)
            if exchanges is None:
                return found
            if not isinstance(found, Answer):
                exchanges.went_well(package)
                return found
            if not exchanges.has_ended(package, found, changes=request.changes):
                return found

    def _asked(
        self, request: _Request, path: str, read: Callable[[HTTPResponse, str], T], seconds: float
    ) -> T | Answer:
        """Make a request once. Raises as `_ask`."""
        if (unsendable := request.unsendable) is not None:
            return unsendable
        with deadline(seconds) as time:
            try:
                return self._follow(request, urljoin(self._url, path), read)
            except _Refused as refused:
                return refused.answer
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zlib.error) as error:
                kind = Kind.UNREACHABLE if request.changes else Kind.REFUSED
                reason = "it is broken" if isinstance(error, zlib.error) else request.hide(str(error))
                return Answer(kind=kind, said=f"the answer isn't a package registry's: {reason}", status=200)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise  # of the disk
                reason = f"it takes longer than {seconds:g} seconds" if time.over else request.hide(why(error))
                return Answer(kind=Kind.UNREACHABLE, said=f"the registry can't be reached: {reason}")

    def _follow(self, asked: _Request, url: str, read: Callable[[HTTPResponse, str], T]) -> T:
        for _ in range(_MAX_REDIRECTS):
            request = urllib.request.Request(url, headers=dict(asked.headers), method=asked.method)
            if asked.body is not None:
                length = len(asked.body) if isinstance(asked.body, bytes) else asked.body.length
                request.data = asked.body
                request.add_header("Content-Type", "application/json")
                request.add_header("Content-Length", str(length))
            if self._is_own(url):
                if asked.token:
                    request.add_unredirected_header("Authorization", f"Bearer {asked.token}")
                if asked.otp:
                    request.add_unredirected_header("npm-otp", asked.otp)
            silence = SILENCE_CHANGED if asked.changes else SILENCE
            try:
                with self._connection.open(request, silence=silence) as response:
                    return read(response, notice_of(_headers(response), asked.hide))
            except urllib.error.HTTPError as error:
                with error:
                    url = self._elsewhere(asked, url, error)
        raise _Refused(Answer(kind=Kind.REFUSED, said="the registry sends the request from one address to another"))

    def _is_own(self, url: str) -> bool:
        """Whether an address is the registry's own, by a way that is as safe."""
        own, there = urlsplit(self._url), urlsplit(url)
        if (there.scheme, there.netloc) == (own.scheme, own.netloc):
            return True
        return (own.scheme, there.scheme) == ("http", "https") and there.hostname == own.hostname

    def _elsewhere(self, asked: _Request, url: str, error: urllib.error.HTTPError) -> str:
        """Where an answer sends the request. Raises `_Refused` with what it means, if it is none of these."""
        status, place = error.code, error.headers.get("Location")
        if status not in (301, 302, 303, 307, 308) or not place:
            headers = _headers(error)
            answer = refusal(asked.act, status, headers, _beginning(error), hide=asked.hide)
            if asked.act is Act.EXCHANGE:
                answer = explained(answer, asked.token, asked.package, headers, datetime.now(UTC))
            raise _Refused(answer)
        there = urljoin(url, place)
        parts = urlsplit(there)
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        if asked.changes or parts.scheme not in ("http", "https"):
            said = f"the registry sends the request to another address, {where}: set that as the project's registry"
            raise _Refused(Answer(kind=Kind.REFUSED, said=said, status=status))
        if urlsplit(url).scheme == "https" and parts.scheme == "http":
            said = f"the registry sends the request to an address that isn't by https, {where}"
            raise _Refused(Answer(kind=Kind.REFUSED, said=said, status=status))
        if asked.act is Act.LOOK and not self._is_own(there):
            # A registry that hasn't this package sends who wants to install it to another, which may have one of the
            # same name. (GitLab does so, "npm_package_requests_forwarding".)
            said = f"the registry has no such package: it sends the request on to {where}"
            raise _Refused(Answer(kind=Kind.ABSENT, said=said, status=status))
        return there


def _escaped(name: str) -> str:
    """A package's name in an address, as npm writes it: the slash of a scoped one is no slash there."""
    return quote(name, safe="@")


def _headers_of(command: str, accept: str = _WHOLE, *, otp: bool = False) -> dict[str, str]:
    """What a request says of itself, as npm's does."""
    return {
        "Accept": accept,
        "Accept-Encoding": "gzip",
        "Cache-Control": "no-cache",  # replicas and proxies may know less
        "User-Agent": f"twistedipc/{twistedipc.__version__}",
        "npm-command": command,
        "npm-auth-type": "legacy" if otp else "web",  # as npm says it
    }


def _is_shown_as(token: str, shown: object) -> bool:
    """Whether a registry's list means this token. It shows the beginning and the end of each: "npm_NYn6...jCq0"."""
    if not isinstance(shown, str):
        return False
    head, _, tail = shown.replace("…", "...").partition("...")
    return len(head) >= 6 and token.startswith(head) and token.endswith(tail)


def _headers(response: HTTPResponse | urllib.error.HTTPError) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _blocks(response: HTTPResponse, most: int) -> Iterator[bytes]:
    """The content of an answer, not packed any more. Raises `_TooLarge`, `http.client.IncompleteRead`, `zlib.error`."""
    packed = response.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip")
    unpacker = zlib.decompressobj(wbits=31) if packed else None
    length = response.headers.get("Content-Length", "")
    arrived = read = 0
    while data := response.read1(_BLOCK):
        arrived += len(data)
        if unpacker is not None:
            data = unpacker.decompress(data, most - read + 1)
        read += len(data)
        if read > most:
            raise _TooLarge(f"it has more than {most} bytes")
        yield data
    if (length.isdigit() and arrived != int(length)) or (unpacker is not None and not unpacker.eof):
        raise http.client.IncompleteRead(b"")


def _read(response: HTTPResponse, most: int) -> bytes:
    return b"".join(_blocks(response, most))


def _beginning(error: urllib.error.HTTPError) -> bytes:
    """The beginning of a refusal; what can't be read of it doesn't matter."""
    try:
        return b"".join(_blocks(error, MAX_REFUSAL))  # type: ignore[arg-type]
    except (_TooLarge, OSError, http.client.HTTPException, zlib.error):
        return b""


def _json(data: bytes, kind: type[T]) -> T:
    if data.lstrip()[:1] == b"<":
        raise msgspec.DecodeError("it is a page")
    return msgspec.json.decode(data, type=kind)


def _found(name: str, packument: _Packument, notice: str) -> Found:
    versions = {version: raw for version, raw in (packument.versions or {}).items() if version != _PLACEHOLDER}
    return Found(
        name=_text(packument.name) or name,
        versions={version: _described(raw) for version, raw in versions.items()},
        tags=_tags(packument.tags or {}),
        times={version: time for version, time in (packument.times or {}).items() if isinstance(time, str)},
        notice=notice,
    )


def _tags(said: Mapping[str, object]) -> dict[str, str]:
    """Dist-tags, as far as they lead to a version."""
    return {tag: version for tag, version in said.items() if isinstance(version, str) and version != _PLACEHOLDER}


def _described(raw: msgspec.Raw) -> Version:
    """A version, as far as it is well formed."""
    try:
        version = msgspec.json.decode(raw, type=_Version)
        dist = msgspec.json.decode(version.dist, type=_Dist)
    except msgspec.DecodeError:
        return Version(described=raw)
    deprecated = version.deprecated
    return Version(
        dist=Dist(_text(dist.integrity), _text(dist.shasum)),
        tarball=_text(dist.tarball) or "",
        deprecated=deprecated if isinstance(deprecated, str) else "deprecated" if deprecated is True else "",
        described=raw,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _stage(said: object) -> Stage | None:
    """A stage of a registry's list; None if it has no id."""
    if not isinstance(said, dict):
        return None

    def text(*names: str) -> str:
        return next((said[name] for name in names if isinstance(said.get(name), str)), "")

    stage_id = text("id", "stageId")
    if not _STAGE_ID.match(stage_id):
        return None
    return Stage(
        id=stage_id,
        name=text("packageName", "name"),
        version=text("version"),
        tag=text("tag"),
        integrity=text("integrity"),
        shasum=text("shasum"),
        state=text("state", "status"),
    )
