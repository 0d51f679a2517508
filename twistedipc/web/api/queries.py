"""
The queries of the routes, as types. ``web.api``; decoded by ``web.http.queries``.

What is left out is UNSET and not None, since a query has no null.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from twistedipc.builds.names import ATTEMPT
from twistedipc.builds.states import AttemptState, Tone
from twistedipc.web.api.mcp.budget import FEWEST_TOKENS, MOST_TOKENS, TOKENS
from twistedipc.web.api.schemas import PackageName, ProjectName
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
    tone: Annotated[list[Tone], Meta(max_length=5)] = field(default_factory=list)  # only those of these states
    ended: Literal["true", "false"] | UnsetType = UNSET  # only those that have, or haven't
    ref: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET  # a branch, a tag, or any other ref
    by: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET  # who asked, or the commit's author
    text: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = (
        UNSET  # in its commit's subject, its ref, its commit's hash
    )
    waiting: Literal["true", "false"] = "false"  # true: also say why those that wait do
    before: BuildId | UnsetType = UNSET  # only builds with a smaller number
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ShowOverview(Query, frozen=True, kw_only=True):
    """Of which projects to say how they stand."""

    project: ProjectName | UnsetType = UNSET  # of this one alone


class ListReleases(Query, frozen=True, kw_only=True):
    """Which releases of a project to list."""

    before: LineId | UnsetType = UNSET  # only releases with a smaller number
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


ReleaseName = Annotated[str, Meta(min_length=1, max_length=255)]


class CompareReleases(Query, frozen=True, kw_only=True):
    """
    Which releases to compare, each by its number, as ``live`` or ``latest``, by the label of a preview (``build-17``,
    ``pr-12``, ``fix-menu``), or by a branch.
    """

    older: ReleaseName = field(name="from", default="live")
    newer: ReleaseName = field(name="to", default="latest")


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


class Prune(Query, frozen=True, kw_only=True):
    """Of what to look at, or remove, what isn't kept any more."""

    project: ProjectName | UnsetType = UNSET  # of this one alone; else of all that the caller is an admin of


class FeedKey(Query, frozen=True, kw_only=True):
    """What an address without a token holds."""

    key: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[0-9a-f]+$")]


class ListTellings(Query, frozen=True, kw_only=True):
    """Which of a project's tellings to list."""

    before: LineId | UnsetType = UNSET  # only those with a smaller id
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ListPackages(Query, frozen=True, kw_only=True):
    """Which packages of a project to list."""

    after: PackageName | UnsetType = UNSET  # only those behind this one, by name
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class ShowPackage(Query, frozen=True, kw_only=True):
    """Which publications of a package to list."""

    before: Annotated[str, Meta(pattern=f"^(?:{ATTEMPT})$")] | UnsetType = UNSET  # only those of attempts before this
    limit: Annotated[int, Meta(ge=1, le=100)] = 20  # of attempts


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
    numbers: Literal["false", "true"] = "false"  # true: of a text, each line's number (its first record's) before it
    download: Literal["0", "1"] = "0"  # 1: all of it, to be kept as a file


class DownloadFiles(Query, frozen=True, kw_only=True):
    """Of which attempt."""

    attempt: AttemptNumber | UnsetType = UNSET  # the newest


class OutlineLog(Query, frozen=True, kw_only=True):
    """Of which log."""

    attempt: AttemptNumber | UnsetType = UNSET  # the newest


class AskByMcp(Query, frozen=True, kw_only=True):
    """What is offered to a program, and how much it is told."""

    changes: Literal["0", "1"] = "0"  # 1: also tools that change something
    tokens: Annotated[int, Meta(ge=FEWEST_TOKENS, le=MOST_TOKENS)] = TOKENS  # about so many in an answer


class ShowFailure(Query, frozen=True, kw_only=True):
    """Of which attempt."""

    attempt: AttemptNumber | UnsetType = UNSET  # the newest


class _Search(Query, frozen=True, kw_only=True):
    """What to search for in logs, and how much of what is found to show."""

    q: str
    kind: Literal["text", "regex"] = "text"
    case: Literal["0", "1"] = "0"  # 1: capital and small letters differ
    limit: Annotated[int, Meta(ge=0, le=1000)] = 100  # of hits
    context: Annotated[int, Meta(ge=0, le=10)] = 0  # records before and after each hit
    count: Literal["0", "1"] = "1"  # 1: also count what isn't shown
    format: Literal["json", "ndjson"] = "json"  # ndjson: hits as they are found


class SearchLog(_Search, frozen=True, kw_only=True):
    """What to search for in one log."""

    attempt: AttemptNumber | UnsetType = UNSET  # the newest
    order: Literal["oldest", "newest"] = "oldest"
    after: After = 0  # only records with a larger number
    before: Annotated[int, Meta(ge=1, le=MAX_RECORD)] | UnsetType = UNSET  # only records with a smaller number


class SearchLogs(_Search, frozen=True, kw_only=True):
    """What to search for in the logs of a project."""

    order: Literal["oldest", "newest"] = "newest"
    after: Annotated[str, Meta(pattern=f"^(?:{ATTEMPT})$")] | UnsetType = UNSET  # only attempts after this one
    before: Annotated[str, Meta(pattern=f"^(?:{ATTEMPT})$")] | UnsetType = UNSET  # only attempts before this one
    logs: Annotated[int, Meta(ge=1, le=1000)] = 100  # how many to search
    each: Annotated[int, Meta(ge=0, le=1000)] = 10  # hits of one log


class Stream(Query, frozen=True, kw_only=True):
    """The query of the WebSocket with many subscriptions."""

    ticket: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    compress: Literal["0", "1"] = "0"  # 1: permessage-deflate, if the client offers it


class StreamLog(Stream, frozen=True, kw_only=True):
    """The query of the WebSocket of one log."""

    after: After = 0
    attempt: AttemptNumber | UnsetType = UNSET  # the newest


class ShowProvenance(Query, frozen=True, kw_only=True):
    """Of which package to show the provenance."""

    package: PackageName
    version: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[0-9A-Za-z.+-]+$")]
    target: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9-]+$")] = "npm"
