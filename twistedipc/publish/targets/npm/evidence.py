"""
What somebody who approves a package should see of it, beside the list of its files. Pure; used by ``compare``.

What matters most comes first, by `Level`: what is run where the package is installed, files that nobody means to
publish or that mislead, dependencies, commands, what users can't ask for any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from twistedipc.builds.counts import counted
from twistedipc.builds.names import shown
from twistedipc.publish.compared import File, Level, Remark
from twistedipc.publish.targets.npm.manifests import differences, reaches_users
from twistedipc.publish.targets.npm.tarballs import MAX_PATH, Contents

#: Files that nobody means to publish: keys, tokens, what git and editors keep.
_PRIVATE = re.compile(
    r"(?:.*/)?(?:\.npmrc|\.yarnrc\.yml|\.netrc|\.env(?:\..+)?|\.git-credentials|\.pypirc|id_(?:rsa|dsa|ecdsa|ed25519)"
    r"|[^/]+\.(?:pem|key|p12|pfx|jks|keystore|kdbx))\Z|(?:.*/)?\.(?:git|ssh|aws|gnupg)/.+",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"\.env\.(?:example|sample|template|dist)\Z|(?:^|/)(?:tests?|__tests__|fixtures)/", re.IGNORECASE)

#: Programs and libraries of a machine: nobody can read what they do.
_BINARY = re.compile(r".+\.(?:node|so(?:\.[0-9.]+)?|dylib|dll|exe|wasm|jar|class|pyc)\Z", re.IGNORECASE)

#: When a file has grown a lot, and a package: by this factor and by so many bytes.
GROWN, GROWN_BYTES = 2, 64 << 10
ALL_GROWN, ALL_GROWN_BYTES = 1.5, 256 << 10

_MOST = 10


def evidence(now: Contents, before: Contents | None, *, version: str, published: str) -> Iterator[Remark]:
    """
    Yield the remarks about a package.

    :param before: what is published; None: nothing, or it isn't known
    :param version: the package's
    :param published: that of ``before``; "" without
    """
    yield from _misleading(now)
    yield from differences(now, before, announced=bool(published) and not reaches_users(version, published))
    yield from _files(now.files, {} if before is None else before.files, is_first=before is None)
    if before is not None:
        yield from _growth(now.files, before.files)


def _misleading(now: Contents) -> Iterator[Remark]:
    """Yield what is in the tarball in a form that hides something."""
    yield from _each(now.twice, "is in the tarball more than once: others may see another one of them", "danger")
    yield from _each(now.outside, "has a path that leads out of the package", "danger")
    yield from _each(now.links, "is neither a file nor a folder: npm leaves it out", "warning")
    unseen = [path for path in now.files if shown(path, MAX_PATH) != path]
    yield from _each(unseen, "has a name with characters that can't be seen", "danger")
    by_lower: dict[str, str] = {}
    same = [path for path in now.files if by_lower.setdefault(path.lower(), path) != path]
    what = "has the name of another file, but for upper and lower case: many systems mix them up"
    yield from _each(same, what, "warning")


def _files(now: Mapping[str, File], before: Mapping[str, File], *, is_first: bool) -> Iterator[Remark]:
    added = sorted(now.keys() - before.keys())
    private = [path for path in added if _PRIVATE.match(path) and not _EXAMPLE.search(path)]
    yield from _each(private, "is new, and by its name it may hold secrets", "danger")
    changed = [path for path in sorted(now.keys() & before.keys()) if now[path].sha256 != before[path].sha256]
    yield from _each([path for path in added if _BINARY.match(path)],
                     "is new, and a program that can't be read", "info" if is_first else "warning")  # fmt: skip
    yield from _each([path for path in changed if _BINARY.match(path)],
                     "is another, and a program that can't be read", "warning")  # fmt: skip


def _growth(now: Mapping[str, File], before: Mapping[str, File]) -> Iterator[Remark]:
    grown = [
        path
        for path in now.keys() & before.keys()
        if now[path].size >= GROWN * before[path].size and now[path].size - before[path].size >= GROWN_BYTES
    ]
    grown.sort(key=lambda path: (before[path].size - now[path].size, path))
    for path in grown[:_MOST]:
        yield Remark(
            level="warning",
            about="file",
            name=shown(path, 200),
            text=f"{shown(path, 200)} has grown a lot, from {before[path].size} to {now[path].size} bytes",
            before=str(before[path].size),
            after=str(now[path].size),
        )
    if len(grown) > _MOST:
        yield Remark(
            level="warning",
            about="file",
            text=f"and {counted(len(grown) - _MOST, 'more file has', 'more files have')} grown a lot",
        )
    size, size_before = (sum(file.size for file in files.values()) for files in (now, before))
    if size >= ALL_GROWN * size_before and size - size_before >= ALL_GROWN_BYTES:
        text = f"the package has grown a lot, from {size_before} to {size} bytes in {counted(len(now), 'file')}"
        yield Remark(level="warning", about="file", text=text, before=str(size_before), after=str(size))


def _each(paths: list[str], what: str, level: Level) -> Iterator[Remark]:
    for path in paths[:_MOST]:
        yield Remark(level=level, about="file", name=shown(path, 200), text=f"{shown(path, 200)} {what}")
    if len(paths) > _MOST:
        yield Remark(level=level, about="file", text=f"and {len(paths) - _MOST} more like {shown(paths[0], 200)}")
