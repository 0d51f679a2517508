"""
Which file of a release an address leads to. Pure; used by ``answers``.

Static exporters count on this: ``/about`` is ``about.html``. A folder with an index goes before that, since the links
in its page count on the slash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from twistedipc.builds.outputs import FALLBACK, NOT_FOUND
from twistedipc.builds.site.rules import Serving
from twistedipc.publish.site_paths import problem_of_segment

_PAGE = ".html"


class Files(Protocol):
    """The files of a release, by their paths, with "/" between names and without one at either end."""

    def has(self, path: str) -> bool:
        """Return whether there is a file with this path."""

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder with this path; "" is the top."""

    def is_of_assets(self, path: str) -> bool:
        """Return whether the folder has files with hashed names, and no page."""


class Elsewhere(NamedTuple):
    """The path, in the same site, at which the thing asked for really is; a final "" stands for a slash at the end."""

    segments: tuple[str, ...]


def look_up(files: Files, serving: Serving, segments: Sequence[str]) -> str | Elsewhere | None:
    """
    Return the path of the file that answers for an address, or where that is, or None. Nothing leads back.

    :param segments: the address's, decoded; it ends in "" if it ends in a slash
    """
    slash = segments[-1] == ""
    parts = tuple(segments[:-1] if slash else segments)
    path = "/".join(parts)
    if not slash and files.has(path):
        clean = _clean(files, serving, parts) if serving.clean_urls else None
        return path if clean is None else Elsewhere(clean)
    found = _pretty(files, serving, parts)
    if found is None:
        return None
    has_slash = bool(parts) and _has_slash(serving, found, path)
    if not parts or slash == has_slash:
        return found
    return Elsewhere((*parts, "") if has_slash else parts)


def look_in_place(files: Files, serving: Serving, segments: Sequence[str]) -> str | None:
    """Return the path of the file that a rule names, with a slash at its end or without."""
    if any(map(problem_of_segment, segments[:-1])) or (segments[-1] and problem_of_segment(segments[-1])):
        return None
    slash = segments[-1] == ""
    parts = tuple(segments[:-1] if slash else segments)
    path = "/".join(parts)
    return path if not slash and files.has(path) else _pretty(files, serving, parts)


def page_of_missing(files: Files, segments: Sequence[str]) -> str | None:
    """Return the path of the page for what isn't found that is nearest above an address."""
    found = None
    for folder in _folders(files, segments[:-1]):
        path = f"{folder}/{NOT_FOUND}" if folder else NOT_FOUND
        if files.has(path):
            found = path
    return found


def _folders(files: Files, names: Sequence[str]) -> Iterator[str]:
    """The folders that there are above an address, from the top on."""
    folder = ""
    yield folder
    for name in names:
        folder = f"{folder}/{name}" if folder else name
        if not files.is_folder(folder):
            return
        yield folder


def _pretty(files: Files, serving: Serving, parts: Sequence[str]) -> str | None:
    """The index of a folder, or the page whose address is its name without ".html"."""
    index = "/".join([*parts, serving.index])
    if files.has(index):
        return index
    page = "/".join(parts) + _PAGE
    return page if parts and serving.clean_urls is not False and files.has(page) else None


def _has_slash(serving: Serving, found: str, path: str) -> bool:
    if serving.trailing_slash == "auto":
        return found != path + _PAGE
    return serving.trailing_slash == "always"


def _clean(files: Files, serving: Serving, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the address without ".html" of a page, or None if it has none that leads to it."""
    *above, name = parts
    if name == serving.index:
        never = serving.trailing_slash == "never" and above
        return tuple(above) if never else (*above, "")
    if not name.endswith(_PAGE) or name in (_PAGE, NOT_FOUND) or parts == (FALLBACK,):
        return None
    clean = (*above, name.removesuffix(_PAGE))
    if files.has("/".join(clean)) or _pretty(files, serving, clean) != "/".join(parts):
        return None  # another thing is there
    return (*clean, "") if serving.trailing_slash == "always" else clean
