"""
Parts of an answer of the API: ``--json id,state`` and ``--field id``. Pure; used by ``output``.

A field is named as in the API's JSON, with dots to what is inside: ``id``, ``attempts.steps.name``. In a list it is
that of each of its entries, and a number is one of them: ``attempts.0.state``. Of an answer that is a listing
(``{"builds": […]}``), fields are those of what it lists.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec


class NoSuchField(Exception):
    """An answer has no such field; ``str()`` of it is a sentence that names those that it has."""


def picked(body: bytes, fields: Sequence[str]) -> bytes:
    """Return an answer's fields as JSON: an object of them, or a list of such objects. Raises `NoSuchField`."""
    found = _listed(msgspec.json.decode(body), fields)
    if isinstance(found, list):
        return msgspec.json.encode([{field: _at(each, field) for field in fields} for each in found])
    return msgspec.json.encode({field: _at(found, field) for field in fields})


def plain(body: bytes, field: str) -> str:
    """Return one field of an answer for a shell: each of its values on a line, texts as they are."""
    found = _listed(msgspec.json.decode(body), [field])
    values = [_at(each, field) for each in found] if isinstance(found, list) else [_at(found, field)]
    return "".join(f"{_line(each)}\n" for each in _flat(values))


def _listed(answer: Any, fields: Sequence[str]) -> Any:
    """Return what fields are of: the answer itself, or the list in it."""
    first = [field.partition(".")[0] for field in fields]
    if not isinstance(answer, dict) or any(name in answer for name in first):
        return answer
    lists = [value for value in answer.values() if isinstance(value, list)]
    fitting = [value for value in lists if any(isinstance(each, dict) and first[0] in each for each in value)]
    if fitting:
        return fitting[0]
    # A listing of nothing has no field to be seen, and isn't an error.
    return [] if lists and not any(lists) else answer


def _at(value: Any, field: str) -> Any:
    for name in field.split("."):
        value = _step(value, name, field)
    return value


def _step(value: Any, name: str, field: str) -> Any:
    if isinstance(value, list):
        if name.isdecimal():
            return value[int(name)] if int(name) < len(value) else None
        return [_step(each, name, field) for each in value]
    if value is None:
        return None  # there is nothing of which it could be a field
    if not isinstance(value, dict):
        raise NoSuchField(f"there is no field {field}: what is before .{name} has no fields")
    if name not in value:
        raise NoSuchField(f"there is no field {field} here; there are {', '.join(value)}")
    return value[name]


def _flat(values: list[Any]) -> list[Any]:
    return [inner for each in values for inner in (_flat(each) if isinstance(each, list) else [each])]


def _line(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
