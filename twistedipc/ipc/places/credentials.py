"""
The other end of a connection, as the kernel and TLS know it. Used by ``dial``, ``listen`` and the connections.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from typing import Any

from twistedipc.ipc.wire.identity import Origin, PeerCertificate

_UCRED = struct.Struct("3i")  # pid, uid, gid, as Linux has it


def refuse_strangers(transport: object, uids: Collection[int] | None) -> str | None:
    """
    Return a reason to refuse the peer of a UNIX transport, or None. ``uids`` are the users whose processes are allowed;
    None means this process's own user and root. The kernel gives the credentials of the process that called connect()
    or listen().
    """
    found = _credentials(transport)
    if found is None:
        return "the peer's credentials can't be found out"
    _pid, uid, _gid = found
    allowed = {os.getuid(), 0} if uids is None else set(uids)
    return None if uid in allowed else f"the user with the id {uid} isn't allowed at this socket"


def origin_of(transport: object, address: str) -> Origin:
    """
    Return what a transport tells of its other end: of TLS once its handshake is over.

    :param address: the other end's, for people
    """
    if hasattr(transport, "getPeerCertificate"):  # an `ISSLTransport`
        return Origin(address, certificate=_certificate(transport))
    found = _credentials(transport)
    if found is None:
        return Origin(address)
    pid, uid, gid = found
    return Origin(address, uid=uid, gid=gid, pid=pid)


def _credentials(transport: object) -> tuple[int, int, int] | None:
    """Return the process, user and group at the other end of a UNIX socket."""
    connection = getattr(transport, "socket", None)
    if not isinstance(connection, socket.socket) or connection.family != socket.AF_UNIX:
        return None
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def _certificate(transport: Any) -> PeerCertificate | None:
    """Return the certificate of a TLS connection's other end. It was verified: what isn't is never asked for."""
    found = transport.getPeerCertificate()
    if found is None:
        return None
    fingerprint = found.digest("sha256").decode("ascii").replace(":", "").lower()
    return PeerCertificate(found.to_cryptography().subject.rfc4514_string(), fingerprint)
