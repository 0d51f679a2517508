"""
What a registry says of a version's content, compared with what was packed. Pure, but for hashing a tarball.

Registries differ: one gives an ``integrity`` of several hashes, one only the ``shasum`` of old, one only a hash that
nobody here knows. So what is there is compared with what was packed by the strongest hash that both have.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Literal

import msgspec

#: The hashes by which contents are compared, strongest first.
HASHES = ("sha512", "sha384", "sha256", "sha1")


class Dist(msgspec.Struct, frozen=True):
    """What a registry says of a version's content. Null is as good as nothing."""

    integrity: str | None = None  # as in https://www.w3.org/TR/SRI/: hashes by spaces, each "sha512-BASE64" or so
    shasum: str | None = None  # SHA-1 in hexadecimal

    @property
    def hashes(self) -> dict[str, set[str]]:
        """algorithm -> the hexadecimal hashes that are given; any one of them may be the content's."""
        found: dict[str, set[str]] = {}
        for each in (self.integrity or "").split():
            algorithm, _, rest = each.partition("-")
            try:
                digest = base64.b64decode(rest.partition("?")[0], validate=True).hex()
            except (binascii.Error, ValueError):
                continue
            if algorithm.lower() in HASHES and digest:
                found.setdefault(algorithm.lower(), set()).add(digest)
        if self.shasum and "sha1" not in found:
            found["sha1"] = {self.shasum.strip().lower()}
        return found


def compare(tarball: Path, dist: Dist) -> Literal["same", "different", "unknown"]:
    """Compare a registry's content with the tarball's, by the strongest hash. ``unknown``: the registry gives none."""
    hashes = dist.hashes
    for algorithm in HASHES:
        if algorithm in hashes:
            with tarball.open("rb") as file:
                digest = hashlib.file_digest(file, algorithm).hexdigest()
            return "same" if digest in hashes[algorithm] else "different"
    return "unknown"
