"""What the tests' registry has: packages with versions and tags, stages, accounts; and all that was changed in it."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import tarfile
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

TOKEN = "npm_S3cretOfTheRegistry"
OTP = "123456"

Packument = dict[str, Any]


class Refused(Exception):
    """A request isn't carried out."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None, **more: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **more}
        self.headers = dict(headers or {})


def wants_otp() -> Refused:
    """The refusal of a request without a valid one-time password, as npm knows it."""
    return Refused(401, "You must provide a one-time pass. Upgrade your client.", {"www-authenticate": "OTP"})


@dataclass
class Account:
    """What a token may do."""

    name: str = "ci"
    may_publish: bool = True  # directly; else it may only stage
    otp_to_publish: bool = False
    otp_to_tag: bool = False
    package: str = ""  # the only one of which anything may be changed; "": any
    expires: str = ""  # when its token ends (ISO 8601); "": that isn't listed
    left: int | None = None  # for how many requests its token is good; None: for all


@dataclass(frozen=True)
class Change:
    """A request that has changed something."""

    what: str  # publish, stage, approve, reject, tag, untag, deprecate
    name: str
    version: str = ""
    tag: str = ""
    stage: str = ""
    by: str = "ci"  # the account, or "somebody else"


@dataclass
class Staged:
    """A version that waits for approval."""

    id: str
    name: str
    version: str
    tag: str
    document: dict[str, Any]
    by: str
    number: int


#: package -> (its versions, its tags), at one moment
Snapshot = Mapping[str, tuple[frozenset[str], Mapping[str, str]]]


@dataclass
class State:
    """All of it. Every method is atomic."""

    address: str = ""
    packages: dict[str, Packument] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)  # path of a tarball -> the tarball
    stages: dict[str, Staged] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=lambda: {TOKEN: Account()})
    otps: dict[str, int | None] = field(default_factory=lambda: {OTP: None})  # password -> how often it is taken yet
    changes: list[Change] = field(default_factory=list)
    has_stages: bool = True
    has_placeholders: bool = False  # a new package that is staged is published as 0.0.0-stage, as the public one does
    loses_tags: bool = False  # takes versions without their tags
    keeps_tags: bool = False  # and lets no caller set one
    #: whether an ID token gives a token for a package; None: there is no such exchange
    trusts: Callable[[str, str], bool] | None = None
    exchanged_for: int | None = None  # for how many requests a token is good that is given for an ID token
    exchanged_says: dict[str, Any] = field(default_factory=dict)  # what is said beside such a token
    private: bool = False  # nothing can be read without a token
    refuses: set[str] = field(default_factory=set)  # packages of which no upload is taken
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._snapshot: Snapshot = MappingProxyType({})
        self._before: dict[str, tuple[int, Packument | None]] = {}  # package -> reads that still see what was there

    @property
    def snapshot(self) -> Snapshot:
        """What there is at this moment, for those who look often: it costs nothing, and is consistent in itself."""
        return self._snapshot

    def count(self, what: str) -> dict[tuple[str, str], int]:
        """Return how often something was done with each (package, version)."""
        counts: dict[tuple[str, str], int] = {}
        with self.lock:
            for change in self.changes:
                if change.what == what:
                    counts[change.name, change.version] = counts.get((change.name, change.version), 0) + 1
        return counts

    # -- reading

    def seen(self, name: str) -> Packument | None:
        """Return what a reader sees of a package, which may lag."""
        with self.lock:
            left, before = self._before.get(name, (0, None))
            if left > 0:
                self._before[name] = (left - 1, before)
                return before
            return self.packages.get(name)

    def have(self, name: str, version: str, **manifest: Any) -> None:
        """Have this version of a package, the latest, as if somebody had published it before."""
        with self.lock:
            dist = {"integrity": "sha512-before", "tarball": f"{self.address}{name}/-/{version}.tgz"}
            described = {"name": name, "version": version, "dist": dist, **manifest}
            package = self._copied(name)
            package["versions"][version] = described
            package["dist-tags"]["latest"] = version
            self._changed(None)

    # -- changing

    def account(self, authorization: str | None) -> Account:
        """Return whose token this is. Raises `Refused`."""
        account = self.accounts.get((authorization or "").removeprefix("Bearer "))
        if account is None:
            raise Refused(401, "who are you?")
        with self.lock:
            if account.left == 0:
                raise Refused(401, "Access token expired or revoked")
            if account.left is not None:
                account.left -= 1
        return account

    def exchange(self, id_token: str, package: str) -> str:
        """Give a token for one package, for an ID token. Raises `Refused`."""
        if self.trusts is None:
            raise Refused(404, "no such address")
        if not self.trusts(id_token, package):
            raise Refused(401, "OIDC token exchange error - invalid token")
        with self.lock:
            token = f"npm_exchanged{len(self.accounts)}"
            self.accounts[token] = Account(name="trusted", package=package, left=self.exchanged_for)
            return token

    def check_otp(self, otp: str | None) -> None:
        """Take a one-time password. Raises `Refused`."""
        with self.lock:
            left = self.otps.get(otp or "", 0)
            if left == 0:
                raise wants_otp()
            if left is not None and otp is not None:
                self.otps[otp] = left - 1

    def publish(self, name: str, document: dict[str, Any], by: Account, lag: int, *, keep_tag: bool = True) -> None:
        """Take an upload. Raises `Refused`."""
        if by.package not in ("", name):
            raise Refused(403, "This token is for another package")
        if not by.may_publish:
            raise Refused(403, "This token may only stage: use npm stage publish")
        if name in self.refuses:
            raise Refused(403, "not this one")
        with self.lock:
            version, tag = _checked(name, document)
            self._check_free(name, version)
            before = self._take(name, document, tag, keep_tag)
            self._changed(Change("publish", name, version, tag, by=by.name), before, lag)

    def stage(self, name: str, document: dict[str, Any], by: Account) -> Staged:
        """Take an upload that waits. Raises `Refused`."""
        if name in self.refuses:
            raise Refused(403, "not this one")
        with self.lock:
            version, tag = _checked(name, document)
            self._check_free(name, version)
            if self.has_placeholders and name not in self.packages:
                self.have(name, "0.0.0-stage")
            staged = Staged(str(uuid.uuid4()), name, version, tag, document, by.name, len(self.changes))
            self.stages[staged.id] = staged
            self._changed(Change("stage", name, version, tag, staged.id, by.name))
            return staged

    def staged(self, stage_id: str) -> Staged:
        """Return what waits. Raises `Refused`."""
        with self.lock:
            if stage_id not in self.stages:
                raise Refused(404, "Stage not found")
            return self.stages[stage_id]

    def approve(self, stage_id: str, by: str, lag: int, *, keep_tag: bool = True) -> None:
        """Publish what waits. Raises `Refused`."""
        with self.lock:
            staged = self.staged(stage_id)
            before = self._take(staged.name, staged.document, staged.tag, keep_tag)
            del self.stages[stage_id]
            self._changed(Change("approve", staged.name, staged.version, staged.tag, stage_id, by), before, lag)

    def reject(self, stage_id: str, by: str) -> None:
        """Delete what waits. Raises `Refused`."""
        with self.lock:
            staged = self.staged(stage_id)
            del self.stages[stage_id]
            self._changed(Change("reject", staged.name, staged.version, staged.tag, stage_id, by))

    def set_tag(self, name: str, tag: str, version: str, by: str, lag: int) -> None:
        """Let a tag lead to a version. Raises `Refused`."""
        with self.lock:
            if self.keeps_tags:
                raise Refused(403, "the tags stay")
            before = self._there(name)
            if version not in before["versions"]:
                raise Refused(404, f"version not found: {version}")
            self._copied(name)["dist-tags"][tag] = version
            self._changed(Change("tag", name, version, tag, by=by), before, lag)

    def remove_tag(self, name: str, tag: str, by: str, lag: int) -> None:
        """Remove a tag. Raises `Refused`."""
        with self.lock:
            if self.keeps_tags:
                raise Refused(403, "the tags stay")
            before = self._there(name)
            if tag not in before["dist-tags"]:
                raise Refused(404, f"tag not found: {tag}")
            version = self._copied(name)["dist-tags"].pop(tag)
            self._changed(Change("untag", name, version, tag, by=by), before, lag)

    def change(self, name: str, document: dict[str, Any], by: str, lag: int) -> None:
        """Take a whole document in which nothing but the deprecation of versions may differ. Raises `Refused`."""
        with self.lock:
            before = self._there(name)
            if document["versions"].keys() != before["versions"].keys():
                raise Refused(400, "versions can't be added or removed like this")
            package = self._copied(name)
            for version, described in document["versions"].items():
                message = described.get("deprecated", "")
                if message == package["versions"][version].get("deprecated", ""):
                    continue
                package["versions"][version]["deprecated"] = message
                self._changed(Change("deprecate", name, version, by=by), before, lag)

    def _there(self, name: str) -> Packument:
        if name not in self.packages:
            raise Refused(404, "document not found")
        return self.packages[name]

    def _copied(self, name: str) -> Packument:
        """Return a copy of a package, to be changed, which takes its place: readers may still have the other."""
        there = self.packages.get(name)
        new: Packument = {"_id": name, "name": name, "versions": {}, "dist-tags": {}, "time": {}}
        self.packages[name] = copy.deepcopy(there) if there is not None else new
        return self.packages[name]

    def _check_free(self, name: str, version: str) -> None:
        """Refuse a version that is there or staged, in the public registry's words."""
        if version in self.packages.get(name, {}).get("versions", {}):
            raise Refused(403, f"You cannot publish over the previously published versions: {version}.")
        if any((staged.name, staged.version) == (name, version) for staged in self.stages.values()):
            raise Refused(409, f'Cannot publish over previously staged version "{version}".')

    def _take(self, name: str, document: dict[str, Any], tag: str, keep_tag: bool) -> Packument | None:
        """Add the version of a document. Return what was there before."""
        before = self.packages.get(name)
        ((version, manifest),) = document["versions"].items()
        package = self._copied(name)
        data = base64.b64decode(document["_attachments"][f"{name}-{version}.tgz"]["data"])
        path = f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self.contents[path] = data
        package["versions"][version] = {**manifest, "dist": {**manifest["dist"], "tarball": f"{self.address}{path}"}}
        package["time"][version] = f"2026-11-29T08:00:{len(self.changes) % 60:02}.000Z"
        if keep_tag and not self.loses_tags:
            package["dist-tags"][tag] = version
        if "latest" not in package["dist-tags"] and not self.loses_tags:
            package["dist-tags"]["latest"] = version  # as the public registry does with the first version
        return before

    def _changed(self, change: Change | None, before: Packument | None = None, lag: int = 0) -> None:
        if change is not None:
            self.changes.append(change)
            if lag:
                self._before[change.name] = (lag, before)
        self._snapshot = MappingProxyType(
            {
                name: (frozenset(package["versions"]), MappingProxyType(dict(package["dist-tags"])))
                for name, package in self.packages.items()
            }
        )


def _checked(name: str, document: dict[str, Any]) -> tuple[str, str]:
    """Return version and tag of an upload. Raises `Refused` if it isn't one that a registry takes."""
    if document.get("name") != name or document.get("_id") != name:
        raise Refused(400, "the name isn't the address's")
    ((version, manifest),) = document["versions"].items()
    ((tag, tagged),) = document["dist-tags"].items()
    attachment = document["_attachments"].get(f"{name}-{version}.tgz")
    if attachment is None or tagged != version or (manifest["name"], manifest["version"]) != (name, version):
        raise Refused(400, "the document isn't consistent")
    data = base64.b64decode(attachment["data"], validate=True)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    shasum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    dist = manifest["dist"]
    if (attachment["length"], dist["integrity"], dist["shasum"]) != (len(data), integrity, shasum):
        raise Refused(400, "the tarball isn't what the document says of it")
    return version, tag


def names_in(tarball: bytes) -> list[str]:
    """Return the names of a tarball's members."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as tar:
        return tar.getnames()
