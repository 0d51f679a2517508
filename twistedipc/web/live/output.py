"""
What a conversation writes to: the seam between what is said on a socket and how its bytes go out. ``web.live``;
`viewers.ViewerProtocol` implements it.
"""

from __future__ import annotations

from socket import socket
from typing import Protocol

from twistedipc.web.http.closing import CloseCode


class Output(Protocol):
    """A socket, as conversations, changes and followers see it."""

    paused: bool
    deflates: bool  # whether it takes deflated frames
    #: The socket below Twisted's transport, while nothing waits in the transport that would be overtaken by what is
    #: sent on it; None while something does, or where the transport isn't a plain one (`send_at_once` tells). A crowd
    #: is written to on these, since `ITransport.write` has the reactor watch each socket, and waits for its next turn.
    direct: socket | None

    def write_frames(self, data: bytes) -> None:
        """Write these frames, at once or after what waits."""

    def keep(self, data: bytes, sent: int) -> None:
        """Write the rest of this when the socket takes more: ``direct`` took only ``sent`` bytes."""

    def say_goodbye(self, code: CloseCode, reason: str) -> None:
        """Close the socket, after what was written."""
