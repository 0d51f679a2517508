"""
How a release is served, where that isn't told by its files. ``publish`` layer; ``releases`` writes it when it unpacks,
and the releases' site reads it.

It lies in the release's folder under a hidden name, which is never served, so it comes and goes with the release: a
rollback brings it back. A release without it is served as all were before there was such a file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from twistedipc.disk.files import read_file, write_file

_FILE = ".serving.json"


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one release is served."""

    spa: bool = False  # addresses without a file are answered with the site's page


def write_serving(release: Path, serving: Serving) -> None:
    """Put it into the folder of a release that isn't served yet, instead of any file of that name."""
    if serving == Serving():
        (release / _FILE).unlink(missing_ok=True)
    else:
        write_file(release / _FILE, serving)


@lru_cache(maxsize=256)
def serving_of(release: Path) -> Serving:
    """Return how a release is served. A release never changes, so it is kept. Raises OSError if it can't be read."""
    try:
        return read_file(release / _FILE, Serving) or Serving()
    except msgspec.DecodeError:  # a damaged disk: then as if nothing were said
        return Serving()
