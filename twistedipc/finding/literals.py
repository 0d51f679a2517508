"""
Where plain strings are in a text, line by line, in numpy: what takes RE2 a call for each line that matches is a few
passes over the text here. ``finding``; pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from twistedipc.sealed import arrays
from twistedipc.sealed.grams import TO_ASCII, may_have_bytes

#: How many strings are looked for at once, at most; each takes some passes over the text.
MOST: Final = 4

#: Up to so many places their lines are found one by one; with more it is faster to find all newlines of the text.
_FEW: Final = 64


class Literals(NamedTuple):
    """
    Strings of which each line that matches holds one. ``fold``: capital and small letters are the same; they are ASCII
    and in small letters then. ``exact``: each line that holds one matches.
    """

    strings: tuple[bytes, ...]
    fold: bool
    exact: bool


class Lines(NamedTuple):
    """The lines that hold one of the strings, as arrays: where each begins and ends, and where the first string is."""

    begins: Any
    ends: Any
    firsts: Any


def literals_of(needed: Sequence[frozenset[str]]) -> Literals | None:
    """
    Return the strings of the set that says most about a line, of several of which each line that matches holds one
    string (`syntax.needed_literals`); None if none of them says enough.
    """
    fit = [strings for strings in needed if len(strings) <= MOST and min(map(len, strings)) >= 3]
    if not fit:
        return None
    best = max(fit, key=lambda strings: (min(map(len, strings)), -len(strings)))
    return Literals(tuple(sorted(string.encode() for string in best)), fold=True, exact=False)


def firsts_with(literals: Literals, text: bytes, begin: int, end: int) -> Any:
    """Return as `lines_with` does where the first string is in each line that holds one, as an array."""
    found = _found(literals, text, begin, end)
    if found is None:
        return None
    import numpy as np

    array, places = found
    if not len(places):
        return places
    first = np.ones(len(places), np.bool_)
    # Whether a newline is between one place and the next.
    first[1:] = np.logical_or.reduceat(arrays.newlines(array), places)[:-1]
    return begin + places[first]


def lines_with(literals: Literals, text: bytes, begin: int, end: int) -> Lines | None:
    """
    Return the lines of a part of a text that hold one of these strings. The part ends with a newline, and begins behind
    one. None: they can't be found this way, since a letter beyond ASCII is one of theirs where case is ignored.
    """
    found = _found(literals, text, begin, end)
    if found is None:
        return None
    import numpy as np

    array, places = found
    if len(places) <= _FEW:
        return _few(text, (begin + places).tolist())
    newlines = np.flatnonzero(arrays.newlines(array))
    line = newlines.searchsorted(places)
    first = np.ones(len(line), np.bool_)
    first[1:] = line[1:] != line[:-1]
    line = line[first]
    begins = np.where(line > 0, newlines[line - 1] + 1, 0)
    return Lines(begin + begins, begin + newlines[line], begin + places[first])


def _found(literals: Literals, text: bytes, begin: int, end: int) -> tuple[Any, Any] | None:
    """Return a part of a text as an array, and where one of the strings is in it; None: see `lines_with`."""
    arrays.load()
    import numpy as np

    if literals.fold and _has_other_letters(literals, text[begin:end]):
        return None
    array = np.frombuffer(text, np.uint8, end - begin, begin)
    small = np.bitwise_or(array, np.uint8(0x20), out=arrays.scratch(1, len(array))) if literals.fold else array
    found = [_places(string, array, small, literals.fold) for string in literals.strings]
    return array, found[0] if len(found) == 1 else np.sort(np.concatenate(found))


def _few(text: bytes, places: list[int]) -> Lines:
    import numpy as np

    found: list[tuple[int, int, int]] = []
    end = -1
    for place in places:
        if place > end:
            begin, end = text.rfind(b"\n", 0, place) + 1, text.index(b"\n", place)
            found.append((begin, end, place))
    return Lines(*np.array(found, np.intp).reshape(-1, 3).T)


def _places(string: bytes, array: Any, small: Any, fold: bool) -> Any:
    """Return where a string is in an array."""
    import numpy as np

    count = len(array) - len(string) + 1
    if count <= 0:
        return np.empty(0, np.intp)

    def same(at: int) -> Any:
        letter = string[at]
        of = small if fold and 0x61 <= letter <= 0x7A else array
        return of, letter

    # Three of its letters at once leave few places, at which all others are looked at.
    looked = sorted({0, len(string) // 2, len(string) - 1})
    hits: Any = None
    for number, at in enumerate(looked):
        of, letter = same(at)
        into = arrays.scratch(2 if number == 0 else 3, count).view(np.bool_)
        here = np.equal(of[at : at + count], letter, out=into)
        hits = here if hits is None else np.logical_and(hits, here, out=hits)
    places = np.flatnonzero(hits)
    for at in range(len(string)):
        if at not in looked and len(places):
            of, letter = same(at)
            places = places[of[places + at] == letter]
    return places


def _has_other_letters(literals: Literals, text: bytes) -> bool:
    return any(
        any(letter in string for string in literals.strings) and may_have_bytes(text, other)
        for other, letter in TO_ASCII
    )
