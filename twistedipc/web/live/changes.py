"""
Builds' states and gists on one socket: written at once, or kept, the newest of each build, until the socket takes
more. ``web.live``; used by the conversations.
"""

from __future__ import annotations

from collections.abc import Iterable

from twistedipc.server.boundaries import EncodedGist, StateChange
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.messages import frame_of
from twistedipc.web.live.output import Output

#: How many changes are kept for a socket that takes nothing.
MAX_KEPT = 10_000


class Changes:
    """
    What one socket is told about builds. Bounded: a socket for which more than ``max_kept`` would be kept is closed.
    """

    __slots__ = ("_kept", "_max_kept", "_output")

    def __init__(self, output: Output, max_kept: int = MAX_KEPT) -> None:
        self._output = output
        self._max_kept = max_kept
        self._kept: dict[tuple[type, int], StateChange | EncodedGist] = {}

    def tell(self, change: StateChange | EncodedGist) -> None:
        """Write this change, or keep it in place of an older one of the same build."""
        if not self._output.paused:
            self._output.write_frames(_frame(change))
            return
        key = (type(change), change.build)
        self._kept.pop(key, None)
        self._kept[key] = change
        if len(self._kept) > self._max_kept:
            self._kept.clear()
            self._output.say_goodbye(CloseCode.TOO_SLOW, "too many changes were not read")

    def tell_all(self, gists: Iterable[EncodedGist], frames: bytes) -> None:
        """Write all these gists; ``frames`` are theirs, for one write."""
        if not self._output.paused:
            self._output.write_frames(frames)
            return
        for each in gists:
            self.tell(each)

    def write_kept(self) -> None:
        """Write the changes that were kept, if the socket takes them."""
        if self._kept and not self._output.paused:
            kept, self._kept = self._kept, {}
            self._output.write_frames(b"".join(map(_frame, kept.values())))


def _frame(change: StateChange | EncodedGist) -> bytes:
    return frame_of(change) if isinstance(change, StateChange) else change.frame
