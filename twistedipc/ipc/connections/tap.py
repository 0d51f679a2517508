"""What a transport pauses when it has enough, and resumes when it has room. Used by ``connection``."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


class Pausable(Protocol):
    """A connection that can hold back what it writes."""

    def pause_writing(self) -> None:
        """The transport takes no more for now."""

    def resume_writing(self) -> None:
        """The transport takes more."""


@implementer(IPushProducer)
class Tap:
    """
    The producer that a connection registers with its transport. It isn't the connection itself: a `LineReceiver`
    produces what it *reads*.
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
        """Do nothing: `connectionLost` is called as well."""
