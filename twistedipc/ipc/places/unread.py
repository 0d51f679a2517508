"""
Whether a peer is alive whose words this side doesn't read for now: what the system knows. Used by ``link``, when
another peer claims its name.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from typing import Any, cast

#: The peer has closed its end, or the connection is broken: also if bytes are still to be read before that.
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


class UnreadPeer:
    """
    A peer that is about to be asked for a sign of life, which won't be read. It counts as dead if its end is closed, or
    if, over TCP, the question hasn't reached its machine when `has_heard` is called. Where the system can't tell, it
    counts as alive; so does a peer that doesn't read either, whose machine takes nothing more.
    """

    def __init__(self, transport: object) -> None:
        found = getattr(transport, "socket", None)  # a TLS transport gives that of the one below it
        self._socket = found if isinstance(found, socket.socket) and found.fileno() >= 0 else None
        is_tcp = self._socket is not None and self._socket.family != socket.AF_UNIX
        self._is_telling = is_tcp and _unacknowledged(self._socket) == 0

    def has_heard(self, since: float) -> bool:
        """Return whether the peer counts as alive."""
        if self._socket is None:
            return True
        poll = select.poll()
        poll.register(self._socket, _GONE)
        if poll.poll(0):
            return False
        return not self._is_telling or _unacknowledged(self._socket) == 0


def _unacknowledged(connection: socket.socket | None) -> int:
    """Return how many bytes the other end's system hasn't acknowledged; 0 where this one can't tell."""
    try:
        found: int = struct.unpack("i", fcntl.ioctl(cast(Any, connection), termios.TIOCOUTQ, b"\0" * 4))[0]
    except OSError:
        return 0
    return found
