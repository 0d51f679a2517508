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
        return re.compile(_translated(_TOKENS.findall(_cleaned(pattern))), re.DOTALL)
    except re.error:  # a bracket that isn't a set of characters
        return re.compile(re.escape(pattern))


def _cleaned(pattern: str) -> str:
    return "" if pattern == "." else pattern.removeprefix("./").strip("/")


def _translated(tokens: Sequence[str]) -> str:
    """
    The expression of a pattern. Patterns are strangers', so none may take long, however many wildcards it has: what
    stands between two wildcards is looked for once, at the first place where it fits. (The second wildcard then takes
    whatever is between that place and any later one.)
    """
    folders: list[str] = []  # what is before the first "**"; then what follows each, itself with it
    done, piece = "", ""  # of the last of them: the end is a "*" with what follows it in one name
    before = "/"
    for token in tokens:
        if token == "**/" and before[-1] != "/":
            token = "*/"  # "a**/b": as without the second asterisk
        if token in ("**/", "**"):
            folders.append(done + piece)
            done, piece = "(?:[^/]+/)*?" if token == "**/" else ".*?", ""
        elif token in ("*", "*/"):
            done += f"(?>{piece})" if piece else ""
            piece = "[^/]*?"
        if token in ("*/", "/") or (token[0] == "{" and "/" in token):
            done, piece = f"{done}{piece}{_part(token.removeprefix('*'))}", ""
        elif token[0] != "*":
            piece += _part(token)
        before = token
    return "".join([*(f"(?>{each})" for each in folders), done, piece])


def _part(token: str) -> str:
    if token == "/**":
        return "/.+"
    if token == "?":
        return "[^/]"
    if token[0] == "{" and len(token) > 1:
        # The shortest first: what follows a wildcard is taken as early as it can be.
        return "(?:" + "|".join(re.escape(each) for each in sorted(token[1:-1].split(","), key=len)) + ")"
    if token[0] == "[" and len(token) > 1:
        return "[" + token[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("!", "^", token[1] == "!") + "]"
    return re.escape(token)
