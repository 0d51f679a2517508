"""
The builder's doorbell: a UNIX datagram socket on which runners ring after each append. Called by ``service``.

A ring says "look at this attempt" and carries nothing else, so a lost one costs only the time until the next look
around (`service.LOOK_INTERVAL`).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.protocol import DatagramProtocol


class Doorbell(DatagramProtocol):
    """Calls ``rung(folder name)`` for each ring."""

    def __init__(self, rung: Callable[[str], None]) -> None:
        self._rung = rung

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """A runner rang."""
        self._rung(datagram[:256].decode("ascii", "replace"))
