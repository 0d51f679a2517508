"""
Node's own `process.send()` channel, spoken by Python: as the parent of a Node script (`spawn_node`), and as a program
that Node has forked (`parent_channel`). Neither side needs a library for it.

In a Node script the channel is ``process.send(message)`` and ``process.on('message', …)``; in a Node parent it is
``fork('child.py', [], {execPath: 'python3'})``. Messages are whatever JSON can hold. Sockets and servers that Node
sends along are refused: closed, and acknowledged, so that nothing waits for them; the message that they came with
arrives.

``wire/node_channel.py`` has the format, ``connections/node.py`` the connection; what is here is processes and
descriptors.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IReactorProcess,
    IReactorSocket,
    IReactorTime,
)
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.protocol import ServerFactory

from twistedipc.ipc.connections.node import NodeApplicationFactory, NodeConnection, NodePeer
from twistedipc.ipc.places.child import Child, ChildExit
from twistedipc.ipc.places.ways import CHANNEL, CHILD_FD, MODE, announce_channel
from twistedipc.ipc.wire.errors import LinkError
from twistedipc.ipc.wire.node_channel import MESSAGE_LIMIT


class NodeReactor(IReactorTime, IReactorSocket, IReactorProcess):
    """What a channel needs of a reactor."""


class NoParentChannel(LinkError):
    """This process wasn't forked by Node with a channel that can be used; ``str()`` says why."""


# -- as the parent ---------------------------------------------------------------------------------------------------


def spawn_node(
    reactor: NodeReactor,
    script: str | Path,
    application_factory: NodeApplicationFactory,
    *,
    arguments: Sequence[str] = (),
    node: Sequence[str] = ("node",),
    environment: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    output: Callable[[int, bytes], None] | None = None,
    message_limit: int = MESSAGE_LIMIT,
) -> NodeProcess:
    """
    Start a Node script with a channel to this process, as Node's ``fork()`` would.

    :param node: the program and its own options; anything that finds its channel by ``NODECHANNEL_FD`` will do
    :param environment: its environment; None is this process's
    :param output: called with the descriptor (1 or 2) and bytes of its output; None: it goes where this process's goes
    :raises OSError: the program isn't there, or no process can be made
    """
    command = [*node, str(script), *arguments]
    variables = dict(os.environ if environment is None else environment)
    announce_channel(variables)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        process = Child(reactor, output)
        pipes: dict[int, int | str] = {1: 1, 2: 2} if output is None else {1: "r", 2: "r"}
        reactor.spawnProcess(
            process,
            command[0],
            command,
            env=variables,
            path=None if folder is None else str(folder),
            childFDs={0: 0, **pipes, CHILD_FD: theirs.fileno()},
        )
        channel = _adopt(reactor, ours.fileno(), application_factory, "the child", message_limit)
    process.talked_to_by(channel)
    return NodeProcess(channel.peer, process)


class NodeProcess:
    """A child with a channel."""

    def __init__(self, peer: NodePeer, process: Child) -> None:
        self.peer = peer
        self._process = process

    @property
    def pid(self) -> int | None:
        """The child's process id, while the child runs."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the child a signal. Do nothing if the child has ended."""
        self._process.signal(number)

    def ended(self) -> Deferred[ChildExit]:
        """Return a Deferred that fires when the child has exited and all that it sent and printed was delivered."""
        return self._process.ended()


# -- as the child ----------------------------------------------------------------------------------------------------


def parent_channel(
    reactor: NodeReactor,
    application_factory: NodeApplicationFactory,
    *,
    environment: MutableMapping[str, str] = os.environ,
    message_limit: int = MESSAGE_LIMIT,
) -> NodePeer:
    """
    Return the channel to the Node program that has forked this process. To be called once: the channel's variables are
    taken out of ``environment``, and its descriptor isn't passed on to children.

    :raises NoParentChannel: there is none, or it speaks another format (``serialization: 'advanced'``)
    """
    number, mode = environment.pop(CHANNEL, None), environment.pop(MODE, "json")
    if number is None:
        raise NoParentChannel(f"this process has no channel to a parent: {CHANNEL} isn't set")
    if mode != "json":
        raise NoParentChannel(f"the parent's channel has the serialization {mode!r}: only 'json' is spoken here")
    if not (number.isdecimal() and len(number) < 10):
        raise NoParentChannel(f"{CHANNEL} is {number!r}, which isn't a descriptor")
    descriptor = int(number)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise NoParentChannel(f"{CHANNEL} is {number}, which isn't a socket")
        os.set_blocking(descriptor, False)
        channel = _adopt(reactor, descriptor, application_factory, "the parent", message_limit)
        os.close(descriptor)  # the reactor has a duplicate, which isn't inherited
    except OSError as error:
        raise NoParentChannel(f"{CHANNEL} is {number}, which can't be used: {error.strerror}") from None
    return channel.peer


# -- the channel, given to the reactor -------------------------------------------------------------------------------


class _OneChannel(ServerFactory[StreamProtocol]):
    """The factory that `IReactorSocket` wants: of one channel."""

    noisy = False

    def __init__(self, channel: NodeConnection) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol:
        return self._channel


def _adopt(
    reactor: NodeReactor, descriptor: int, application_factory: NodeApplicationFactory, who: str, message_limit: int
) -> NodeConnection:
    channel = NodeConnection(reactor, application_factory, who, message_limit)
    factory = cast(Any, _OneChannel(channel))  # the interface wants a protocol that knows its factory
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)
    return channel
