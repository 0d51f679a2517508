"""``twistd buildipc``: the builder's options and its composition."""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import IService

from twistedipc.builder.held import Settings
from twistedipc.builder.link import VOCABULARY
from twistedipc.builder.service import BuilderService, DataFolderInUse
from twistedipc.runner.cgroup import find_parent
from twistedipc.taps.common import ConfigOptions, links, now
from twistedipc.taps.config import BuilderConfig, ConfigError, load_builder


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
    from twisted.internet import reactor

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
        reactor,  # type: ignore[arg-type]  # the module is typed as the module, not as the reactor in it
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
            reactor,  # type: ignore[arg-type]
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
