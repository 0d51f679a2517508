"""
What somebody searches for, checked, as one RE2 program. ``finding``; pure.

RE2 takes time in proportion to the text, whatever the expression, and memory up to a bound: nothing that a person
writes can make a search hang. A program has its own bound, since RE2 works at the text's length times the program's
size in the worst case. RE2 is loaded with the first search.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from twistedipc.finding.literals import Literals, literals_of
from twistedipc.finding.syntax import UnfitExpression, needed_literals
from twistedipc.sealed.grams import grams_of

#: The longest query, in characters.
MAX_QUERY: Final = 1000

#: Bytes that one program may take, with what RE2 remembers of its states while it searches.
MAX_MEMORY: Final = 4 << 20

#: The largest program, in RE2's instructions. A long expression has some hundreds, ``\\pL{10}`` 12,000. With
#: the largest RE2 may take ten seconds for a megabyte; a search is stopped between two pieces of it (`blocks.PIECE`).
MAX_PROGRAM: Final = 30_000

#: How a query is meant: as it stands, or as a regular expression.
Kind = Literal["text", "regex"]


class BadQuery(ValueError):
    """There is nothing to search for, or it can't be searched for; the message says why, to who asked."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to search for, in each line by itself. ``case``: whether capital and small letters differ."""

    text: str
    kind: Kind = "text"
    case: bool = False


class Needle:
    """
    A query that can be searched for. It may be used in several threads at once. Raises `BadQuery`.

    `search` takes a text, where to begin and where to end, in bytes, and returns from where to where the first match
    is (-1, -1 if there is none). No match holds a newline.
    """

    def __init__(self, query: Query) -> None:
        text = query.text
        if not text:
            raise BadQuery("there is nothing to search for: the query is empty")
        if len(text) > MAX_QUERY:
            raise BadQuery(f"the query has {len(text)} characters, and at most {MAX_QUERY} are possible")
        if "\n" in text:
            raise BadQuery("a search goes line by line, so a query can't have a line break in it")
        self.search: Callable[[bytes, int, int], tuple[int, int]] = _program(query)
        #: see `needed_literals`
        self.needed: list[frozenset[str]] = []
        if query.kind == "regex":
            try:
                self.needed = needed_literals(text)
            except UnfitExpression as error:
                raise BadQuery(str(error)) from error
            #: plain strings by which lines are found that may match, or do (`literals`); None: there are none
            self.literals: Literals | None = literals_of(self.needed)
        else:
            self.needed = [frozenset({piece.lower()}) for piece in _ASCII.findall(text)]
            whole = (text if query.case else text.lower()).encode()
            fits = query.case or text.isascii()
            self.literals = Literals((whole,), fold=not query.case, exact=True) if fits else None
        #: what every text that matches holds, as trigrams (`sealed.grams`): of each tuple, one set
        self.grams = _grams(self.needed)


def _grams(needed: list[frozenset[str]]) -> tuple[tuple[frozenset[int], ...], ...]:
    needs = (tuple(grams_of(literal) for literal in sorted(literals)) for literals in needed)
    return tuple(either for either in needs if all(either))  # what is too short has no trigrams


def _program(query: Query) -> Callable[[bytes, int, int], tuple[int, int]]:
    import re2  # not above: 4 MB that an apiserver needs only when somebody searches

    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.never_nl = True
    options.never_capture = True  # which is faster, and parentheses need no remembering
    options.log_errors = False
    options.case_sensitive = query.case
    try:
        expression = query.text.encode()
    except UnicodeEncodeError as error:
        raise BadQuery("the query isn't text: it has half of a surrogate pair in it") from error
    if query.kind == "text":
        options.literal = True
    try:
        # By itself first: in front of it, "(?m)" would make sense of what makes none.
        program = re2.compile(expression, options)
        if query.kind == "regex":
            program = re2.compile(b"(?m)" + expression, options)
    except re2.error as error:
        raise BadQuery(_said(error)) from error
    finally:
        re2.purge()  # it would keep 128 of them
    if program.programsize > MAX_PROGRAM or program.reverseprogramsize > MAX_PROGRAM:
        raise BadQuery(_TOO_LARGE)
    match, unanchored = program._regexp.Match, re2._Anchor.UNANCHORED

    def search(text: bytes, begin: int, end: int) -> tuple[int, int]:
        found: tuple[int, int] = match(unanchored, text, begin, end)[0]
        return found

    return search


_ASCII = re.compile(r"[\x00-\x7f]+")
_TOO_LARGE = "the regular expression is too large: write it shorter, or with smaller numbers in braces"


def _said(error: Any) -> str:
    """Return what RE2 says about an expression, to who wrote it."""
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return _TOO_LARGE if "too large" in text else f"the regular expression isn't one of RE2: {text}"
