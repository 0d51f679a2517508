"""The ports of the apiserver: how many connections may wait to be accepted."""

from __future__ import annotations

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from twistedipc.taps.common import BACKLOG, for_a_crowd


@pytest.mark.parametrize(
    ("endpoint", "backlog", "interface"),
    [
        ("tcp:8080", BACKLOG, ""),
        ("tcp:8080:interface=127.0.0.1", BACKLOG, "127.0.0.1"),
        ("tcp:port=8080:interface=127.0.0.1", BACKLOG, "127.0.0.1"),
        (r"tcp:8080:interface=\:\:1", BACKLOG, "::1"),
        ("tcp:8080:backlog=7:interface=127.0.0.1", 7, "127.0.0.1"),
        ("tcp:8080:127.0.0.1:7", 7, "127.0.0.1"),
    ],
)
def test_a_crowd_may_wait_unless_the_operator_says_otherwise(endpoint: str, backlog: int, interface: str) -> None:
    reactor = MemoryReactorClock()
    serverFromString(reactor, for_a_crowd(endpoint)).listen(Factory())
    ((port, _, waiting, where),) = reactor.tcpServers
    assert (port, waiting, where) == (8080, backlog, interface)


@pytest.mark.parametrize("endpoint", ["unix:api.sock", "systemd:domain=INET:index=0", "tcp:8080:127.0.0.1"])
def test_what_can_not_be_told_is_left_as_it_is(endpoint: str) -> None:
    assert for_a_crowd(endpoint) == endpoint
