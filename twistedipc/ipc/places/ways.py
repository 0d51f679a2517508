"""
The ways on which a child is linked with: its standard input and output (`Pipes`), or Node's own channel
(`NodeChannelWay`). Each is made before the child is started, and has what the child is given. Used by ``spawn``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Protocol

from twisted.internet.protocol import Protocol as StreamProtocol

from twistedipc.ipc.places.endpoints import Address, LinkReactor
from twistedipc.ipc.places.inherited import inherited_connection
from twistedipc.ipc.places.pipes import PipeTransport

#: The variables by which a Node child finds its channel, and the format on it.
CHANNEL = "NODE_CHANNEL_FD"
MODE = "NODE_CHANNEL_SERIALIZATION_MODE"
_CLUSTER = "NODE_UNIQUE_ID"  # would make a Node child believe that it is a worker of a cluster

#: The child's descriptor of the channel, as Node itself has it.
CHILD_FD = 3


def announce_channel(variables: MutableMapping[str, str]) -> None:
    """Say in a child's environment that it has Node's channel, at `CHILD_FD`."""
    variables.pop(_CLUSTER, None)
    variables.update({CHANNEL: str(CHILD_FD), MODE: "json"})


class Way(Protocol):
    """One end for this process, and one for the child."""

    descriptors: dict[int, int]  # the child's, each with the one here that becomes it; 2 isn't among them

    def prepare(self, variables: MutableMapping[str, str]) -> None:
        """Say in the child's environment what the child must know."""

    def close_theirs(self) -> None:
        """Close the child's end in this process: the child has its own now."""

    def close_ours(self) -> None:
        """Close this process's end, as there is no child."""

    def connecting(self, reactor: LinkReactor) -> Callable[[StreamProtocol], None]:
        """Return what gives a protocol this process's end."""


class Pipes:
    """The child's standard input and output."""

    def __init__(self) -> None:
        self._theirs_in, self._ours_out = os.pipe()
        self._ours_in, self._theirs_out = os.pipe()
        self.descriptors = {0: self._theirs_in, 1: self._theirs_out}

    def prepare(self, variables: MutableMapping[str, str]) -> None:
        """See `Way`. There is nothing to say."""

    def close_theirs(self) -> None:
        """See `Way`."""
        os.close(self._theirs_in)
        os.close(self._theirs_out)

    def close_ours(self) -> None:
        """See `Way`."""
        os.close(self._ours_in)
        os.close(self._ours_out)

    def connecting(self, reactor: LinkReactor) -> Callable[[StreamProtocol], None]:
        """See `Way`."""

        def connect(protocol: StreamProtocol) -> None:
            PipeTransport(reactor, protocol, self._ours_in, self._ours_out)

        return connect


class NodeChannelWay:
    """The channel that ``fork()`` gives a Node child: ``process.send`` there. Each message on it is a frame."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.descriptors = {0: 0, 1: 1, CHILD_FD: self._theirs.fileno()}

    def prepare(self, variables: MutableMapping[str, str]) -> None:
        """See `Way`."""
        announce_channel(variables)

    def close_theirs(self) -> None:
        """See `Way`."""
        self._theirs.close()

    def close_ours(self) -> None:
        """See `Way`."""
        self._ours.close()

    def connecting(self, reactor: LinkReactor) -> Callable[[StreamProtocol], None]:
        """See `Way`."""
        return inherited_connection(reactor, Address("fd", name=str(self._ours.detach())))
