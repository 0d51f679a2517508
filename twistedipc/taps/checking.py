"""Whether a builder can link, tried before it is started. Used by the command; a composition root of its own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred, DeferredList

from twistedipc.builder.link import VOCABULARY
from twistedipc.ipc import Application, Peer
from twistedipc.taps.common import RunnableReactor, installed_reactor, links
from twistedipc.taps.config import BuilderConfig

#: What an apiserver says to one more builder of a name: the key was right.
ALREADY = "is linked already"


class _Checked:
    """The application of the one link: it ends it."""

    def __init__(self, peer: Peer, linked: Callable[[], None]) -> None:
        peer.close("closed", "the key is right; the builder itself comes later")
        linked()

    def message_received(self, message: object) -> None:
        """Nothing is taken."""

    def call_received(self, request: object) -> msgspec.Struct:
        """Nothing is answered."""
        raise AssertionError("the link is closed")

    def connection_lost(self, reason: str) -> None:
        """The link has ended."""

    def writing_paused(self) -> None:
        """Nothing is sent."""

    def writing_resumed(self) -> None:
        """Nothing is sent."""


def check_link(config: BuilderConfig, seconds: float) -> str:
    """
    Link as this builder would, and end the link. Return why that can't be done, in a sentence; "" if it can, or if the
    apiserver says that the builder is linked (with this key or another). Runs the reactor, so once in a process.
    """
    reactor = installed_reactor()
    outcome: list[str] = []
    why = ["nothing has answered" if config.link.dial else "the apiserver hasn't dialled"]

    def over(result: str) -> None:
        if not outcome:
            outcome.append(result)
            stopped = DeferredList([Deferred.fromCoroutine(_stopped(service)) for service in services])
            stopped.addBoth(lambda _: reactor.stop())

    def failed(reason: str) -> None:
        why[0] = reason
        if ALREADY in reason:
            over("")

    def application(peer: Peer) -> Application:
        return _Checked(peer, lambda: over(""))

    services = links(
        reactor,
        config.link,
        name=config.name,
        role="builder",
        peer_role="apiserver",
        vocabulary=VOCABULARY,
        application=application,
        refuse=lambda peer: None,
        failed=failed,
    )
    _run(reactor, services, seconds, lambda: over(why[0]))
    return outcome[0] if outcome else why[0]


async def _stopped(service: IService) -> None:
    stopping: object = service.stopService()
    if isinstance(stopping, Deferred):
        await stopping


def _run(reactor: RunnableReactor, services: list[IService], seconds: float, late: Callable[[], None]) -> None:
    def start() -> None:
        for service in services:
            service.startService()

    reactor.callWhenRunning(start)
    reactor.callLater(seconds, late)
    reactor.run()
