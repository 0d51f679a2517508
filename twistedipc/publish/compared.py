"""
What a package's file would change against what is published: made by a target's process, shown to who approves. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import msgspec

#: The most files of each kind that are listed of a package, and the most remarks.
MAX_FILES = 100
MAX_REMARKS = 200

#: How much a remark matters: ``danger`` is what can harm those who install the package, or break them without a word
#: in its version; ``warning`` is what somebody who approves should have seen; ``info`` is the rest.
Level = Literal["danger", "warning", "info"]

LEVELS: tuple[Level, ...] = get_args(Level)


class File(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file in a package."""

    size: int
    sha256: str


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file that is another, with its bytes before and after."""

    path: str
    before: int | None = None  # None: it isn't there
    after: int | None = None  # likewise


class Remark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something about a package that somebody who approves it should see."""

    level: Level
    about: str  # "script", "file", "dependency", "command", "entry point", "field", "publint"
    text: str  # a clause for people, which says it all
    name: str = ""  # of what: the script, the path, the package, the command, the field
    before: str | None = None  # null: it wasn't there, or that is nothing to show
    after: str | None = None  # likewise


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A package against what is published of it. The lists have the first files only, the counts are of all."""

    name: str
    version: str
    published: str = ""  # the version that is published, with which it is compared; "": none
    unknown: str = ""  # why that isn't known: all its files count as new then
    added_count: int = 0
    removed_count: int = 0
    changed_count: int = 0
    size_before: int = 0  # bytes of all files
    size: int = 0
    added: list[Change] = []
    removed: list[Change] = []
    changed: list[Change] = []
    remarks: list[Remark] = []  # the most dangerous first
    more_remarks: int = 0  # how many found no room


def compared(
    name: str,
    version: str,
    now: Mapping[str, File],
    before: Mapping[str, File],
    *,
    published: str = "",
    unknown: str = "",
    remarks: Iterable[Remark] = (),
) -> Compared:
    """Compare the files of a package with those of what is published."""
    added = sorted(now.keys() - before.keys())
    removed = sorted(before.keys() - now.keys())
    changed = sorted(path for path in now.keys() & before.keys() if now[path].sha256 != before[path].sha256)
    ranked = sorted(remarks, key=lambda each: LEVELS.index(each.level))
    return Compared(
        name=name,
        version=version,
        published=published,
        unknown=unknown,
        added_count=len(added),
        removed_count=len(removed),
        changed_count=len(changed),
        size_before=sum(file.size for file in before.values()),
        size=sum(file.size for file in now.values()),
        added=[Change(path=path, after=now[path].size) for path in added[:MAX_FILES]],
        removed=[Change(path=path, before=before[path].size) for path in removed[:MAX_FILES]],
        changed=[Change(path=path, before=before[path].size, after=now[path].size) for path in changed[:MAX_FILES]],
        remarks=ranked[:MAX_REMARKS],
        more_remarks=len(ranked[MAX_REMARKS:]),
    )
