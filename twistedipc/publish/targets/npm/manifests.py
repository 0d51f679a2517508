"""
What a package.json says otherwise than the published one: what somebody who approves should see. Pure; used by
``evidence``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from twistedipc.builds.counts import counted
from twistedipc.builds.names import shown
from twistedipc.publish.compared import Level, Remark
from twistedipc.publish.targets.npm.dependencies import GROUPS
from twistedipc.publish.targets.npm.exported import TooMany, Way, entry_points, has_exports
from twistedipc.publish.targets.npm.tarballs import Contents

#: The scripts that npm runs where a package is installed from a registry, and the one that it runs besides where it is
#: installed from a git repository.
INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")
GIT_SCRIPT = "prepare"

#: What npm runs in a package with a binding.gyp and neither ``install`` nor ``preinstall``
#: (https://docs.npmjs.com/cli/using-npm/scripts#npm-install).
IMPLICIT_INSTALL = "node-gyp rebuild"

#: Fields that decide how a package is used. Each with the level of a change that the version doesn't announce.
FIELDS: Mapping[str, Level] = {
    "license": "warning",
    "type": "danger",
    "main": "info",
    "module": "info",
    "browser": "info",
    "types": "info",
    "typings": "info",
    "imports": "info",
    "engines": "warning",
    "os": "warning",
    "cpu": "warning",
    "libc": "warning",
}

#: Commands that everybody takes for other programs.
WELL_KNOWN = frozenset(
    "node npm npx pnpm yarn bun corepack git sh bash zsh env sudo su ssh curl wget python python3 docker make cat ls cp"
    " mv rm tar gzip which tsc".split()
)

#: Where a dependency comes from, if not from the registry, by what its range begins with.
_ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]*:|[^@\s/]+@[^:\s]+:|[^/@\s:]+/[^/\s:#]+(?:#.*)?\Z)", re.IGNORECASE)

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-(\S+?))?(?:\+\S*)?\Z")

#: The most characters of a value, of a name, and the most remarks of one kind.
_MOST = 200
_MOST_OF_A_NAME = 100
_MOST_OF_A_KIND = 30

_WORDS: Mapping[Way, str] = {"import": "by import", "require": "by require", "types": "for its types"}


def reaches_users(now: str, before: str) -> bool:
    """
    Return whether those whose range is ``^before`` get the version ``now``: a patch or a minor version, so nothing may
    break. (Below 1.0.0 a minor version may.)
    """
    mine, theirs = _VERSION.match(now), _VERSION.match(before)
    if mine is None or theirs is None:
        return False
    new, old = [int(part) for part in mine.groups()[:3]], [int(part) for part in theirs.groups()[:3]]
    if mine[4] is not None and new != old:
        return False
    kept = next((index for index, part in enumerate(old) if part), 2)
    return new >= old and new[: kept + 1] == old[: kept + 1]


def differences(now: Contents, before: Contents | None, *, announced: bool = False) -> Iterator[Remark]:
    """
    Yield what is said otherwise. ``before`` is None if nothing is published, or if that isn't known: all is new then.

    :param announced: whether the version says that something may break
    """
    yield from _scripts(now, before)
    yield from _dependencies(now.manifest, {} if before is None else before.manifest, is_first=before is None)
    yield from _commands(now.manifest, {} if before is None else before.manifest)
    if before is not None:
        yield from _gone(now, before, announced=announced)
        yield from _fields(now.manifest, before.manifest, announced=announced)
        yield from _exports(now.manifest.get("exports"), before.manifest.get("exports"))


# -- scripts


def install_scripts(contents: Contents) -> dict[str, str]:
    """Return what npm runs of a package where it is installed: name -> command."""
    scripts = _table(contents.manifest, "scripts")
    found = {name: str(scripts[name]) for name in (*INSTALL_SCRIPTS, GIT_SCRIPT) if scripts.get(name)}
    implicit = "binding.gyp" in contents.files and contents.manifest.get("gypfile") is not False
    if implicit and "install" not in found and "preinstall" not in found:
        found["install"] = IMPLICIT_INSTALL
    return found


def _scripts(now: Contents, before: Contents | None) -> Iterator[Remark]:
    mine, theirs = install_scripts(now), {} if before is None else install_scripts(before)
    for name in (*INSTALL_SCRIPTS, GIT_SCRIPT):
        what = f"the script {name}, which is run where the package is installed"
        what += " from git," if name == GIT_SCRIPT else ","
        if name == "install" and mine.get(name) == IMPLICIT_INSTALL:
            what = "the script install, which npm makes of the package's binding.gyp,"
        level: Level = "warning" if name == GIT_SCRIPT else "danger"
        yield from _difference(level, "script", name, what, mine, theirs)
        if before is None or name not in mine or mine[name] != theirs.get(name):
            continue
        for path in _named_in(mine[name], now):
            if path not in before.files or before.files[path].sha256 != now.files[path].sha256:
                yield Remark(
                    level=level,
                    about="script",
                    name=name,
                    text=f"the script {name} is as it was, but {shown(path, _MOST_OF_A_NAME)}, which it runs, is "
                    f"{'another' if path in before.files else 'new'}",
                    before=_value(theirs[name]),
                    after=_value(mine[name]),
                )


def _named_in(command: str, contents: Contents) -> list[str]:
    """Return the files of the package that a command names, as Node would find them."""
    found: dict[str, None] = {}
    for word in re.split(r"[\s;&|'\"`()<>]+", command[:10_000]):
        path = posixpath.normpath(word) if word else ""
        for each in (path, f"{path}.js", f"{path}/index.js"):
            if each in contents.files:
                found[each] = None
                break
    if command == IMPLICIT_INSTALL and "binding.gyp" in contents.files:
        found["binding.gyp"] = None
    return list(found)[:_MOST_OF_A_KIND]


# -- dependencies and commands


def _dependencies(now: Mapping[str, Any], before: Mapping[str, Any], *, is_first: bool) -> Iterator[Remark]:
    """Yield what a package needs: what is new comes first."""
    new: list[Remark] = []
    others: list[Remark] = []
    for group in GROUPS:
        mine, theirs = _table(now, group), _table(before, group)
        for name in sorted(mine.keys() | theirs.keys()):
            is_new = name not in theirs
            elsewhere = name in mine and mine[name] != theirs.get(name) and _ELSEWHERE.match(str(mine[name]).strip())
            level: Level = "danger" if elsewhere else "warning" if is_new and not is_first else "info"
            what = f"{group}: {_name(name)}"
            found = list(_difference(level, "dependency", name, what, mine, theirs))
            if elsewhere:
                found = [
                    msgspec.structs.replace(each, text=each.text + "; so it isn't the registry's package of this name")
                    for each in found
                ]
            (new if is_new else others).extend(found)
    bundled, bundled_before = _bundled(now), _bundled(before)
    for name in sorted(bundled - bundled_before):
        text = f"{_name(name)} is bundled: the package brings a copy of its own, which may be any code"
        new.append(Remark(level="warning", about="dependency", name=_name(name), text=text))
    yield from _first(new, "dependencies that are new", "warning")
    yield from _first(others, "dependencies that are others", "info")


def _bundled(manifest: Mapping[str, Any]) -> set[str]:
    found = manifest.get("bundleDependencies", manifest.get("bundledDependencies"))
    if found is True:
        return set(_table(manifest, "dependencies"))
    return {each for each in found if isinstance(each, str)} if isinstance(found, list) else set()


def commands(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the commands that a package brings: name -> path."""
    found = manifest.get("bin")
    if isinstance(found, str):
        name = manifest.get("name")
        return {name.rpartition("/")[2] if isinstance(name, str) else "": found} if found else {}
    return {name: path for name, path in found.items() if isinstance(path, str)} if isinstance(found, dict) else {}


def _commands(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[Remark]:
    mine, theirs = commands(now), commands(before)
    found: list[Remark] = []
    for name in sorted(mine.keys() | theirs.keys()):
        is_new = name not in theirs
        level: Level = "danger" if is_new and name in WELL_KNOWN else "warning" if is_new else "info"
        what = f"the command {_name(name)}" + (", which has the name of another program," if level == "danger" else "")
        found += _difference(level, "command", name, what, mine, theirs)
    folder, folder_before = (_table(each, "directories").get("bin") for each in (now, before))
    if folder != folder_before and folder:
        text = f"all files in {_value(folder)} are commands (directories.bin)"
        found.append(Remark(level="warning", about="command", name="directories.bin", text=text))
    yield from _first(found, "commands", "warning")


# -- what users ask for


def _gone(now: Contents, before: Contents, *, announced: bool) -> Iterator[Remark]:
    """Yield the entry points that are no longer there."""
    try:
        mine = entry_points(now.manifest, now.files)
        theirs = entry_points(before.manifest, before.files)
    except TooMany:
        text = "the patterns in exports are too many to say what can't be asked for any more"
        yield Remark(level="warning", about="entry point", text=text)
        return
    promised = has_exports(before.manifest)
    # Who could ask for any file by its path wasn't promised that it stays; the package itself was.
    level: Level = "info" if announced else "danger"
    paths: list[str] = []
    found: list[Remark] = []
    for name, ways in sorted(theirs.items()):
        lost = ways - mine.get(name, frozenset())
        if promised or name == ".":
            found += [_breaks(level, "entry point", name, _lost(name, lost, ways))] if lost else []
        elif lost - mine.get(name.removesuffix(".js"), frozenset()):
            paths.append(name)
    if paths:
        listed = ", ".join(_name(name) for name in paths[:5]) + (" and others" if len(paths) > 5 else "")
        text = f"{counted(len(paths), 'file')} that could be asked for by path can't be any more: {listed}"
        text += "; exports is new, and leaves them out" if has_exports(now.manifest) else ""
        found.append(_breaks("info" if announced else "warning", "entry point", "", text))
    yield from _first(found, "entry points that are gone", level)


def _lost(name: str, lost: frozenset[Way], ways: frozenset[Way]) -> str:
    how = "at all" if lost == ways else ", ".join(words for way, words in _WORDS.items() if way in lost)
    return f"{'the package itself' if name == '.' else _name(name)} can't be asked for any more {how}"


def _breaks(level: Level, about: str, name: str, text: str, **values: str | None) -> Remark:
    """Return a remark about what breaks users; one that their ranges admit says so."""
    if level != "info":
        text += ": a breaking change in a version that users get without asking"
    return Remark(level=level, about=about, name=_name(name), text=text, **values)


def _fields(now: Mapping[str, Any], before: Mapping[str, Any], *, announced: bool) -> Iterator[Remark]:
    now, before = ({"type": "commonjs", **each} for each in (now, before))  # what it is by default
    for name, level in FIELDS.items():
        may = level if name == "license" or not announced else "info"
        for found in _difference(may, "field", name, name, now, before):
            if name == "type" and may == "danger":
                yield _breaks(may, "field", name, found.text, before=found.before, after=found.after)
            else:
                yield found


def _exports(now: object, before: object) -> Iterator[Remark]:
    """Yield which entries of ``exports`` are others; what can't be asked for any more is said elsewhere."""
    if now == before:
        return
    mine, theirs = _by_name(now), _by_name(before)
    if not mine or not theirs:
        yield from _difference("info", "field", "exports", "exports", *({"exports": each} if each is not None else {}
                                                                        for each in (now, before)))  # fmt: skip
        return
    found = [
        remark
        for name in sorted(mine.keys() | theirs.keys())
        for remark in _difference("info", "field", name, f'exports["{_name(name)}"]', mine, theirs)
    ]
    yield from _first(found, "entries of exports", "info")


def _by_name(exports: object) -> Mapping[str, object]:
    if isinstance(exports, dict) and any(name.startswith(".") for name in exports):
        return exports
    return {} if exports is None else {".": exports}


# -- sentences


def _difference(
    level: Level, about: str, name: str, what: str, now: Mapping[str, Any], before: Mapping[str, Any]
) -> Iterator[Remark]:
    """Yield whether a value is new, another, or gone. What is gone harms nobody by itself."""
    mine, theirs = now.get(name), before.get(name)
    values = {
        "before": _value(theirs) if name in before else None,
        "after": _value(mine) if name in now else None,
    }
    if name in now and name not in before:
        yield Remark(level=level, about=about, name=_name(name), text=f"{what} is new: {_value(mine)}", **values)
    elif name in before and name not in now:
        text = f"{what} is gone: it was {_value(theirs)}"
        yield Remark(level="warning" if about == "field" and level != "info" else "info", about=about, name=_name(name),
                     text=text, **values)  # fmt: skip
    elif name in before and mine != theirs:
        text = f"{what} was {_value(theirs)}, and is {_value(mine)}"
        yield Remark(level=level, about=about, name=_name(name), text=text, **values)


def _first(remarks: list[Remark], what: str, level: Level) -> Iterator[Remark]:
    yield from remarks[:_MOST_OF_A_KIND]
    more = remarks[_MOST_OF_A_KIND:]
    if more:
        worst: Level = "danger" if any(each.level == "danger" for each in more) else level
        yield Remark(level=worst, about=more[0].about, text=f"and {len(more)} more {what}")


def _table(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, dict) else {}


def _name(name: str) -> str:
    return shown(name, _MOST_OF_A_NAME)


def _value(value: object) -> str:
    """Return a value as text: of a string itself, else JSON."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return shown(text, _MOST)
