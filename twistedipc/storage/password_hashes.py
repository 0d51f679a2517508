"""
Hashes of passwords that people choose, by scrypt (RFC 7914). ``storage`` layer; used by ``web``.

A hash is ``scrypt:LOG2_N:R:P:SALT:KEY``, the last two in base64url. It takes some tenths of a second and 16 MiB, so
it belongs in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable

#: What a new hash costs, as the OWASP's cheat sheet on storing passwords advises: N (its logarithm), r and p.
_COST = (14, 8, 5)

#: A hash that would take more than this is refused: it was damaged.
_MOST_MEMORY = 64 << 20

_SALT_BYTES = 16
_KEY_BYTES = 32

_HASH = re.compile(r"scrypt:([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2}):([A-Za-z0-9_-]+=*):([A-Za-z0-9_-]+=*)")


def hash_of(password: str, random: Callable[[int], bytes]) -> str:
    """Return a hash of a password, with a new salt. Blocks."""
    salt = random(_SALT_BYTES)
    return ":".join(["scrypt", *map(str, _COST), _text(salt), _text(_key(password, salt, *_COST))])


def is_hash_of(stored: str, password: str) -> bool:
    """Return whether a hash is of a password, in a time that doesn't tell how much of it is right. Blocks."""
    found = _HASH.fullmatch(stored)
    if found is None:
        return False
    try:
        salt, key = (base64.urlsafe_b64decode(part) for part in found.groups()[3:])
        return hmac.compare_digest(_key(password, salt, *map(int, found.groups()[:3])), key)
    except ValueError:  # what was damaged would take more memory, or is no base64
        return False


def _key(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # One person's keyboard writes an accent as part of its letter, and another's as a character of its own.
    secret = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=_KEY_BYTES)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()
