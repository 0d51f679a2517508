"""``twistd buildipc``: the builder's options and its composition."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, cast

from twisted.application.service import IService
from twisted.python.usage import UsageError

from twistedipc.builder.compose import builder, real_outside
from twistedipc.builder.data import DataFolderInUse
from twistedipc.builder.link import VOCABULARY
from twistedipc.builder.reactor import BuilderReactor
from twistedipc.builder.settings import Settings
from twistedipc.builds.attempt import MAX_STORED_TOOL, StoredTool
from twistedipc.builds.egress import Network
from twistedipc.builds.host_rules import of_address
from twistedipc.caches.tidying import Limits
from twistedipc.ipc import LinkReactor
from twistedipc.taps.common import ConfigOptions, installed_reactor, links, now
from twistedipc.taps.config import BuilderConfig, Caches, ConfigError, load_builder
from twistedipc.taps.hangup import Hangups
from twistedipc.taps.nodejs import npm_settings, operators_npmrc
from twistedipc.toolchains.store import Store

#: Variables that name proxies, which builds reach. Links by which others can be reached.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_LISTENED = re.compile(r"(?:tcp|tls):(?P<port>[0-9]{1,5})(?:\Z|:)")
_DIALLED = re.compile(r"(?:tcp|tls):\[?(?P<host>[^\[\]]+?)\]?:(?P<port>[0-9]{1,5})\Z")

#: Seconds for what has ended to be handed over to the apiserver: the rest of its log, and its archive.
HANDOVER = 300.0


class LinkedReactor(BuilderReactor, LinkReactor):
    """The reactor, as the builder and its links use it."""


def _seconds(text: str) -> float:
    """A number of seconds, as it is typed. Raises ValueError, which becomes the usage's error."""
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < float("inf"):
            return seconds
    raise ValueError("--wait-at-most takes a number of seconds, more than 0")


class Options(ConfigOptions):
    """The options of ``twistd buildipc``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "The builder: it checks sources out, builds them and hands the results to an apiserver. Its builds are "
        "processes of their own; stopping or killing it interrupts none. Use twistd's own -n to stay in the "
        "foreground and --pidfile= when an apiserver runs from the same folder."
    )
    optFlags: ClassVar[list[list[str]]] = [
        ["wait", "w", "When told to stop, take nothing new and let the builds end first."],
    ]
    optParameters: ClassVar[list[list[object]]] = [
        [
            "wait-at-most",
            None,
            None,
            "With --wait: seconds after which to leave all the same; builds run on for the next builder. [default: as "
            f"long as a build may take, by limits.timeout and limits.grace, and {HANDOVER:.0f} s for handing it over]",
            _seconds,
        ],
    ]
    parameters: BuilderConfig

    def postOptions(self) -> None:
        """Check the configuration file before anything starts."""
        if self["wait-at-most"] is not None and not self["wait"]:
            raise UsageError("--wait-at-most goes with --wait")
        self.parameters = self.read(load_builder)

    @property
    def seconds_to_wait(self) -> float | None:
        """How long to let builds end when told to stop; None: not at all."""
        if not self["wait"]:
            return None
        if self["wait-at-most"] is not None:
            return float(self["wait-at-most"])
        limits = self.parameters.limits
        return limits.timeout + limits.grace + HANDOVER


def _caches(config: Caches) -> Limits | None:
    """What builds may keep, or None if they keep nothing."""
    if not config.keep:
        return None
    return Limits(project=config.project.bytes, total=config.total.bytes, days=config.days)


def _network(config: BuilderConfig) -> Network:
    """What builds may reach by the operator's leave, and what they never reach: link and API."""
    if config.isolation.kind == "none":
        return Network()
    environment = config.environment
    npm = npm_settings(environment, path=config.steps_path)
    registries = [config.toolchains.registry, *(npm.registries if npm is not None else ())]
    registries += [value for name, value in environment.items() if "REGISTRY" in name.upper()]
    proxies = [value for name, value in environment.items() if name.upper() in _PROXIES]
    proxies += [value for name, value in npm.proxies().items() if name != "no"] if npm is not None else []
    listened = [match for text in config.link.listen if (match := _LISTENED.match(text))]
    dialled = [match for text in config.link.dial if (match := _DIALLED.match(text))]
    return Network(
        operators=[*config.isolation.allow, *_rules(registries)],
        proxies=_rules(proxies),
        ours=[
            *(("", int(each["port"])) for each in listened),
            *((each["host"], int(each["port"])) for each in dialled),
        ],
    )


def _rules(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for address in addresses for each in of_address(address)))


def _hidden(config: BuilderConfig, file: Path) -> list[str]:
    """What no build sees, wherever it lies: the builder's data, keys and configuration, and what is beside that."""
    keys = [config.link.key, config.link.tls.private_key]
    return [os.path.realpath(path) for path in (config.data, file.parent.absolute(), *keys) if path is not None]


def settings_of(config: BuilderConfig, file: Path) -> Settings:
    """Return what a configuration, which is in this file, means for all attempts."""
    return Settings(
        data=config.data,
        path=config.steps_path,
        environment=config.environment,
        registry=config.toolchains.registry,
        node=config.toolchains.node,
        forbid=config.toolchains.forbid,
        offline=config.toolchains.offline,
        publint=config.toolchains.publint,
        userconfig=operators_npmrc(),
        timeout=config.limits.timeout,
        idle_timeout=config.limits.idle_timeout,
        grace=config.limits.grace,
        upload=config.limits.upload,
        allow_plain_http=config.allow_plain_http,
        mirrors_kept=config.limits.mirrors * 86400,
        reserve=None if config.limits.reserve is None else config.limits.reserve.bytes,
        limits=config.limits.resources(config.slots),
        caches=_caches(config.caches),
        isolation=config.isolation.kind,
        readable=[str(path) for path in config.isolation.readable],
        hidden=_hidden(config, file),
        network=_network(config),
    )


def stored_tools(store: Store) -> list[StoredTool]:
    """
    Return the tools that were fetched, each once, but those whose name or version is too long to be told: an apiserver
    refuses a message with one. Raises OSError.
    """
    return [
        StoredTool(name=name, version=str(version))
        for name, version in dict.fromkeys(store.tools())
        if len(name) <= MAX_STORED_TOOL and len(str(version)) <= MAX_STORED_TOOL
    ]


def makeService(options: Options) -> IService:
    """The builder, ready to start."""
    reactor = cast(LinkedReactor, installed_reactor())
    config = options.parameters
    settings = settings_of(config, Path(options["config"]))
    store = Store(Path(settings.tools.folder), now=now)
    service = builder(
        real_outside(reactor, settings, now=now, tools=lambda: stored_tools(store)),
        settings,
        slots=config.slots,
        apiserver_url=config.apiserver_url,
        wait=options.seconds_to_wait,
    )
    try:
        service.claim()
        Hangups(reactor).setServiceParent(service)
        for link in links(
            reactor,
            config.link,
            name=config.name,
            role="builder",
            peer_role="apiserver",
            vocabulary=VOCABULARY,
            application=service.duties.application,
            refuse=service.duties.refuse,
        ):
            link.setServiceParent(service)
    except (DataFolderInUse, ConfigError, OSError) as error:
        raise SystemExit(f"twistd buildipc: {error}") from error
    return service
