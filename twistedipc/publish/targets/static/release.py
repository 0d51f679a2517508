"""
One release as its index has it: which paths it has, and the content of each. Pure; ``releases`` reads and writes
indexes, and the releases' site answers by them, so that no request looks for its file on the disk.

A release never changes, so what is found out about it is kept with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property

import msgspec

from twistedipc.builds.site.rules import Serving
from twistedipc.publish.site.answers import Site
from twistedipc.publish.targets.static.hashed_names import (
    Form,
    forms_among,
    in_bundlers_folder,
    is_asset,
    is_hashed,
    likely_forms_among,
    may_be_hashed,
)

#: The number of the form in which indexes are written.
FORMAT = 1

#: The most names of a folder that are looked at to see how a bundler has named its files.
MAX_LOOKED_AT = 2000

#: How service workers are called.
_SERVICE_WORKER = re.compile(r"(?:.*[/\-_.])?(?:sw|ngsw-worker|service-?worker)\.m?js", re.IGNORECASE)


class Content(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A content in the pool."""

    sha256: str
    size: int  # bytes


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """
    A file of a release: its content, and the same compressed. There are tens of thousands in memory, and none is ever
    part of a cycle. With ``gc``, each full collection would stop all requests until it has looked through them.
    """

    sha256: str
    size: int  # bytes
    variants: dict[str, Content] = {}  # by coding, as Content-Encoding names it: "br", "gzip"


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A release as a file."""

    format: int = FORMAT
    files: dict[str, Entry]  # by path
    serving: Serving = Serving()
    compressed: bool = False  # all variants are made that are worth it


def contents_of(index: Index) -> dict[str, int]:
    """Return the contents that a release counts on: the SHA-256 of each, and its size."""
    sizes: dict[str, int] = {}
    for entry in index.files.values():
        sizes[entry.sha256] = entry.size
        for variant in entry.variants.values():
            sizes[variant.sha256] = variant.size
    return sizes


class Folder:
    """A folder of a release."""

    def __init__(self) -> None:
        self.paths: list[str] = []  # of the files in it, from the release's top

    @cached_property
    def forms(self) -> frozenset[Form]:
        """The forms of hashed names in it."""
        return forms_among(self.paths[:MAX_LOOKED_AT])

    @cached_property
    def likely_forms(self) -> frozenset[Form]:
        """Forms that are more likely a hash's than a name's in one name at least."""
        return likely_forms_among(self.paths[:MAX_LOOKED_AT])

    @cached_property
    def has_plain_scripts(self) -> bool:
        """Whether it has scripts whose names have no hash."""
        paths = [path for path in self.paths[:MAX_LOOKED_AT] if path.endswith((".js", ".mjs"))]
        return any(not may_be_hashed(path, self.forms) for path in paths)

    @cached_property
    def is_of_assets(self) -> bool:
        """Whether it has files with hashed names, and no page."""
        paths = self.paths[:MAX_LOOKED_AT]
        return not any(path.endswith(".html") for path in paths) and any(is_hashed(path, self.forms) for path in paths)


class Release:
    """A release in memory. Paths are from its top, with "/" between names, and without one at either end."""

    def __init__(self, release_id: int, index: Index) -> None:
        self.id = release_id
        self.files: Mapping[str, Entry] = index.files
        self.serving = index.serving
        self.compressed = index.compressed

    def find_out(self) -> None:
        """
        Find out now what requests need to know of it. Of a release with tens of thousands of files, or thousands of
        rules, that takes up to a second, so it belongs in a thread.
        """
        _ = self.site, self.has_plain_scripts, self.has_service_worker

    def find_out_of_folders(self, go_on: Callable[[], bool]) -> None:
        """Find out how the files of each folder are named: at first a request would. Ends when ``go_on`` says False."""
        for folder in self._folders.values():
            if not go_on():
                return
            _ = folder.forms, folder.likely_forms, folder.has_plain_scripts, folder.is_of_assets

    def with_variants(self, index: Index) -> Release:
        """
        Return this release with more variants of its contents. What is found out about its paths and rules is the same.
        """
        other = Release(self.id, index)
        other.site, other._folders = self.site, self._folders
        other.has_plain_scripts, other.has_service_worker = self.has_plain_scripts, self.has_service_worker
        return other

    def has(self, path: str) -> bool:
        """Return whether there is a file with this path."""
        return path in self.files

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder with this path; "" is the top."""
        return path in self._folders

    def is_of_assets(self, path: str) -> bool:
        """Return whether the folder with this path has files with hashed names, and no page."""
        return self.folder(path).is_of_assets

    def folder(self, path: str) -> Folder:
        """Return the folder with this path; an empty one if there is none."""
        return self._folders.get(path) or Folder()

    @cached_property
    def site(self) -> Site:
        """How it answers."""
        return Site(self.serving)

    @cached_property
    def assets(self) -> dict[str, Entry]:
        """Its files of the kinds that pages load."""
        return {path: entry for path, entry in self.files.items() if is_asset(path)}

    @cached_property
    def has_plain_scripts(self) -> bool:
        """Whether it has scripts whose names have no hash, outside the folders of bundlers."""
        return any(
            folder.has_plain_scripts for path, folder in self._folders.items() if not in_bundlers_folder(f"{path}/")
        )

    @cached_property
    def has_service_worker(self) -> bool:
        """Whether a file is called as service workers are."""
        return any(path.endswith("js") and _SERVICE_WORKER.fullmatch(path) for path in self.files)

    @cached_property
    def _folders(self) -> dict[str, Folder]:
        folders = {"": Folder()}
        for path in self.files:
            above = path.rpartition("/")[0]
            if above not in folders:
                part = above
                while part not in folders:
                    folders[part] = Folder()
                    part = part.rpartition("/")[0]
            folders[above].paths.append(path)
        return folders
