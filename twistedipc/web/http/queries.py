"""
Queries of requests as types: decoding is validating. ``web.http``; used by ``web.api``, which has the types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from twistedipc.web.http.problems import ProblemError, invalid

#: The most parameters of a query.
MAX_PARAMETERS = 50

#: A whole number as JSON has it (RFC 8259, section 6), no longer than the largest that is accepted.
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of queries. A misspelt name is an error instead of being ignored."""


_Q = TypeVar("_Q", bound=Query)


def pairs_of(uri: bytes) -> list[tuple[str, str]]:
    """Return the names and values in the query of a request's ``uri``, in their order. Raises 400."""
    query = uri.partition(b"?")[2]
    if not query:
        return []
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        raise ProblemError(400, "the query isn't well formed", name="malformed") from error


def query_of(uri: bytes, kind: type[_Q]) -> _Q:
    """Return the query of a request's ``uri`` as a ``kind``. Raises 400 and 422."""
    repeatable = _repeatable(kind)
    values: dict[str, str | list[str]] = {}
    for name, value in pairs_of(uri):
        if name in repeatable:
            several = values.setdefault(name, [])
            assert isinstance(several, list)
            several.append(value)
        elif name in values:
            raise invalid(f"the query has {name[:100]} more than once")
        else:
            values[name] = value
    try:
        return _convert(values, kind)
    except msgspec.ValidationError as error:
        raise invalid(f"the query: {error}") from error


def _convert(values: Mapping[str, str | list[str]], kind: type[_Q]) -> _Q:
    """
    Return a query of this ``kind``, from the text of each of its values. Raises `msgspec.ValidationError`.

    Numbers are read here, since msgspec would take "1e3" and "1.0" for whole numbers as well.
    """
    read: dict[str, Any] = dict(values)
    for name in _numbers(kind) & read.keys():
        if isinstance(text := read[name], str) and _WHOLE_NUMBER.fullmatch(text):
            read[name] = int(text)
    return msgspec.convert(read, kind)


@cache
def _repeatable(kind: type[Query]) -> frozenset[str]:
    """Return the names that may come more than once: those of lists."""
    return frozenset(
        field.encode_name for field in msgspec.structs.fields(kind) if isinstance(field.default_factory, type)
    )


@cache
def _numbers(kind: type[Query]) -> frozenset[str]:
    """Return the names of the values that are numbers."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(field.encode_name for field in info.fields if _may_be_a_number(field.type))


def _may_be_a_number(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_may_be_a_number(each) for each in kind.types)
    return isinstance(kind, msgspec.inspect.IntType)
