"""
A build's own messages (`builds.logs.Said`), in words for a terminal or a file. ``terminal``; pure. No result has
control characters or, but for `summary`, newlines.
"""

from __future__ import annotations

from typing import Final

from twistedipc.builds.counts import counted
from twistedipc.builds.logs import Annotation, Progress
from twistedipc.terminal import escapes

_QUARTERS: Final = 4


def one_line(text: str) -> str:
    """Return a stranger's text on one line, without control characters."""
    return " ".join(escapes.plain(text).split("\n"))


def remark(event: Annotation) -> str:
    """
    Return an annotation in the form of a compiler's messages, which terminals and editors turn into links:
    FILE:LINE:COLUMN: LEVEL: MESSAGE.
    """
    file = one_line(event.file)  # cleaned apart from the message, in which a \r would remove it
    place = [str(number) for number in (event.line, event.column) if number]
    where = f"{':'.join([file, *place])}: " if file else ""
    return f"{where}{event.level}: {one_line(event.message)}"


def percent(value: float) -> str:
    """Return a progress in percent. It is 100% only when it is complete."""
    return f"{round(value * 10_000) // 100}%"


def progress(value: float, label: str) -> str:
    """Return a progress on one line."""
    return f"{percent(value)} {one_line(label)}".rstrip()


def remarks(*, errors: int, warnings: int, notices: int) -> str:
    """Return how many annotations there are of each level; "" if there are none."""
    counts = (("error", errors), ("warning", warnings), ("notice", notices))
    return ", ".join(counted(count, level) for level, count in counts if count)


def summary(markdown: str) -> str:
    """Return a summary as it was written, on several lines, without control characters or empty lines at its ends."""
    return escapes.plain(markdown.replace("\r\n", "\n")).strip("\n")


class Quarters:
    """
    Thins progress out for output that can't be redrawn, since some builds report it a thousand times. Progress is told
    when it enters another quarter than what was told last, also when it goes back (a build that begins something
    else). So it is told at most five times while it only grows.
    """

    def __init__(self) -> None:
        self._said = -1

    def news(self, event: Progress) -> str:
        """Return what to tell about this progress; "" if nothing."""
        quarter = int(event.value * _QUARTERS)
        if quarter == self._said:
            return ""
        self._said = quarter
        return progress(event.value, event.label)

    def reset(self) -> None:
        """Start over: the first progress of the next step is told."""
        self._said = -1
