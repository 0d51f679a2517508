"""Ports for servers of the tests' own, none of which is given twice at a time."""

from __future__ import annotations

import os
import random
import socket

#: Ports that the system gives to nobody by itself: one stays free until a service has started, and while it is away in
#: the middle of a test. Each worker of pytest has its own.
_FIRST, _EACH, _WORKERS = 15_000, 2_000, 8

_next = random.SystemRandom().randrange(_EACH)  # another run of tests may be on this machine


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    global _next
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    for _ in range(_EACH):
        port = _FIRST + worker * _EACH + _next
        _next = (_next + 1) % _EACH
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"all of {_EACH} ports are taken")
