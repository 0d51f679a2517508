"""
What msgspec encodes and JSON doesn't have. NaN and the infinite numbers become a null each, in silence; and a
`msgspec.Raw` becomes its bytes, whatever they are. Used by ``messages``, ``session`` and ``streams``, which look for
both where something is sent.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import inspect

from twistedipc.ipc.wire.errors import LocalProtocolError

_packer = msgspec.msgpack.Encoder()
#: Takes any JSON, and looks at all of it.
_whole = msgspec.json.Decoder(msgspec.Raw)

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
)

#: Types that are encoded by msgspec itself, and so are JSON.
_ENCODED = (*_EXACT, inspect.AnyType, inspect.FloatType)


def is_exact(kind: Any) -> bool:
    """Return whether each value of this type is JSON once it is encoded, by the types of the fields."""
    return _is_made_of(kind, _EXACT)


def has_raw(kind: Any) -> bool:
    """Return whether a field of this type is declared as a `msgspec.Raw`, or as what may hold one."""
    return not _is_made_of(kind, _ENCODED)


def one_line(encoded: bytes | bytearray) -> bytes:
    """
    What was encoded, as JSON on one line, whatever a `msgspec.Raw` has brought into it: line breaks are taken out of
    it, and ValueError or RecursionError is raised if it is no JSON.
    """
    encoded.decode("utf-8")
    if b"\n" in encoded:
        return msgspec.json.format(bytes(encoded), indent=-1)
    _whole.decode(encoded)
    return bytes(encoded)


def _is_made_of(kind: Any, leaves: tuple[Any, ...]) -> bool:
    try:
        return _all_are(inspect.type_info(kind), leaves, set())
    except Exception:
        return False  # its types can't be told: so it is looked at, each time


def _all_are(kind: inspect.Type, leaves: tuple[Any, ...], seen: set[Any]) -> bool:
    match kind:
        case inspect.StructType(cls=cls) | inspect.DataclassType(cls=cls) | inspect.NamedTupleType(cls=cls):
            if cls in seen:
                return True  # it holds itself
            seen.add(cls)
            return all(_all_are(field.type, leaves, seen) for field in kind.fields)
        case inspect.TypedDictType(fields=fields):
            return all(_all_are(field.type, leaves, seen) for field in fields)
        case inspect.UnionType(types=types):
            return all(_all_are(each, leaves, seen) for each in types)
        case inspect.TupleType(item_types=types):
            return all(_all_are(each, leaves, seen) for each in types)
        case inspect.DictType(key_type=key, value_type=value):
            return _all_are(key, leaves, seen) and _all_are(value, leaves, seen)
        case inspect.CollectionType(item_type=item):
            return _all_are(item, leaves, seen)
        case inspect.Metadata(type=inner):
            return _all_are(inner, leaves, seen)
        case _:
            return isinstance(kind, leaves)


def check_finite(value: Any) -> None:
    """Raise `LocalProtocolError`, which says where, if a number in ``value`` is NaN or infinite. Mostly in C."""
    try:
        packed = _packer.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass  # an integer of more than 64 bits, say
    else:
        if all(packed.find(each) < 0 for each in _SUSPICIOUS):
            return
    try:
        found = _not_finite(msgspec.to_builtins(value), "$")
    except RecursionError:
        raise LocalProtocolError("this can't be sent as JSON: nested too deeply") from None
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
