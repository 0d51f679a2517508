"""Paths inside a repository, and patterns of them: "packages/*", "apps/**", "!docs/*.md"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


def joined(folder: str, path: str) -> str | None:
    """
    Return a path that is relative to a folder, relative to the repository's top; "" is the top. None if it leads out of
    the repository.
    """
    if path.startswith("/") or "\\" in path or not path.isprintable():
        return None
    parts = folder.split("/") if folder else []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return None if parts[:1] == [".git"] else "/".join(parts)


def relative(path: str, folder: str) -> str:
    """Return a path in a folder, relative to it; "" if it is the folder."""
    return path[len(folder) :].lstrip("/") if folder else path


def parents(folder: str) -> list[str]:
    """Return the folders above this one, the nearest first; the last is the repository's top, ""."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, -1, -1)]


def matches(patterns: Sequence[str], path: str) -> bool:
    """
    Return whether the last of the patterns that fits says that a path is meant. ``*`` is a part of a name, ``**`` any
    folders, ``{a,b}`` one of several; a pattern that begins with ``!`` takes out what fits.
    """
    meant = False
    for pattern in patterns:
        if meant == pattern.startswith("!") and _expression(pattern.removeprefix("!")).fullmatch(path):
            meant = not meant
    return meant


def touches(watch: Sequence[str], changed: Iterable[str]) -> bool:
    """
    Return whether a push that changes these paths concerns a project that watches these patterns. One of a folder means
    all that is in it. Without patterns everything does; if all of them take out, everything else does.
    """
    if not watch:
        return True
    patterns = ["**", *watch] if all(pattern.startswith("!") for pattern in watch) else list(watch)
    widened = [each for pattern in patterns for each in (pattern, f"{pattern.rstrip('/')}/**")]
    return any(matches(widened, path) for path in changed)


_TOKENS = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\{[^{}]*\}|\[[^\]/]+\]|.", re.DOTALL)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile("".join(_part(token) for token in _TOKENS.findall(_cleaned(pattern))), re.DOTALL)
    except re.error:  # a bracket that isn't a set of characters
        return re.compile(re.escape(pattern))


def _cleaned(pattern: str) -> str:
    return "" if pattern == "." else pattern.removeprefix("./").strip("/")


def _part(token: str) -> str:
    match token:
        case "**/":
            return "(?:[^/]+/)*"
        case "/**":
            return "/.+"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
    if token[0] == "{" and len(token) > 1:
        return "(?:" + "|".join(re.escape(each) for each in token[1:-1].split(",")) + ")"
    if token[0] == "[" and len(token) > 1:
        return "[" + token[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("!", "^", token[1] == "!") + "]"
    return re.escape(token)
