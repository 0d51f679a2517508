"""
Git LFS pointers: the small text files that stand in a repository for large ones. Bottom layer, pure.

The form is that of the Git LFS specification, version 1 ("The Pointer"): below 1024 bytes, the version's line first,
then ``oid`` and ``size``, perhaps with extensions before them.
"""

from __future__ import annotations

import re

#: A pointer has fewer bytes.
MAX_POINTER = 1024

_POINTER = re.compile(
    rb"version https?://(?:git-lfs|hawser)\.github\.com/spec/v1\r?\n"
    rb"(?:ext-[0-9]-[^\r\n]*\r?\n)*"
    rb"oid sha256:([0-9a-f]{64})\r?\n"
    rb"size [0-9]+\s*\Z"
)


def is_pointer(content: bytes) -> bool:
    """Return whether this is the whole content of a pointer."""
    return len(content) < MAX_POINTER and _POINTER.match(content) is not None


def digest_of(content: bytes) -> str:
    """Return the SHA-256, in hexadecimal, of the file for which this pointer stands; "" if it isn't a pointer."""
    found = _POINTER.match(content) if len(content) < MAX_POINTER else None
    return found[1].decode() if found is not None else ""
