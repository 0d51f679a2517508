"""
NaN and the infinite numbers, which JSON doesn't have: msgspec would make each of them a null, in silence. Sans-IO; used
by ``messages``, ``session`` and ``streams``, which look for them where something is sent.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import inspect

from twistedipc.ipc.wire.errors import LocalProtocolError

_packer = msgspec.msgpack.Encoder()

#: What a double whose exponent is all ones begins with in MessagePack. Other bytes may look like it.
_SUSPICIOUS = (b"\xcb\x7f", b"\xcb\xff")

#: Types that hold no number but exact ones.
_EXACT = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.DateTimeType,
    inspect.TimeType,
    inspect.DateType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.RawType,
)


def is_exact(kind: type[msgspec.Struct]) -> bool:
    """Whether no number in a message of this class can be NaN, by the types of its fields."""
    try:
        return _is_exact(inspect.type_info(kind), set())
    except Exception:
        return False  # its types can't be told: so it is looked at, each time


def _is_exact(kind: inspect.Type, seen: set[Any]) -> bool:
    match kind:
        case inspect.StructType(cls=cls) | inspect.DataclassType(cls=cls) | inspect.NamedTupleType(cls=cls):
            if cls in seen:
                return True  # it holds itself
            seen.add(cls)
            return all(_is_exact(field.type, seen) for field in kind.fields)
        case inspect.TypedDictType(fields=fields):
            return all(_is_exact(field.type, seen) for field in fields)
        case inspect.UnionType(types=types):
            return all(_is_exact(each, seen) for each in types)
        case inspect.TupleType(item_types=types):
            return all(_is_exact(each, seen) for each in types)
        case inspect.DictType(key_type=key, value_type=value):
            return _is_exact(key, seen) and _is_exact(value, seen)
        case inspect.CollectionType(item_type=item):
            return _is_exact(item, seen)
        case inspect.Metadata(type=inner):
            return _is_exact(inner, seen)
        case _:
            return isinstance(kind, _EXACT)


def check_finite(value: Any) -> None:
    """`LocalProtocolError` if a number in ``value`` is NaN or infinite; it says where. Mostly in C."""
    try:
        packed = _packer.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass  # an integer of more than 64 bits, say
    else:
        if all(packed.find(each) < 0 for each in _SUSPICIOUS):
            return
    found = _not_finite(msgspec.to_builtins(value), "$")
    if found:
        raise LocalProtocolError(f"this can't be sent as JSON: {found}, which JSON doesn't have")


def _not_finite(value: Any, path: str) -> str:
    """Which number in plain containers isn't finite, in words; "" if all are."""
    match value:
        case float():
            return "" if math.isfinite(value) else f"{value} at {path}"
        case dict():
            return next((found for key, each in value.items() if (found := _not_finite(each, f"{path}.{key}"))), "")
        case list() | tuple() | set() | frozenset():
            return next((found for n, each in enumerate(value) if (found := _not_finite(each, f"{path}[{n}]"))), "")
        case _:
            return ""
