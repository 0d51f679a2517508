"""
The queries of the routes, as types. ``web.api``; decoded by ``web.http.queries``.

What is left out is UNSET and not None, since a query has no null.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from twistedipc.builds.states import AttemptState
from twistedipc.web.api.schemas import ProjectName
from twistedipc.web.http.queries import Query

#: The largest number of a build, and of a record.
MAX_ID = 10**18 - 1
MAX_RECORD = 10**15

#: The most records of one page of a log.
MAX_PAGE = 10_000

BuildId = Annotated[int, Meta(ge=1, le=MAX_ID)]
After = Annotated[int, Meta(ge=0, le=MAX_RECORD)]
LineId = Annotated[int, Meta(ge=1, le=MAX_ID)]
AttemptNumber = Annotated[int, Meta(ge=1, le=10**9 - 1)]


class ListBuilds(Query, frozen=True, kw_only=True):
    """Which builds to list."""

    project: ProjectName | UnsetType = UNSET
    state: Annotated[list[AttemptState], Meta(max_length=20)] = field(default_factory=list)
    before: BuildId | UnsetType = UNSET  # only builds with a smaller number
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ListAudit(Query, frozen=True, kw_only=True):
    """Which lines of the audit to list."""

    project: ProjectName | UnsetType = UNSET
    who: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    action: Annotated[str, Meta(pattern=r"^[a-z_]{1,40}(\.[a-z_]{1,40})?$")] | UnsetType = UNSET  # or a kind of them
    since: datetime | UnsetType = UNSET
    until: datetime | UnsetType = UNSET
    before: LineId | UnsetType = UNSET  # only lines with a smaller id
    after: Annotated[int, Meta(ge=0, le=MAX_ID)] | UnsetType = UNSET  # only lines with a larger id, oldest first
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class RemoveSecret(Query, frozen=True, kw_only=True):
    """Which values of a secret to erase."""

    builds: Annotated[str, Meta(min_length=1, max_length=32)] | UnsetType = UNSET  # only the one for these builds


class SignOut(Query, frozen=True, kw_only=True):
    """Which sessions to end."""

    all: Literal["0", "1"] = "0"  # 1: also all others of the same person, or with the same token


class ReadLog(Query, frozen=True, kw_only=True):
    """Which part of a log, and in which form."""

    after: After = 0  # only records with a larger number
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] | UnsetType = UNSET  # of records; for a page of JSON 1000
    attempt: AttemptNumber | UnsetType = UNSET  # the newest
    format: Literal["json", "text", "ansi"] = "json"
    follow: Literal["0", "1"] = "0"  # 1: stream until the log's end


class Stream(Query, frozen=True, kw_only=True):
    """The query of the WebSocket with many subscriptions."""

    ticket: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    compress: Literal["0", "1"] = "0"  # 1: permessage-deflate, if the client offers it


class StreamLog(Stream, frozen=True, kw_only=True):
    """The query of the WebSocket of one log."""

    after: After = 0
    attempt: AttemptNumber | UnsetType = UNSET  # the newest
