"""
What a build says of itself (`builds.logs.Said`), in words for a terminal or a file. Pure; used by ``web`` (the log as
text) and by ``cli``. Whatever it returns has no control characters and, but for `summary`, no newline.
"""

from __future__ import annotations

from typing import Final

from twistedipc.builds.logs import Annotation, Progress
from twistedipc.terminal import escapes

_QUARTERS: Final = 4


def one_line(text: str) -> str:
    """A stranger's text on one line, without any control character."""
    return " ".join(escapes.plain(text).split("\n"))


def remark(event: Annotation) -> str:
    """An annotation as compilers write theirs, which terminals and editors make links of: FILE:LINE: LEVEL: MESSAGE."""
    file = one_line(event.file)  # each for itself: a \r in the message is to hide nothing of it
    where = f"{file}:{event.line}: " if file and event.line else f"{file}: " if file else ""
    return f"{where}{event.level}: {one_line(event.message)}"


def percent(value: float) -> str:
    """How far a progress is. 100% only when it is."""
    return f"{round(value * 10_000) // 100}%"


def progress(value: float, label: str) -> str:
    """A progress on one line."""
    return f"{percent(value)} {one_line(label)}".rstrip()


def remarks(*, errors: int, warnings: int, notices: int) -> str:
    """How many annotations there are of each level; "" if there are none."""
    counts = (("error", errors), ("warning", warnings), ("notice", notices))
    return ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts if count)


def summary(markdown: str) -> str:
    """A summary as it was written: several lines without any control character, none of them empty at its ends."""
    return escapes.plain(markdown.replace("\r\n", "\n")).strip("\n")


class Quarters:
    """
    Thins progress for whoever can't redraw a bar: some builds report it a thousand times. It is said when it comes into
    another quarter than what was said last, also backwards (a build that begins something else), hence at most five
    times while it only grows.
    """

    def __init__(self) -> None:
        self._said = -1

    def news(self, event: Progress) -> str:
        """What to say of it; "" if nothing."""
        quarter = int(event.value * _QUARTERS)
        if quarter == self._said:
            return ""
        self._said = quarter
        return progress(event.value, event.label)

    def reset(self) -> None:
        """Another step: its first progress is news."""
        self._said = -1
