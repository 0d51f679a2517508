"""
By which names those who use a package can ask for what is in it, and in which ways: by ``import``, by ``require``, and
for TypeScript's types. So what a new version takes away can be said. Pure; used by ``evidence``.

The rules are those of Node's PACKAGE_EXPORTS_RESOLVE
(https://nodejs.org/api/esm.html#resolution-algorithm-specification). A name counts if some condition leads to
something, since it isn't known which conditions the others' bundlers set.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from twistedipc.publish.targets.npm.entry_points import TYPES_OF

Way = Literal["import", "require", "types"]

_ALL: frozenset[Way] = frozenset({"import", "require", "types"})
_NONE: frozenset[Way] = frozenset()
_WITHOUT: Mapping[str, frozenset[Way]] = {
    "import": frozenset({"import", "types"}),
    "module": frozenset({"import", "types"}),
    "require": frozenset({"require", "types"}),
    "types": frozenset({"types"}),
}

#: What can be asked for by its path in a package without ``exports``.
_ASKED_FOR = (".js", ".cjs", ".mjs", ".json", ".node")

#: How many files the patterns of one package are looked up among, all together.
MAX_LOOKED_AT = 200_000


class TooMany(Exception):
    """The patterns of a package are more than are looked up."""


def entry_points(manifest: Mapping[str, object], files: Collection[str]) -> dict[str, frozenset[Way]]:
    """
    Return how each name of a package can be asked for: ".", "./feature", or, without ``exports``, each path. Raises
    `TooMany`.
    """
    exports = manifest.get("exports")
    if exports is None:
        return _of_paths(manifest, files)
    return _Exports(files, is_module=manifest.get("type") == "module").of(exports)


def has_exports(manifest: Mapping[str, object]) -> bool:
    """Return whether only what ``exports`` names can be asked for."""
    return manifest.get("exports") is not None


def _of_paths(manifest: Mapping[str, object], files: Collection[str]) -> dict[str, frozenset[Way]]:
    """Without ``exports``, each file is an entry point, and the package itself is its ``main``."""
    is_module = manifest.get("type") == "module"
    found: dict[str, frozenset[Way]] = {}
    for path in files:
        stem, ending = posixpath.splitext(path)
        if ending not in _ASKED_FOR:
            continue
        ways: set[Way] = {"import"}
        if ending != ".mjs" and not (is_module and ending == ".js"):
            ways.add("require")
        if any(stem + other in files for other in TYPES_OF.get(ending, ())):
            ways.add("types")
        found[f"./{path}"] = frozenset(ways)
    main = manifest.get("main")
    main = posixpath.normpath(main) if isinstance(main, str) and main else "index"
    candidates = [main, f"{main}.js", f"{main}.json", f"{main}/index.js", "index.js"]
    root: set[Way] = set(next((found[f"./{each}"] for each in candidates if f"./{each}" in found), ()))
    if isinstance(manifest.get("module"), str):
        root.add("import")
    if any(isinstance(manifest.get(name), str) for name in ("types", "typings")) or "index.d.ts" in files:
        root.add("types")
    return {".": frozenset(root), **found} if root else found


class _Exports:
    def __init__(self, files: Collection[str], *, is_module: bool) -> None:
        self._files = files
        self._is_module = is_module
        self._sorted: list[str] = []
        self._left = MAX_LOOKED_AT

    def of(self, exports: object) -> dict[str, frozenset[Way]]:
        if not isinstance(exports, dict) or not any(str(key).startswith(".") for key in exports):
            exports = {".": exports}
        exact: dict[str, frozenset[Way]] = {}
        patterns: list[tuple[str, object]] = []
        for name, target in exports.items():
            if "*" in name or name.endswith("/"):
                patterns.append((name, target))
            else:
                exact[name] = self._ways(target, _ALL)
        # The one with the most before its * counts, also if it leads to null.
        patterns.sort(key=lambda each: (len(each[0].partition("*")[0]), len(each[0])), reverse=True)
        if patterns:
            self._sorted = sorted(self._files)
        found: dict[str, frozenset[Way]] = {}
        forbidden: list[tuple[str, str]] = []
        for name, target in patterns:
            before, _, after = name.partition("*")
            for subpath, ways in self._matched(before, after, target):
                if subpath not in exact and subpath not in found and not self._is_in(subpath, forbidden):
                    found[subpath] = ways
            if not self._ways(target, _ALL, any_file=True):
                forbidden.append((before, after))
        return {name: ways for name, ways in {**exact, **found}.items() if ways}

    def _ways(self, target: object, ways: frozenset[Way], *, any_file: bool = False) -> frozenset[Way]:
        """Return in which of these ways a target leads to something; with ``any_file`` it needn't be there."""
        match target:
            case str():
                return ways if any_file else self._of_file(target, ways)
            case list():
                return _NONE.union(*(self._ways(each, ways, any_file=any_file) for each in target))
            case dict():
                return _NONE.union(
                    *(
                        self._ways(each, _below(condition, ways), any_file=any_file)
                        for condition, each in target.items()
                    )
                )
            case _:
                return _NONE

    def _of_file(self, target: str, ways: frozenset[Way]) -> frozenset[Way]:
        path = posixpath.normpath(target)
        stem, ending = posixpath.splitext(path)
        if ending in (".ts", ".mts", ".cts", ".tsx"):
            return ways & {"types"}
        if ending == ".mjs" or (self._is_module and ending == ".js"):
            # Only newer versions of Node can require it; where the condition itself is `require`, the author means it.
            ways = ways - {"require"} if "import" in ways else ways
        typed = ways == {"types"} or any(stem + other in self._files for other in TYPES_OF.get(ending, ()))
        return ways if typed else ways - {"types"}

    def _matched(self, before: str, after: str, target: object) -> Iterator[tuple[str, frozenset[Way]]]:
        """Yield the names that a pattern gives to files, and how they can be asked for."""
        found: dict[str, frozenset[Way]] = {}
        for text, ways in _texts(target, _ALL):
            start, star, end = posixpath.normpath(text).partition("*") if "*" in text else (_folder(text), "", "")
            if star and "*" in end:
                end = end[end.rindex("*") + 1 :]  # the others are the same again
            index = bisect_left(self._sorted, start)
            while index < len(self._sorted) and (path := self._sorted[index]).startswith(start):
                index += 1
                self._left -= 1
                if self._left < 0:
                    raise TooMany
                if path.endswith(end) and len(path) > len(start) + len(end):
                    middle = path[len(start) : len(path) - len(end)]
                    name = f"{before}{middle}{after}"
                    found[name] = found.get(name, _NONE) | self._of_file(path, ways)
        yield from found.items()

    def _is_in(self, subpath: str, patterns: list[tuple[str, str]]) -> bool:
        self._left -= len(patterns)
        if self._left < 0:
            raise TooMany
        return any(subpath.startswith(before) and subpath.endswith(after) for before, after in patterns)


def _folder(text: str) -> str:
    return posixpath.normpath(text) + "/"


def _texts(target: object, ways: frozenset[Way]) -> Iterator[tuple[str, frozenset[Way]]]:
    match target:
        case str():
            yield target, ways
        case list():
            for each in target:
                yield from _texts(each, ways)
        case dict():
            for condition, each in target.items():
                yield from _texts(each, _below(condition, ways))


def _below(condition: str, ways: frozenset[Way]) -> frozenset[Way]:
    """Return in which of these ways a target is asked for that is below a condition."""
    return ways & _WITHOUT.get(condition.partition("@")[0], _ALL)
