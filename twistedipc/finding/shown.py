"""
A text as people see it: without escape sequences, and of a line that is redrawn with ``\\r`` what was drawn last.
``finding``; pure. Its lines are as many as before.
"""

from __future__ import annotations

import re

from twistedipc.sealed.words import searchable

# Up to the last \r that something was drawn behind.
_DRAWN_OVER = re.compile(rb"^[^\n]*\r(?=[^\r\n])", re.MULTILINE)


def shown(text: bytes) -> bytes:
    """
    Return ``text`` (UTF-8, any number of lines) as people see it. No trigram is in it that isn't in `searchable` of it,
    since only the beginnings and the last character of lines are left out.
    """
    return drawn_last(searchable(text))


def drawn_last(text: bytes) -> bytes:
    """Return the same of a text that is `searchable` already."""
    return _DRAWN_OVER.sub(b"", text).replace(b"\r", b"") if b"\r" in text else text
