"""``twistd apiserver``: its options and its composition."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar, cast

from twisted.application.internet import TimerService
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorCore, IReactorFromThreads, IReactorThreads
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.client import Agent

from twistedipc import __version__
from twistedipc.attempts.addresses import look_up
from twistedipc.builds.places import Place
from twistedipc.ipc import BadKey, LinkReactor, read_named_key
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.target import Static
from twistedipc.s3.bucket import CONNECTIONS, Bucket
from twistedipc.server.bell import Wire
from twistedipc.server.builder_link import VOCABULARY
from twistedipc.server.compose import Outside, ServerSettings, compose
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.errors import LedgerUnreachable
from twistedipc.storage.file_locks import FileLocks
from twistedipc.storage.guard import FolderLock
from twistedipc.storage.id_tokens import Issuer
from twistedipc.storage.ledger import Ledger, LedgerUnavailable, LedgerUnusable
from twistedipc.storage.log_archive import Kind, LogArchive
from twistedipc.storage.log_objects import LogObjects
from twistedipc.storage.rings import Topic
from twistedipc.storage.secrets import SecretBox
from twistedipc.storage.signing import SigningKey
from twistedipc.taps.asking import AskProcesses
from twistedipc.taps.audit_file import AuditFile
from twistedipc.taps.certificates import BadCertificate, Certificates, Pair
from twistedipc.taps.common import (
    ConfigOptions,
    end_with_error,
    installed_reactor,
    links,
    listen_at,
    now,
    start_or_exit,
)
from twistedipc.taps.compose import web_context
from twistedipc.taps.config import ApiserverConfig, ConfigError, load_apiserver
from twistedipc.taps.from_store import PublishProcesses, PublishReactor, environment_of
from twistedipc.taps.hangup import Hangups
from twistedipc.taps.identity import identity_of
from twistedipc.taps.joining import joining
from twistedipc.taps.mail import SmtpMail
from twistedipc.web.access.audience import Audience
from twistedipc.web.access.domains import Domains
from twistedipc.web.access.provider import Provider
from twistedipc.web.api.sign_in import CALLBACK
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.elsewhere import agent_for_elsewhere
from twistedipc.web.http.outgoing import SECONDS, AgentOutgoing
from twistedipc.web.live.sockets import WebSockets
from twistedipc.web.releases.gate import Gate
from twistedipc.web.releases.site import releases_site
from twistedipc.web.releases.unencrypted import Unencrypted
from twistedipc.web.site import api_site

_T = TypeVar("_T")

#: Threads for work on files: unpacking releases, checking archives.
FILE_THREADS = 4

#: All threads that work for the reactor: each search uses two at once if it is alone; those for S3 mostly wait.
_THREADS: Final = {"files": FILE_THREADS, "search": 2, "s3": CONNECTIONS}

#: Where sealed logs go, by ``logs.archive``.
_SEALED_TO: Final = {"database": None, "files": Kind.FILES, "s3": Kind.OBJECTS}

#: Seconds until a start that the database didn't allow is tried again.
START_INTERVAL = 1.0

#: Seconds for which a start waits for a database of which there is nothing at its address: a server that is just being
#: started as well, with its machine say. After that it is more likely that the address is wrong.
START_PATIENCE = 30.0

#: Seconds until the domains, and for whom releases are, are read again: the answer to a change of them may be lost.
REFRESH = 60.0


class Options(ConfigOptions):
    """The options of ``twistd apiserver``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "The API service: authentication, validation, the ledger, the queue, the page, live logs by WebSocket, and "
        "the site of the releases. Builds run in `twistd buildipc`, here or elsewhere. Use twistd's own -n to stay "
        "in the foreground and --pidfile= when a builder runs from the same folder."
    )
    parameters: ApiserverConfig

    def postOptions(self) -> None:
        """Check the configuration file before anything starts."""
        self.parameters = self.read(load_apiserver)


class ApiReactor(LinkReactor, IReactorCore, IReactorThreads, IReactorFromThreads):
    """The reactor, as the API service uses it."""


class ApiService(MultiService):
    """The API service. Its children are the links to builders; they start once the ledger is open."""

    _log = Logger()

    def __init__(self, reactor: ApiReactor, config: ApiserverConfig) -> None:
        super().__init__()
        self._reactor = reactor
        self._hangups = Hangups(reactor)
        self._config = config
        self._threads = {name: ThreadPool(0, most, name) for name, most in _THREADS.items()}
        self._draining = False
        self._starting: Deferred[None] | None = None
        self._ports: list[IListeningPort] = []
        for folder in (config.data, config.files):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = identity_of(config)
        self._ledger = Ledger(reactor, config.database_url, now=now, lost=self._has_lost, identity=identity)
        self._folder_lock = FolderLock(config.data)
        static = ReleaseStore(config.files / Static.folder, now=now, assets_days=config.releases.assets_days)
        self._domains = Domains(config.hosts, config.release_urls)
        certificates = self._certificates_of(config)
        bucket = config.s3()
        kept = {**TARGETS.releases(config.files), Static.name: static}
        self._server = server = compose(
            Outside(
                clock=reactor,
                now=now,
                spent=time.thread_time,
                random=os.urandom,
                in_thread=self._in_thread,
                search_in_thread=self._search_in_thread,
                ledger=self._ledger,
                artifact_store=ArtifactStore(config.artifacts),
                log_archive=LogArchive(config.log_archive),
                log_objects=None if bucket is None else LogObjects(Bucket(bucket)),
                objects_in_thread=self._ask_s3,
                releases=kept,
                secret_box=SecretBox(config.secret_key),
                signing_key=SigningKey(config.signing_key),
                issuer=Issuer(config.id_token_key, config.api_url, now=time.time),
                program=PublishProcesses(
                    cast(PublishReactor, reactor), config.data / "publishing", [config.data, config.files], os.environ
                ),
                ask_program=AskProcesses(cast(PublishReactor, reactor), os.environ),
                requests=AgentOutgoing(agent_for_elsewhere(reactor, self._look_up, config.elsewhere), reactor),
                mail=SmtpMail(reactor, config.mail_server()),
                wire=_wire(reactor, config),
                elsewhere=self._ledger.listeners,
                file_locks=None if identity is None else FileLocks(config.files / "locks", identity.name),
                here=lambda: self._ledger.incarnation,
                cut_off=self._ledger.cut_off,
            ),
            ServerSettings(
                uploads_url=config.api_url,
                release_url=self._domains.url_of,
                lost_after=config.link.lost_after,
                elsewhere=config.elsewhere,
                share=config.viewers.share,
                seal_to=_SEALED_TO[config.logs.archive],
                move_sealed=config.logs.move,
                sealing_share=config.logs.share,
                retention=config.rules,
            ),
        )
        if server.outside.wire is not None:
            self._ledger.ring_by(server.bell)
        self._websockets = WebSockets(reactor, now, self._ledger, server.logs, server.feed, server.gists)
        context = web_context(
            server,
            websockets=self._websockets,
            version=__version__,
            domains=self._domains,
            draining=lambda: self._draining,
            allowed_origins=frozenset(config.http.allowed_origins),
            local_repositories=config.http.local_repositories,
            elsewhere=config.elsewhere,
            look_up=self._look_up,
            secure_cookies=config.http.secure_cookies,
            api_url=config.api_url,
            proxies=Proxies(config.http.trusted_proxies),
        )
        publishing = environment_of(os.environ)
        context = replace(
            context,
            joining=joining(config),
            provider=self._provider(),
            publishing=publishing,
            may_add_domain=config.domains.may_add,
            certificate_ends=(lambda name: None) if certificates is None else certificates.ends,
        )
        self._api_site = api_site(context)
        server.hearing.on_change(self._api_site.refresh)
        server.hearing.on_change(lambda: self._in_thread(static.drop_removed))
        releases = releases_site(
            static,
            reactor,
            os.urandom,
            domains=self._domains,
            proxies=context.proxies,
            audience=context.audience,
            gate=Gate(context.visits, context.guests, config.api_url, self._domains.urls_of),
            unencrypted=Unencrypted(config.https_port, config.releases.acme_webroot),
        )
        self._listening: list[Callable[[], Awaitable[None]]] = [
            partial(listen_at, reactor, endpoints, site, self._ports, self._log, certificates)
            for endpoints, site in (([config.http.listen], self._api_site), (config.releases.endpoints, releases))
        ]
        # Not `_refresh`, which doesn't say that the ledger couldn't be asked: a change is heard once it was read again.
        server.hearing.on_change(partial(self._domains.load, self._ledger))
        server.hearing.on_change(context.audience.read_again)
        refreshing = TimerService(REFRESH, lambda: Deferred.fromCoroutine(self._refresh(context.audience)))
        refreshing.clock = reactor
        refreshing.setServiceParent(self)
        # Another apiserver has changed one; this one has said so itself.
        server.bell.listen(Topic.PROJECT, lambda hint: Deferred.fromCoroutine(self._refresh(context.audience)))
        if config.audit.file is not None:
            copied = config.data / "audit.position"
            copying = AuditFile(reactor, now, self._ledger, self._in_thread, config.audit.file, copied)
            copying.setServiceParent(self)
        for link in links(
            reactor,
            config.link,
            name=config.link.name or ("apiserver" if identity is None else identity.link),
            role="apiserver",
            peer_role="builder",
            vocabulary=VOCABULARY,
            application=server.builders.application,
            refuse=server.builders.refuse,
            keys=server.keys.keys,
        ):
            link.setServiceParent(self)

    async def _refresh(self, audience: Audience) -> None:
        await self._domains.refresh(self._ledger)
        await audience.refresh()

    def _certificates_of(self, config: ApiserverConfig) -> Certificates | None:
        if not config.tls_endpoints:
            return None
        pairs = [Pair(files.chain, files.key) for files in config.certificates]
        try:
            certificates = Certificates(self._reactor, self._in_thread, pairs, now)
        except BadCertificate as error:
            raise ConfigError(f"certificates: {error}") from error
        certificates.setServiceParent(self)
        self._hangups.listen(certificates.look)
        return certificates

    def _provider(self) -> Provider | None:
        """Return who signs people in, if the configuration names somebody."""
        settings = self._config.provider()
        if settings is None:
            return None
        outgoing = AgentOutgoing(Agent(self._reactor, connectTimeout=SECONDS), self._reactor)
        return Provider(settings, outgoing, now, f"{self._config.api_url}{CALLBACK}")

    def startService(self) -> None:
        """Open the ledger, then everything else."""
        self._hangups.startService()  # not as a child: those start once the database is there
        for threads in self._threads.values():
            threads.start()
        self._starting = Deferred.fromCoroutine(self._start())
        start_or_exit(self._reactor, self._starting, self._log, "twistd apiserver")

    async def _start(self) -> None:
        if self._config.database_url.get_backend_name() != "sqlite":
            # First: by that a start knows that an apiserver of the same name and folder has ended.
            await self._in_thread(self._folder_lock.acquire)
        await self._patiently(self._ledger.open)
        await self._in_thread(self._folder_lock.acquire)
        for step in (
            self._server.hearing.begin,
            self._api_site.refresh,
            self._take_first_builder,
            partial(self._domains.load, self._ledger),
            self._server.builders.recover,
            self._server.releasing.reconcile,
        ):
            await self._patiently(step)
        self._server.start()
        for listen in self._listening:
            await listen()
        super().startService()
        # What the start has made stays: no collection need look through it again, which takes some 35 ms in which
        # no viewer gets anything.
        gc.collect()
        gc.freeze()
        self._log.info("serving {api}", api=self._config.api_url)

    async def _take_first_builder(self) -> None:
        """Take the key of the builder that was set up with this apiserver, at the first start."""
        first = self._config.link.first_builder
        if first is None:
            return
        try:
            await self._server.keys.take_first(first.name, partial(read_named_key, first.key, first.name, "builder"))
        except (OSError, BadKey) as error:
            self._log.error(
                "builder {name} (link.first_builder) can't link: {error}. Make it a key: twistedipc builder add {name}",
                name=first.name,
                error=error,
            )

    def _has_lost(self, reason: str) -> None:
        """The database isn't ours any more: another apiserver goes on with what we had."""
        end_with_error(self._reactor, self._log, f"twistd apiserver must end: {reason}")

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """
        A step of the start, again and again while the database can't be used: it is locked, its disk is full, or it is
        being started itself. That passes, and no supervisor must start the process again then. Raises `LedgerUnusable`
        if it doesn't pass, and `LedgerUnreachable` if nothing answers for `START_PATIENCE`.
        """
        said = ""
        end = self._reactor.seconds() + START_PATIENCE
        while True:
            try:
                return await step()
            except LedgerUnusable:
                raise
            except LedgerUnreachable as error:
                if self._reactor.seconds() >= end:
                    raise
                if not said:
                    said = str(error)
                    self._log.error("waiting for the database: {reason}", reason=said)
            except LedgerUnavailable as error:
                if str(error) != said:
                    said = str(error)
                    self._log.error("waiting for the database: {reason}", reason=said)
            await deferLater(self._reactor, START_INTERVAL)

    def stopService(self) -> Deferred[None]:
        """Refuse what is new, finish what is under way, close."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._draining = True
        if self._starting is not None:
            # Else what is still starting would open ports and links behind our back.
            self._starting.cancel()
            await self._starting
        self._server.dispatch.stop()
        self._server.stop_publishing()
        self._server.searching.stop()
        self._server.archived.stop()
        self._websockets.close_all()
        await self._api_site.stop()
        self._websockets.close_all()  # and those whose handshake was under way
        closed = super().stopService()
        if isinstance(closed, Deferred):
            await closed
        await self._server.builders.stop()
        # Until here clients are told to ask again, which a closed port can't say.
        for port in self._ports:
            stopped = port.stopListening()
            if isinstance(stopped, Deferred):
                await stopped
        await self._server.gists.stop()
        await self._ledger.close()
        self._folder_lock.release()
        for threads in self._threads.values():
            threads.stop()

    def _look_up(self, host: str) -> Deferred[list[Place]]:
        return self._in_thread(look_up, host)

    def _in_thread(self, function: Callable[..., _T], /, *args: object) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._threads["files"], function, *args)

    def _search_in_thread(self, function: Callable[..., _T], /, *args: object) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._threads["search"], function, *args)

    def _ask_s3(self, function: Callable[..., _T], /, *args: object) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._threads["s3"], function, *args)


def _wire(reactor: ApiReactor, config: ApiserverConfig) -> Wire | None:
    """Return what carries the bell's rings to other apiservers on this ledger, where there can be any."""
    # Not above: both need what an extra installs.
    if config.cluster.bell:
        from twistedipc.server.bell_valkey import ValkeyWire

        return ValkeyWire(reactor, config.cluster.bell)
    if config.database_url.get_backend_name() == "postgresql":
        from twistedipc.server.bell_postgresql import PostgresWire

        return PostgresWire(reactor, config.database_url)
    return None


def makeService(options: Options) -> IService:
    """The API service, ready to start."""
    try:
        options.parameters.check_doors()
        return ApiService(cast(ApiReactor, installed_reactor()), options.parameters)
    except (ConfigError, OSError) as error:
        raise SystemExit(f"twistd apiserver: {error}") from error
