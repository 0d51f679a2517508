"""What one release of files has other than another, as types. ``publish`` layer; found by targets, shown by ``web``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twistedipc.builds.site.kinds import Kind


class FileSizes(NamedTuple):
    """The bytes of a file, and how many are sent of it; None where that isn't known (yet)."""

    size: int
    gzip: int | None  # to browsers that take gzip: the file's own bytes if compressing it saves nothing
    br: int | None  # to those that take brotli


class FileDifference(NamedTuple):
    """A file that is new, changed or gone."""

    path: str  # in the newer release; of one that is gone, in the older one
    was: str  # its path in the older release, where that differs by a hash in the name; ""
    kind: Kind
    before: FileSizes | None  # None: it is new
    after: FileSizes | None  # None: it is gone

    @property
    def weight(self) -> int:
        """By how many bytes the site grows or shrinks by it; what is sent, if that is known, counts."""
        before, after = self.before or _NOTHING, self.after or _NOTHING
        if before.gzip is not None and after.gzip is not None:
            return after.gzip - before.gzip
        return after.size - before.size


class KindTotal(NamedTuple):
    """The files of a kind in one release."""

    files: int
    size: int  # bytes
    gzip: int | None  # bytes that are sent; None: not known of all


class KindTotals(NamedTuple):
    """The files of a kind in both."""

    kind: Kind
    before: KindTotal
    after: KindTotal


class Difference(NamedTuple):
    """What a release has other than an older one, or than none."""

    added: int
    changed: int
    removed: int
    files: Sequence[FileDifference]  # the heaviest changes first, and no more than were asked for
    totals: Sequence[KindTotals]  # of kinds that one of them has


_NOTHING = FileSizes(0, 0, 0)
