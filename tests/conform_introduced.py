"""What an end of ``conform_wrong`` says that it takes, and its streamed replies; and the faults that both can have."""

from __future__ import annotations

import json
from typing import Any

#: A row of what is taken that is right, and how many there may be.
ROW = ["message", "note", "0" * 16]
MOST = 2048
_COUNTS = {"message": 1, "call": 2, "items": 2, "stream": 1}

#: How many items answer `rows`, and how long each is.
ROWS, SIZE = 60, 100


class WrongFrame(Exception):
    """The link is to end: by ``bad-handshake``, or by ``bad-message``."""


class Introduced:
    """What it says of itself, and hears of the other end."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._count = 0

    @property
    def frames(self) -> list[dict[str, Any]]:
        """What it says."""
        row = ["message", "note", "0"] if self._fault == "short fingerprints" else ROW
        said: list[dict[str, Any]] = [
            {"type": "link-interface", "takes": [row], "more": True},
            {"type": "link-interface", "takes": [["call", "rows", "0" * 16, "0" * 16]]},
        ]
        return [*said, {"type": "note"}] if self._fault == "speaks before its turn" else said

    def heard(self, frame: dict[str, Any]) -> bool:
        """Take what the other end says. Return whether that was all. Raises `WrongFrame`."""
        if self._fault == "any rows":
            return not frame.get("more")
        takes, more = frame.get("takes"), frame.get("more", False)
        if not isinstance(takes, list) or not isinstance(more, bool) or (more and not takes):
            raise WrongFrame
        if not all(self._is_row(row) for row in takes):
            raise WrongFrame
        self._count += len(takes)
        if self._count > MOST and self._fault != "rows without end":
            raise WrongFrame
        return not more

    def _is_row(self, row: Any) -> bool:
        if not isinstance(row, list) or not 1 <= len(row) <= 8 or not all(isinstance(each, str) for each in row):
            return False
        count = _COUNTS.get(row[0])
        if count is None:
            return self._fault != "no later rows"
        return len(row) >= 2 + count and all(len(each) == 16 for each in row[2 : 2 + count])


class Replies:
    """
    Its replies: `rows` is answered by items, `large` by a long reply.

    :param limit: of a line that the other end takes
    """

    def __init__(self, fault: str, limit: int) -> None:
        self._fault = fault
        self._limit = limit
        self._left: dict[int, int] = {}  # by the calls' ids, the items that weren't sent
        self._credit: dict[int, int] = {}

    def called(self, number: int, request: Any, credit: Any) -> list[dict[str, Any]] | None:
        """Return what a call is answered by; None: it isn't known. Raises `WrongFrame`."""
        self._check(credit, least=0)
        kind = request.get("type") if isinstance(request, dict) else None
        if kind == "large":
            reply = {"type": "reply", "id": number, "reply": {"text": "x" * 8000}}
            if len(json.dumps(reply)) > self._limit and self._fault != "no limits":
                reply = {"type": "error", "id": number, "code": "too-large", "message": ""}
            return [reply]
        if kind != "rows":
            return None
        if not credit and self._fault != "items unasked":
            return [{"type": "error", "id": number, "code": "bad-request", "message": ""}]
        self._left[number] = ROWS
        self._credit[number] = 0
        return self.more(number, credit or 1)

    def more(self, number: int, credit: Any) -> list[dict[str, Any]]:
        """Return the items that may be sent with more credit, and the end of them. Raises `WrongFrame`."""
        self._check(credit, least=1)
        if number not in self._left:
            return []
        if self._fault != "any credit":
            self._credit[number] += credit
        else:
            self._credit[number] = 1 << 20
        said: list[dict[str, Any]] = []
        while self._left[number] and (self._credit[number] > 0 or self._fault == "no item credit"):
            said.append({"type": "call-items", "id": number, "items": ["x" * SIZE]})
            self._left[number] -= 1
            self._credit[number] -= SIZE + 4
        if not self._left[number]:
            self.drop(number)
            count = ROWS + 1 if self._fault == "wrong count" else ROWS
            said.append({"type": "reply", "id": number, "reply": {"items": count}})
        return said

    def drop(self, number: int) -> bool:
        """Forget a call. Return whether it was known."""
        return self._fault != "goes on" and self._left.pop(number, None) is not None

    def _check(self, credit: Any, *, least: int) -> None:
        if self._fault != "any credit" and (isinstance(credit, bool) or not isinstance(credit, int) or credit < least):
            raise WrongFrame
