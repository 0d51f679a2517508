"""
The rules of a site, as they are kept with a release: a redirect, headers, and all of it together. Bottom of
``builds.site``, pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from twistedipc.builds.outputs import INDEX

#: The files at the top of a site that say how it is served. They are read when it is packed, and never served.
REDIRECTS = "_redirects"
HEADERS = "_headers"
RULE_FILES = frozenset({REDIRECTS, HEADERS})

#: The most rules of a site, of each kind, and the most bytes of each of the files.
MAX_RULES = 10_000
MAX_BYTES = 1 << 20

#: The most characters of a line, and so of a rule.
MAX_LINE = 4000

#: How many mistakes a sentence lists.
SHOWN = 5

#: The statuses that send a browser elsewhere, and those that answer with a file in place of the one that was asked for.
ELSEWHERE: Final = frozenset({301, 302, 303, 307, 308})
IN_PLACE: Final = frozenset({200, 404, 410})

TrailingSlash = Literal["auto", "always", "never"]


class BadRules(ValueError):
    """Rules that can't be used; ``str()`` is a text for their author, with the file and the line of each."""

    @classmethod
    def of(cls, mistakes: Sequence[str]) -> BadRules:
        """Return the error that tells the first of these mistakes, each a sentence without its full stop."""
        more = len(mistakes) - SHOWN
        return cls("; ".join(mistakes[:SHOWN]) + (f"; and {more} more" if more > 0 else ""))


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One redirect, or one file in place of others (status 200, 404, 410)."""

    source: str  # "/blog/:year/*", or with a host: "https://old.example.org/*"
    target: str = ""  # "/posts/:year/:splat", or an address; "": none, for the statuses 404 and 410
    status: int = 301
    force: bool = False  # it holds although there is a file
    query: dict[str, str] = {}  # what the address must have: a value, or ":name" for any
    place: str = ""  # where it is said, for people: "_redirects, line 3"


class HeaderRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Headers of the answers for some addresses."""

    source: str  # "/assets/*", "/*.html", or with a host
    values: list[tuple[str, str]] = []  # names as they were written; several values of a name are joined with ", "
    removed: list[str] = []  # names of headers that are left out
    place: str = ""


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one release is served, where that isn't told by its files."""

    spa: bool = False  # addresses without a file are answered with the site's page
    trailing_slash: TrailingSlash = "auto"
    clean_urls: bool | None = None  # whether /about is about.html; None: it is, and /about.html isn't sent there
    index: str = INDEX  # the file that answers for a folder
    marks: bool = True  # pages name their release in the addresses of scripts and styles
    redirects: list[Redirect] = []  # in the order in which they are tried
    headers: list[HeaderRule] = []
