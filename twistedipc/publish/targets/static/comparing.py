"""
What a static release has other than another: found by their indexes, no file is read. ``publish`` layer, pure; used by
``releases``.

Bundlers write a hash of a file's content into its name, so that each change makes another path. Such files are compared
with one another if their paths are the same without the hash (`hashed_names.without_hash`): of several, the largest
with the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

from twistedipc.builds.attempt import LiveFiles
from twistedipc.builds.site.kinds import KINDS, Kind, kind_of
from twistedipc.publish.targets.differences import Difference, FileDifference, FileSizes, KindTotal, KindTotals
from twistedipc.publish.targets.static.hashed_names import without_hash
from twistedipc.publish.targets.static.release import Entry, Release
from twistedipc.publish.targets.static.variants import is_worth

#: How many bytes the names have together of the files that a builder is told of, beside what fills its frame else; and
#: how many files there are at most if they have more.
MAX_NAMES = 40_000
MAX_FILES = 600

#: Of so many new files, and of as many that are gone, it is looked whether they are the same by another name.
MAX_PAIRED = 25_000


def compare(before: Release | None, after: Release, most: int) -> Difference:
    """Return what ``after`` has other than ``before``, with up to ``most`` files."""
    old, new = {} if before is None else before.files, after.files
    gone = [path for path in old if path not in new]
    came = [path for path in new if path not in old]
    changed = [(path, path) for path in new if path in old and new[path].sha256 != old[path].sha256]
    renamed = [] if before is None else list(_renamed(before, gone, after, came))
    changed += renamed
    left, arrived = {was for was, _ in renamed}, {path for _, path in renamed}
    gone = [path for path in gone if path not in left]
    came = [path for path in came if path not in arrived]
    files = [
        *(_difference(path, before, "", after) for path in gone),
        *(_difference("", before, path, after) for path in came),
        *(_difference(was, before, path, after) for was, path in changed),
    ]
    files.sort(key=lambda each: (-abs(each.weight), each.path))
    return Difference(
        added=len(came),
        changed=len(changed),
        removed=len(gone),
        files=files[:most],
        totals=list(_totals(before, after)),
    )


def sizes_of(release: Release, path: str, entry: Entry) -> FileSizes:
    """Return the sizes of a file of a release."""
    known = release.compressed or bool(entry.variants) or not is_worth(path, entry.size)
    gzip, br = entry.variants.get("gzip"), entry.variants.get("br")
    otherwise = entry.size if known else None  # it is sent as it is
    smallest = [each.size for each in (br, gzip) if each is not None]  # who takes brotli takes gzip, too
    return FileSizes(entry.size, otherwise if gzip is None else gzip.size, smallest[0] if smallest else otherwise)


def files_of(release: Release) -> LiveFiles:
    """
    Return what is sent of the files of a release, as far as that is known: of all if their names have up to `MAX_NAMES`
    bytes together, else of the largest of each kind.
    """
    sent = {path: sizes_of(release, path, entry).gzip for path, entry in release.files.items()}
    known = sorted(((size, path) for path, size in sent.items() if size is not None), reverse=True)
    if sum(len(path.encode()) for _, path in known) > MAX_NAMES:
        by_kind: dict[Kind, list[tuple[int, str]]] = {}
        for each in known:
            by_kind.setdefault(kind_of(each[1]), []).append(each)
        known = [each for rank in zip_longest(*by_kind.values()) for each in rank if each is not None][:MAX_FILES]
    files: list[tuple[str, int]] = []
    room = MAX_NAMES
    for size, path in known:
        room -= len(path.encode())
        if room < 0:
            break
        files.append((without_hash(path, release.folder(path.rpartition("/")[0]).forms), size))
    return LiveFiles(files=files, complete=len(files) == len(sent))


def _renamed(before: Release, gone: list[str], after: Release, came: list[str]) -> Iterator[tuple[str, str]]:
    """The pairs of a path that is gone and one that has come which differ by a hash alone."""
    old, new = _by_name(before, gone), _by_name(after, came)
    for name, paths in old.items():
        yield from zip(paths, new.get(name, ()), strict=False)


def _by_name(release: Release, paths: list[str]) -> dict[str, list[str]]:
    """These paths by what they are without their hashes, the largest files first; not those that have none."""
    found: dict[str, list[str]] = {}
    largest = sorted(paths, key=lambda path: (-release.files[path].size, path))
    for path in largest[:MAX_PAIRED]:
        name = without_hash(path, release.folder(path.rpartition("/")[0]).forms)
        if name != path:
            found.setdefault(name, []).append(path)
    return found


def _difference(was: str, before: Release | None, path: str, after: Release) -> FileDifference:
    return FileDifference(
        path=path or was,
        was=was if path and was != path else "",
        kind=kind_of(path or was),
        before=sizes_of(before, was, before.files[was]) if was and before is not None else None,
        after=sizes_of(after, path, after.files[path]) if path else None,
    )


def _totals(before: Release | None, after: Release) -> Iterator[KindTotals]:
    old, new = {} if before is None else _by_kind(before), _by_kind(after)
    for kind in KINDS:
        if kind in old or kind in new:
            yield KindTotals(kind, old.get(kind, _NONE), new.get(kind, _NONE))


def _by_kind(release: Release) -> Mapping[Kind, KindTotal]:
    found: dict[Kind, list[FileSizes]] = {}
    for path, entry in release.files.items():
        found.setdefault(kind_of(path), []).append(sizes_of(release, path, entry))
    return {kind: _total(sizes) for kind, sizes in found.items()}


def _total(sizes: list[FileSizes]) -> KindTotal:
    return KindTotal(len(sizes), sum(each.size for each in sizes), _sum(each.gzip for each in sizes))


def _sum(sizes: Iterable[int | None]) -> int | None:
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total


_NONE = KindTotal(0, 0, 0)
