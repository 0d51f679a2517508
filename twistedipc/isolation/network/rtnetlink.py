"""
What a network namespace needs of rtnetlink(7): its loopback up, and routes. Own code, since a machine may have no
``ip``, and since this is done in a process that has just been forked.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from twistedipc.builds.host_rules import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEWLINK, _NEWROUTE, _GETADDR, _NEWADDR = 16, 24, 22, 20
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _CREATE, _REPLACE, _DUMP = 0x1, 0x4, 0x400, 0x100, 0x300
_TABLE_LOCAL, _TABLE_MAIN = 255, 254
_PROTO_STATIC = 4
_SCOPE_HOST, _SCOPE_UNIVERSE = 254, 0
_LOCAL, _PROHIBIT = 2, 8
_RTA_DST, _RTA_OIF = 1, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP = 1
_LO = 1  # the index of every namespace's loopback

_HEADER = struct.Struct("=IHHII")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


class Routes:
    """The routes of the network namespace that this process is in. Each method raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.settimeout(5.0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def loopback_up(self) -> None:
        """Bring the loopback up."""
        self._ask(_NEWLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LO, _IFF_UP, _IFF_UP))

    def keep(self, network: Network) -> None:
        """Make all addresses of a network this namespace's own: what is sent there doesn't leave it."""
        self._add(network, _LOCAL, _TABLE_LOCAL, _SCOPE_HOST, _attribute(_RTA_OIF, struct.pack("=I", _LO)))

    def prohibit(self, network: Network) -> None:
        """Have whatever is sent to a network refused at once."""
        self._add(network, _PROHIBIT, _TABLE_LOCAL, _SCOPE_UNIVERSE, b"")

    def addresses(self) -> Iterator[Address]:
        """Yield all addresses of this namespace's interfaces."""
        self._send(_GETADDR, _REQUEST | _DUMP, struct.pack("=BxxxI", socket.AF_UNSPEC, 0))
        while True:
            for kind, body in _messages(self._socket.recv(1 << 16)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    _raise(body)
                if kind == _NEWADDR:
                    found = dict(_attributes(body[8:]))
                    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
                    if packed:
                        yield ipaddress.ip_address(packed)

    def _add(self, network: Network, kind: int, table: int, scope: int, more: bytes) -> None:
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        head = struct.pack("=8BI", family, network.prefixlen, 0, 0, table, _PROTO_STATIC, scope, kind, 0)
        destination = _attribute(_RTA_DST, network.network_address.packed) if network.prefixlen else b""
        self._ask(_NEWROUTE, head + destination + more, _CREATE | _REPLACE)

    def _ask(self, kind: int, body: bytes, flags: int = 0) -> None:
        self._send(kind, _REQUEST | _ACK | flags, body)
        for answered, said in _messages(self._socket.recv(1 << 16)):
            if answered == _ERROR:
                _raise(said)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


def _raise(body: bytes) -> None:
    (code,) = struct.unpack_from("=i", body)
    if code:
        raise OSError(-code, os.strerror(-code))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
