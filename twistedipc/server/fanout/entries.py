"""
What a log is made of on its way to viewers: entries, each encoded once, and runs of them, each joined once. Used by
``live``, ``cursor`` and ``store``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import assert_never

from twistedipc.builds.frames import Form, deflated_frame, text_frame
from twistedipc.builds.logs import Batch, encoder
from twistedipc.server.boundaries import LogEntry, SharedFrames
from twistedipc.server.fanout.shared import SharedBytes, SharedFiles

_FORMS = len(Form)


class Entry:
    """One message of a log. ``tag``: what its tagged forms begin with; see `tag_of`."""

    __slots__ = ("_frames", "end", "final", "first", "message", "tag")

    def __init__(self, first: int, end: int, message: bytes, tag: bytes, *, final: bool = False) -> None:
        self.first = first
        self.end = end
        self.message = message
        self.tag = tag
        self.final = final
        self._frames: list[bytes | None] = [None] * _FORMS

    def frame(self, form: Form) -> bytes:
        """See `boundaries.LogEntry`."""
        frame = self._frames[form]
        if frame is None:
            match form:
                case Form.PLAIN:
                    frame = text_frame(self.message)
                case Form.TAGGED:
                    frame = text_frame(self.tag + self.message[1:])
                case Form.DEFLATED:
                    frame = deflated_frame(self.message) or self.frame(Form.PLAIN)
                case Form.DEFLATED_TAGGED:
                    frame = deflated_frame(self.tag + self.message[1:]) or self.frame(Form.TAGGED)
                case never:
                    assert_never(never)
            self._frames[form] = frame
        return frame


class _Frames(dict[Form, SharedFrames]):
    """
    A run's frames by form, each joined when the first viewer wants it. A dict, so that no other viewer costs a call.
    """

    __slots__ = ("entries", "files")

    # Not the run: in a circle, its files would be closed by the collector alone.
    entries: tuple[LogEntry, ...]
    files: SharedFiles

    def __missing__(self, form: Form) -> SharedFrames:
        shared = self[form] = SharedBytes(b"".join([entry.frame(form) for entry in self.entries]), self.files)
        return shared


class Run(tuple[LogEntry, ...]):
    """Consecutive entries, as they are taken. See `boundaries.LogRun`."""

    more = False
    final = False
    files = SharedFiles(most=0)  # where the frames may be, for many sockets

    @cached_property
    def frames(self) -> dict[Form, SharedFrames]:
        """See `boundaries.LogRun`."""
        frames = _Frames()
        frames.entries = tuple(self)
        frames.files = self.files
        return frames


#: There is nothing now.
NOTHING = Run()


def run_of(entries: Sequence[LogEntry], files: SharedFiles, more: bool) -> Run:
    """A run of these entries; ``more``: there may be more at once."""
    run = Run(entries)
    run.files = files
    run.more = more
    run.final = bool(run) and run[-1].final
    return run


def tag_of(attempt: str) -> bytes:
    """The beginning of this attempt's tagged messages, in place of their ``{``."""
    build, _, number = attempt.partition("-")
    return b'{"build":%d,"attempt":%d,' % (int(build), int(number))


def entry_of(batch: Batch, tag: bytes) -> Entry:
    """The entry of a batch, or of a gap."""
    return Entry(batch.first, batch.end, encoder.encode(batch), tag)
