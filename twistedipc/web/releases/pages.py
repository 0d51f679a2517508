"""
Pages whose links to scripts and styles name their release: see ``publish.site.marks``. ``web.releases``; used by
``site``.

A page is changed when it is first asked for, and kept in memory, also compressed, up to `MAX_BYTES` of all pages.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from twistedipc.publish.site.marks import marked
from twistedipc.publish.targets.static.hashed_names import in_bundlers_folder, is_asset, is_hashed
from twistedipc.publish.targets.static.release import Release
from twistedipc.publish.targets.static.variants import SMALLEST
from twistedipc.web.releases.representation import ETAG_DIGITS

#: A larger page is served as it is: it would be read and written at once.
MAX_PAGE = 256 << 10

#: What the pages in memory have together, in bytes, and the least that one counts.
MAX_BYTES = 32 << 20
_LEAST = 500

#: A release whose scripts are more, or have more bytes, isn't looked through: its modules get no marks.
MAX_SCRIPTS = 1000
MAX_SCRIPT_BYTES = 4 << 20

#: How many releases it is remembered of what their scripts do.
_RELEASES = 500

_SCRIPTS = (".js", ".mjs", ".cjs")
_FROM_THE_TOP = re.compile(rb"[\"'`]/([^/\"'`\s\\][^\"'`\s\\]{0,1000}?\.[mc]?js)(?=[\"'`?#])")
_IMPORTED_FROM_THE_TOP = re.compile(rb"\b(?:import|from)[\t\n\r ]{0,9}\(?[\t\n\r ]{0,9}[\"'`]/(?!/)")


class Content(NamedTuple):
    """What is sent of a page, in one encoding."""

    body: bytes
    etag: bytes

    @classmethod
    def of(cls, body: bytes) -> Content:
        """Return a content with its ETag."""
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:ETAG_DIGITS]}"'.encode())


#: A page as it is sent, by the encoding: "", and "gzip" if it is smaller so.
Page = Mapping[str, Content]


class _Scripts(NamedTuple):
    """What was found in a release's scripts."""

    registers: bool  # a service worker, which keeps files by their addresses without a mark
    from_the_top: bool  # they name scripts by whole paths, which have no mark, or there are too many to know


class MarkedPages:
    """The pages of all releases that have been asked for. ``file_of``: where a content of a project is."""

    def __init__(self, file_of: Callable[[str, str], Path]) -> None:
        self._file_of = file_of
        self._pages: OrderedDict[tuple[str, int, str, str, str | None], Page | None] = OrderedDict()
        self.size = 0  # of all that is kept, in bytes
        self._scripts: OrderedDict[tuple[str, int], _Scripts] = OrderedDict()

    def page(
        self, project: str, release: Release, path: str, folder: str | None, has_changed: Callable[[str], bool]
    ) -> Page | None:
        """
        Return a page with marks; None if it is served as it is. Raises OSError.

        :param folder: that of the page's address; None: addresses in it that are relative stay
        :param has_changed: whether a name has had another content in a release that was live
        """
        entry = release.files[path]
        if not entry.size <= MAX_PAGE or release.has_service_worker:
            return None
        key = (project, release.id, path, entry.sha256, folder)
        if key in self._pages:
            self._pages.move_to_end(key)
            return self._pages[key]
        page = self._make(project, release, self._file_of(project, entry.sha256).read_bytes(), folder, has_changed)
        self._pages[key] = page
        self.size += _size(page)
        while self.size > MAX_BYTES:
            self.size -= _size(self._pages.popitem(last=False)[1])
        return page

    def _make(
        self, project: str, release: Release, data: bytes, folder: str | None, has_changed: Callable[[str], bool]
    ) -> Page | None:
        def has(path: str) -> bool:
            # Next.js's scripts compare their own address with what they expect, and these folders need no marks.
            return release.has(path) and is_asset(path) and not in_bundlers_folder(path)

        def needs_mark(path: str) -> bool:
            above = release.folder(path.rpartition("/")[0])
            if not is_hashed(path, above.forms) or has_changed(path):
                return True
            return path.endswith(_SCRIPTS) and above.has_plain_scripts

        plain = marked(
            data,
            release.id,
            folder,
            has,
            needs_mark,
            modules=lambda: not self._scripts_of(project, release).from_the_top,
        )
        if plain is None or self._scripts_of(project, release).registers:
            return None
        zipped = gzip.compress(plain, 6, mtime=0) if len(plain) >= SMALLEST else plain
        contents = {"": plain, **({"gzip": zipped} if len(zipped) < len(plain) else {})}
        return {encoding: Content.of(body) for encoding, body in contents.items()}

    def _scripts_of(self, project: str, release: Release) -> _Scripts:
        key = (project, release.id)
        found = self._scripts.get(key)
        if found is None:
            found = self._scripts[key] = self._look_through(project, release)
            if len(self._scripts) > _RELEASES:
                self._scripts.popitem(last=False)
        return found

    def _look_through(self, project: str, release: Release) -> _Scripts:
        entries = {entry.sha256: entry.size for path, entry in release.files.items() if path.endswith(_SCRIPTS)}
        if len(entries) > MAX_SCRIPTS or sum(entries.values()) > MAX_SCRIPT_BYTES:
            return _Scripts(registers=False, from_the_top=True)
        registers = from_the_top = False
        for sha256 in entries:
            text = self._file_of(project, sha256).read_bytes()
            registers = registers or b"serviceWorker.register" in text
            from_the_top = from_the_top or _IMPORTED_FROM_THE_TOP.search(text) is not None
            from_the_top = from_the_top or any(
                release.has(unquote(each[1].decode("utf-8", "replace"))) for each in _FROM_THE_TOP.finditer(text)
            )
        return _Scripts(registers, from_the_top)


def _size(page: Page | None) -> int:
    return _LEAST + sum(len(content.body) for content in (page or {}).values())
