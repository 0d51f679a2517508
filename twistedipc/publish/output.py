"""
Which folder of a working copy is the site that a build made. Used by ``pack``; the names are in ``builds.outputs``.

Without ``build.output`` that is the first of the known folders whose index.html isn't in the commit: what is in the
commit is a source. Nothing else is guessed: a folder that isn't known is named in the error, so that the project can
say it.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from twistedipc.builds.outputs import INDEX, NOT_SEARCHED, SEARCHED_DOTS, SERVER_OUTPUTS
from twistedipc.builds.plan import Plan
from twistedipc.builds.settings import PLAN_FILE
from twistedipc.publish.archive import CantPack

#: How deep below the repository's top a site is searched for, and how many entries of folders are looked at.
MAX_DEPTH = 5
MAX_ENTRIES = 50_000

#: How deep the packages of a repository are (``apps/web``), and at how many of them is looked for servers' outputs.
PACKAGE_DEPTH = 2
MAX_PACKAGES = 500

#: The most folders that a sentence names.
_NAMED = 3

#: Up to how many bytes an index.html is looked into: it may be nothing but blanks.
_BLANK = 1024

#: How many paths git is asked about at once: below what the system takes for a command line.
_PATHS = 500


class NoOutput(CantPack):
    """The build made no folder that can be packed. ``str()`` of it says what was found instead, and what to do."""


class Commit:
    """The commit's files, by the mirror: a build may have changed everything that git knows of the working copy."""

    def __init__(self, mirror: str, commit: str) -> None:
        self._mirror = mirror
        self._commit = commit

    def has(self, paths: Iterable[str]) -> set[str]:
        """Those of these paths that are in the commit, or in one of its submodules."""
        asked = list(paths)
        prefixes = sorted({prefix for path in asked for prefix in _prefixes(path)})
        known: dict[str, str] = {}
        for start in range(0, len(prefixes), _PATHS):
            known.update(self._list(*prefixes[start : start + _PATHS]))
        modules = {path for path, kind in known.items() if kind == "commit"}
        return {path for path in asked if path in known or not modules.isdisjoint(_prefixes(path))}

    def children(self, folder: str) -> set[str]:
        """The names of what the commit has in this folder."""
        listed = self._list() if folder == "." else self._list(folder + "/")
        return {path.rpartition("/")[2] for path, _kind in listed}

    def _list(self, *paths: str) -> list[tuple[str, str]]:
        """The paths that git has of these, each with what it is: blob, tree, or commit for a submodule."""
        command = ["git", "--git-dir", self._mirror, "ls-tree", "-z", self._commit, "--", *paths]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            raise CantPack(f"git doesn't say what is in the commit: {os.fsdecode(done.stderr).strip()[:500]}")
        entries = (os.fsdecode(entry).partition("\t") for entry in done.stdout.split(b"\0") if entry)
        return [(path, about.split(" ")[1]) for about, _tab, path in entries]


def find_output(work: Path, plan: Plan, commit: Commit) -> str:
    """The folder to pack, relative to the working copy. Raises `NoOutput`, or `CantPack` if git fails."""
    if plan.output:
        _check_named(work, plan, commit)
        return plan.output
    for folder in plan.outputs:
        if (work / folder).is_dir() and _inside(work, folder) and _is_made(work, folder, plan.index, commit):
            return folder
    raise NoOutput(" ".join(_explained(work, plan, commit)))


def _is_made(work: Path, folder: str, index: str, commit: Commit) -> bool:
    """Return whether the build made a site of this folder; without an ``index``, whether it made all that is in it."""
    if index:
        return not _why_no_site(work, folder, index) and not commit.has([_real(work, folder) + "/" + index])
    names = os.listdir(work / folder)
    return bool(names) and not commit.has([f"{_real(work, folder)}/{name}" for name in names])


def _check_named(work: Path, plan: Plan, commit: Commit) -> None:
    """Raise `NoOutput` unless the folder that the project names can be packed."""
    folder = work / plan.output
    if not os.path.lexists(folder):
        found = _found(work, "", commit)
        raise NoOutput(
            " ".join([f"the build made no folder {plan.output}, which build.output in {PLAN_FILE} names.", *found])
        )
    if not _inside(work, plan.output):
        raise NoOutput(f"the output folder {plan.output} is a link that leaves the repository")
    if not folder.is_dir():
        raise NoOutput(f"{plan.output}, which build.output in {PLAN_FILE} names, isn't a folder")
    why_not = _why_no_site(work, plan.output, plan.index) if plan.index else ""
    if why_not:
        below = [where for where in _search(work, plan.output) if where != plan.output]
        raise NoOutput(
            " ".join([f"{why_not}.", *_advice(below), f'For a folder of assets set index = "" in {PLAN_FILE}.'])
        )


def _why_no_site(work: Path, folder: str, index: str = INDEX) -> str:
    """What is wrong with the folder's index; "" if nothing is."""
    path = work / folder / index
    shown = _shown(folder)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink():
            return f"{_joined(folder, index)} is a link to nothing"
        if path.exists():
            return f"{_joined(folder, index)} isn't a file that can be read"
        names = [entry.name for entry in _entries(work / folder)]
        if not names:
            return f"{shown} is empty"
        other = next((name for name in sorted(names) if name.lower() in (index, INDEX, "index.htm")), None)
        return f"{shown} has no {index} at its top" + (f", but {other}" if other is not None else "")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return f"{_joined(folder, index)} isn't a file"
        content = os.read(descriptor, _BLANK + 1)
    finally:
        os.close(descriptor)
    return f"{_joined(folder, index)} is empty" if len(content) <= _BLANK and not content.strip() else ""


def _explained(work: Path, plan: Plan, commit: Commit) -> Iterator[str]:
    """Sentences that say why none of the known folders is a site, and what the project can do."""
    yield "There is no site to release."
    if plan.remark:
        yield plan.remark
    found = _found(work, "", commit)
    yield from found
    yield from _of_servers(work, commit)
    there = [folder for folder in plan.outputs if os.path.lexists(work / folder)]
    for folder in there:
        yield _why_not_made(work, folder, plan.index, commit)
    if not there:
        yield f"The build made none of {', '.join(plan.outputs)}."
    if not found:
        yield (
            f'If the site is elsewhere, set output = "FOLDER" under [build] in {PLAN_FILE} '
            '("." is the repository itself).'
        )


def _of_servers(work: Path, commit: Commit) -> Iterator[str]:
    """A sentence on the first folder that a framework's own server needs, at the top or in a package below it."""
    above = [""]
    for _depth in range(PACKAGE_DEPTH + 1):
        for prefix in above:
            for output in SERVER_OUTPUTS:
                folder = prefix + output.folder
                if (work / folder).is_dir() and not commit.has([folder]):
                    yield f"{folder} is a server's output; {output.advice}."
                    return
        above = [
            f"{prefix}{entry.name}/"
            for prefix in above
            for entry in _entries(work / prefix)
            if entry.is_dir(follow_symlinks=False) and _is_searched(entry.name) and not entry.name.startswith(".")
        ]
        above = sorted(above)[:MAX_PACKAGES]


def _why_not_made(work: Path, folder: str, index: str, commit: Commit) -> str:
    if not (work / folder).is_dir():
        return f"{folder} isn't a folder."
    if not _inside(work, folder):
        return f"{folder} is a link that leaves the repository."
    if not _is_source(work, folder, commit, index):
        return f"{_why_no_site(work, folder, index) if index else f'{folder} has files in it that are tracked by git'}."
    said = f"{folder} is tracked by git: it is a source, not a result"
    good = not index or not _why_no_site(work, folder, index)
    return said + (f' (to release it all the same, set output = "{folder}").' if good else ".")


def _is_source(work: Path, folder: str, commit: Commit, index: str) -> bool:
    """Return whether all of a folder, or its index, is in the commit."""
    real = _real(work, folder)
    if commit.has([f"{real}/{index or INDEX}"]):
        return True
    children = commit.children(real)
    return bool(children) and children.issuperset(os.listdir(work / folder))


def _found(work: Path, start: str, commit: Commit) -> list[str]:
    """A sentence on the folders below ``start`` where the build has made a site, if there are any."""
    where = _search(work, start)
    paths = {folder: _joined(folder, INDEX) for folder in where}
    sources = commit.has(paths.values())
    return _advice([folder for folder in where if paths[folder] not in sources])


def _advice(folders: list[str]) -> list[str]:
    """A sentence on folders with an index.html, less those that are below others of them."""
    tops = [folder for folder in folders if not any(folder.startswith(f"{top}/") for top in folders)]
    if not tops:
        return []
    named = ", ".join(_shown(folder) for folder in tops[:_NAMED])
    more = f" and {len(tops) - _NAMED} more" if len(tops) > _NAMED else ""
    have = "has" if len(tops) == 1 else "have"
    which = f'"{tops[0]}"' if len(tops) == 1 else f'"{tops[0]}", or another of them,'
    named = named.replace("the top", "The top", 1) if tops[0] == "." else named
    return [f"{named}{more} {have} an {INDEX}: set output = {which} under [build] in {PLAN_FILE}."]


def _search(work: Path, start: str) -> list[str]:
    """The folders from ``start`` on that have an index.html with something in it, the upper ones first."""
    found: list[str] = []
    level = [start or "."]
    entries = 0
    for _depth in range(MAX_DEPTH + 1):
        below: list[str] = []
        for folder in level:
            if not _why_no_site(work, folder):
                found.append(folder)
            for entry in _entries(work / folder):
                entries += 1
                if entries > MAX_ENTRIES:
                    return found
                if entry.is_dir(follow_symlinks=False) and _is_searched(entry.name):
                    below.append(_joined(folder, entry.name))
        level = sorted(below)
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing if it can't be read: then it holds nothing that could be packed."""
    try:
        with os.scandir(folder) as scanned:
            yield from scanned
    except OSError:
        return


def _is_searched(name: str) -> bool:
    if not name.isprintable():  # a byte that isn't UTF-8, or what can't be in a sentence
        return False
    return name not in NOT_SEARCHED and (not name.startswith(".") or name in SEARCHED_DOTS)


def _inside(work: Path, folder: str) -> bool:
    """Return whether a folder is in the working copy, links and all, and isn't git's."""
    real, root = (work / folder).resolve(), work.resolve()
    return real.is_relative_to(root) and real.relative_to(root).parts[:1] != (".git",)


def _real(work: Path, folder: str) -> str:
    """The folder's path without links, relative to the working copy: the one that git knows it by."""
    return str((work / folder).resolve().relative_to(work.resolve()))


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _shown(folder: str) -> str:
    return "the top of the repository" if folder == "." else folder
