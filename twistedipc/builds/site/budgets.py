"""
Budgets: how much of something a site may have. Pure; written under ``[site]`` in ``.twistedipc.toml``, and checked when
the site is packed::

    [site]
    budget = {js = "300 kB", total = "5 MB", "*.css" = "50 kB", "admin/**" = "1 MB"}
    budget_action = "warn"         # or "fail", which it is by itself

A budget is of a kind of files (`kinds`), of ``total``, or of the files that a pattern of paths fits; a pattern without
a slash is of names, in any folder. What counts is what is sent of all these files together to a browser that takes
gzip. Source maps and what the build has compressed itself (``app.js.br`` beside ``app.js``) count in none of them:
browsers ask for neither.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from twistedipc.builds.recognition.paths import matches
from twistedipc.builds.site.kinds import KINDS, kind_of
from twistedipc.builds.site.lines import Mistake, Mistakes

#: The name of the budget of all files.
TOTAL: Final = "total"

#: The most budgets of a site, and the most characters of the name of one.
MAX_BUDGETS = 50
MAX_NAME = 200

Action = Literal["fail", "warn"]

#: By powers of 1000 or 1024, as the International System of Units and IEC 80000-13 have them.
_UNITS = {
    "": 1,
    "b": 1,
    **{unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib"), 1)},
}

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-zA-Z]{0,3})")

_COMPRESSED = (".br", ".gz")


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much of something a site may have."""

    name: str  # a kind, ``total``, or a pattern
    most: int  # bytes

    def counts(self, path: str) -> bool:
        """Return whether a file is of what the budget is of. See `is_loaded`, too."""
        if self.name == TOTAL:
            return True
        if self.name in KINDS:
            return kind_of(path) == self.name
        return matches([self.name if "/" in self.name else f"**/{self.name}"], path)


class Budgets(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The budgets of a site."""

    of: list[Budget] = []
    action: Action = "fail"  # what becomes of a build that is over one


def is_loaded(path: str, paths: Collection[str]) -> bool:
    """Return whether browsers ask for a file of a site with these paths: not for source maps, nor for `_COMPRESSED`."""
    if path.endswith(".map"):
        return False
    return not any(path.endswith(ending) and path.removesuffix(ending) in paths for ending in _COMPRESSED)


def budgets_of(said: Mapping[str, str | int], action: Action) -> Budgets:
    """Return budgets as they are said. Raises `BadRules`."""
    mistakes = Mistakes()
    found: list[Budget] = []
    for name, size in said.items():
        with mistakes.of(f"site.budget, {name[:60]!a}"):
            _check_name(name)
            found.append(Budget(name=name, most=_read_size(size)))
    if len(said) > MAX_BUDGETS:
        with mistakes.of("site.budget"):
            raise Mistake(f"there can be at most {MAX_BUDGETS}")
    mistakes.raise_any()
    return Budgets(of=found, action=action)


def shown(size: int) -> str:
    """Return a number of bytes for people, by powers of 1000, as budgets are mostly written: "312.4 kB"."""
    if size < 1000:
        return f"{size} B"
    value = size / 1000
    for unit in ("kB", "MB"):
        if value < 999.95:
            return f"{value:.1f} {unit}".replace(".0 ", " ")
        value /= 1000
    return f"{value:.1f} GB".replace(".0 ", " ")


def _check_name(name: str) -> None:
    if name == TOTAL or name in KINDS:
        return
    if not any(sign in name for sign in "*./?[{") or len(name) > MAX_NAME or not name.isprintable():
        raise Mistake(
            f'a budget is of {", ".join(KINDS)}, {TOTAL}, or a pattern of paths such as "*.css" or "admin/**"'
        )
    if name.startswith(("/", "!")) or "\\" in name:
        raise Mistake("a pattern of paths begins at the site's top, without a slash, and takes nothing out")


def _read_size(size: str | int) -> int:
    if isinstance(size, int):
        size = str(size)
    found = _SIZE.fullmatch(size.strip())
    unit = None if found is None else _UNITS.get(found[2].lower())
    if found is None or unit is None:
        raise Mistake(f'{size[:40]!a} isn\'t a size such as "300 kB", "1.5 MB", "64 KiB", or a number of bytes')
    return int(float(found[1]) * unit)
