"""
The media types of served files. ``web.http``; pure, used by ``web.releases`` and ``web.page``.

The types that browsers insist on (scripts, styles, fonts, WebAssembly) are listed here, since the machine's own table,
which has the rest, differs from one machine to the next.
"""

from __future__ import annotations

import mimetypes
import os
from functools import lru_cache

_TYPES = {
    ".avif": "image/avif",
    ".cjs": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".htm": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
_TEXTUAL = frozenset({"application/json", "application/manifest+json", "application/xml", "image/svg+xml"})


#: What becomes smaller when it is compressed, beside all text: the media types of images and fonts that are written as
#: text or as plain numbers.
_COMPRESSIBLE = frozenset(
    {*_TEXTUAL, "application/wasm", "application/rss+xml", "application/atom+xml", "application/xhtml+xml"}
    | {"font/ttf", "font/otf", "application/vnd.ms-fontobject", "image/x-icon", "image/bmp", "model/gltf-binary"}
)


@lru_cache(maxsize=4096)
def is_compressible(name: str) -> bool:
    """Return whether a file of this name may be sent compressed."""
    kind = content_type(name).partition(";")[0]
    return kind.startswith("text/") or kind in _COMPRESSIBLE


@lru_cache(maxsize=4096)
def content_type(name: str) -> str:
    """
    Return the Content-Type for a file of this name. Compressed files are served as they are: browsers don't unpack
    them.
    """
    suffix = os.path.splitext(name)[1].lower()
    kind = _TYPES.get(suffix)
    if kind is None:
        kind, encoding = mimetypes.guess_type(name)
        if kind is None or encoding is not None:
            kind = "application/gzip" if encoding == "gzip" else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind in _TEXTUAL else kind
