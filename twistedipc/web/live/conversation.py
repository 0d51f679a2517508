"""
What a conversation is, and what it reads from. ``web.live``; the two kinds are in ``one_log`` and ``subscriptions``,
and ``viewers`` has the sockets that they are held on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twistedipc.server.boundaries import GistFeed, StateFeed
from twistedipc.storage.ledger import Ledger
from twistedipc.web.live.followers import Crowds
from twistedipc.web.live.output import Output


class Conversation(Protocol):
    """
    What is said on one socket. `begin` is called once, when the handshake is done; then `heard` and `write_on` any
    number of times; then `close` once.
    """

    def begin(self) -> None:
        """Start. (The constructor doesn't, since the socket must know its conversation first.)"""

    def heard(self, payload: bytes, binary: bool) -> None:
        """Take a message of the client."""

    def write_on(self) -> None:
        """Write what has waited: the socket takes more now."""

    def close(self) -> None:
        """Drop everything: nothing can be written any more."""


#: Makes the conversation of a socket whose handshake is done.
Opening = Callable[[Output], Conversation]


@dataclass(frozen=True)
class Sources:
    """What all conversations of an apiserver read from."""

    ledger: Ledger
    crowds: Crowds
    states: StateFeed
    gists: GistFeed
    now: Callable[[], int]  # milliseconds since the epoch


def stop_nothing() -> None:
    """Stands for a function that stops listening, while nothing is listened to."""
