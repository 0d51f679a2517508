"""
The compressed variants of a content: which contents have any, and how they are made. ``publish`` layer; used by
``releases``.

A variant is kept only if it is smaller by a twentieth at least. What the build has compressed itself, ``app.js.br``
beside ``app.js``, is taken if it is the same.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping

try:
    import brotli
except ImportError:  # a platform without a wheel of it: there is gzip alone then
    brotli = None

#: Kinds of files that can be made smaller, by their extensions; pictures, fonts, films and archives are compressed.
_WORTH = frozenset(
    "html htm xhtml css js mjs cjs json jsonld map webmanifest svg xml rss atom txt md csv tsv vtt wasm ttf otf eot "
    "ico bmp gltf ics yaml yml".split()
)

#: What has fewer bytes fits into a packet anyway; what has more would take long, and much memory.
SMALLEST = 256
LARGEST = 16 << 20

#: The highest of 11 would take ten times as long, for some three hundredths.
_BROTLI_QUALITY = 9

_GZIP_LEVEL = 9

#: By the name of the coding in Content-Encoding, the ending of files that builds have compressed themselves.
ENDINGS: Mapping[str, str] = {"br": ".br", "gzip": ".gz"}


def is_worth(path: str, size: int) -> bool:
    """Return whether a file of this name and size may become smaller."""
    return SMALLEST <= size <= LARGEST and path.rpartition(".")[2].lower() in _WORTH


def variants_of(data: bytes) -> dict[str, bytes]:
    """Return the content in each coding that makes it smaller."""
    made = {coding: compress(data) for coding, compress in _COMPRESS.items()}
    return {coding: each for coding, each in made.items() if _is_smaller(len(each), len(data))}


def sent_by_gzip(path: str, size: int, blocks: Iterable[bytes]) -> int:
    """Return how many bytes are sent of a file of this name, size and content to a browser that takes gzip."""
    if not is_worth(path, size):
        return size
    packing = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    made = sum(len(packing.compress(block)) for block in blocks) + len(packing.flush())
    return made if _is_smaller(made, size) else size


def is_variant(coding: str, compressed: bytes, data: bytes) -> bool:
    """Return whether something that a build has compressed is this content. It may be anything, a bomb too."""
    expand = _EXPAND.get(coding)
    if expand is None or len(compressed) >= len(data):
        return False
    try:
        return expand(compressed, len(data) + 1) == data
    except (ValueError, zlib.error, EOFError):
        return False


def _is_smaller(made: int, size: int) -> bool:
    return made <= size * 19 // 20


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)


def _gunzip(compressed: bytes, most: int) -> bytes:
    expanding = zlib.decompressobj(wbits=31)
    data = expanding.decompress(compressed, most)
    if not expanding.eof or expanding.unused_data:
        raise ValueError("it isn't one whole stream")
    return data


def _brotli(data: bytes) -> bytes:
    compressed: bytes = brotli.compress(data, quality=_BROTLI_QUALITY)
    return compressed


def _unbrotli(compressed: bytes, most: int) -> bytes:
    expanding = brotli.Decompressor()
    try:
        data: bytes = expanding.process(compressed, output_buffer_limit=most)
        while len(data) < most and not expanding.is_finished():
            more: bytes = expanding.process(b"", output_buffer_limit=most - len(data))
            if not more:
                raise ValueError("it isn't a whole stream")
            data += more
    except brotli.error as error:
        raise ValueError(str(error)) from error
    return data


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip}
_EXPAND: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _gunzip}
if brotli is not None:
    _COMPRESS = {"br": _brotli, **_COMPRESS}
    _EXPAND = {"br": _unbrotli, **_EXPAND}
