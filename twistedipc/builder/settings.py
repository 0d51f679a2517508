"""
The operator's settings of a builder, and the specs of its runners that follow from them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.cgroup import Parents
from twistedipc.attempts.mirrors import mirror_name
from twistedipc.builds.attempt import ResourceLimits, Spec, ToolSettings
from twistedipc.builds.egress import Network
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.messages import Offer
from twistedipc.builds.names import HEAD
from twistedipc.builds.remotes import Remote
from twistedipc.builds.settings import BuildSettings
from twistedipc.caches.store import folder_of
from twistedipc.caches.tidying import Limits
from twistedipc.isolation.probe import Wanted

#: Seconds for which an upload is tried whose address doesn't answer as the apiserver does.
UPLOAD_LIMIT = 600.0

#: Seconds for which a mirror stays that nothing uses.
MIRRORS_KEPT = 90 * 86400.0

_NO_GROUPS = Parents()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator has set for all attempts of this builder."""

    data: Path
    path: str  # PATH of the steps
    environment: dict[str, str]
    timeout: float  # the most that an attempt is granted, in seconds
    idle_timeout: float
    grace: float
    registry: str = ""  # see `ToolSettings`, also for what follows
    node: str = ""
    forbid: list[str] = []
    offline: bool = False
    publint: bool = False
    userconfig: str = ""
    upload: float = UPLOAD_LIMIT  # seconds for which an upload is tried that can't get through
    allow_plain_http: bool = False  # whether archives are uploaded by http beyond this machine
    mirrors_kept: float = MIRRORS_KEPT  # seconds for which a mirror stays that nothing uses
    reserve: int | None = 0  # bytes of the disk that builds leave free; None is `room.default_reserve`
    limits: ResourceLimits = ResourceLimits()  # what an attempt may use
    isolation: str = "none"  # what is to isolate builds: see `isolation.probe.Wanted`, also for what follows
    readable: list[str] = []
    hidden: list[str] = []
    network: Network = Network()  # what all builds may reach, and what none does
    caches: Limits | None = None  # of what builds keep for the next ones; None: nothing is kept

    @property
    def attempts(self) -> Path:
        """The folder of the attempts' folders."""
        return self.data / "attempts"

    @property
    def tools(self) -> ToolSettings:
        """How builds get Node and package managers."""
        return ToolSettings(
            folder=str(self.data / "toolchains"),
            registry=self.registry,
            node=self.node,
            forbid=self.forbid,
            offline=self.offline,
            publint=self.publint,
            userconfig=self.userconfig,
        )

    @property
    def wanted(self) -> Wanted:
        """What the operator wants of isolation."""
        return Wanted(
            kind=self.isolation,
            path=self.path,
            environment=self.environment,
            data=str(self.data),
            readable=self.readable,
            hidden=self.hidden,
        )

    @property
    def doorbell(self) -> Path:
        """The path of the socket on which runners ring."""
        return self.data / "doorbell"

    @property
    def remotes(self) -> Path:
        """The folder of what is needed while repositories' hosts are asked."""
        return self.data / "remotes"

    @property
    def kept(self) -> Path:
        """The folder of the projects' caches."""
        return self.data / "caches"

    def mirror(self, repository: str) -> Path:
        """The folder of a repository's bare mirror."""
        return self.data / "mirrors" / mirror_name(repository)

    def caches_of(self, project: str, repository: str, cleared: int = 0) -> Path:
        """
        The folder of a project's caches. Another repository under the same name gets another folder; so do the builds
        after the project's caches were ``cleared`` once more: one that runs meanwhile keeps nothing for them.
        """
        return self.kept / folder_of(f"{project}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}", cleared)


def spec_of(
    offer: Offer,
    settings: Settings,
    *,
    reserve: int,
    cgroups: Parents = _NO_GROUPS,
    isolation: Isolation = NOT_ISOLATED,
    apiserver: str = "",
) -> Spec:
    """
    Return the runner's spec, from what the apiserver offered and what the operator allows.

    :param reserve: bytes of the disk that the build leaves free
    :param cgroups: where the runner may make control groups
    :param isolation: what keeps its steps from reaching more than their own
    :param apiserver: the API's address, which no step reaches
    """
    return Spec(
        attempt=offer.attempt,
        lease=offer.lease,
        build=offer.build,
        project=offer.project,
        repository=offer.repository,
        ref=offer.ref,
        commit=offer.commit,
        stranger=offer.stranger,
        publish=offer.publish,
        targets=offer.targets,
        site=offer.site,
        settings=offer.settings,
        parameters=offer.parameters,
        environment=settings.environment,
        variables=offer.environment,
        context=offer.context,
        environment_name=offer.environment_name,
        refs=offer.refs,
        url=offer.url,
        registries=offer.registries,
        protected=offer.protected,
        versioning=offer.versioning,
        asks=offer.asks,
        contents=offer.contents,
        elsewhere=offer.elsewhere,
        head=offer.head,
        path=settings.path,
        mirror=str(settings.mirror(offer.repository)),
        caches="" if settings.caches is None or offer.stranger else str(_caches_of(offer, settings)),
        caches_kept=offer.caches_kept,
        tools=settings.tools,
        doorbell="../../doorbell",
        cgroups=cgroups.v2,
        cgroups_v1=cgroups.v1,
        limits=settings.limits,
        timeout=min(offer.timeout, settings.timeout),
        idle_timeout=min(offer.idle_timeout, settings.idle_timeout),
        grace=settings.grace,
        reserve=reserve,
        isolation=isolation,
        network=replace(settings.network, ours=[*settings.network.ours, *_place_of(apiserver)], used=offer.used),
    )


def spec_of_remote(
    remote: Remote, settings: Settings, *, isolation: Isolation = NOT_ISOLATED, apiserver: str = ""
) -> Spec:
    """
    Return the spec of an attempt that would check a repository out, for asking its host without one. See `spec_of`.
    """
    return Spec(
        attempt="0-0",
        lease="",
        build=0,
        project=remote.project,
        repository=remote.repository,
        elsewhere=remote.elsewhere,
        ref=HEAD,
        settings=BuildSettings(hosts=remote.hosts),
        environment=settings.environment,
        path=settings.path,
        mirror=str(settings.mirror(remote.repository)),
        tools=settings.tools,
        doorbell="",
        isolation=isolation,
        network=replace(settings.network, ours=[*settings.network.ours, *_place_of(apiserver)]),
    )


def _caches_of(offer: Offer, settings: Settings) -> Path:
    return settings.caches_of(offer.project, offer.repository, offer.caches)


def _place_of(url: str) -> list[tuple[str, int]]:
    """Return host and port of an address."""
    parts = urlsplit(url)
    return [(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))] if parts.hostname else []
