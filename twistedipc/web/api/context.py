"""
What the routes work with, as one frozen value that the composition root fills in, and the seams that ``web`` needs
beside those of `server.boundaries`: Protocols without logic. ``web`` layer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.server.boundaries import BuildRequests, Dispatch, InThread, Logs
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import Actor, ReleaseRow
from twistedipc.storage.secrets import SecretBox
from twistedipc.web.access.auth import Tickets
from twistedipc.web.access.held import Holding
from twistedipc.web.http.channel import RandomBytes
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts


class UploadTarget(Protocol):
    """What an upload token allows: one archive of one attempt."""

    @property
    def attempt(self) -> str:
        """The attempt's name."""

    @property
    def size(self) -> int:
        """The archive's bytes."""

    @property
    def sha256(self) -> str:
        """The archive's digest."""


class Uploads(Protocol):
    """The grants to upload. Implemented by `server.uploads.UploadGrants`."""

    def grant_for(self, attempt: str, token: str) -> UploadTarget | None:
        """What ``token`` allows for ``attempt``; None if nothing."""

    def revoke(self, attempt: str) -> None:
        """The upload is over: its token is void."""


class ReleaseSwitch(Protocol):
    """Makes a release the live one, and no release any. Implemented by `server.releasing.Releasing`."""

    def switched(self, builds: Iterable[int]) -> Deferred[None]:
        """Fires when each of these builds that has ended by now is served, if it is to be. At once, mostly."""

    def activate(self, project: str, release: int, *, by: Actor, any_ref: bool) -> Awaitable[ReleaseRow]:
        """
        ``by`` makes the release live, with its record in the audit. ``any_ref``: they may, though it is of another ref
        than the project's. Raises `NoSuchRelease`, `NotOwnRef`, `LedgerUnavailable`.
        """

    def resume(self, project: str, *, by: Actor) -> Awaitable[tuple[bool, ReleaseRow | None]]:
        """
        ``by`` lets the project's releases go live by themselves again, with its record in the audit. Whether they were
        held, and the release that is live by this. Raises `NotFound`, `LedgerUnavailable`.
        """

    def delete_project(self, project: str, delete: Callable[[Connection], bool]) -> Awaitable[bool]:
        """Delete a project by ``delete``, and its releases. Raises what ``delete`` does, and `LedgerUnavailable`."""


class WebSocketRoutes(Protocol):
    """
    The WebSockets. Their resources are rendered only after the caller was authenticated, the Origin checked and the
    build found to be the caller's; they take the connection over.
    """

    def stream_resource(self, holding: Holding, *, compress: bool) -> IResource:
        """
        One WebSocket with many subscriptions; the token of ``holding`` bounds what can be subscribed to. ``compress``:
        its client wants what is long deflated.
        """

    def log_resource(self, build: int, attempt: int, after: int, holding: Holding, *, compress: bool) -> IResource:
        """One log, from behind record ``after``. ``compress``: as above."""


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """Everything that the API stands on."""

    clock: IReactorTime
    now: Callable[[], int]  # milliseconds since the epoch
    random: RandomBytes
    in_thread: InThread
    ledger: Ledger
    dispatch: Dispatch
    requests: BuildRequests
    logs: Logs
    secret_box: SecretBox
    releasing: ReleaseSwitch
    release_store: ReleaseStore
    artifact_store: ArtifactStore
    uploads: Uploads
    websockets: WebSocketRoutes
    tickets: Tickets
    version: str
    release_url: Callable[[str], str]  # project -> where its live release is served
    draining: Callable[[], bool] = lambda: False  # the service is about to stop
    allowed_origins: frozenset[str] = frozenset()  # beside the API's own: "https://console.example.org"
    local_repositories: bool = False
    secure_cookies: bool = False  # True where browsers reach it by https only
    hosts: Hosts = field(default_factory=Hosts)  # where there can be sessions
    api_url: str = ""  # where browsers find the page
    proxies: Proxies = field(default_factory=Proxies)  # whose word on the client is taken
