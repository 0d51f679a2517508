"""Be a service on the machine's network: somebody there connects."""

import socket

from facts import known, reached

listening = socket.create_server(("0.0.0.0", known.listens))
listening.settimeout(4)
connection, address = listening.accept()
reached(f"{address} said {connection.recv(100)!r}")
