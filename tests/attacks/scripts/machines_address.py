"""Reach a service by the machine's address in its own network."""

import socket

from facts import known, reached

reached(socket.create_connection(tuple(known.machine), timeout=5).recv(100))
