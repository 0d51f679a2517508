"""
The JSON Schema of types that are declared for a link, and a fingerprint of it by which two sides find out whether they
have declared the same. Pure; used by ``catalogue`` and ``interface``.

A fingerprint is of what matters on the wire: names, types, what is required. The names of classes, texts and defaults
aren't in it, and neither is what a later version of msgspec may add.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

#: Hexadecimal digits of a fingerprint.
DIGITS = 16

#: The fingerprint of what has no schema that can be told. It is like no other.
UNTOLD = "0" * DIGITS

#: What a fingerprint is of: the keywords of JSON Schema that msgspec uses and that say what is taken.
_KEYWORDS = (
    "type",
    "enum",
    "const",
    "format",
    "contentEncoding",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)

#: Marks a field of a dumped schema that its sender may leave out. All others are sent, also those with a default.
LEFT_OUT = "x-left-out"

#: Marks text of a dumped schema that must be a time of day, or a date with it, where msgspec's own says nothing.
TIME = "x-time"

#: Where msgspec is told to put what is referred to.
REF = "#/$defs/"


def schemas(kinds: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """
    Return the schema of each type, and the definitions that they refer to by `REF` and a name.

    :raises Exception: one of them has no schema, because a default in it can't be JSON, say
    """
    found, definitions = msgspec.json.schema_components(kinds, schema_hook=_anything, ref_template=REF + "{name}")
    return list(found), definitions


def mark_left_out(kinds: list[Any], found: list[dict[str, Any]], definitions: dict[str, Any]) -> None:
    """Mark the fields that the structs in these types may leave out when they are encoded."""
    for kind, schema in _parts(kinds, found, definitions):
        if isinstance(kind, inspect.StructType):
            # Of a generic type, the struct is what it was made of.
            omits = getattr(kind.cls, "__origin__", kind.cls).__struct_config__.omit_defaults
            for field in kind.fields:
                is_unset = field.default is field.default_factory is msgspec.NODEFAULT
                if not field.required and (omits or is_unset) and field.encode_name in schema.get("properties", ()):
                    schema["properties"][field.encode_name][LEFT_OUT] = True


def mark_times(kinds: list[Any], found: list[dict[str, Any]], definitions: dict[str, Any]) -> None:
    """
    Mark the texts that are times in the schemas ``found`` of these types: msgspec's own are like those of any text,
    unless a time must have a zone. Of keys that are times it says nothing at all.
    """
    for kind, schema in _parts(kinds, found, definitions):
        if isinstance(kind, _TIMES):
            _mark_time(kind, schema)
        elif (key := getattr(kind, "key_type", None)) is not None:
            for each in filter(_is_time, _alternatives(key)):
                names = schema.setdefault("propertyNames", {})
                _mark_time(each, names)
                if each.tz:
                    names["format"] = names[TIME]


_TIMES = (inspect.DateTimeType, inspect.TimeType)


def _is_time(kind: Any) -> bool:
    return isinstance(kind, _TIMES)


def _mark_time(kind: Any, schema: dict[str, Any]) -> None:
    schema[TIME] = "date-time" if isinstance(kind, inspect.DateTimeType) else "time"


def _bare(kind: Any) -> Any:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _alternatives(kind: Any) -> list[Any]:
    kind = _bare(kind)
    return [_bare(each) for each in kind.types] if isinstance(kind, inspect.UnionType) else [kind]


def _parts(
    kinds: list[Any], found: list[dict[str, Any]], definitions: dict[str, Any]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """
    Yield all types in these ones, each with its schema. Those with a definition are found by what refers to it, as
    several may have one title; their schema is the definition, and they come once.
    """
    waiting: list[tuple[Any, Any]] = list(zip(inspect.multi_type_info(kinds), found, strict=True))
    seen: set[str] = set()
    while waiting:
        kind, schema = waiting.pop()
        kind = _bare(kind)
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REF)
            if name in seen:
                continue  # it may hold itself
            seen.add(name)
            schema = definitions[name]
        yield kind, schema
        match kind:
            case inspect.UnionType():
                waiting += _of_union(kind, schema)
            case inspect.TupleType():
                waiting += zip(kind.item_types, schema.get("prefixItems", ()), strict=True)
            case inspect.CollectionType() if "items" in schema:
                waiting.append((kind.item_type, schema["items"]))
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                waiting += _fields(kind, schema)
            case _ if hasattr(kind, "value_type") and "additionalProperties" in schema:
                waiting.append((kind.value_type, schema["additionalProperties"]))


def _of_union(kind: inspect.UnionType, schema: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """
    Yield the alternatives, but for None, whose place isn't the same in all versions of msgspec. Structs that are
    objects come last there, and are together if they are several.
    """
    others: list[Any] = []
    structs: dict[Any, Any] = {}  # by their tags: beside Any there may be several without one, and the last counts
    for each in kind.types:
        found = _bare(each)
        if isinstance(found, inspect.StructType) and not found.array_like:
            structs[found.tag] = each
        elif not isinstance(found, inspect.NoneType):
            others.append(each)
    options: list[Any] = []
    for each in schema["anyOf"]:
        options += each["anyOf"] if "discriminator" in each else [each]
    given = [each for each in options if each.get("type") != "null"]
    return zip([*others, *structs.values()], given, strict=True)


def _fields(kind: Any, definition: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the type and the schema of each field of what has some."""
    if (places := definition.get("prefixItems")) is not None:  # before the fields there may be a tag
        behind_tag = places[len(places) - len(kind.fields) :]
        yield from zip((field.type for field in kind.fields), behind_tag, strict=True)
    else:
        yield from ((field.type, definition["properties"][field.encode_name]) for field in kind.fields)


def fingerprint(kind: Any) -> str:
    """Return the fingerprint of a type."""
    try:
        found, definitions = schemas([kind])
        mark_times([kind], found, definitions)
        (schema,) = found
        canonical = msgspec.json.encode(_canonical(schema, definitions, {}), order="deterministic")
    except Exception:
        return UNTOLD
    return hashlib.sha256(canonical).hexdigest()[:DIGITS]


def _anything(kind: type) -> dict[str, Any]:
    """Return the schema of a type that msgspec doesn't know: it may hold anything."""
    return {}


def _canonical(schema: Any, definitions: dict[str, Any], seen: dict[str, int]) -> Any:
    """Return what counts of a schema. Definitions stand where they are referred to first, and have numbers then."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        if name in seen:
            return {"again": seen[name]}
        seen[name] = len(seen)
        return _canonical(definitions[name], definitions, seen)
    found: dict[str, Any] = {key: schema[key] for key in (*_KEYWORDS, TIME) if key in schema}
    for key in ("properties", "patternProperties"):
        if key in schema:
            parts = schema[key]
            found[key] = {name: _canonical(parts[name], definitions, seen) for name in sorted(parts)}
    for key in ("items", "additionalProperties", "propertyNames"):
        if key in schema:
            found[key] = _canonical(schema[key], definitions, seen)
    for key in ("anyOf", "prefixItems"):
        if key in schema:
            found[key] = [_canonical(each, definitions, seen) for each in schema[key]]
    if schema.get("required"):
        found["required"] = sorted(schema["required"])
    return found
