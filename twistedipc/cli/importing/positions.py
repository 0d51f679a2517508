"""
YAML, JSON and TOML with the lines that their values are on. Pure, and bounded: what a file says is read by a safe
loader, and a file whose values are too many, since it repeats them by anchors, is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from twistedipc.builds import toml

#: The most values of a YAML file, and how deep they may be in one another.
MAX_VALUES = 20_000
MAX_DEPTH = 50


class Unreadable(Exception):
    """A file isn't what its name says. ``str()`` of the exception is the rest of a sentence that begins with it."""


@dataclass(frozen=True)
class Value:
    """A value of a YAML file. Mappings and lists hold values."""

    line: int  # from 1
    data: Any

    def get(self, key: str) -> Value:
        """Return the value of a mapping's key; one of None if there is none."""
        found = self.data.get(key) if isinstance(self.data, dict) else None
        return found if isinstance(found, Value) else Value(self.line, None)

    @property
    def items(self) -> list[tuple[str, Value]]:
        """The keys and values of a mapping; none if it isn't one."""
        return list(self.data.items()) if isinstance(self.data, dict) else []

    @property
    def entries(self) -> list[Value]:
        """The entries of a list; the value itself, if it is a single one; none without any."""
        if isinstance(self.data, list):
            return self.data
        return [] if self.data is None else [self]

    @property
    def text(self) -> str:
        """A string, or what else is written in one word; "" for mappings, lists and nothing."""
        if isinstance(self.data, bool):
            return "true" if self.data else "false"
        return str(self.data).strip() if isinstance(self.data, str | int | float) else ""


def read_yaml(data: bytes) -> Value:
    """Return the only document of a YAML file. Raises `Unreadable`."""
    try:
        node = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        return Value(1, None) if node is None else _Converter().convert(node, 0)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise Unreadable(f"isn't YAML{where}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Unreadable("isn't YAML") from error


class _Converter:
    """Makes values of a document's nodes. Numbers that aren't integers stay as they are written: 3.10 isn't 3.1."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def convert(self, node: Any, depth: int) -> Value:
        """Return the node's value. Raises `Unreadable` if there are too many."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise Unreadable("has too many values in it")
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
            return Value(line, {key.value: self._of_key(key, value, depth + 1) for key, value in pairs})
        if isinstance(node, yaml.SequenceNode):
            return Value(line, [self.convert(each, depth + 1) for each in node.value])
        kind = node.tag.rpartition(":")[2]
        if kind == "null":
            return Value(line, None)
        if kind == "bool":
            return Value(line, node.value.lower() in ("true", "yes", "on"))
        return Value(line, node.value)

    def _of_key(self, key: Any, node: Any, depth: int) -> Value:
        """The value of a key; a block of text is on its key's line."""
        value = self.convert(node, depth)
        return Value(key.start_mark.line + 1, value.data) if isinstance(node, yaml.ScalarNode) else value


class Document:
    """A JSON or TOML file: its values, and the lines on which keys are."""

    def __init__(self, text: str, values: dict[str, Any]) -> None:
        self._lines = text.split("\n")
        self.values = values

    def line(self, key: str, after: int = 0, nth: int = 0) -> int:
        """
        Return the line on which a key, or a TOML table's heading, is: the ``nth`` after line ``after``. Where there is
        none, ``after``.
        """
        word = re.escape(key)
        pattern = re.compile(rf"""^\s*(?:["']?{word}["']?\s*[=:]|\[+\s*{word}\s*\]+)|[{{,]\s*["']{word}["']\s*:""")
        found = [number for number, line in enumerate(self._lines, 1) if number > after and pattern.search(line)]
        return found[nth] if nth < len(found) else after

    def heading(self, key: str, nth: int) -> int:
        """Return the line with the ``nth`` heading of a TOML array of tables; where there is none, that of the key."""
        pattern = re.compile(rf"^\s*\[\[\s*{re.escape(key)}\s*\]\]")
        found = [number for number, line in enumerate(self._lines, 1) if pattern.search(line)]
        return found[nth] if nth < len(found) else self.line(key)


def read_json(data: bytes) -> Document:
    """Return a JSON file that has an object. Raises `Unreadable`."""
    try:
        text = data.decode("utf-8-sig")
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise Unreadable("isn't JSON" + (f" (line {line})" if line else "")) from error
    if not isinstance(values, dict):
        raise Unreadable("has no object in it")
    return Document(text, values)


def read_toml(data: bytes) -> Document:
    """Return a TOML file. Raises `Unreadable`."""
    try:
        text = data.decode("utf-8-sig")
        return Document(text, toml.loads(text))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"isn't TOML ({error})") from error
