"""What a transport turns on and off when it is full, and when it no longer is. Used by this package's protocols."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


class Pausable(Protocol):
    """A protocol that can hold back what it writes."""

    def pause_writing(self) -> None:
        """The transport takes no more for now."""

    def resume_writing(self) -> None:
        """It takes more."""


@implementer(IPushProducer)
class Tap:
    """
    The producer that a protocol registers with its transport. Not the protocol itself: a `LineReceiver` produces
    what it *reads*.
    """

    def __init__(self, protocol: Pausable) -> None:
        self._protocol = protocol

    def pauseProducing(self) -> None:
        """See `IPushProducer`."""
        self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """The connection is lost, which the protocol is told by `connectionLost`."""
