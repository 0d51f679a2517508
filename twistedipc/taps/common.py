"""What both taps do alike: options, links from their configuration, and a start that may fail."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from twistedipc.ipc import (
    Application,
    BadEndpoint,
    BadKey,
    Keys,
    LinkReactor,
    NamedKey,
    Peer,
    PeerInfo,
    SessionSettings,
    TLSFiles,
    Vocabulary,
    dial_links,
    listen_for_links,
    read_key,
    read_named_key,
)
from twistedipc.storage.errors import LedgerTaken, LedgerUnreachable, LedgerUnusable, SchemaTooNew
from twistedipc.taps.config import INHERITED, ApiserverLink, BuilderLink, ConfigError, interface_of, is_tls
from twistedipc.web.http.hosts import spare_loopback

_T = TypeVar("_T")

#: What may keep a service from starting without being a fault of the program: a sentence says it all.
_EXPECTED = (CannotListenError, ConfigError, LedgerTaken, LedgerUnreachable, LedgerUnusable, SchemaTooNew)

#: Connections that may wait to be accepted. When more come in one moment, their senders wait for seconds and more
#: until they try again: after a cut, that would be most viewers. (The kernel lowers it to its own limit.)
BACKLOG = 4096


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class RunnableReactor(LinkReactor, IReactorCore):
    """The process's reactor, as a composition root needs it."""


def installed_reactor() -> RunnableReactor:
    """
    The process's reactor, on a clock that nobody can set; for composition roots alone, before anything is timed.

    By itself a reactor of Twisted's goes by the time of day. When that is set back by a day, no timer fires for a day:
    no heartbeat, no commit. When it is set forward, all of them fire at once.
    """
    from twisted.internet import reactor

    cast(Any, reactor).seconds = time.monotonic
    return cast(RunnableReactor, reactor)


#: Calls in flight on a link of the platform; each may be as long as a frame. A builder makes one for each attempt that
#: it holds, and tries again what was refused.
MAX_CALLS = 64


class ConfigOptions(usage.Options):
    """The base of both plugins' options: one configuration file."""

    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "The configuration file (TOML). `twistedipc init FOLDER` writes one, with comments."],
    ]

    def read(self, load: Callable[[Path], _T]) -> _T:
        """The file's content; what is wrong with it becomes a usage error, which twistd prints without a traceback."""
        path = self["config"]
        if not path:
            raise usage.UsageError("--config FILE is needed; `twistedipc init FOLDER` writes one")
        try:
            return load(Path(path))
        except ConfigError as error:
            raise usage.UsageError(str(error)) from error


def links(
    reactor: LinkReactor,
    config: ApiserverLink | BuilderLink,
    *,
    name: str,
    role: str,
    peer_role: str,
    vocabulary: Vocabulary,
    application: Callable[[Peer], Application],
    refuse: Callable[[PeerInfo], str | None],
    keys: Keys | None = None,
    failed: Callable[[str], None] | None = None,
) -> list[IService]:
    """
    A service for each endpoint of ``[link]``. Raises `ConfigError`.

    :param keys: those of single peers, beside the shared one of the configuration; of a side that has none, what the
        configuration names may be a named key. At a UNIX socket, without a shared key, nobody needs one
    :param failed: called with the reason each time that an endpoint couldn't be dialled, or a link to it has ended
    """
    try:
        key, own = None, None
        if config.key is not None and keys is not None:
            key = read_key(config.key)
        elif config.key is not None:
            key, own = _keys_in(config.key, peer_role)
        if own is not None:
            keys = Keys(own)
        settings = SessionSettings(
            name=name,
            role=role,
            peer_role=peer_role,
            incarnation=secrets.token_hex(8),
            key=key,
            keys=keys,
            vocabulary=vocabulary,
            accept_peer=refuse,
            max_calls=MAX_CALLS,
            busy_poll=0.0,  # no side of the platform's links calls in turns, so there is nothing to stay awake for
        )
        tls = TLSFiles(certificate=config.tls.certificate, key=config.tls.private_key, authority=config.tls.authority)

        def at(endpoint: str) -> SessionSettings:
            # The kernel knows who is at a UNIX socket; what is inherited looks at that itself.
            optional = own is None and key is None and endpoint.startswith(("unix:", *INHERITED))
            return replace(settings, keys_optional=keys is not None and optional)

        return [
            *(listen_for_links(reactor, endpoint, at(endpoint), application, tls=tls) for endpoint in config.listen),
            *(
                dial_links(reactor, endpoint, at(endpoint), application, tls=tls, failed=failed)
                for endpoint in config.dial
            ),
        ]
    except (BadEndpoint, BadKey, ValueError) as error:
        raise ConfigError(f"link: {error}") from error


def _keys_in(path: Path, peer_role: str) -> tuple[bytes | None, NamedKey | None]:
    """Return the key in a file, which is either a shared one or a named one. Raises `BadKey`, OSError."""
    try:
        return None, read_named_key(path, role=peer_role)
    except BadKey:
        return read_key(path), None


def for_a_crowd(endpoint: str) -> str:
    """The server endpoint with `BACKLOG`, if it can have one and doesn't say another."""
    kind, *arguments = re.split(r"(?<!\\):", endpoint)
    if kind not in ("tcp", "ssl") or any("=" not in argument for argument in arguments[1:]):
        return endpoint
    if any(argument.startswith("backlog=") for argument in arguments):
        return endpoint
    return f"{endpoint}:backlog={BACKLOG}"


def server_endpoint(
    reactor: IReactorCore, endpoint: str, certificates: IOpenSSLServerConnectionCreator | None
) -> IStreamServerEndpoint:
    """Return the endpoint that a string means: one of Twisted's, or ``tls:PORT``, with these certificates."""
    within = "tcp" + endpoint.removeprefix("tls") if is_tls(endpoint) else endpoint
    below: IStreamServerEndpoint = serverFromString(reactor, for_a_crowd(within))
    if not is_tls(endpoint):
        return below
    assert certificates is not None, "the configuration is refused that has none"
    return wrapServerTLS(certificates, below)


async def listen_at(
    reactor: IReactorCore,
    endpoints: list[str],
    factory: IProtocolFactory,
    ports: list[IListeningPort],
    log: Logger,
    certificates: IOpenSSLServerConnectionCreator | None = None,
) -> None:
    """
    Listen at all endpoints, and add their ports to ``ports``. One of several that is at an address such as 127.0.0.2 is
    left out, with a notice, where the machine hasn't this address (macOS has it only if it is set up). Raises what
    listening raises.
    """
    for endpoint in endpoints:
        try:
            ports.append(await server_endpoint(reactor, endpoint, certificates).listen(factory))
        except CannotListenError as error:
            missing = getattr(error.socketError, "errno", None) == errno.EADDRNOTAVAIL
            if not (missing and len(endpoints) > 1 and spare_loopback(interface_of(endpoint))):
                raise
            log.warn("this machine has no {host}: {endpoint} is left out", host=error.interface, endpoint=endpoint)


def start_or_exit(reactor: IReactorCore, starting: Deferred[None], log: Logger, what: str) -> None:
    """
    If ``starting`` fails, say why in a sentence, stop, and exit with 1, so that a supervisor sees it. If it was
    cancelled, because the service is stopping, it hasn't failed.
    """

    def failed(failure: Failure) -> None:
        if failure.check(CancelledError) is not None:
            return
        if failure.check(*_EXPECTED) is None:
            log.failure("{what} can't start", failure, what=what)
        end_with_error(reactor, log, f"{what} can't start: {_sentence(failure)}")

    starting.addErrback(failed)


def _sentence(failure: Failure) -> str:
    """Return what went wrong, and what to do about it where that is known."""
    error = failure.value
    if not isinstance(error, CannotListenError) or getattr(error.socketError, "errno", None) != errno.EADDRINUSE:
        return failure.getErrorMessage()
    if not isinstance(error.port, int):  # a UNIX socket
        path = os.fsdecode(error.port or error.interface)
        return f"{path} is there already. Stop the program that listens at it, or delete the file if there is none"
    host = f"[{error.interface}]" if ":" in error.interface else error.interface
    at = f"{host}:{error.port}" if host else f"port {error.port}"
    return f"another program listens at {at} already. Stop it, or change this `listen` in the configuration"


def end_with_error(reactor: IReactorCore, log: Logger, sentence: str) -> None:
    """Say why in a sentence, in the log and on standard error, stop, and exit with 1."""
    log.critical("{sentence}", sentence=sentence)
    print(sentence, file=sys.stderr, flush=True)
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
    reactor.stop()
