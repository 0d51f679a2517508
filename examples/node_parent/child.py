"""Counts words for the Node program that has forked it."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from twistedipc.ipc import NodePeer, parent_channel


class Counter:
    """What the parent's messages get to."""

    def __init__(self, parent: NodePeer, done: Deferred[None]) -> None:
        self.parent = parent
        self.done = done

    def message_received(self, message: Any) -> None:
        text = message["text"]
        self.parent.send({"text": text, "words": len(text.split())})

    def channel_closed(self, reason: str) -> None:
        self.done.callback(None)


async def main(reactor: Any) -> None:
    done: Deferred[None] = Deferred()
    parent = parent_channel(reactor, lambda peer: Counter(peer, done))
    parent.send({"ready": True})
    await done


if __name__ == "__main__":
    react(main)
