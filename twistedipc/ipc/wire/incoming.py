"""The calls of the peer that this side hasn't answered. Sans-IO; used by ``session`` and ``fastpath``."""

from __future__ import annotations

import msgspec


class IncomingCalls:
    """
    Open calls by their ids, which are the peer's.

    :param most: the calls that may be open at the same time
    """

    def __init__(self, most: int) -> None:
        self.most = most
        #: the type of each call's request
        self.open: dict[int, type[msgspec.Struct]] = {}
        #: the open calls that the peer doesn't wait for any longer
        self.dropped: set[int] = set()

    def drop(self, id_: int) -> bool:
        """Note that the peer doesn't wait any longer. Return whether that is new of an open call."""
        if id_ not in self.open or id_ in self.dropped:
            return False
        self.dropped.add(id_)
        return True

    def end(self, id_: int) -> bool:
        """Forget an open call that was answered. Return whether the peer still waits for the answer."""
        del self.open[id_]
        if id_ in self.dropped:
            self.dropped.discard(id_)
            return False
        return True

    def clear(self) -> None:
        """Forget all calls: nothing will be answered any more."""
        self.open.clear()
        self.dropped.clear()
