"""A site over releases that are there, as a process: ``python -m tests.integration.site_server FOLDER``.

It says its port. Each line that it reads is the number of a release of ``shop``, which it makes live and says again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.releases.site import releases_site

reactor: Any = global_reactor


class Switch(LineReceiver):
    """Makes releases live; ends with its input."""

    delimiter = b"\n"

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store

    def lineReceived(self, line: bytes) -> None:
        """Another release goes live."""
        self._store.activate("shop", int(line))
        self.sendLine(line)

    def connectionLost(self, reason: object = None) -> None:
        """The test has ended."""
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Serve until the input ends."""
    store = ReleaseStore(Path(sys.argv[1]))
    listening = reactor.listenTCP(0, releases_site(store, reactor, os.urandom), interface="127.0.0.1")
    print(listening.getHost().port, flush=True)
    StandardIO(Switch(store))
    reactor.run()


if __name__ == "__main__":
    main()
