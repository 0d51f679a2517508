"""
twistedipc: a build-and-publish platform for front-end teams, and the IPC framework that it stands on.

The library's first names can be imported from here (``from twistedipc import dial, listen``), all of them from
``twistedipc.ipc``.

The map, from the bottom up; imports point only downwards (``tests/test_layers.py`` holds them to it)::

    chaos   conform     the proof that nothing is lost, by faults; any implementation of a link, tried by its document
    taps   cli          twistd's two plugins; the command for people
    web                 HTTP API, WebSocket, the page
    terminal            what a person sees in a terminal, for web and cli
    finding             search in the text of logs, for server
    server   builder    `twistd apiserver`; `twistd buildipc`; they never import one another
    runner   storage    one attempt's process; the ledger
    outgoing   sealed   what leaves the platform, as other services want it; logs kept small and searchable
    publish   caches    the targets of projects; what builds keep for the next ones
    toolchains          Node and package managers, for builds
    isolation           the walls around a step: what it can see and use
    attempts   trees    an attempt's folder on disk, for runner and builder; a project's files, for runner and cli
    registries          the way to package registries, for toolchains and publish
    s3                  objects in S3, for storage
    ipc   builds  disk  the framework, which knows nothing of builds; the domain, which knows no I/O; durable files
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twistedipc.ipc import Interface, Message, Peer, Remote, Request, Service, dial, handles, listen, spawn

__version__ = "0.2.0"

__all__ = ["Interface", "Message", "Peer", "Remote", "Request", "Service", "dial", "handles", "listen", "spawn"]


def __getattr__(name: str) -> Any:
    """Return a name of the library's. It is imported then: a runner, which imports this package too, has no Twisted."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("twistedipc.ipc"), name)
