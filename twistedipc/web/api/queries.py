"""
The queries of the routes, as types: decoding is validating. ``web`` layer; used by ``routes`` and ``web.api``.

What is left out is UNSET and not None, since a query has no null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from twistedipc.builds.states import AttemptState
from twistedipc.web.api.schemas import ProjectName

#: The largest number of a build, and of a record.
MAX_ID = 10**18 - 1
MAX_RECORD = 10**15

#: The most records of one page of a log.
MAX_PAGE = 10_000

BuildId = Annotated[int, Meta(ge=1, le=MAX_ID)]
After = Annotated[int, Meta(ge=0, le=MAX_RECORD)]
AttemptNumber = Annotated[int, Meta(ge=1, le=10**9 - 1)]


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of queries. A misspelt name is an error and not a surprise."""


_Q = TypeVar("_Q", bound=Query)

#: A whole number as JSON has it (RFC 8259, section 6), no longer than any that is taken.
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


def convert(values: Mapping[str, str | list[str]], kind: type[_Q]) -> _Q:
    """
    A query of this ``kind`` from the text of each of its values. Raises `msgspec.ValidationError`.

    Numbers are read here: msgspec, told to read them, takes "1e3" and "1.0" as well, which no client means.
    """
    read: dict[str, Any] = dict(values)
    for name in _numbers(kind) & read.keys():
        if isinstance(text := read[name], str) and _WHOLE_NUMBER.fullmatch(text):
            read[name] = int(text)
    return msgspec.convert(read, kind)


@cache
def _numbers(kind: type[Query]) -> frozenset[str]:
    """The names of the values that are numbers."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(field.encode_name for field in info.fields if _may_be_a_number(field.type))


def _may_be_a_number(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_may_be_a_number(each) for each in kind.types)
    return isinstance(kind, msgspec.inspect.IntType)


class ListBuilds(Query, frozen=True, kw_only=True):
    """Which builds."""

    project: ProjectName | UnsetType = UNSET
    state: Annotated[list[AttemptState], Meta(max_length=20)] = []
    before: BuildId | UnsetType = UNSET  # only builds with a smaller number
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ReadLog(Query, frozen=True, kw_only=True):
    """Which part of a log, and how."""

    after: After = 0  # only records with a larger number
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] | UnsetType = UNSET  # of records; for a page of JSON 1000
    attempt: AttemptNumber | UnsetType = UNSET  # the newest
    format: Literal["json", "text", "ansi"] = "json"
    follow: Literal["0", "1"] = "0"  # 1: stream until the log's end


class Stream(Query, frozen=True, kw_only=True):
    """The WebSocket of many subscriptions."""

    ticket: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    compress: Literal["0", "1"] = "0"  # 1: permessage-deflate, if the client offers it


class StreamLog(Stream, frozen=True, kw_only=True):
    """The WebSocket of one log."""

    after: After = 0
    attempt: AttemptNumber | UnsetType = UNSET  # the newest
