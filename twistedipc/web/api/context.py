"""
What the routes work with, as one frozen value that the composition root fills in; and the seams that ``web`` needs
beside those of `server.boundaries`. ``web.api``; no logic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from twistedipc.builds.places import Place
from twistedipc.publish.compared import Compared
from twistedipc.publish.targets.differences import Difference
from twistedipc.publish.targets.target import DiskUse
from twistedipc.server.boundaries import (
    BuildRequests,
    Diagnoses,
    Dispatch,
    HookRequests,
    InThread,
    KnownBuilders,
    Logs,
    Looks,
    PackageRequests,
    RandomBytes,
    Retention,
    Searches,
)
from twistedipc.storage.apiservers import ApiserverRow
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.id_tokens import Issuer
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor, PublicationRow, ReleaseRow
from twistedipc.storage.secrets import SecretBox
from twistedipc.storage.signing import PublicKey
from twistedipc.storage.standing import Standing
from twistedipc.web.access.audience import Audience
from twistedipc.web.access.auth import Tickets
from twistedipc.web.access.domains import Domains
from twistedipc.web.access.guests import Guests
from twistedipc.web.access.held import Holding
from twistedipc.web.access.provider import Provider
from twistedipc.web.access.visits import Visits
from twistedipc.web.api.mcp.at_once import CallsAtOnce
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.logs.stream import Pace


class UploadTarget(Protocol):
    """What an upload's token allows: one archive of one attempt, or one package of it."""

    @property
    def attempt(self) -> str:
        """The attempt's name."""

    @property
    def upload(self) -> str:
        """The upload's name in the artifact store."""

    @property
    def size(self) -> int:
        """The archive's bytes."""

    @property
    def sha256(self) -> str:
        """The archive's digest."""

    @property
    def target(self) -> str:
        """For which the package was packed; "": it is the archive."""

    @property
    def position(self) -> int:
        """The package's, in the permit for the target."""

    @property
    def integrity(self) -> str:
        """The package's SHA-512, as its permit has it; "" of an archive."""


class Uploads(Protocol):
    """The grants to upload. Implemented by `server.uploads.UploadGrants`."""

    def grant_for(self, attempt: str, token: str) -> UploadTarget | None:
        """Return what ``token`` allows for ``attempt``; None if nothing."""

    def revoke(self, attempt: str) -> None:
        """Make the upload's token void: the upload is over."""


class ReleaseSwitch(Protocol):
    """Makes releases live. Implemented by `server.releasing.Releasing`."""

    def switched(self, builds: Iterable[int]) -> Deferred[None]:
        """
        Fires when the releases of those of these builds that have ended are served, if they are to be; mostly at once.
        """

    def activate(self, project: str, release: int, *, by: Actor) -> Awaitable[tuple[ReleaseRow, Standing]]:
        """
        Make the release live for ``by``, with its record in the audit. Return it, and what decides about the project's
        releases from then on. Raises `NoSuchRelease`, `NotProtected`, `LedgerUnavailable`.
        """

    def has(self, release: ReleaseRow) -> Awaitable[bool]:
        """Return whether the release's files are there."""

    def resume(self, project: str, *, by: Actor) -> Awaitable[tuple[bool, list[ReleaseRow]]]:
        """
        Let the project's releases go live by themselves again, for ``by``, with its record in the audit. Return
        whether they were held, and the releases that have gone live now. Raises `NotFound`, `LedgerUnavailable`.
        """

    def stored(self, project: str, sha256: str) -> Path | None:
        """Return the file with a content that a release of the project has, by its SHA-256; None if none has it."""

    def compare(self, before: ReleaseRow | None, after: ReleaseRow, most: int) -> Awaitable[Difference]:
        """
        Return what a release has other than an older one of its target, or than none, with up to ``most`` files. Raises
        `NoSuchRelease`.
        """

    def disk_use(self, project: str) -> Awaitable[DiskUse | None]:
        """Return what the project's releases take of the disk; None if that can't be said."""

    def delete_project(self, project: str, delete: Callable[[Connection], bool]) -> Awaitable[bool]:
        """Delete a project by ``delete``, and its releases. Raises what ``delete`` does, and `LedgerUnavailable`."""


class PackageComparison(Protocol):
    """Compares stored packages with what is published. Implemented by `server.comparing.Comparing`."""

    async def compare(self, project: str, packages: Sequence[PublicationRow]) -> list[Compared]:
        """Return what these packages of one attempt, for one target, would change. Raises `LedgerUnavailable`."""


@dataclass(frozen=True, kw_only=True)
class Joining:
    """How a builder elsewhere can meet this apiserver: endpoints of its own configuration."""

    dial: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()


class WebSocketRoutes(Protocol):
    """
    The WebSockets, as resources that take over the connection. A resource is rendered only when the caller is known,
    the Origin was checked, and the build is one that the caller may see.
    """

    def stream_resource(self, holding: Holding, *, compress: bool) -> IResource:
        """
        Return the resource of one WebSocket with many subscriptions, to what the token of ``holding`` may see.
        ``compress``: long messages are to be deflated.
        """

    def log_resource(self, build: int, attempt: int, after: int, holding: Holding, *, compress: bool) -> IResource:
        """Return the resource of one log, from behind record ``after``. ``compress``: see `stream_resource`."""


async def _nowhere(duty: str) -> ApiserverRow | None:
    """Return that there is no other apiserver."""
    return None


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """Everything that the API works with."""

    clock: IReactorTime
    now: Callable[[], int]  # milliseconds since the epoch
    random: RandomBytes
    in_thread: InThread
    ledger: Ledger
    dispatch: Dispatch
    requests: BuildRequests
    comparing: PackageComparison
    packages: PackageRequests
    retention: Retention
    hooking: HookRequests
    looks: Looks
    logs: Logs
    searches: Searches
    diagnoses: Diagnoses
    secret_box: SecretBox
    public_key: PublicKey  # by which what the apiserver signs is checked
    issuer: Issuer  # of ID tokens, which other services check
    releasing: ReleaseSwitch
    artifact_store: ArtifactStore
    uploads: Uploads
    builders: KnownBuilders
    tell: Callable[[], None]  # wakes what tells others: there is something new in the outbox
    websockets: WebSocketRoutes
    tickets: Tickets
    visits: Visits
    guests: Guests
    audience: Audience
    domains: Domains
    version: str
    release_url: Callable[[str], str]  # project -> where its live release is served
    log_pace: Pace = field(default_factory=Pace)
    downloading: DeferredLock = field(default_factory=DeferredLock)  # one archive is put together at a time
    mcp_calls: CallsAtOnce = field(default_factory=CallsAtOnce)
    draining: Callable[[], bool] = lambda: False  # the service is about to stop
    allowed_origins: frozenset[str] = frozenset()  # beside the API's own: "https://console.example.org"
    local_repositories: bool = False
    elsewhere: Callable[[str], bool] = lambda repository: True  # whether it may be at no machine's own address
    look_up: Callable[[str], Deferred[list[Place]]] = lambda host: succeed([])  # where a host is
    secure_cookies: bool = False  # browsers reach the API by https only
    hosts: Hosts = field(default_factory=Hosts)  # which are the API's, and so can have sessions
    api_url: str = ""  # where browsers find the page
    provider: Provider | None = None  # that signs people in, beside tokens
    joining: Joining = field(default_factory=Joining)  # for new builders
    proxies: Proxies = field(default_factory=Proxies)  # that are trusted to name the client
    may_add_domain: Callable[[str], bool] = lambda name: False  # whether an admin of any project may add this one
    certificate_ends: Callable[[str], datetime | None] = lambda name: None  # of the one for a host; None: there is none
    # The other apiserver that has a duty (`server.shared_duties`); None: it is this one's, or nobody's.
    does_elsewhere: Callable[[str], Awaitable[ApiserverRow | None]] = _nowhere
    publishing: Mapping[str, str] = field(default_factory=dict)  # the variables of the step that publishes here
