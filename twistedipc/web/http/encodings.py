"""
Which encoding of a file a client takes (RFC 9110, 12.5.3). ``web.http``; pure, used by ``web.releases``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

#: The encodings that there can be of a file, the better ones first; "" is the file as it is.
PREFERRED = ("br", "gzip", "")

#: What else they are called.
_ALIASES = {"x-gzip": "gzip", "identity": ""}

#: The most characters of the field that are looked at: what browsers send has 30.
_MAX_FIELD = 1000

_PART = re.compile(r"\s*([A-Za-z0-9*_.-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


def encoding_for(field: str | None, there: Collection[str]) -> str | None:
    """
    Return the encoding to answer with, "" for the file as it is, or None if the client takes none of them.

    :param field: the request's Accept-Encoding, its lines joined with commas; None: it has none
    :param there: the encodings of `PREFERRED` that there are beside the file as it is
    """
    if field is None:
        return ""
    qualities, others = _qualities(field[:_MAX_FIELD])
    best, best_quality = None, 0.0
    for coding in PREFERRED:
        if coding and coding not in there:
            continue
        # The file as it is, is taken unless it is refused; by a star only if that refuses all.
        quality = qualities.get(coding, others if coding or others == 0 else None)
        if quality is None:
            quality = 0.001 if coding == "" else 0.0
        if quality > best_quality:
            best, best_quality = coding, quality
    return best


@lru_cache(maxsize=256)
def _qualities(field: str) -> tuple[dict[str, float], float | None]:
    """The quality of each encoding that a field names, and of all others; None if it says nothing of them."""
    qualities: dict[str, float] = {}
    others: float | None = None
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            continue
        quality = min(float(found[2] or 1), 1.0)
        name = found[1].lower()
        if name == "*":
            others = quality
        else:
            qualities[_ALIASES.get(name, name)] = quality
    return qualities, others
