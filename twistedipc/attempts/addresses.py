"""
What a host's name leads to, as seen from this machine. Used by the checkout step, and by the apiserver when a project
is made or changed. Blocks.
"""

from __future__ import annotations

import socket

from twistedipc.builds.places import Place


def look_up(host: str) -> list[Place]:
    """Return the addresses of a host, none if it isn't known here. Numbers of any form are addresses too."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [Place(address, _is_own(family, address)) for family, address in {(f, str(a[0])) for f, _, _, _, a in found}]


def _is_own(family: int, address: str) -> bool:
    """Return whether this machine has the address: only such a one can be bound."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trying:
            trying.bind((address, 0))
    except OSError:
        return False
    return True
