"""
Single-page applications: which addresses without a file are answered with the site's page. Pure; used by ``answers``.

The application itself reads the address (``/users/42``) and shows what belongs there. An asset that is missing must
stay missing: a page in its place would be run as a script, or be kept by a cache.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from twistedipc.publish.site.addresses import Files
from twistedipc.publish.site_paths import WELL_KNOWN
from twistedipc.publish.targets.static.hashed_names import in_bundlers_folder

#: What ends the name of a file. A version (``v1.2``) has no letter after its last dot, so it is no extension.
_EXTENSION = re.compile(r"\.(?=[0-9]*[A-Za-z])(?P<extension>[A-Za-z0-9]{1,16})\Z")


def is_page_address(files: Files, segments: Sequence[str]) -> bool:
    """
    Return whether an address to which no file of the release belongs can be a page of its application: its name has no
    extension but ``.html``, it is below no folder of assets, and it isn't a well-known one (RFC 8615).
    """
    *above, last = segments if segments[-1] or len(segments) == 1 else segments[:-1]
    if WELL_KNOWN in (last, *above[:1]):
        return False
    found = _EXTENSION.search(last)
    if found is not None and found["extension"].lower() != "html":
        return False
    return not _below_assets(files, above)


def _below_assets(files: Files, folders: Sequence[str]) -> bool:
    """Return whether one of these folders, each in the one before it, is for assets alone."""
    if in_bundlers_folder("/".join([*folders, ""])):
        return True
    path = ""
    for name in folders:
        path = f"{path}/{name}" if path else name
        if not files.is_folder(path):
            return False
        if files.is_of_assets(path):
            return True
    return False
