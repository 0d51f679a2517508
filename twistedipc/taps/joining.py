"""How a builder elsewhere can meet an apiserver, by what that has in ``[link]``. Used by ``apiserver``. Pure."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from twistedipc.taps.config import ApiserverConfig
from twistedipc.web.api.context import Joining


def joining(config: ApiserverConfig) -> Joining:
    """
    Return the endpoints for a builder's ``[link]``: those to dial, where the apiserver listens, and those to listen
    at, where it dials. A suggestion: the name of this machine may be another for others.
    """
    host = urlsplit(config.http.public_url).hostname or socket.gethostname()
    dial = [_dialled(endpoint, host) for endpoint in config.link.listen]
    listen = [_listened(endpoint) for endpoint in config.link.dial]
    return Joining(dial=tuple(filter(None, dial)), listen=tuple(filter(None, listen)))


def _dialled(endpoint: str, host: str) -> str:
    """Return what to dial for an endpoint that is listened at; "" if nothing can be said."""
    kind, _, rest = endpoint.partition(":")
    if kind == "unix":
        return re.sub(r":mode=[0-7]+\Z", "", endpoint)
    if kind not in ("tcp", "tls"):
        return ""
    port, _, interface = rest.partition(":interface=")
    if interface in ("", "0.0.0.0", "[::]", "::"):
        interface = "127.0.0.1" if kind == "tcp" else host
    return f"{kind}:{interface}:{port}"


def _listened(endpoint: str) -> str:
    """Return what to listen at for an endpoint that is dialled; "" if nothing can be said."""
    kind, _, rest = endpoint.partition(":")
    if kind == "unix":
        return endpoint
    if kind not in ("tcp", "tls"):
        return ""
    host, _, port = rest.rpartition(":")
    return f"{kind}:{port}:interface={host if kind == 'tcp' else '0.0.0.0'}"
