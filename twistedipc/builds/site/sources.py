"""
The address that a rule is for, as its author writes it: ``/blog/:year/*``, ``https://old.example.org/*``. Pure;
used by ``redirects`` and ``headers``, and by ``publish.site`` to find the rules for a request.

No part of it becomes a regular expression. So no rule can make a request expensive.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from twistedipc.builds import host_rules

#: The most parts of a path, and the most stars in one for headers.
MAX_SEGMENTS = 50
MAX_STARS = 3

#: What a placeholder is called.
NAME = r"[A-Za-z_][A-Za-z0-9_]{0,59}"

#: The name of what a star stands for.
SPLAT = "splat"

#: A path of plain letters, which most are: it needs no more than to be cut.
_PLAIN = re.compile(r"(/[A-Za-z0-9._~-]+)+(/\*|/)?")

_PLACEHOLDER = re.compile(rf":({NAME})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadSource(ValueError):
    """An address of a rule can't be used; ``str()`` says why, without a full stop."""


class Source(NamedTuple):
    """
    The addresses that a rule is for. A slash at the end says nothing: ``/blog/`` is ``/blog``.

    :ivar scheme: "http" or "https"; "": both
    :ivar host: in small letters; "": all hosts of the site
    :ivar segments: the parts of the path, decoded; None for a placeholder
    :ivar names: of the placeholders, in their order
    :ivar pieces: what follows: None for nothing, or the texts before, between and after stars. The star of
        ``/blog/*`` stands for the rest of the path, which may be empty: ``("", "")``
    """

    scheme: str
    host: str
    segments: tuple[str | None, ...]
    names: tuple[str, ...]
    pieces: tuple[str, ...] | None

    @property
    def bound(self) -> frozenset[str]:
        """The names that a target or a header can use."""
        return frozenset([*self.names, *([SPLAT] if self.pieces is not None else [])])


def read_source(text: str, *, globs: bool) -> Source:
    """
    Return what a text stands for. Raises `BadSource`.

    :param globs: whether stars can be anywhere (``/*.js``), as in ``_headers``; else one can be the last part alone
    """
    if _PLAIN.fullmatch(text) and text.count("/") <= MAX_SEGMENTS:
        plain = text.removesuffix("/*")
        splat = ("", "") if len(plain) < len(text) else None
        return Source("", "", tuple(plain.strip("/").split("/")), (), splat)
    scheme, host, path = _split(text)
    if "?" in path or "#" in path:
        raise BadSource(
            f"{_shown(text)} has a query or a fragment in it: what a query must have is written after the path, as "
            "/store id=:id"
        )
    if _BAD_ESCAPE.search(path):
        raise BadSource(f"{_shown(text)} has a % that begins no escape: write it as %25")
    parts = [part for part in path.split("/") if part]
    if len(parts) > MAX_SEGMENTS:
        raise BadSource(f"{_shown(text)} has more than {MAX_SEGMENTS} parts")
    first = next((at for at, part in enumerate(parts) if "*" in part), len(parts))
    segments: list[str | None] = []
    names: list[str] = []
    for part in parts[:first]:
        placeholder = _PLACEHOLDER.fullmatch(part)
        if placeholder is not None:
            names.append(placeholder[1])
        segments.append(None if placeholder is not None else _decoded(part, text))
    if len(set(names)) < len(names) or SPLAT in names:
        raise BadSource(f"{_shown(text)} has a placeholder twice, or one that is called {SPLAT}")
    return Source(scheme, host, tuple(segments), tuple(names), _pieces(parts[first:], text, globs=globs))


def _split(text: str) -> tuple[str, str, str]:
    if text.startswith("/"):
        if text.startswith("//"):
            raise BadSource(f"{_shown(text)} begins with two slashes")
        return "", "", text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadSource(f"{_shown(text)} isn't a path such as /blog/*, or an address such as https://example.org/*")
    host, slash, path = rest.partition("/")
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        port = 0
    name = host.lower()
    if port is not None or not host_rules.is_name(name):
        raise BadSource(f"{_shown(text)} has no host such as www.example.org in it, without a port")
    return scheme.lower(), name, slash + path or "/"


def _pieces(parts: list[str], text: str, *, globs: bool) -> tuple[str, ...] | None:
    if not parts:
        return None
    if parts == ["*"]:
        return ("", "")
    if not globs:
        raise BadSource(f"{_shown(text)} has a star that isn't the last part of the path: write it as /blog/*")
    if any(_PLACEHOLDER.fullmatch(part) for part in parts):
        raise BadSource(f"{_shown(text)} has a placeholder after a star")
    pieces = tuple(_decoded(piece, text) for piece in "/".join(parts).split("*"))
    if len(pieces) - 1 > MAX_STARS:
        raise BadSource(f"{_shown(text)} has more than {MAX_STARS} stars")
    return pieces


def _decoded(part: str, text: str) -> str:
    try:
        decoded = unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise BadSource(f"{_shown(text)} has an escape in it that isn't UTF-8") from error
    if any(ord(character) < 32 or ord(character) == 127 for character in decoded):
        raise BadSource(f"{_shown(text)} has control characters in it")
    return decoded


def _shown(text: str) -> str:
    return ascii(text)[1:-1] if len(text) <= 100 else ascii(text[:99])[1:-1] + "…"
