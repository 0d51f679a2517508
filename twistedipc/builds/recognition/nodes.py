"""
Which version of Node a project wants. In this order that is said by: the project's setting, ``.nvmrc``,
``.node-version``, ``.tool-versions``, ``mise.toml``, and in package.json ``volta``, ``devEngines.runtime`` and
``engines``; in the project's folder, then in those above it.

What is said is a version, a range as npm has them, or a word of Node's version managers ("lts/*", "lts/iron", "node").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read_text
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.recognition.tree import Tree

#: The files of version managers, each with the expression that finds the version in a line of it.
_FILES = (
    (".nvmrc", r"\s*([^\s#]+)\s*(?:#.*)?"),
    (".node-version", r"\s*([^\s#]+)\s*(?:#.*)?"),
    (".tool-versions", r"\s*node(?:js)?\s+([^\s#]+).*"),
    ("mise.toml", r"\s*\"?node\"?\s*=\s*(?:\{\s*version\s*=\s*)?\"([^\"]+)\".*"),
    (".mise.toml", r"\s*\"?node\"?\s*=\s*(?:\{\s*version\s*=\s*)?\"([^\"]+)\".*"),
)

_VERSION = re.compile(r"(?=.*[0-9*xX])[0-9A-Za-z.^~<>=*|, -]{1,100}")
_WORD = re.compile(r"lts(?:/(?:\*|-[0-9]|[a-z]+))?|node|current|latest|stable|system", re.IGNORECASE)

#: How many lines of a version manager's file are looked at.
_LINES = 200


def choose(
    tree: Tree, folders: Sequence[str], packages: Iterable[PackageJson], setting: Finding | None
) -> tuple[str, Finding | None, str]:
    """
    Return the range (first the ``setting``, if there is one), what says so, and what is to be said of a range that
    isn't followed. Raises `BadPlan` if a file whose purpose it is to say a version says none.
    """
    if setting is not None:
        return setting.value, setting, ""
    for folder in folders:
        for name, expression in _FILES:
            found = _of_file(tree, in_folder(folder, name), expression)
            if found is not None:
                return found.value, found, ""
    advice = ""
    for package in packages:
        for keys, value in _of_package(package):
            if not isinstance(value, str) or not value.strip():
                continue
            said = value.strip()
            if _is_version(said):
                line = package.line(*keys)
                return said, Finding(what="node", value=said, why=".".join(keys), file=package.path, line=line), advice
            advice = f"{'.'.join(keys)} in {package.path} is {said[:100]!r}, which is no range of versions of Node."
    return "", None, advice


def _of_package(package: PackageJson) -> list[tuple[tuple[str, ...], object]]:
    found: list[tuple[tuple[str, ...], object]] = []
    volta, engines, dev = package.get("volta"), package.get("engines"), package.get("devEngines")
    if isinstance(volta, dict):
        found.append((("volta", "node"), volta.get("node")))
    runtime = dev.get("runtime") if isinstance(dev, dict) else None
    for each in runtime if isinstance(runtime, list) else [runtime]:
        if isinstance(each, dict) and each.get("name") == "node":
            found.append((("devEngines", "runtime"), each.get("version")))
    if isinstance(engines, dict):
        found.append((("engines", "node"), engines.get("node")))
    return found


def _of_file(tree: Tree, path: str, expression: str) -> Finding | None:
    if path.rpartition("/")[2] not in tree.names(path.rpartition("/")[0]):
        return None
    text = read_text(tree, path)
    if text is None:
        return None
    for number, line in enumerate(text.text.split("\n", _LINES)[:_LINES], 1):
        found = re.fullmatch(expression, line.rstrip("\r"))
        if found is None:
            continue
        said = found[1].removeprefix("node@")
        if not _is_version(said):
            raise BadPlan(
                f"{path}:{number} says {said[:100]!r}, which is no version of Node: write one such as 22, 20.11.1 or "
                "lts/iron, or delete the file"
            )
        return Finding(what="node", value=said, why="the file", file=path, line=number)
    return None


def _is_version(said: str) -> bool:
    return _WORD.fullmatch(said) is not None or _VERSION.fullmatch(said) is not None
