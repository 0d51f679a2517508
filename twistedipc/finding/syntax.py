"""
Reads a regular expression in RE2's syntax: finds what RE2 takes and a search of lines can't do, and the literals that
every match holds, by which whole blocks are known not to match. ``finding``; pure.

It doesn't check the expression: RE2 has compiled it before. https://github.com/google/re2/wiki/Syntax is what it goes
by. Where it isn't sure, it says that a match needs nothing: that costs time, and finds the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

#: The most strings that are told apart as what a part of an expression may be, and the longest of them.
_MOST: Final = 24
_LONGEST: Final = 64

#: How deep parentheses may be in one another. RE2 takes 1,000, and each is four calls of Python in one another here.
MAX_DEPTH: Final = 100

#: What stands for one character that isn't looked into: \d, \pL, \x41 and so on.
_OPAQUE = re.compile(
    r"\\(?:[dDsSwWafvrn]|[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|[0-9A-Fa-f]{2})|[0-7]{1,3})",
    re.DOTALL,
)
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]*))?([:)])")
_NAMED = re.compile(r"\(\?P?<[^>]*>")
_REPEAT = re.compile(r"(?:\{([0-9]+)(?:,[0-9]*)?\}|([*+?]))\??")
_CLASS_NAME = re.compile(r"\[:\^?[a-z]+:\]")

_ANCHORS = re.compile(r"\\[bB]|\^|\$")

#: What RE2 takes, and what a line by line search would make wrong of it.
_UNFIT = {
    "A": "\\A isn't possible here: a search goes line by line, and ^ is the beginning of a line",
    "z": "\\z isn't possible here: a search goes line by line, and $ is the end of a line",
    "C": "\\C isn't possible here: it would cut characters into bytes",
}
_LINE_FLAG = "the flag m can't be set or unset: ^ and $ are always the beginning and the end of a line"


class UnfitExpression(ValueError):
    """RE2 would take the expression, but a search can't; the message says why, for the person who wrote it."""


@dataclass(frozen=True)
class _Part:
    """
    What a part of an expression can match. ``exact``: all of it, or None if that isn't known; ``needed``: of each set,
    whatever matches holds one string. All strings are ASCII, in small letters.
    """

    exact: frozenset[str] | None
    needed: list[frozenset[str]] = field(default_factory=list)

    def requirements(self) -> list[frozenset[str]]:
        return self.needed if self.exact is None else [*self.needed, self.exact]


_EMPTY = _Part(frozenset({""}))
_ANYTHING = _Part(None)


def needed_literals(expression: str) -> list[frozenset[str]]:
    """
    Return what every line that matches holds: of each set, one string, if capital and small letters are the same, and
    so are what RE2 takes for them (ſ for s, the sign for kelvin for k). Each is ASCII, in small letters. Nothing:
    nothing is known. Raises `UnfitExpression`.

    :param expression: one that RE2 has compiled.
    """
    reader = _Reader(expression)
    part = reader.alternatives()
    return [needs for needs in part.requirements() if "" not in needs]


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0
        self._depth = 0  # of parentheses

    def alternatives(self) -> _Part:
        """Read up to the end of the group, or of the expression."""
        parts = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _one_of(parts)

    def _sequence(self) -> _Part:
        exact = frozenset({""})
        needed: list[frozenset[str]] = []
        whole = True
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._repeated(self._atom())
            needed += part.needed
            joined = None if part.exact is None else _joined(exact, part.exact)
            if joined is not None:
                exact = joined
                continue
            needed.append(exact)
            whole = False
            exact = frozenset({""}) if part.exact is None else part.exact
        return _Part(exact, needed) if whole else _Part(None, [*needed, exact])

    def _atom(self) -> _Part:
        text, at = self._text, self._at
        if (found := _ANCHORS.match(text, at)) is not None:
            self._at = found.end()
            return _EMPTY
        match text[at]:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                self._at += 1
                return _ANYTHING
            case "\\":
                return self._escape()
            case letter:
                self._at += 1
                return _literal(letter)

    def _group(self) -> _Part:
        if (flags := _FLAGS.match(self._text, self._at)) is not None:
            if "m" in flags[1] or "m" in (flags[2] or ""):
                raise UnfitExpression(_LINE_FLAG)
            self._at = flags.end()
            if flags[3] == ")":
                return _EMPTY
        elif (named := _NAMED.match(self._text, self._at)) is not None:
            self._at = named.end()
        else:
            self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnfitExpression(f"parentheses can't be more than {MAX_DEPTH} deep in one another")
        part = self.alternatives()
        self._at += 1  # the parenthesis
        self._depth -= 1
        return part

    def _class(self) -> _Part:
        text, at = self._text, self._at + 1
        simple = True
        if text.startswith("^", at):
            simple = False
            at += 1
        begin = at
        while at == begin or not text.startswith("]", at):
            if (name := _CLASS_NAME.match(text, at)) is not None:
                simple, at = False, name.end()
            elif text[at] == "\\":
                simple, at = False, at + 2
            else:
                simple = simple and text[at] != "-"
                at += 1
        self._at = at + 1
        letters = text[begin:at]
        if not simple or not letters.isascii() or len(letters) > _MOST:
            return _ANYTHING
        return _Part(frozenset(letters.lower()))

    def _escape(self) -> _Part:
        text, at = self._text, self._at
        if (opaque := _OPAQUE.match(text, at)) is not None:
            self._at = opaque.end()
            return _ANYTHING
        letter = text[at + 1]
        if letter in _UNFIT:
            raise UnfitExpression(_UNFIT[letter])
        if letter == "Q":
            return self._quoted()
        self._at += 2
        if letter == "E":
            return _EMPTY
        return _literal("\t" if letter == "t" else letter)

    def _quoted(self) -> _Part:
        # What follows \E may repeat the last letter alone, so a quotation is nothing that is known.
        end = self._text.find("\\E", self._at)
        self._at = len(self._text) if end < 0 else end + 2
        return _ANYTHING

    def _repeated(self, part: _Part) -> _Part:
        while (times := _REPEAT.match(self._text, self._at)) is not None:
            self._at = times.end()
            if times[2] == "?" and part.exact is not None:
                part = _Part(part.exact | {""})
            elif times[2] == "+" or (times[2] is None and int(times[1]) > 0):
                part = _Part(None, part.requirements())
            else:
                part = _ANYTHING
        return part


def _literal(letter: str) -> _Part:
    return _Part(frozenset({letter.lower()})) if letter.isascii() else _ANYTHING


def _joined(left: frozenset[str], right: frozenset[str]) -> frozenset[str] | None:
    """Return each string of the one followed by each of the other, if these are few and short."""
    if len(left) * len(right) > _MOST or max(map(len, left)) + max(map(len, right)) > _LONGEST:
        return None
    return frozenset({a + b for a in left for b in right})


def _one_of(parts: list[_Part]) -> _Part:
    if all(part.exact is not None for part in parts):
        together: frozenset[str] = frozenset().union(*(part.exact or () for part in parts))
        if len(together) <= _MOST:
            return _Part(together)
    needed: set[str] = set()
    for part in parts:
        best = max(part.requirements(), key=lambda needs: min(map(len, needs)), default=frozenset({""}))
        needed |= best
    return _Part(None, [] if "" in needed or len(needed) > _MOST else [frozenset(needed)])
