"""``_redirects`` and ``_headers`` at the top of a folder that is packed. Used by ``pack``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.redirects import read_redirects
from twistedipc.builds.site.rules import HEADERS, MAX_BYTES, REDIRECTS, RULE_FILES, Serving
from twistedipc.disk.beneath import Beneath


def with_files(serving: Serving, folder: Path) -> tuple[Serving, frozenset[str]]:
    """
    Return how a site is served with what its files say, which goes before all else, and which of `RULE_FILES` it has.
    Raises `BadRules`, or OSError of the disk. Nothing is read that is outside of the folder.
    """
    found = {name: data for name in sorted(RULE_FILES) if (data := _read(folder, name)) is not None}
    return replace(
        serving,
        redirects=[*read_redirects(found.get(REDIRECTS, b"")), *serving.redirects],
        headers=[*serving.headers, *read_headers(found.get(HEADERS, b""))],
    ), frozenset(found)


def _read(folder: Path, name: str) -> bytes | None:
    """Return what is in the file, as far as it may be long; None if it isn't one."""
    root = folder.resolve()
    real = (root / name).resolve()
    if not real.is_relative_to(root) or real == root:
        return None
    top = Beneath(root)
    try:
        descriptor = top.file(real.relative_to(root).parts)
    except OSError:
        return None
    finally:
        top.close()
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
