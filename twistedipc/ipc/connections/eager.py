"""Writing to a socket now, not at the reactor's next turn. Used by ``cork``, and by what writes to many sockets."""

from __future__ import annotations

import sys


def send_at_once(transport: object, data: bytes) -> int:
    """
    Write ``data`` straight into the socket as far as possible, and return the number of bytes written. The rest is for
    ``transport.write``.

    `ITransport.write` waits for the reactor's next turn, which on a link with little traffic is most of the time that
    a message takes, and has the reactor watch the socket, which costs two more system calls. Only a plain TCP or UNIX
    transport can be written to before that (TLS has its own layer above the socket), and only if nothing waits in its
    buffer, or bytes would overtake others. Twisted has no public name for that buffer: where it isn't as known here,
    nothing is sent, and all goes the usual way.
    """
    # Without this module, which brings OpenSSL, no transport is of it.
    tcp = sys.modules.get("twisted.internet.tcp")
    if tcp is None or not isinstance(transport, tcp.Connection):
        return 0
    try:
        if (
            transport.dataBuffer
            or transport._tempDataBuffer
            or transport.TLS
            or not transport.connected
            or transport.disconnecting
            or transport._writeDisconnecting
        ):
            return 0
    except AttributeError:
        return 0
    try:
        sent: int = transport.socket.send(data)
    except OSError:
        # It is full; or the connection is lost, which the transport will find out by itself.
        return 0
    return sent
