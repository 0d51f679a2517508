"""
The user at the other end of a UNIX socket, as the kernel knows it. Used by ``dial`` and ``listen``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection

_UCRED = struct.Struct("3i")  # pid, uid, gid, as Linux has it


def refuse_strangers(transport: object, uids: Collection[int] | None) -> str | None:
    """
    Return a reason to refuse the peer of a UNIX transport, or None. ``uids`` are the users whose processes are allowed;
    None means this process's own user and root. The kernel gives the credentials of the process that called connect()
    or listen().
    """
    connection = getattr(transport, "socket", None)
    if not isinstance(connection, socket.socket) or not hasattr(socket, "SO_PEERCRED"):
        return "the peer's credentials can't be found out"
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    allowed = {os.getuid(), 0} if uids is None else set(uids)
    return None if uid in allowed else f"the user with the id {uid} isn't allowed at this socket"
