"""The calls of one side of a session that wait for their replies. Sans-IO; used by ``session``."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from twistedipc.ipc.wire.errors import Code, RemoteProtocolError


class OutgoingCalls:
    """
    Calls in flight, by their ids, which count from 1. `Session.call` adds them.

    ``awaited`` is the type of all replies that are awaited, if it is one; else None. ``earliest`` is never later than
    the earliest deadline; `expired` puts it right.
    """

    def __init__(self) -> None:
        self.last_id = 0
        self.waiting: dict[int, tuple[type[msgspec.Struct], float]] = {}  # the type of the request, the deadline
        self.awaited: Any = None
        #: of those that wait for items, the type of the request. They have no deadline here, and their replies aren't
        #: among those that ``awaited`` tells of: the calls beside them go on as fast as without.
        self.for_items: dict[int, type[msgspec.Struct]] = {}
        self.earliest = math.inf

    def end(self, id_: int) -> type[msgspec.Struct] | None:
        """
        Forget a call that was answered. Return the type of its request, or None if the call has been dropped: the
        answer has crossed with a `Drop`. Raises `RemoteProtocolError` if the call was never made.
        """
        if id_ > self.last_id:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"an answer to call {id_}, which was never made")
        call = self.waiting.pop(id_, None)
        return self.for_items.pop(id_, None) if call is None else call[0]

    def expired(self, now: float) -> list[tuple[int, type[msgspec.Struct]]]:
        """Return the calls whose deadline has passed, each with its request's type. They still wait."""
        if now < self.earliest:
            return []
        over = [(id_, request) for id_, (request, deadline) in self.waiting.items() if deadline <= now]
        self.earliest = min((deadline for _, deadline in self.waiting.values() if deadline > now), default=math.inf)
        return over

    def clear(self) -> None:
        """Forget all calls: nothing will be answered any more."""
        self.waiting.clear()
        self.for_items.clear()
