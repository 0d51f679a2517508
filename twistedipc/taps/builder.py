"""``twistd buildipc``: the builder's options and its composition."""

from __future__ import annotations

from typing import ClassVar, cast

from twisted.application.service import IService

from twistedipc.builder.held import Settings
from twistedipc.builder.link import VOCABULARY
from twistedipc.builder.reactor import BuilderReactor
from twistedipc.builder.service import BuilderService, DataFolderInUse
from twistedipc.ipc import LinkReactor
from twistedipc.runner.cgroup import find_parent
from twistedipc.taps.common import ConfigOptions, installed_reactor, links, now
from twistedipc.taps.config import BuilderConfig, ConfigError, load_builder


class LinkedReactor(BuilderReactor, LinkReactor):
    """The reactor, as the builder and its links use it."""


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
    parameters: BuilderConfig

    def postOptions(self) -> None:
        """Check the file before anything starts."""
        self.parameters = self.read(load_builder)


def makeService(options: Options) -> IService:
    """The builder, ready to start."""
    reactor = cast(LinkedReactor, installed_reactor())
    config = options.parameters
    settings = Settings(
        data=config.data,
        path=config.steps_path,
        environment=config.environment,
        timeout=config.limits.timeout,
        idle_timeout=config.limits.idle_timeout,
        grace=config.limits.grace,
        reserve=config.limits.reserve,
    )
    service = BuilderService(
        reactor,
        settings,
        slots=config.slots,
        now=now,
        find_cgroups=find_parent,
        apiserver_url=config.apiserver_url,
        wait=bool(options["wait"]),
    )
    try:
        service.claim()
        for link in links(
            reactor,
            config.link,
            name=config.name,
            role="builder",
            peer_role="apiserver",
            vocabulary=VOCABULARY,
            application=service.application,
            refuse=service.refuse,
        ):
            link.setServiceParent(service)
    except (DataFolderInUse, ConfigError, OSError) as error:
        raise SystemExit(f"twistd buildipc: {error}") from error
    return service
