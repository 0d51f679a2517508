"""
What a commit is tagged with when a package is published, and what its changelog says of the version. Pure; used by
``pack``.
"""

from __future__ import annotations

import re

#: The most characters of notes.
MAX_NOTES = 4000

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")


def git_tag(name: str, version: str, *, several: bool) -> str:
    """Return the tag: of one of ``several`` packages with its name, as changesets has it."""
    return f"{name}@{version}" if several else f"v{version}"


def notes_of(changelog: str, version: str) -> str:
    """
    Return the section of a changelog in Markdown whose heading names a version, without the heading; "" if there is
    none. Headings are as keepachangelog.com, changesets and conventional-changelog write them.
    """
    named = re.compile(rf"(?<![\w.+-])v?{re.escape(version)}(?![\w+-]|\.\w)")
    level = 0  # of the heading that was found; 0: not yet
    kept: list[str] = []
    fence = ""
    for line in changelog.replace("\r\n", "\n").split("\n"):
        opened = _FENCE.match(line)
        heading = None if fence else _HEADING.match(line)
        if opened is not None and fence in ("", opened[1]):
            fence = "" if fence else opened[1]
        if heading is not None and level and len(heading[1]) <= level:
            break
        if level:
            kept.append(line)
        elif heading is not None and named.search(heading[2]):
            level = len(heading[1])
    text = "\n".join(kept).strip()
    return text if len(text) <= MAX_NOTES else f"{text[: MAX_NOTES - 1]}…"
