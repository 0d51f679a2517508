"""
The types of an `Interface` in TypeScript, for programs that use the package for Node. Pure; used by ``__main__``.

What comes of each type is what JSON has of it: a datetime, a UUID, a Decimal and bytes are strings, sets and tuples are
arrays. Fields with defaults are optional.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from msgspec import inspect as kinds

from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import tag_of

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")

#: Names that a type of TypeScript's, or of the generated file, can't have.
_TAKEN = frozenset(
    "any unknown never void null undefined boolean number string symbol bigint object Interface Array Record Partial "
    "break case catch class const continue debugger default delete do else enum export extends false finally for "
    "function if import in instanceof new return super switch this throw true try typeof var while with let static "
    "yield await async implements interface package private protected public type declare namespace module".split()
)

#: What is a word of TypeScript's by itself.
_PLAIN: dict[type[kinds.Type], str] = {
    kinds.AnyType: "unknown",
    kinds.RawType: "unknown",
    kinds.CustomType: "unknown",
    kinds.ExtType: "unknown",
    kinds.NoneType: "null",
    kinds.BoolType: "boolean",
    kinds.IntType: "number",
    kinds.FloatType: "number",
    kinds.StrType: "string",
    kinds.BytesType: "string",
    kinds.ByteArrayType: "string",
    kinds.MemoryViewType: "string",
    kinds.DateTimeType: "string",
    kinds.DateType: "string",
    kinds.TimeType: "string",
    kinds.TimeDeltaType: "string",
    kinds.UUIDType: "string",
    kinds.DecimalType: "string",
}

#: What has fields with names.
_Fields = kinds.StructType | kinds.DataclassType | kinds.TypedDictType | kinds.NamedTupleType


def typescript(interface: Interface, constant: str) -> str:
    """
    Return a module of TypeScript with the types of an interface's messages, requests, replies and items, and with the
    interface itself for `dial` and `listen`.

    :param constant: the name of the interface in the module
    """
    return _Module(interface, constant).text()


class _Module:
    """One module while it is made: the types that have a name, in the order in which they were found."""

    def __init__(self, interface: Interface, constant: str) -> None:
        self._interface = interface
        self._constant = constant if _IDENTIFIER.fullmatch(constant) and constant not in _TAKEN else "INTERFACE"
        self._names: dict[Any, str] = {}  # by the type in Python
        self._used = {*_TAKEN, self._constant}
        self._declared: dict[str, str] = {}  # name -> its declaration

    def text(self) -> str:
        """Return all of it."""
        interface = self._interface
        declared = self._free_name("".join(word.title() for word in interface.name.split("-")) + "Interface")
        calls = {
            tag_of(request): f"{{ request: {self._type(request)}; reply: {self._type(reply)} }}"
            for request, reply in interface.calls.items()
        }
        messages = {tag_of(message): self._type(message) for message in interface.messages}
        streams = {name: self._type(stream.items) for name, stream in interface.streams.items()}
        streamed = {
            tag_of(request): f"{{ request: {self._type(request)}; item: {self._type(item)} }}"
            for request, item in interface.streamed.items()
        }
        sections = {"calls": calls, "messages": messages, "streams": streams}
        if streamed:
            sections["streamed"] = streamed
        members = "\n".join(f"  {name}: {_members(found)};" for name, found in sections.items())
        lists = "\n".join(f"  {name}: [{_names(found)}]," for name, found in sections.items())
        parts = [
            f"// The interface {interface.name}, written by `python -m twistedipc.ipc typescript`. Don't edit it.",
            "import type { Interface } from 'twistedipc';",
            *self._declared.values(),
            f"export interface {declared} {{\n{members}\n}}",
            f"export const {self._constant}: Interface<{declared}> = {{\n"
            f"  name: {_quoted(interface.name)},\n{lists}\n}};",
        ]
        return "\n\n".join(parts) + "\n"

    # -- names

    def _free_name(self, wanted: str) -> str:
        wanted = re.sub(r"[^A-Za-z0-9_$]+", "_", wanted).strip("_") or "Type"
        if not _IDENTIFIER.fullmatch(wanted):
            wanted = f"_{wanted}"
        name, number = wanted, 1
        while name in self._used:
            number += 1
            name = f"{wanted}{number}"
        self._used.add(name)
        return name

    def _named(self, of: Any, declare: Callable[[str], str]) -> str:
        """Return the name of a type, which is declared when it is first met. It may be in its own declaration."""
        if of not in self._names:
            name = self._names[of] = self._free_name(_name_of(of))
            self._declared[name] = ""  # its place is before those that it needs
            self._declared[name] = declare(name)
        return self._names[of]

    # -- types

    def _type(self, annotation: Any) -> str:
        return self._expression(kinds.type_info(annotation))

    def _expression(self, kind: kinds.Type) -> str:
        match kind:
            case kinds.Metadata():
                return self._expression(kind.type)
            case kinds.LiteralType():
                return " | ".join(map(_literal, kind.values))
            case kinds.EnumType():
                return self._named(kind.cls, lambda name: _enum(name, kind.cls))
            case kinds.UnionType():
                return " | ".join(_distinct(map(self._expression, kind.types)))
            case kinds.TupleType():
                return f"[{', '.join(map(self._expression, kind.item_types))}]"
            case kinds.DictType():
                return f"{{ [key: string]: {self._expression(kind.value_type)} }}"
            case kinds.CollectionType():
                item = self._expression(kind.item_type)
                return f"({item})[]" if " | " in item else f"{item}[]"
            case kinds.StructType() | kinds.DataclassType() | kinds.TypedDictType() | kinds.NamedTupleType():
                return self._named(kind.cls, lambda name: self._fields(name, kind))
            case _:
                return _PLAIN[type(kind)]

    def _fields(self, name: str, kind: _Fields) -> str:
        """Return the declaration of what has fields."""
        if isinstance(kind, kinds.NamedTupleType) or (isinstance(kind, kinds.StructType) and kind.array_like):
            return f"{_comment(kind.cls)}export type {name} = [{', '.join(self._places(kind))}];"
        lines = [f"{_comment(kind.cls)}export interface {name} {{"]
        if isinstance(kind, kinds.StructType) and kind.tag is not None:
            lines.append(f"  {_key(kind.tag_field or 'type')}: {_literal(kind.tag)};")
        for field in kind.fields:
            optional = "" if field.required else "?"
            lines.append(f"  {_key(field.encode_name)}{optional}: {self._expression(field.type)};")
        return "\n".join([*lines, "}"])

    def _places(self, kind: _Fields) -> Iterator[str]:
        """Yield what is at the places of an array that has fields."""
        if isinstance(kind, kinds.StructType) and kind.tag is not None:
            yield _literal(kind.tag)
        for field in kind.fields:
            item = self._expression(field.type)
            yield item if field.required else (f"({item})?" if " | " in item else f"{item}?")


def _name_of(of: Any) -> str:
    """Return a name for a type: that of its class; of a generic one with its arguments, ``Page[int]``: ``Page_int``."""
    arguments = [_name_of(each) for each in getattr(of, "__args__", ())]
    name = getattr(of, "__name__", None) or str(of)
    return "_".join([name, *arguments])


def _enum(name: str, cls: type[Enum]) -> str:
    values = " | ".join(_literal(member.value) for member in cls)
    return f"{_comment(cls)}export type {name} = {values};"


def _comment(cls: Any) -> str:
    """Return what the class's author says of it, if anything."""
    text = vars(cls).get("__doc__") if isinstance(cls, type) else None
    if not text or text.startswith(f"{cls.__name__}("):  # which dataclasses and named tuples have by themselves
        return ""
    lines = [line.strip().replace("*/", "*\\/") for line in text.strip().splitlines()]
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */\n"])


def _members(found: dict[str, str]) -> str:
    if not found:
        return "{}"
    return "{\n" + "\n".join(f"    {_key(name)}: {kind};" for name, kind in found.items()) + "\n  }"


def _names(found: Iterable[str]) -> str:
    return ", ".join(map(_quoted, found))


def _distinct(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _quoted(name)


def _literal(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Return a text as a literal, in single quotes as JavaScript's people have it."""
    inside = json.dumps(text)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return f"'{inside}'"
