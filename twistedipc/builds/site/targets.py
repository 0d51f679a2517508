"""
Where a redirect leads: ``/posts/:year/:splat``, ``https://example.org/blog?of=:year``. Pure; used by ``redirects``, and
by ``publish.site`` to make an address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from twistedipc.builds.site.sources import NAME, SPLAT

_NAMED = re.compile(rf":({NAME})")
_WHOLE = re.compile(rf"(?:^|/)(:{NAME})(?=/|$)")

#: What can be in an address as it is; all else in a target is encoded.
_PATH = "/%:@!$&'()*+,;=~-._"
_QUERY = "/%:@!$&'()*+,;=~-._?"


class BadTarget(ValueError):
    """A target can't be used; ``str()`` says why, without a full stop."""


class Target(NamedTuple):
    """Where a redirect leads: the parts of it, each a row of texts with the names of values after each but the last."""

    origin: str  # "https://example.org"; "": this site
    path: tuple[str, ...]  # "/posts/", "year", "/", "splat", "": texts and names in turn
    query: tuple[str, ...] | None  # None: that of the request is kept
    fragment: tuple[str, ...]

    def location(self, values: Mapping[str, str | Sequence[str]]) -> str:
        """Return the address with these values, all encoded; without the request's own query."""
        query = "" if self.query is None else "?" + _filled(self.query, values, _QUERY)
        fragment = "#" + _filled(self.fragment, values, _QUERY) if self.fragment != ("",) else ""
        # A value can be empty: what would begin with two slashes then is another host to a browser.
        path = _filled(self.path, values, _PATH)
        path = path if self.origin else "/" + path.lstrip("/")
        return self.origin + path + query + fragment

    def segments(self, values: Mapping[str, str | Sequence[str]]) -> list[str]:
        """Return the decoded parts of the path, for a file of this site; a final "" stands for a slash at the end."""
        segments: list[str] = []
        for part in _filled(self.path, values, _PATH)[1:].split("/"):
            segments.append(unquote(part, errors="replace"))
        return [each for each in segments[:-1] if each] + segments[-1:]


def read_target(text: str, bound: frozenset[str]) -> Target:
    """
    Return what a text stands for. Raises `BadTarget`.

    :param bound: the names that stand for something of the request's address
    """
    if not (text.startswith("/") or text.lower().startswith(("http://", "https://"))):
        raise BadTarget(f'{_shown(text)} isn\'t a path or an address: it begins with "/", "http://" or "https://"')
    if any(ord(character) < 33 or ord(character) == 127 for character in text) or "\\" in text:
        raise BadTarget(f"{_shown(text)} has characters in it that can't be in an address")
    if text.startswith("//"):
        raise BadTarget(f"{_shown(text)} begins with two slashes: write https:// before another host")
    rest, _, fragment = text.partition("#")
    rest, has_query, query = rest.partition("?")
    origin = ""
    if not rest.startswith("/"):
        scheme, _, rest = rest.partition("://")
        authority, slash, rest = rest.partition("/")
        rest = slash + rest or "/"
        _check_authority(authority, text, bound)
        origin = f"{scheme.lower()}://{authority.encode('idna').decode() if not authority.isascii() else authority}"
    unknown = [name for name in _WHOLE.findall(rest) if name[1:] not in bound]
    if unknown:
        raise BadTarget(
            f"{_shown(text)} has {unknown[0]} in it, and the rule's path has no "
            + ("star at its end" if unknown[0] == ":" + SPLAT else "such placeholder")
        )
    parted = [_parted(each, bound) for each in (rest, query, fragment)]
    return Target(origin, parted[0], parted[1] if has_query else None, parted[2])


def _check_authority(authority: str, text: str, bound: frozenset[str]) -> None:
    if any(f":{name}" in authority for name in bound):
        raise BadTarget(f"{_shown(text)} has a placeholder in its host, which would send people anywhere")
    try:
        parts = urlsplit(f"//{authority}")
        good = bool(parts.hostname) and "@" not in authority and parts.port != 0
        authority.encode("idna")
    except ValueError:  # UnicodeError is one
        good = False
    if not good:
        raise BadTarget(f"{_shown(text)} has no host in it")


def _parted(text: str, bound: frozenset[str]) -> tuple[str, ...]:
    """Cut a text at the names that stand for something: texts and names in turn."""
    parts = [""]
    end = 0
    for found in _NAMED.finditer(text):
        if found[1] in bound:
            parts[-1] += text[end : found.start()]
            parts += [found[1], ""]
            end = found.end()
    parts[-1] += text[end:]
    return tuple(parts)


def _filled(parts: tuple[str, ...], values: Mapping[str, str | Sequence[str]], safe: str) -> str:
    filled = []
    for at, part in enumerate(parts):
        value = values.get(part, "") if at % 2 else part
        if at % 2 == 0:
            filled.append(quote(part, safe=safe))
        elif isinstance(value, str):
            filled.append(quote(value, safe=""))
        else:
            filled.append("/".join(quote(each, safe="") for each in value))
    return "".join(filled)


def _shown(text: str) -> str:
    return ascii(text)[1:-1] if len(text) <= 100 else ascii(text[:99])[1:-1] + "…"
