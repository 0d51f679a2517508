"""Ranges of bytes (RFC 9110, section 14). ``web.http``; pure, used by ``file_response``."""

from __future__ import annotations

import re

from werkzeug.http import parse_range_header

#: The most ranges of one request; with more, the whole file is the answer.
MAX_RANGES = 8

#: A suffix of no bytes: well formed, but nothing satisfies it. (The parser calls it malformed.)
_NO_SUFFIX = re.compile(r"-0+\Z")


def satisfiable_ranges(field: str, size: int) -> list[range] | None:
    """
    Return the ranges that a Range field asks for, of a file with ``size`` bytes: they don't overlap or touch, and have
    the order of the request. None if the field is to be ignored, so that the whole file is the answer; an empty list
    if nothing in it can be satisfied, so that 416 is the answer.

    Each range is parsed by itself, since the client chooses their order and may want an end before a beginning. Ranges
    that overlap or touch are merged (15.3.7.2), so that no answer has a byte of the file twice.
    """
    unit, _, listed = field.partition("=")
    wanted = [item for each in listed.split(",") if (item := each.strip(" \t"))]
    if unit.lower() != "bytes" or not 0 < len(wanted) <= MAX_RANGES:
        return None
    found: list[range] = []
    for item in wanted:
        if _NO_SUFFIX.match(item):
            continue
        parsed = parse_range_header(f"bytes={item}")
        if parsed is None or any(character in item for character in " \t"):
            return None
        first, stop = parsed.ranges[0]
        if first < 0 and size == 0:
            return None  # satisfiable, but a Content-Range can't say "no bytes": the whole file is the same
        first = max(size + first, 0) if first < 0 else first
        if first < size:
            _add(found, range(first, size if stop is None else min(stop, size)))
    return found


def _add(found: list[range], new: range) -> None:
    """Append a range, or merge it into the first range that it overlaps or touches."""
    touched = [each for each in found if each.start <= new.stop and new.start <= each.stop]
    if not touched:
        found.append(new)
        return
    place = found.index(touched[0])
    found[:] = [each for each in found if each not in touched]
    found.insert(place, range(min(new.start, *(e.start for e in touched)), max(new.stop, *(e.stop for e in touched))))
