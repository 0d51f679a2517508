"""
Single-page applications: which addresses without a file are answered with the site's page. ``web.releases``; used by
``site`` for releases that are served so.

The application itself reads the address (``/users/42``) and shows what belongs there. An asset that is missing must
stay missing: a page in its place would be run as a script, or be kept by a cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from twistedipc.builds.outputs import FALLBACK, INDEX
from twistedipc.publish.site_paths import WELL_KNOWN
from twistedipc.publish.targets.static.hashed_names import forms_among, in_bundlers_folder, is_hashed

#: The files that may be a single-page application's page, the first that is there.
PAGES = (FALLBACK, INDEX)

#: The most names of a folder that are looked at to see whether it is one of assets.
_MAX_LOOKED_AT = 2000

#: What ends the name of a file. A version (``v1.2``) has no letter after its last dot, so it is no extension.
_EXTENSION = re.compile(r"\.(?=[0-9]*[A-Za-z])(?P<extension>[A-Za-z0-9]{1,16})\Z")


def is_page_address(release: Path, segments: Sequence[str]) -> bool:
    """
    Return whether an address to which no file of the release belongs can be a page of its application: its name has no
    extension but ``.html``, it is below no folder of assets, and it isn't a well-known one (RFC 8615).
    """
    *above, last = segments if segments[-1] else segments[:-1]
    if WELL_KNOWN in (last, *above[:1]):
        return False
    found = _EXTENSION.search(last)
    if found is not None and found["extension"].lower() != "html":
        return False
    return not _below_assets(release, above)


def _below_assets(release: Path, folders: Sequence[str]) -> bool:
    """Return whether one of these folders, each in the one before it, is for assets alone."""
    if in_bundlers_folder("/".join([*folders, ""])):
        return True
    for depth in range(1, len(folders) + 1):
        path = "/".join(folders[:depth])
        if not os.path.isdir(release / path):
            return False
        if _is_of_assets(release, path):
            return True
    return False


@lru_cache(maxsize=1024)
def _is_of_assets(release: Path, folder: str) -> bool:
    """Return whether a folder of a release has files with hashed names, and no page. A release never changes."""
    try:
        with os.scandir(release / folder) as entries:
            paths = [f"{folder}/{entry.name}" for entry in islice(entries, _MAX_LOOKED_AT)]
    except OSError:
        return False
    if any(path.endswith(".html") for path in paths):
        return False
    forms = forms_among(paths)
    return any(is_hashed(path, forms) for path in paths)
