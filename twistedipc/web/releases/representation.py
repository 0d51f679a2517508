"""
Which content of a release's file is sent, and what may be kept of it. ``web.releases``; pure, used by ``site``.

A file can be there compressed too, once the release has variants of it. Each of them has an ETag of its own, since
ranges and conditions are about the bytes that are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from twistedipc.publish.targets.static.hashed_names import could_be_hashed, is_hashed
from twistedipc.publish.targets.static.release import Content, Release
from twistedipc.web.http.encodings import encoding_for
from twistedipc.web.http.file_response import ServedFile
from twistedipc.web.http.media import is_compressible

#: How many digits of a content's SHA-256 are its ETag.
ETAG_DIGITS = 32

IMMUTABLE = "public, max-age=31536000, immutable"

#: What a site says for an address: by the name in small letters, the name and the value, or None for no such header.
Said = Mapping[str, tuple[str, str | None]]

#: What of that is a part of the file's own headers.
OF_FILES = frozenset({"cache-control", "content-type"})

#: Headers beside ``Cache-Control`` and its kin that say what a cache between may keep, in small letters.
_OF_CACHES = frozenset({"expires", "edge-control"})


class Representation(NamedTuple):
    """What is sent of a file; no ``content`` if the client takes none that there is."""

    name: str
    content: Content | None
    encoding: str  # "": as it is
    varies: bool  # whether another client may get another content
    cache_control: str
    kind: str  # its Content-Type; "": by its name

    def served(self, path: Path) -> ServedFile:
        """Return the file to serve, whose content is at this path."""
        assert self.content is not None, "there is something to serve"
        return ServedFile(
            path=path,
            name=self.name,
            size=self.content.size,
            etag=f'"{self.content.sha256[:ETAG_DIGITS]}"'.encode(),
            cache_control=self.cache_control,
            encoding=self.encoding,
            kind=self.kind,
        )


def represent(
    release: Release, path: str, accepted: str | None, said: Said, *, changed: bool, private: bool, marked: bool = False
) -> Representation:
    """
    Return what is sent of a file of the release.

    :param accepted: the request's Accept-Encoding
    :param said: the headers that the site says for the address
    :param changed: whether the name has had another content in a release that was live
    :param marked: whether the address names the release, which never changes
    :param private: whether only the browser of the person that asks may keep it
    """
    entry = release.files[path]
    above, _, name = path.rpartition("/")
    contents: dict[str, Content] = {"": Content(entry.sha256, entry.size)}
    if entry.size and is_compressible(name):
        # Not the build's own ``app.js.br`` beside it: it may be of something else until it is compared, and then it is
        # one of these.
        contents.update(entry.variants)
    chosen = encoding_for(accepted, contents)
    kept = said.get("cache-control", ("", ""))[1] or ""
    if not kept:
        hashed = could_be_hashed(path) and is_hashed(path, release.folder(above).forms) and not changed
        immutable = marked or hashed
        kept = IMMUTABLE if immutable else "no-cache"
    return Representation(
        name=name,
        content=None if chosen is None else contents[chosen],
        encoding=chosen or "",
        varies=len(contents) > 1,
        cache_control=private_only(kept) if private else kept,
        kind=said.get("content-type", ("", ""))[1] or "",
    )


def without_caches(said: Said) -> Said:
    """
    Return the same without what tells caches between to keep an answer. Some of these go before ``Cache-Control``
    (``CDN-Cache-Control`` and others by the name of a network of caches: RFC 9213, section 2).
    """
    return {key: each for key, each in said.items() if not _is_of_caches(key)}


def _is_of_caches(key: str) -> bool:
    return key in _OF_CACHES or key.startswith("surrogate-") or key.endswith("-cache-control")


def private_only(cache_control: str) -> str:
    """Return the same without what lets others than the browser keep an answer."""
    parts = [part.strip() for part in cache_control.split(",")]
    own = [part for part in parts if not part.lower().startswith(("public", "private", "s-maxage"))]
    return ", ".join(["private", *own])
