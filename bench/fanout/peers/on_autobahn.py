"""
Autobahn on Twisted, as one writes it: a ``sendMessage`` for each line and viewer.

    python -m bench.fanout.peers.on_autobahn PORT FEED_PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from bench.common.processes import say

reactor: Any = global_reactor
viewers: set[Any] = set()


class Viewer(WebSocketServerProtocol):
    """One viewer."""

    def onOpen(self) -> None:
        viewers.add(self)

    def onClose(self, *_: object) -> None:
        viewers.discard(self)


class Feed(LineOnlyReceiver):
    """The lines."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        payload = json.dumps({"type": "line", "line": line.decode()}).encode()
        for viewer in viewers:
            viewer.sendMessage(payload)


def main() -> None:
    """Serve until killed."""
    factory = WebSocketServerFactory()
    factory.protocol = Viewer
    reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
    reactor.listenTCP(int(sys.argv[2]), Factory.forProtocol(Feed), interface="127.0.0.1")
    reactor.callWhenRunning(say, ready=True)
    reactor.run()


if __name__ == "__main__":
    main()
