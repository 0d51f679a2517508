"""Open a socket of a family that no network namespace holds: some lead to the host of a virtual machine."""

import socket

from facts import reached

VSOCK, ALG, RDS, TIPC, LLC, QIPCRTR, NFC, RXRPC = 40, 38, 21, 30, 26, 42, 39, 33
for family in (VSOCK, ALG, RDS, TIPC, LLC, QIPCRTR, NFC, RXRPC):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try:
            reached(socket.socket(family, kind))
        except OSError as error:
            print(family, error)
