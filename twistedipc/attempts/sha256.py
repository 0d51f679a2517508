"""
SHA-256 without OpenSSL; used by ``journal``, ``mirrors`` and the runner.

The SHA-256 of hashlib is OpenSSL's, and loading OpenSSL costs each runner 4 MiB. CPython has an implementation of its
own, in a module whose name has changed. It is five times slower, but still digests more than 200 MB/s, and a runner
digests the output of one build.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from twistedipc.builds.logs import Hash


def _find() -> Callable[[], Hash]:
    for name in ("_sha2", "_sha256"):  # from CPython 3.12 on; before
        try:
            found: Callable[[], Hash] = import_module(name).sha256
        except ImportError:
            continue
        return found
    from hashlib import sha256  # a Python that was built without

    return sha256


#: Returns an empty SHA-256.
sha256 = _find()

_READ_BYTES = 1 << 20


def measured(path: Path) -> tuple[int, str]:
    """Return a file's size and its SHA-256, hexadecimal. Raises OSError."""
    digest = sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
