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


#: Types that may hold themselves.
_HOLDERS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)


def mark_left_out(kinds: list[Any], definitions: dict[str, Any]) -> None:
    """Mark the fields in ``definitions`` that the structs in these types may leave out when they are encoded."""
    seen: set[type] = set()
    waiting: list[Any] = list(inspect.multi_type_info(kinds))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, _HOLDERS):
            if kind.cls in seen:
                continue  # it may hold itself
            seen.add(kind.cls)
        if isinstance(kind, inspect.StructType):
            _mark_struct(kind, definitions)
        if isinstance(kind, msgspec.Struct):
            for name in kind.__struct_fields__:
                value = getattr(kind, name)
                waiting += value if isinstance(value, tuple) else [value]


def mark_times(kinds: list[Any], found: list[dict[str, Any]], definitions: dict[str, Any]) -> None:
    """
    Mark the texts that are times in the schemas ``found`` of these types: msgspec's own are like those of any text,
    unless a time must have a zone.
    """
    waiting: list[tuple[Any, Any]] = list(zip(inspect.multi_type_info(kinds), found, strict=True))
    seen: set[type] = set()
    while waiting:
        kind, schema = waiting.pop()
        match kind:
            case inspect.Metadata():
                waiting.append((kind.type, schema))
            case inspect.DateTimeType() | inspect.TimeType():
                schema[TIME] = "date-time" if isinstance(kind, inspect.DateTimeType) else "time"
            case inspect.UnionType():
                waiting += zip(kind.types, schema.get("anyOf", ()), strict=False)
            case inspect.TupleType():
                waiting += zip(kind.item_types, schema.get("prefixItems", ()), strict=False)
            case inspect.DictType():
                waiting.append((kind.value_type, schema.get("additionalProperties")))
            case inspect.CollectionType():
                waiting.append((kind.item_type, schema.get("items")))
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                if kind.cls not in seen:
                    seen.add(kind.cls)
                    waiting += _fields(kind, definitions)


def _fields(kind: Any, definitions: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the type and the schema of each field of what has some."""
    for definition in definitions.values():
        if definition.get("title") == kind.cls.__name__:
            properties, places = definition.get("properties", {}), iter(definition.get("prefixItems", ()))
            if properties.keys() >= {field.encode_name for field in kind.fields}:
                yield from ((field.type, properties[field.encode_name]) for field in kind.fields)
            elif not properties:
                yield from zip((field.type for field in kind.fields), places, strict=False)


def _mark_struct(kind: inspect.StructType, definitions: dict[str, Any]) -> None:
    omits = kind.cls.__struct_config__.omit_defaults
    names = {
        field.encode_name
        for field in kind.fields
        if not field.required and (omits or field.default is field.default_factory is msgspec.NODEFAULT)
    }
    for definition in definitions.values():
        if names and definition.get("title") == kind.cls.__name__:
            for name in names & definition.get("properties", {}).keys():
                definition["properties"][name][LEFT_OUT] = True


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
