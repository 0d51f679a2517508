"""
The files that say what a project is, read as leniently as their own programs do, with the lines on which things are.
"""

from __future__ import annotations

import codecs
import re
from functools import cached_property
from typing import Any

import msgspec

from twistedipc.builds.recognition.tree import CantRead, Tree


class BadPlan(Exception):
    """The project can't be built as it is; ``str()`` of the exception is a sentence for the project's authors."""


#: The sections of package.json that say what a project is made with.
_SECTIONS = ("dependencies", "devDependencies", "optionalDependencies")

#: How deep in package.json lines are known: ``devEngines.packageManager.name``.
_DEPTH = 3

#: A word of a command that may be a script's name, and the most scripts that are followed from one to another.
_WORD = re.compile(r"[\w:.*-]+")
_MOST_SCRIPTS = 50

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]')


class _Scripts(msgspec.Struct):
    build: Any = msgspec.UNSET


class PackageJson:
    """A package.json. As in npm, what isn't needed may have any value."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self._data = data.removeprefix(codecs.BOM_UTF8)
        try:
            self._fields = msgspec.json.decode(self._data, type=dict[str, msgspec.Raw])
            self._check_build()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPlan(f"{path} can't be read: {by_key(str(error))}") from error

    def _check_build(self) -> None:
        """
        Raise `msgspec.DecodeError` if the script ``build`` isn't a string: what is to be run isn't said then. null and
        false are no script, as they are for npm.
        """
        raw = self._fields.get("scripts")
        if raw is None or not bytes(raw).startswith(b"{"):
            return  # npm treats what isn't an object as no scripts
        build = msgspec.json.decode(raw, type=_Scripts).build
        if build not in (msgspec.UNSET, None, False) and not isinstance(build, str):
            raise msgspec.ValidationError("Expected `str` - at `$.scripts.build`")

    def get(self, field: str) -> Any:
        """Return the value of a field; None if there is none, or none that can be read."""
        raw = self._fields.get(field)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(bytes(raw).decode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def name(self) -> str:
        """The package's name; "" if it has none."""
        name = self.get("name")
        return name if isinstance(name, str) else ""

    @cached_property
    def scripts(self) -> dict[str, str]:
        """The scripts."""
        scripts = self.get("scripts")
        found = scripts if isinstance(scripts, dict) else {}
        return {name: command for name, command in found.items() if isinstance(command, str)}

    def commands(self, script: str) -> str:
        """Return all commands that a script runs: its own, and those of the scripts that it names."""
        seen = {script}
        texts = [self.scripts.get(script, "")]
        for text in texts:
            for word in _WORD.findall(text):
                named = [word] if word in self.scripts else []
                if word.endswith("*") and len(word) > 1:  # run-s "build:*"
                    named = [name for name in self.scripts if name.startswith(word[:-1])]
                new = [name for name in named if name not in seen][: _MOST_SCRIPTS - len(seen)]
                seen.update(new)
                texts += [self.scripts[name] for name in new]
        return " && ".join(texts)

    @cached_property
    def dependencies(self) -> dict[str, str]:
        """The names of the packages that the project is made with, each with the section that has it."""
        found: dict[str, str] = {}
        for section in _SECTIONS:
            said = self.get(section)
            for name in said if isinstance(said, dict) else ():
                found.setdefault(name, section)
        return found

    def version_of(self, dependency: str) -> str:
        """What is said of a dependency's version; "" if it is none."""
        said = self.get(self.dependencies.get(dependency, ""))
        version = said.get(dependency) if isinstance(said, dict) else None
        return version if isinstance(version, str) else ""

    def line(self, *keys: str) -> int:
        """The line, from 1, of what these keys lead to; 0 if it isn't there."""
        return self._lines.get(keys, 0)

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        found: dict[tuple[str, ...], int] = {}
        above: list[str | None] = []  # the keys that lead here; None in a list
        objects: list[bool] = []
        key_next, line, counted = False, 1, 0
        for token in _TOKEN.finditer(self._data):
            text = token[0]
            if text in (b"{", b"["):
                objects.append(text == b"{")
                above.append(None)
                key_next = objects[-1]
            elif text in (b"}", b"]"):
                if objects:
                    objects.pop()
                    above.pop()
                key_next = False
            elif text == b",":
                key_next = bool(objects) and objects[-1]
            elif text != b":" and key_next:
                key_next = False
                above[-1] = text[1:-1].decode("utf-8", "replace")
                if len(above) <= _DEPTH and all(objects):
                    line += self._data.count(b"\n", counted, token.start())
                    counted = token.start()
                    found.setdefault(tuple(key for key in above if key is not None), line)
        return found


def read_package(tree: Tree, folder: str) -> PackageJson | None:
    """Return the package.json in a folder; None if there is none. Raises `BadPlan`."""
    path = in_folder(folder, "package.json")
    data = read(tree, path)
    return None if data is None else PackageJson(path, data)


def read(tree: Tree, path: str) -> bytes | None:
    """Return what a file holds; None if there is none. Raises `BadPlan`."""
    try:
        return tree.read(path)
    except CantRead as error:
        raise BadPlan(str(error)) from error


class Text:
    """A text file that a program reads: a configuration written in JavaScript, TOML or YAML."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def find(self, expression: str) -> re.Match[str] | None:
        """The first place where a regular expression fits."""
        return re.search(expression, self.text)

    def line(self, found: re.Match[str]) -> int:
        """The line of what was found, from 1."""
        return self.text.count("\n", 0, found.start()) + 1


def read_text(tree: Tree, path: str) -> Text | None:
    """Return a text file, whatever is in it; None if there is none, or none that can be read."""
    try:
        data = tree.read(path)
    except CantRead:
        return None
    return None if data is None else Text(path, data.decode("utf-8-sig", "replace"))


# What isn't closed goes to the end of its line, or of the file: no part of a stranger's file is looked at twice.
_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|`[^`]*`)|//[^\n]*|/\*.*?(?:\*/|\Z)""",
    re.DOTALL,
)


def read_script(tree: Tree, path: str) -> Text | None:
    """Return a configuration that is a program in JavaScript, without its comments; None as for `read_text`."""
    text = read_text(tree, path)
    if text is None:
        return None
    return Text(path, _COMMENT.sub(lambda found: found[1] or "\n" * found[0].count("\n"), text.text))


_ITEM = re.compile(r"""\s*-\s+(?:"([^"]*)"|'([^']*)'|([^#\s](?:[^#]*[^#\s])?))\s*(?:#.*)?""")


def yaml_list(text: Text, key: str) -> tuple[list[str], int]:
    """
    Return the texts in a list at the top of a YAML file, and the key's line (0: there is no such key). Lists as people
    and programs write them, on one line or on one for each; anything else is no list.
    """
    lines = text.text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.startswith(f"{key}:"):
            continue
        rest = line.removeprefix(f"{key}:").partition(" #")[0].strip()
        if rest.startswith("["):
            return [each.strip().strip("\"'") for each in rest.strip("[]").split(",") if each.strip()], number
        found: list[str] = []
        for below in lines[number:]:
            if not below.strip() or below.lstrip().startswith("#"):
                continue
            item = _ITEM.fullmatch(below)
            if item is None:
                break
            found.append(next(each for each in item.groups() if each is not None))
        return found, number
    return [], 0


def in_folder(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder}/{name}" if folder else name


def by_key(message: str) -> str:
    """Return msgspec's "Expected `float`, got `str` - at `$.build.timeout`" with the key first."""
    what, at, path = message.partition(" - at `")
    key = path.removesuffix("`").removeprefix("$").removeprefix(".")
    what = what[:1].lower() + what[1:]
    return f"{key}: {what}" if at and key else what
