"""
What leaves a namespace without the gate's help, seen on its interface: the first packets of connections. Used by
``holder``, which makes the socket, and by the gate, which reads it.

The kernel filters: the gate reads a packet for each TCP connection that is begun, and each packet of UDP.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from typing import NamedTuple

from twistedipc.builds.host_rules import Address

#: The bytes of a packet that are read.
SNAP = 64

_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_SO_ATTACH_FILTER = 26
_OUTGOING = 4  # PACKET_OUTGOING
_TCP, _UDP = 6, 17

# A program of the classic BPF for a socket of the kind SOCK_DGRAM, whose packets begin with the IP header. IPv4 only:
# no engine is given IPv6.
_FILTER = (
    (0x28, 0, 0, 0xFFFFF000),  # 0: protocol, the ancillary SKF_AD_PROTOCOL
    (0x15, 0, 11, _ETH_P_IP),
    (0x20, 0, 0, 16),  # 2: the address that it is sent to
    (0x54, 0, 0, 0xFF000000),
    (0x15, 8, 0, 0x7F000000),  # loopback
    (0x30, 0, 0, 9),  # 5: the protocol in the IP header
    (0x15, 5, 0, _UDP),
    (0x15, 0, 5, _TCP),
    (0xB1, 0, 0, 0),  # 8: X is the length of the IP header
    (0x50, 0, 0, 13),  # the flags of TCP
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),  # SYN without ACK
    (0x06, 0, 0, SNAP),  # 12: read it
    (0x06, 0, 0, 0),  # 13: don't
)


class Packet(NamedTuple):
    """The first packet of a connection."""

    address: Address
    port: int
    udp: bool


def listen(interface: str) -> socket.socket:
    """Return a socket that hears what is sent on an interface of this namespace. Raises OSError."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        program = b"".join(struct.pack("=HBBI", *line) for line in _FILTER)
        memory = ctypes.create_string_buffer(program)
        heard.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(memory))
        )
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
        heard.setblocking(False)
        heard.bind((interface, _ETH_P_ALL))
    except OSError:
        heard.close()
        raise
    return heard


def read(heard: socket.socket) -> Packet | None:
    """Return the next packet that was sent; None if it is of no interest. Raises BlockingIOError if there is none."""
    data, where = heard.recvfrom(SNAP)
    if where[2] != _OUTGOING or len(data) < 20 or data[0] >> 4 != 4:
        return None
    header = (data[0] & 15) * 4
    if len(data) < header + 4:
        return None
    (port,) = struct.unpack_from("!H", data, header + 2)
    return Packet(ipaddress.IPv4Address(data[16:20]), port, data[9] == _UDP)
