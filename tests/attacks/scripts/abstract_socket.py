"""Connect to a UNIX socket that has no file."""

import socket

from facts import known, reached

connection = socket.socket(socket.AF_UNIX)
connection.settimeout(5)
connection.connect("\0" + known.abstract)
reached(connection.recv(100))
