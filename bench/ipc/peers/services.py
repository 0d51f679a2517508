"""Services of ours, by `listen` and `dial`, or the same by JSON-RPC. FORMAT ROLE PATH …, see `main`."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from bench.common.processes import say
from bench.ipc.peers.ours import Caller, failed
from twistedipc.ipc import (
    Interface,
    Peer,
    Request,
    Service,
    dial,
    dial_jsonrpc,
    handles,
    listen,
    listen_jsonrpc,
)


class Echoed(msgspec.Struct, frozen=True, gc=False):
    build: str
    seq: int
    at: int
    text: str


class Echo(Request[Echoed], gc=False):
    build: str
    seq: int
    at: int
    text: str


ECHO = Interface("echo", Echo)


class Echoes(Service):
    interface = ECHO

    @handles(Echo)
    def echo(self, request: Echo, peer: Peer) -> Echoed:
        return Echoed(request.build, request.seq, request.at, request.text)


def main(format_: str, role: str, path: str, *arguments: str) -> None:
    """``answer``, ``call WARM COUNT IN_FLIGHT``; by ``link``, ``lines`` or ``content-length``."""
    endpoint: str = f"unix:{path}"
    how: Any = {} if format_ == "link" else {"framing": format_}
    if role == "answer":
        begin: Any = listen if format_ == "link" else listen_jsonrpc
        listening = Deferred.fromCoroutine(begin(reactor, endpoint, Echoes(), **how))
        listening.addCallbacks(lambda _: say(ready=True), failed)
    else:
        reach: Any = dial if format_ == "link" else dial_jsonrpc
        linked = reach(reactor, endpoint, ECHO, **how).linked()
        linked.addCallbacks(lambda peer: Caller(peer, *map(int, arguments), ask=Echo), failed)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
