"""Streamed replies, and the limit of a line (docs/protocol.md, "Messages and calls")."""

from __future__ import annotations

import json
import time
from typing import Any

from twistedipc.conform.cases import case
from twistedipc.conform.meeting import Linked, Meeting
from twistedipc.conform.wire import Failed, shown

SECTION = "Messages and calls"

#: Bytes of items that are asked for at a time, and the most that a frame may go over that.
_CREDIT = 2000
_MOST = 1 << 20


def _request(meeting: Meeting, name: str) -> Any:
    return json.loads(meeting.option(name))


class Items:
    """The items of one call, as they come."""

    def __init__(self, linked: Linked, request: Any, credit: int) -> None:
        self._linked = linked
        self.number = linked.call(request, credit=credit)
        self.count = 0
        self.answer: dict[str, Any] | None = None  # the end

    def take(self, within: float | None = None) -> int:
        """Take what comes in one frame; how many bytes of items that were. 0: nothing has come, or it was the end."""
        wire = self._linked.wire
        deadline = time.monotonic() + (wire.soon if within is None else within)
        while (frame := wire.frame(max(0.0, deadline - time.monotonic()))) is not None:
            if frame.get("id") != self.number or frame["type"] not in ("call-items", "reply", "error"):
                continue
            if self.answer is not None:
                raise Failed(f"it says {shown(frame)} behind the end of its items")
            if frame["type"] != "call-items":
                self.answer = frame
                return 0
            if not isinstance(frame["items"], list) or not frame["items"]:
                raise Failed(f"its items are no array, or an empty one: {shown(frame)}")
            self.count += len(frame["items"])
            return len(json.dumps(frame["items"], separators=(",", ":"), ensure_ascii=False).encode())
        return 0

    def more(self, credit: int) -> None:
        """Let it send so many more bytes."""
        self._linked.wire.send({"type": "call-more", "id": self.number, "credit": credit})


@case("4.21", SECTION, "is the number of bytes of items, from 1, that may be\n  sent now")
def no_more_items_than_its_credit(meeting: Meeting) -> None:
    linked = meeting.link()
    items = Items(linked, _request(meeting, "items"), 1)
    taken = items.take()
    if not taken:
        raise Failed("it sends no item although it has credit")
    if items.take(0.4):
        raise Failed("it sends more items without credit")
    items.more(_CREDIT + taken)
    sizes: list[int] = []
    while size := items.take(linked.wire.soon if not sizes else 0.4):
        sizes.append(size)
    if not sizes:
        raise Failed("it sends nothing more when it is given credit")
    if items.answer is None and sum(sizes[:-1]) > _CREDIT + taken:
        raise Failed(f"it has sent {sum(sizes)} bytes of items, with a credit of {_CREDIT + taken}")
    linked.lives()


@case("4.22", SECTION, "`COUNT` is the number of all items")
def the_end_of_its_items(meeting: Meeting) -> None:
    linked = meeting.link()
    items = Items(linked, _request(meeting, "items"), _MOST)
    while items.answer is None:
        if not (size := items.take()) and items.answer is None:
            raise Failed(f"it sends neither items nor their end for {linked.wire.soon:g} s")
        items.more(max(1, size))
    if items.answer["type"] != "reply" or items.answer["reply"] != {"items": items.count}:
        raise Failed(f"it ends {items.count} items by {shown(items.answer)}")
    items.more(1)
    linked.lives()


@case("4.23", SECTION, "those that come after a `drop` are ignored")
def items_that_are_dropped(meeting: Meeting) -> None:
    linked = meeting.link()
    items = Items(linked, _request(meeting, "items"), 1)
    items.take()
    linked.wire.send({"type": "drop", "id": items.number})
    items.more(_MOST)
    # None can have been under way: the credit was spent.
    if items.take(0.4) or items.answer is not None:
        raise Failed("it goes on with items that were dropped")
    linked.lives()


@case("4.24", SECTION, "A call of such a request without `credit` is answered by `bad-request`")
def items_without_credit(meeting: Meeting) -> None:
    linked = meeting.link()
    answer = linked.answered(linked.call(_request(meeting, "items")))
    if answer.get("code") != "bad-request":
        raise Failed(f"it answers a call for items without credit by {shown(answer)}")
    linked.lives()


@case("4.25", SECTION, "wrong fields in the link's own frames, end the link")
def credit_that_is_none(meeting: Meeting) -> None:
    request = _request(meeting, "items")
    for wrong in (0, -1, "much", None):
        linked = meeting.link()
        items = Items(linked, request, 1)
        linked.wire.send({"type": "call-more", "id": items.number, "credit": wrong})
        linked.wire.ends("bad-message")
        meeting.close_all()


@case("4.26", SECTION, "A reply that is over the limit of one of the two ends is replaced by the `error` `too-large`.")
def a_reply_over_the_limit_of_its_caller(meeting: Meeting) -> None:
    request = _request(meeting, "large")
    linked = meeting.link(frame_limit=4096)
    answer = linked.answered(linked.call(request))
    if answer.get("code") != "too-large":
        raise Failed(f"it answers a caller that takes 4096 bytes by {shown(answer)}")
    linked.lives()
