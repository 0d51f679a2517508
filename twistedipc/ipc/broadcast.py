"""One message to many peers: `send_to`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.wire.errors import Code, LocalProtocolError, NotConnected


def send_to(
    peers: Iterable[Peer], message: msgspec.Struct, slow: Literal["drop", "wait", "close"] = "drop"
) -> Deferred[int]:
    """
    Send a one-way message to many peers, `Listening.peers` say. It is encoded once for all peers on links.

    :param slow: what becomes of a peer that doesn't keep up (`Peer.paused`): ``drop``: it doesn't get this message;
        ``wait``: it gets the message as soon as it keeps up again, and the Deferred waits for that; ``close``: its link
        is closed. All that is sent by ``wait`` reaches a peer in the order in which it was given here; what is sent in
        another way meanwhile may overtake it
    :returns: a Deferred of the number of peers to which the message was sent. It fires at once, unless it waits. A peer
        whose link ends meanwhile isn't counted
    :raises LocalProtocolError: the message can't be sent, or is too long for one of the peers: it was sent to none
    """
    linked = list(peers)
    sending = _Sending(message, linked)
    outcomes = [sending.send(peer, slow) for peer in linked]
    return gatherResults(outcomes).addCallback(sum)


class _Sending:
    """A message on its way to many peers."""

    def __init__(self, message: msgspec.Struct, peers: list[Peer]) -> None:
        self._message = message
        self._line = _line_for(peers, message)
        for peer in peers:
            if len(self._line) - 1 > peer.frame_limit:
                raise LocalProtocolError(f"a message of {len(self._line) - 1} bytes is too long for {peer!r}")

    def send(self, peer: Peer, slow: str) -> Deferred[int]:
        """Return a Deferred of 1 if the message was sent, else of 0."""
        if slow == "wait":
            # Behind the others that wait. Where there is room it fires at once, and none comes between.
            return peer._link.drain().addCallbacks(lambda _: self._send_now(peer), _gone)
        if not peer.paused:
            return succeed(self._send_now(peer))
        if slow == "close":
            peer.close(Code.OVERFLOW, "the peer doesn't keep up with what is sent to all")
        return succeed(0)

    def _send_now(self, peer: Peer) -> int:
        try:
            if isinstance(peer._link, JSONLineProtocol):
                peer._link.send_line(self._line)
            else:
                peer._link.send(self._message)
        except NotConnected:
            return 0
        return 1


def _line_for(peers: list[Peer], message: msgspec.Struct) -> bytes:
    """Return the message as one of the links would send it; nothing if no link is up."""
    for peer in peers:
        if isinstance(peer._link, JSONLineProtocol):
            try:
                return peer._link.line_of(message)
            except NotConnected:
                pass
    return b""


def _gone(failure: Failure) -> int:
    failure.trap(NotConnected)
    return 0
