"""
Versions and ranges, as npm has them. No I/O. Used by ``choose`` and everything around it.

What a range means is decided by the library node-semver, a port of npm's own. The words are those of Node's version
managers: "lts/*", "lts/iron", "node", "current".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from twistedipc.toolchains.problems import BadRange

#: The most characters of a range.
MAX_RANGE = 256

#: The names of Node's lines with long-term support (nodejs/Release, CODENAMES.md), oldest first.
LTS = {
    "argon": 4,
    "boron": 6,
    "carbon": 8,
    "dubnium": 10,
    "erbium": 12,
    "fermium": 14,
    "gallium": 16,
    "hydrogen": 18,
    "iron": 20,
    "jod": 22,
    "krypton": 24,
    "lithium": 26,
}

#: Any line with long-term support: the range of a Node for which a project asks nothing.
ANY_LTS = " || ".join(f"^{major}.0.0" for major in LTS.values() if major >= 18)

_VERSION = re.compile(
    r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_ANY = ("node", "current", "latest", "stable", "system", "default", "x", "X", "")


class Version(NamedTuple):
    """A version, in the order of semantic versioning: one without ``before`` comes after all that have some."""

    major: int
    minor: int
    patch: int
    released: bool
    before: tuple[tuple[bool, int, str], ...]  # a prerelease's identifiers: numbers come before words
    text: str

    def __str__(self) -> str:
        return self.text


def version(text: str) -> Version | None:
    """Return an exact version; None if the text is none. What follows a "+" says nothing about the order."""
    match = _VERSION.fullmatch(text) if len(text) <= MAX_RANGE else None
    if match is None:
        return None
    before = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, "" if part.isdigit() else part)
        for part in (match[4] or "").split(".")
        if part
    )
    return Version(int(match[1]), int(match[2]), int(match[3]), not before, before, text.partition("+")[0])


class Range:
    """
    A range of versions. Raises `BadRange` for what is none.

    :param text: as npm has it, or a word of Node's version managers
    """

    def __init__(self, text: str) -> None:
        import nodesemver  # not above: most attempts of a builder need no range

        said = text.strip()
        if len(said) > MAX_RANGE:
            raise BadRange(f"a range has at most {MAX_RANGE} characters")
        self.text = _without_words(said)
        self.exact = version(self.text.lstrip("=v "))
        try:
            self._range = nodesemver.make_range(self.text, False)
        except ValueError as error:
            raise BadRange(f'"{said}" is neither a version nor a range of versions that npm knows') from error

    def admits(self, candidate: Version) -> bool:
        """Return whether a version is in the range."""
        return bool(self._range.test(candidate.text))

    def __str__(self) -> str:
        return self.text or "*"


def _without_words(said: str) -> str:
    """Return a range for a word that Node's version managers know; anything else as it is."""
    word = said.lower()
    if word in _ANY or said in _ANY:
        return "*"
    if word == "lts" or word.startswith("lts/"):
        lines = list(LTS.values())
        name = word.removeprefix("lts").removeprefix("/")
        if name in ("", "*"):
            return f"^{lines[-1]}.0.0"
        if name in LTS:
            return f"^{LTS[name]}.0.0"
        if re.fullmatch(r"-[1-9]", name):
            return f"^{lines[-1 - int(name[1:])]}.0.0"
        raise BadRange(f'no line of Node with long-term support is known as "{said}"; the newest is {list(LTS)[-1]}')
    return said


def nearest(wanted: Range, versions: Iterable[Version]) -> list[str]:
    """Return up to three versions that are near what was wanted and isn't there, in their order, for a sentence."""
    known = sorted(each for each in versions if each.released)
    if not known:
        return []
    match = re.search(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,2}", wanted.text)
    numbers = [int(part) for part in match[0].split(".")] if match else [known[-1].major]
    target = (*numbers, 0, 0)[:3]
    below = [each for each in known if each[:3] < target][-2:]
    above = [each for each in known if each[:3] >= target][: 3 - len(below)]
    if len(above) == 0:
        below = [each for each in known if each[:3] < target][-3:]
    return [each.text for each in below + above]
