"""
The fields of a target's settings, as data: what the command's options and the page's form are made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from twistedipc.publish.targets.target import Option, Target

#: How a person gives a field's value.
Kind = Literal["text", "list", "number", "switch"]

_KINDS: dict[type[msgspec.inspect.Type], Kind] = {
    msgspec.inspect.ListType: "list",
    msgspec.inspect.IntType: "number",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.BoolType: "switch",
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field that people may set: one with an `Option`."""

    name: str
    option: Option
    kind: Kind
    required: bool  # the target can't be without it


def fields_of(target: Target[Any]) -> list[Field]:
    """Return the fields of the target's settings that people may set, in their order."""
    found = []
    kind = msgspec.inspect.type_info(target.settings)
    assert isinstance(kind, msgspec.inspect.StructType)
    for each in kind.fields:
        of_value, option = each.type, None
        while isinstance(of_value, msgspec.inspect.Metadata):
            option = option or (of_value.extra or {}).get("option")
            of_value = of_value.type
        if option is not None:
            found.append(Field(name=each.name, option=option, kind=_kind_of(of_value), required=each.required))
    return found


def _kind_of(value: msgspec.inspect.Type) -> Kind:
    if isinstance(value, msgspec.inspect.UnionType):  # with None, say: the other decides
        return next((kind for each in value.types if (kind := _kind_of(each)) != "text"), "text")
    return _KINDS.get(type(value), "text")
