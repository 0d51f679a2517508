"""
The entry points that a package.json names, looked up among the files of the package's tarball. Pure; used by
``package``.

Each is resolved as the program that reads it does:

- ``main``: Node's LOAD_AS_FILE and LOAD_AS_DIRECTORY (https://nodejs.org/api/modules.html#all-together). What Node
  does with a ``main`` that leads to nothing (DEP0128: it takes the package's index.js) isn't what an author means, so
  it counts as missing.
- ``exports``: PACKAGE_TARGET_RESOLVE (https://nodejs.org/api/esm.html#resolution-algorithm-specification), under every
  condition: strings, nested conditions, arrays, ``*`` patterns, ``null``, and folders that end with a slash.
- ``module``, ``browser``, ``unpkg``, ``jsdelivr``: as bundlers and delivery networks do, by the rules of ``main`` with
  a few more extensions.
- ``types``, ``typings``: TypeScript's, which knows more extensions, and ``typesVersions``.
- ``bin``, ``man``, ``directories``: exactly the files, as npm links them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from urllib.parse import unquote

#: Endings that are tried after a path as it is, and after "/index" in a folder.
_NODE = (".js", ".json", ".node")
_BUNDLER = (".mjs", ".js", ".cjs", ".json", ".node")
_TYPES = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".d.mts", ".d.cts")

#: JavaScript's ending -> the endings of the types that TypeScript takes for it.
TYPES_OF = {
    ".js": (".ts", ".tsx", ".d.ts"),
    ".jsx": (".ts", ".tsx", ".d.ts"),
    ".mjs": (".mts", ".d.mts"),
    ".cjs": (".cts", ".d.cts"),
}

#: What npm packs in any case (npm-packlist's strict rules): there is nothing else in an empty package.
_ALWAYS = re.compile(r"(package\.json|(readme|copying|licen[cs]e)(\..*)?)\Z", re.IGNORECASE)

#: How many paths the patterns of one package are held against, all together.
MAX_LOOKED_AT = 20_000_000

_FORBIDDEN_SEGMENTS = frozenset({".", "..", "node_modules"})


def find_missing(manifest: Mapping[str, object], files: Collection[str]) -> Iterator[str]:
    """
    What ``manifest`` (a package.json) names and ``files`` (the paths in its tarball, below the package's folder) don't
    have: a clause for each, like "main leads to dist/index.js".
    """
    held = _Files(files)
    yield from _one(manifest, "main", held.node)
    for name in ("module", "unpkg", "jsdelivr"):
        yield from _one(manifest, name, held.bundler)
    for name in ("types", "typings"):
        yield from _one(manifest, name, lambda path: held.types(path) or _by_versions(manifest, path, held))
    yield from _browser(manifest.get("browser"), held)
    yield from _bins(manifest, held)
    yield from _mans(manifest.get("man"), held)
    yield from _exports(manifest.get("exports"), held)


def find_unmatched(manifest: Mapping[str, object], files: Collection[str]) -> list[str]:
    """The entries of ``files`` in a package.json of which the tarball has nothing. (npm says nothing of them.)"""
    entries = manifest.get("files")
    if not isinstance(entries, list):
        return []
    named = [entry for entry in entries if isinstance(entry, str) and not entry.startswith("!")]
    if len(named) * len(files) > MAX_LOOKED_AT:
        return []
    return [entry for entry in named if not _matches(entry, files)]


def is_empty(files: Collection[str]) -> bool:
    """Return whether a tarball has only what npm packs in any case: package.json, a readme, a licence."""
    return all(_ALWAYS.match(path) for path in files)


class _Files:
    """The files of a tarball, looked up as Node, bundlers and TypeScript look for entry points."""

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = frozenset(paths)
        self._folders = frozenset(
            folder for path in self._paths for folder in _parents(path)
        )  # each that holds a file, at any depth
        self._left = MAX_LOOKED_AT

    def exact(self, path: str) -> bool:
        """Return whether this file is there."""
        return _inside(path) in self._paths

    def folder(self, path: str) -> bool:
        """Return whether this folder holds a file."""
        return _inside(path) in self._folders

    def node(self, path: str) -> bool:
        """Return whether Node finds something here: the file, one with its endings, the index of a folder."""
        return self._searched(path, _NODE)

    def bundler(self, path: str) -> bool:
        """Return whether a bundler finds something here."""
        return self._searched(path, _BUNDLER)

    def types(self, path: str) -> bool:
        """Return whether TypeScript finds types here."""
        return self._searched(path, _TYPES) or self.types_of(path)

    def types_of(self, path: str) -> bool:
        """Return whether the types of the JavaScript file with this path are there."""
        stem, ending = posixpath.splitext(path)
        return any(self.exact(stem + other) for other in TYPES_OF.get(ending, ()))

    def matching(self, pattern: str) -> bool:
        """
        Return whether a file is there that each ``*`` of the pattern matches with the same, which isn't empty. Those
        beyond `MAX_LOOKED_AT` aren't looked up.
        """
        self._left -= len(self._paths)
        if self._left < 0:
            return False
        first, *others = (re.escape(part) for part in pattern.split("*"))
        expression = re.compile(first + "(.+)" + r"\1".join(others))
        return any(expression.fullmatch(path) for path in self._paths)

    def _searched(self, path: str, endings: tuple[str, ...]) -> bool:
        inside = _inside(path)
        if inside is None:
            return False
        index = "index" if inside == "." else f"{inside}/index"
        candidates = [inside, *(inside + ending for ending in endings), *(index + ending for ending in endings)]
        return any(candidate in self._paths for candidate in candidates)


def _inside(path: str) -> str | None:
    """A path relative to the package, in the one form that the tarball has; None if it leads out of it."""
    plain = posixpath.normpath(path)
    return None if plain.startswith(("../", "/")) or plain == ".." else plain


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
    yield "."


def _one(manifest: Mapping[str, object], name: str, found: Callable[[str], bool]) -> Iterator[str]:
    """The entry point ``name``, if it is a path. What isn't a string, or is empty, is ignored everywhere."""
    path = manifest.get(name)
    if isinstance(path, str) and path and not found(path):
        yield f"{name} leads to {_shown(path)}"


def _by_versions(manifest: Mapping[str, object], path: str, held: _Files) -> bool:
    """
    Return whether ``typesVersions`` leads from this path to a file, for some version of TypeScript
    (https://www.typescriptlang.org/docs/handbook/declaration-files/publishing.html#version-selection-with-typesversions).
    """
    versions = manifest.get("typesVersions")
    wanted = _inside(path)
    if not isinstance(versions, dict) or wanted is None:
        return False
    for mapping in versions.values():
        for pattern, targets in mapping.items() if isinstance(mapping, dict) else ():
            before, star, after = str(pattern).removeprefix("./").partition("*")
            if not (wanted.startswith(before) and wanted.endswith(after) if star else wanted == before):
                continue
            rest = wanted[len(before) : len(wanted) - len(after)]
            for target in targets if isinstance(targets, list) else ():
                if isinstance(target, str) and held.types(target.replace("*", rest, 1)):
                    return True
    return False


def _browser(browser: object, held: _Files) -> Iterator[str]:
    """A path, or (https://github.com/defunctzombie/package-browser-field-spec) what is taken instead of what."""
    if isinstance(browser, str):
        yield from _one({"browser": browser}, "browser", held.bundler)
    elif isinstance(browser, dict):
        for instead_of, path in browser.items():
            # What isn't in the package either is of its tests, or of its sources.
            concerns = not instead_of.startswith(".") or held.bundler(instead_of)
            if isinstance(path, str) and path.startswith(".") and concerns and not held.bundler(path):
                yield f'browser["{_shown(instead_of)}"] leads to {_shown(path)}'


def _bins(manifest: Mapping[str, object], held: _Files) -> Iterator[str]:
    """The package's commands. npm silently drops what isn't a path."""
    bins = manifest.get("bin")
    if isinstance(bins, str):
        bins = {"": bins} if bins else {}
    elif isinstance(bins, list):
        bins = {str(index): path for index, path in enumerate(bins)}
    if isinstance(bins, dict) and bins:
        for name, path in bins.items():
            where = f"bin.{_shown(name)}" if name else "bin"
            if not isinstance(path, str) or not path:
                yield f"{where} isn't the path of a file"
            elif not held.exact(_rooted(path)):
                yield f"{where} leads to {_shown(path)}"
        return
    directories = manifest.get("directories")
    folder = directories.get("bin") if isinstance(directories, dict) else None
    if isinstance(folder, str) and folder and not held.folder(_rooted(folder)):
        yield f"directories.bin leads to {_shown(folder)}"


def _mans(man: object, held: _Files) -> Iterator[str]:
    for page in man if isinstance(man, list) else [man]:
        if isinstance(page, str) and page and not held.exact(_rooted(page)):
            yield f"man leads to {_shown(page)}"


def _rooted(path: str) -> str:
    """A path as npm takes it here: relative to the package's folder, which it can't leave."""
    return posixpath.normpath("/" + path).lstrip("/") or "."


# -- exports ---------------------------------------------------------------------------------------------------------


def _exports(exports: object, held: _Files) -> Iterator[str]:
    if exports is None:
        return
    if not isinstance(exports, dict):
        yield from _Target(held, "exports", ".").check(exports)
        return
    paths = [key for key in exports if key.startswith(".")]
    if not paths:
        yield from _Target(held, "exports", ".").check(exports)
    elif len(paths) != len(exports):
        yield "exports has both paths, which begin with a dot, and conditions, which don't: Node refuses it"
    else:
        for path, target in exports.items():
            where = f'exports["{_shown(path)}"]'
            if path != "." and not path.startswith("./"):
                yield f"{where} can't be imported: a path begins with ./"
            elif path.count("*") > 1:
                yield f"{where} can't be imported: a pattern has one *"
            else:
                yield from _Target(held, where, path).check(target)


class _Target:
    """What one path of ``exports`` leads to; or a part of that, below some conditions."""

    def __init__(self, held: _Files, where: str, path: str, *, types: bool = False) -> None:
        self._held = held
        self._where = where
        self._path = path
        self._types = types  # it is TypeScript that asks

    def check(self, target: object) -> Iterator[str]:
        """Yield what is missing, or can't be a target."""
        match target:
            case None:  # this path isn't exported
                return
            case str():
                yield from self._string(target)
            case list():
                yield from self._array(target)
            case dict():
                yield from self._conditions(target)
            case _:
                yield f"{self._where} can't be a target: Node refuses it"

    def _conditions(self, conditions: Mapping[str, object]) -> Iterator[str]:
        for condition, target in conditions.items():
            where = f"{self._where}.{_shown(condition)}"
            if condition.startswith("."):
                yield f"{where} is a path below a condition: nothing finds it there"
            elif condition.isdecimal():
                yield f"{where} can't be a condition: Node refuses numbers"
            else:
                types = self._types or condition == "types" or condition.startswith("types@")
                yield from _Target(self._held, where, self._path, types=types).check(target)

    def _array(self, targets: list[object]) -> Iterator[str]:
        """Check an array, of which Node takes the first valid target, without looking whether its file is there."""
        refused: list[str] = []
        for index, target in enumerate(targets):
            where = f"{self._where}[{index}]"
            if isinstance(target, str) and (why := _why_invalid(target)):
                refused.append(f"{where} {why}")
                continue
            part = _Target(self._held, where, self._path, types=self._types)
            yield from part.check(target)
            if isinstance(target, str) or (isinstance(target, dict) and "default" in target):
                return
        if len(refused) == len(targets):
            yield from refused

    def _string(self, target: str) -> Iterator[str]:
        if why := _why_invalid(target):
            yield f"{self._where} {why}"
        elif not any(self._leads(form) for form in {target, unquote(target)}):
            of_many = "files like " if self._is_pattern(target) else ""
            yield f"{self._where} leads to {of_many}{_shown(target)}"

    def _is_pattern(self, target: str) -> bool:
        return "*" in self._path and "*" in target

    def _leads(self, target: str) -> bool:
        if self._is_pattern(target):
            return self._held.matching(posixpath.normpath(target))
        if target.endswith("/"):
            # Of old versions of Node: https://nodejs.org/api/deprecations.html#DEP0148
            return self._path.endswith("/") and self._held.folder(target)
        return self._held.exact(target) or (self._types and self._held.types_of(target))


def _why_invalid(target: str) -> str:
    """Return why Node refuses a target; "" if it doesn't."""
    if not target.startswith("./"):
        return f'can\'t be "{_shown(target)}": a target begins with ./'
    segments = re.split(r"[/\\]", unquote(target[2:]).lower())
    if not _FORBIDDEN_SEGMENTS.isdisjoint(segments):
        return f'can\'t be "{_shown(target)}": Node refuses ., .. and node_modules in a target'
    return ""


def _matches(entry: str, files: Collection[str]) -> bool:
    """Return whether an entry of a package.json's ``files`` names one of the files, or a folder that holds one."""
    pattern = posixpath.normpath("/" + entry.replace("**", "*")).lstrip("/")
    if not pattern:
        return True
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*") for path in files)


def _shown(name: str) -> str:
    """Return a name that the package gives, cut for a sentence."""
    return name if len(name) <= 100 else f"{name[:99]}…"
