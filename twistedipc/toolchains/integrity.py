"""
What a package must be: the hashes that the registry says, and the one in ``packageManager``. No I/O.

The registry's are in the form of Subresource Integrity ("sha512-" and base64); for old packages there is only a
``shasum``, SHA-1 in hex. Corepack's form, which ``packageManager`` has, is "sha512." and hex.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from twistedipc.toolchains.problems import BadIntegrity

#: From the strongest on.
ALGORITHMS = ("sha512", "sha384", "sha256", "sha224", "sha1")


class Digests:
    """The digests of one file, while it is read."""

    def __init__(self) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=name != "sha1") for name in ALGORITHMS}

    def update(self, data: bytes) -> None:
        """Take the file's next bytes."""
        for each in self._hashes.values():
            each.update(data)

    def hex(self) -> dict[str, str]:
        """Return the digests, in hex, by the names of their algorithms."""
        return {name: each.hexdigest() for name, each in self._hashes.items()}


def of_registry(integrity: str, shasum: str) -> tuple[str, str]:
    """
    Return the strongest algorithm that a registry's entry has, and its digest in hex. Raises `BadIntegrity` if there is
    none.
    """
    found: dict[str, str] = {}
    for entry in integrity.split():
        name, _, rest = entry.partition("-")
        try:
            digest = base64.b64decode(rest.partition("?")[0], validate=True).hex()
        except (binascii.Error, ValueError):
            continue
        if name in ALGORITHMS and len(digest) == 2 * hashlib.new(name, usedforsecurity=False).digest_size:
            found.setdefault(name, digest)
    if re.fullmatch(r"[0-9a-f]{40}", shasum.lower()):
        found.setdefault("sha1", shasum.lower())
    for name in ALGORITHMS:
        if name in found:
            return name, found[name]
    raise BadIntegrity("the registry has no hash of it by which it could be checked")


def of_manager(text: str) -> tuple[str, str]:
    """Return algorithm and digest of what follows "+" in ``packageManager``. Raises `BadIntegrity` if it is no hash."""
    name, _, digest = text.partition(".")
    digest = digest.lower()
    if name not in ALGORITHMS or not re.fullmatch(r"[0-9a-f]+", digest):
        raise BadIntegrity(f'packageManager in package.json has "+{text[:40]}" after the version, which is no hash')
    if len(digest) != 2 * hashlib.new(name, usedforsecurity=False).digest_size:
        raise BadIntegrity(f"the {name} hash of packageManager in package.json hasn't the length of one")
    return name, digest


def check_registry(digests: dict[str, str], integrity: str, shasum: str) -> None:
    """Raise `BadIntegrity` unless a package's archive is what the registry says."""
    name, wanted = of_registry(integrity, shasum)
    if digests[name] != wanted:
        raise BadIntegrity(
            f"what was downloaded isn't what the registry announced: its {name} is {digests[name][:16]}… and not "
            f"{wanted[:16]}…"
        )


def check_manager(digests: dict[str, str], text: str) -> None:
    """Raise `BadIntegrity` unless a manager is the one that ``packageManager`` names."""
    name, wanted = of_manager(text)
    if not digests:
        raise BadIntegrity(
            "packageManager in package.json has a hash after the version, and the package that it is of can't be had "
            "from the registry. Leave out the part after +"
        )
    if digests.get(name) != wanted:
        raise BadIntegrity(
            f"packageManager in package.json says that its {name} is {wanted[:16]}…, and that of the registry's package"
            f" is {digests.get(name, '')[:16]}…. Correct the hash, or leave out the part after +"
        )
