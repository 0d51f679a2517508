"""
What stays the same of a line when a build is run again: its template, without numbers, hashes, times and temporary
names. Bottom layer, pure. By it, lines of a failed build are told apart from those that successes print as well.

It is made for logs of 100,000 lines, so a line costs one search, and another only if it looks like needing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: The longest part of a line that a template is made of, in characters.
MAX_LINE: Final = 300

# A word with a digit in it is a number, a time, a hash or a version, but the codes of errors aren't (TS2322, E404).
# What follows a number may be its unit: what takes 980 ms takes 1.02 s the next time.
_NUMBER: Final = re.compile(
    r"\b(?!(?:[A-Z]{1,4}\d{3,5}|ERR_\w+)\b)[^\W\d]*+\d\w*+(?:[.,:]\d\w*+)*+"
    r"(?: (?:ms|s|m|min|h|ns|[AP]M|[kKMG]i?B|B|bytes|%)(?!\w))?"
)

# index-BhTxKaqZ.js: a hash need not have a digit.
_HASHED: Final = re.compile(
    r"(?<=[-._])(?=[\w-]{0,19}[A-Z])[\w-]{8,20}(?=\.(?:m?js|cjs|css|map|svg|png|jpe?g|webp|woff2?)\b)"
)
_SUFFIXES: Final = (".js", ".mjs", ".cjs", ".css", ".map", ".svg", ".png", ".webp", ".woff")
_TEMPORARY: Final = re.compile(r"(?<=/tmp/)[\w.-]+|\.timestamp-[\w-]+")
_DIGEST: Final = re.compile(r"\bsha\d+-[\w+/=]+")

# Drawn lines and bars are as long as something else is, and spinners turn.
_DRAWN: Final = dict.fromkeys([*range(0x2500, 0x25A0), *range(0x2800, 0x2900)], " ")


def template(line: str) -> str:
    """Return what stays of a line (without escape sequences) in another run; "" if nothing does."""
    text = line[:MAX_LINE]
    if not text.isascii():
        text = text.translate(_DRAWN)
    if any(suffix in text for suffix in _SUFFIXES):
        text = _HASHED.sub("#", text)
    if "/tmp/" in text or ".timestamp-" in text:
        text = _TEMPORARY.sub("#", text)
    if "sha" in text:
        text = _DIGEST.sub("#", text)
    return " ".join(_NUMBER.sub("#", text).split()).strip(" #")


def templates(lines: Iterable[str]) -> set[str]:
    """Return the templates of lines."""
    found = set(map(template, lines))
    found.discard("")
    return found
