"""
The mark of a release in an address: ``/~r17~/app.js`` is ``app.js`` of release 17. Pure; used by the releases' site.

It is put before the addresses of scripts and styles in a page, so a page that is open finds the files of its own
release. It is a part of the path and no query: what these files name relative to themselves (``import "./chunk.js"``,
``url(font.woff2)``, ``import.meta.url``) inherits it, and a module has one address, so that none runs twice.

A file with a hash of its content in its name needs no mark. With one, browsers would fetch it for each release.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote_to_bytes, urlsplit

from twistedipc.publish.site.links import Link, Unclear, links_of

#: Segments of this form are marks at the beginning of an address, whatever files a site has.
_MARK = re.compile(r"~r([1-9][0-9]{0,17})~")

#: What an address in a page may consist of to be read safely: no escapes of HTML, no blanks, no backslashes.
_READABLE = re.compile(rb"[^\x00-\x20\x7f\\&:?#]+(?=[?#]|\Z)")


def mark_of(segments: Sequence[str]) -> int | None:
    """Return the number of the release that an address names; None: it names none."""
    found = _MARK.fullmatch(segments[0]) if segments else None
    return None if found is None else int(found[1])


def mark_of_referer(referer: str, host: str) -> int | None:
    """Return the number of the release whose file a request comes from, by its Referer; None: none of this host."""
    if "/~r" not in referer:  # most have none
        return None
    try:
        parts = urlsplit(referer)
        at_host = parts.netloc.lower() == host.lower()
    except ValueError:
        return None
    return mark_of(parts.path[1:].split("/")) if at_host and parts.path.startswith("/") else None


def marked(
    page: bytes,
    release_id: int,
    folder: str | None,
    has: Callable[[str], bool],
    needs_mark: Callable[[str], bool],
    *,
    modules: Callable[[], bool] = lambda: True,
) -> bytes | None:
    """
    Return the page with marks; None if there is nothing to mark in it, or it can't be done safely.

    :param folder: that of the page's address, from the top of the site; None: addresses that are relative stay
    :param has: whether the release has a file with this path
    :param needs_mark: whether the name of a file doesn't tell its content
    :param modules: whether modules can have marks; asked only if the page has any that needs one
    """
    try:
        found = [(link, path) for link in links_of(page) if (path := path_of(link.address, folder)) and has(path)]
    except Unclear:
        return None
    of_modules = {path for link, path in found if link.kind == "module"}
    # Modules import one another: with and without a mark, one would run twice.
    if any(map(needs_mark, of_modules)):
        chosen = of_modules if modules() else set()
    else:
        chosen = set()
    chosen |= {path for _, path in found if path not in of_modules and needs_mark(path)}
    pieces: list[bytes] = []
    done = 0
    for link, path in found:
        if path in chosen:
            pieces += [page[done : link.position], _before(link, release_id, folder)]
            done = link.position
    return b"".join([*pieces, page[done:]]) if pieces else None


def path_of(address: bytes, folder: str | None) -> str:
    """Return the path of the file that an address in a page leads to; "" if it isn't plainly one of the site."""
    found = _READABLE.match(address)
    if found is None or address.startswith(b"//") or (folder is None and not address.startswith(b"/")):
        return ""
    try:
        path = unquote_to_bytes(found[0]).decode("utf-8")
    except UnicodeDecodeError:
        return ""
    # Encoded dots and slashes are read in more than one way.
    if (
        path.count("/") != found[0].count(b"/")
        or path.count(".") != found[0].count(b".")
        or "//" in path
        or path.endswith("/")
    ):
        return ""
    parts = posixpath.normpath(path if path.startswith("/") else posixpath.join(folder or "", path)).lstrip("/")
    return "" if parts == ".." or parts.startswith("../") or _leads_up(path) or mark_of(parts.split("/")) else parts


def _leads_up(path: str) -> bool:
    """Return whether an address that begins at the top leads above it, where a browser stops and a mark doesn't."""
    depth = 0
    for segment in path[1:].split("/") if path.startswith("/") else ():
        depth += -1 if segment == ".." else 0 if segment == "." else 1
        if depth < 0:
            return True
    return False


def _before(link: Link, release_id: int, folder: str | None) -> bytes:
    """What is put before an address; what was there stays, and a browser reads both as one path."""
    mark = f"/~r{release_id}~"
    if link.address.startswith(b"/"):
        return mark.encode()
    return f"{mark}/{quote(folder, safe='/')}/".encode() if folder else f"{mark}/".encode()
