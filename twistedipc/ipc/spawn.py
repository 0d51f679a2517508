"""
A child process that is linked with by its standard input and output: `spawn`. The child, a program in any language that
speaks the link, says `listen` or `dial` with ``stdio:``.

::

    calculator = spawn(reactor, [sys.executable, "calculator.py"], CALCULATOR)
    total = await calculator.call(Add(a=2, b=3), timeout=5)      # a Sum
    await calculator.close()                                     # and the child has ended

in ``calculator.py``::

    listening = await listen(reactor, "stdio:", Calculator())
    await listening.closed()                                     # the parent has closed it, or has died

A Node child may be linked with by Node's own channel instead, ``spawn(…, channel="node")``: it says ``parent:`` to the
package for Node, and its standard input and output are free.

There is one link, for as long as the child lives, and the child lives as long as its link. Parent and child know one
another, and need no key; the handshake tells them names, versions, and whether they speak of the same interface.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Literal, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorProcess

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.links.dial import AnyLink
from twistedipc.ipc.links.once import OneLink
from twistedipc.ipc.places.child import Child, ChildExit
from twistedipc.ipc.places.endpoints import LinkReactor
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.places.pipes import DRAIN
from twistedipc.ipc.places.ways import NodeChannelWay, Pipes, Way
from twistedipc.ipc.remote import Remote, Unlinked
from twistedipc.ipc.service import Limits, side_settings
from twistedipc.ipc.wire.errors import Code
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.settings import Side

#: Seconds that a child has to exit once its link has ended, before it gets a SIGTERM; and from that to a SIGKILL.
GRACE = 5.0

#: Seconds for a child to get as far as its handshake, unless `spawn` is told another ``handshake_timeout``.
START_TIMEOUT = 60.0


class SpawnReactor(LinkReactor, IReactorProcess):
    """What spawning needs of a reactor."""


def spawn(
    reactor: SpawnReactor,
    command: Sequence[str | Path],
    interface: Interface | None = None,
    *,
    service: Service | None = None,
    channel: Literal["stdio", "node"] = "stdio",
    unlinked: Unlinked = Unlinked(),  # noqa: B008  (immutable)
    name: str = "",
    environment: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    printed: Callable[[bytes], None] | None = None,
    grace: float = GRACE,
    nonce: Callable[[], str] = make_nonce,
    **limits: Unpack[Limits],
) -> Spawned:
    """
    Start a program, and link with it by its standard input and output. Returns at once; calls wait for the link.

    :param command: the program and its arguments
    :param interface: the child's, which says ``listen(reactor, "stdio:", …)``. None: it only asks, by
        ``dial(reactor, "stdio:", …)``, and ``service`` answers
    :param service: what answers the child, if it calls as well
    :param channel: ``"stdio"``: the child's standard input and output. ``"node"``: the channel that Node's ``fork()``
        gives a child, for a Node program with the package for Node, which says ``listen('parent:', …)`` or
        ``dial('parent:', …)``. What the child prints is no part of the link then
    :param name: this side's name, for logs; by default its role and process id
    :param environment: the child's; None is this process's
    :param folder: the child's working directory; None is this process's
    :param printed: called with bytes of what it prints to standard error, and with Node's channel to standard output;
        None: they go where this process's go
    :param grace: seconds that it has to exit once the link has ended, before a SIGTERM, and again before a SIGKILL
    :param nonce: gives 64 random hexadecimal digits, others each time: for handshakes, and for what tells one start of
        this side from the next
    :raises OSError: the program isn't there, or no process can be made
    """
    if interface is not None:
        answered = None if service is None else service.interface
        side, roles = Side.DIALLER, (interface.peer_role, interface.role)
    elif service is not None:
        answered = service.interface
        side, roles = Side.LISTENER, (answered.role, answered.peer_role)
    else:
        raise TypeError("an interface of the child's, or a service that answers it, is needed")
    limits.setdefault("handshake_timeout", START_TIMEOUT)
    settings = side_settings(*roles, answered, interface, None, name, limits, nonce)
    spawned = Spawned(
        reactor,
        interface,
        service,
        unlinked,
        printed,
        grace,
        named=bool(name),
        frame_limit=settings.frame_limit,
        max_calls=settings.max_calls,
    )

    def make_link(owner: OneLink) -> JSONLineProtocol:
        return JSONLineProtocol(side, settings, spawned.application, reactor, owner, nonce())

    way = NodeChannelWay() if channel == "node" else Pipes()
    spawned.begin(command, environment, folder, make_link, way)
    return spawned


class Spawned(Remote):
    """A child that is linked with: a `Remote` over one link. Made by `spawn`."""

    def __init__(
        self,
        reactor: SpawnReactor,
        interface: Interface | None,
        service: Service | None,
        unlinked: Unlinked,
        printed: Callable[[bytes], None] | None,
        grace: float,
        *,
        named: bool,
        frame_limit: int,
        max_calls: int,
    ) -> None:
        super().__init__(
            reactor, interface, service, unlinked, named=named, frame_limit=frame_limit, max_calls=max_calls
        )
        output = None if printed is None else lambda _, data: printed(data)
        self.child = Child(reactor, output, self._exited)
        self._reactor = reactor
        self._is_piped = printed is not None
        self._grace = grace
        self._link: OneLink | None = None
        self._lost = ""  # why the link was lost, while it isn't known whether the child has exited
        self._timer: IDelayedCall | None = None

    def begin(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None,
        folder: str | Path | None,
        make_link: Callable[[OneLink], AnyLink],
        way: Way,
    ) -> None:
        """Start the child, and link with it. Raise OSError if that fails. Internal to the library."""
        words = [os.fspath(word) for word in command]
        variables = dict(os.environ if environment is None else environment)
        way.prepare(variables)
        printed: dict[int, int | str] = {2: 2}
        if self._is_piped:
            printed = {number: "r" for number in (1, 2) if way.descriptors.get(number, number) == number}
        try:
            self._reactor.spawnProcess(
                self.child,
                _program(words[0], variables, folder),
                words,
                env=variables,
                path=None if folder is None else os.fspath(folder),
                childFDs={**way.descriptors, **printed},
            )
        except BaseException:
            way.close_ours()
            raise
        finally:
            way.close_theirs()
        what = f"the child {os.path.basename(words[0])}"
        self._link = OneLink(what, make_link, way.connecting(self._reactor), self._link_lost)
        self.child.talked_to_by(self)
        self.start(self._link)

    @property
    def pid(self) -> int | None:
        """The child's process id, while it lives."""
        return self.child.pid

    def signal(self, number: int) -> None:
        """Send the child a signal. Nothing happens if it has exited."""
        self.child.signal(number)

    def ended(self) -> Deferred[ChildExit]:
        """Return a Deferred that fires when the child has exited and all its messages and output were delivered."""
        return self.child.ended()

    def close(self) -> Deferred[None]:
        """
        End the link, and wait for the child to exit: by itself, or else by a SIGTERM, or else by a SIGKILL. What waits
        for the link fails.
        """
        closed = super().close()

        async def close() -> None:
            await closed
            await self.ended()

        return Deferred.fromCoroutine(close())

    # -- as the child's conversation

    @property
    def is_over(self) -> bool:
        """Whether nothing comes from the child any more. Internal to the library."""
        return self._link is None or self._link.is_over

    @property
    def reading_is_paused(self) -> bool:
        """Whether what the child has sent isn't wanted for now. Internal to the library."""
        return self._link is not None and self._link.link.paused

    def abort(self, reason: str) -> None:
        """Close the link at once. Internal to the library."""
        if self._link is not None:
            self._link.link.close(Code.CLOSED, reason, abrupt=True)

    # -- the end

    def _link_lost(self, reason: str) -> None:
        self._lost = reason
        if self.child.exit is not None:
            self._known()
        else:
            # Most often it has exited, and the news of that comes in a moment: the better reason.
            self._timer = self._reactor.callLater(DRAIN, self._lives_on)

    def _exited(self, exit: ChildExit) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lost:
            self._known()

    def _known(self) -> None:
        self.over(f"the child {self.child.exit} ({self._lost})")

    def _lives_on(self) -> None:
        self._timer = self._reactor.callLater(max(0.0, self._grace - DRAIN), self._end_it, SIGTERM)
        self.over(self._lost)

    def _end_it(self, number: int) -> None:
        self._timer = None
        if number == SIGTERM:
            self._timer = self._reactor.callLater(self._grace, self._end_it, SIGKILL)
        self.signal(number)


def _program(program: str, environment: Mapping[str, str], folder: str | Path | None) -> str:
    """Return the program to be run. Raises FileNotFoundError, which some ways to start a process don't."""
    if "/" in program:
        found = program if os.access(os.path.join(folder or "", program), os.X_OK) else None
    else:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"the program {program} isn't there, or can't be run")
    return found
