"""
Which names the files of a site can have. ``publish`` layer; pure, used by ``archive`` (packing and unpacking) and by
the releases' site (serving): what one of them takes, the other takes too, so whatever is packed can be fetched.

A segment is refused only for what can't be one: its length, an encoding other than UTF-8, "/", control characters,
"." and "..". All else is a name like any other: blanks of every kind, joiners, backslashes, "%".

A name that begins with a dot is hidden (``.env``, ``.git``, ``.nojekyll``): it isn't packed, and isn't served. Two
exceptions: the folder ``.well-known`` at the top (RFC 8615), and names that begin with two dots, which no tool hides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The longest name of a file or folder, in bytes: what file systems take.
MAX_SEGMENT = 255

#: The longest path of a file, in bytes. Percent-encoded it's three times as long: still short enough for a request.
MAX_PATH = 1024

WELL_KNOWN = ".well-known"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def problem_of_segment(segment: str) -> str | None:
    """Why this can't be the name of a file or folder, to come after "its name …"; None if it can."""
    try:
        length = len(segment.encode())
    except UnicodeEncodeError:
        return "isn't UTF-8"
    if _CONTROL.search(segment):
        return "has control characters"
    if segment in ("", ".", "..") or "/" in segment:
        return f"can't be {segment!a}"
    if length > MAX_SEGMENT:
        return f"has more than {MAX_SEGMENT} bytes"
    return None


def is_hidden(segments: Sequence[str]) -> bool:
    """Return whether the path with these segments is hidden: it isn't packed, nor served."""
    return any(
        segment.startswith(".") and not segment.startswith("..") and (depth, segment) != (0, WELL_KNOWN)
        for depth, segment in enumerate(segments)
    )
