"""
What programs can ask for. ``web.api.mcp``; no I/O but by `Asking`.

`TOOLS` is the table: a tool's name and description, the type of its arguments (from which its schema and their check
follow), and its function, which asks the API and writes into a `Budget`. Whatever quotes a log says of which one it is
with its digest, and has the number of each line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from twistedipc.builds.counts import counted
from twistedipc.builds.states import AttemptState
from twistedipc.finding.messages import LogHit
from twistedipc.terminal import escapes
from twistedipc.terminal.amounts import duration
from twistedipc.web.api import schemas
from twistedipc.web.api.mcp.asking import Asking, Refused
from twistedipc.web.api.mcp.budget import Budget
from twistedipc.web.api.mcp.failure import failure_text

#: Records of a log that are read at a time, at most, and unless somebody says otherwise.
MOST_RECORDS = 2000
RECORDS = 200

#: Logs whose hits are shown of a search in a project's logs: each is asked for its digest.
MOST_LOGS = 10

BuildNumber = Annotated[int, Meta(ge=1, le=10**18 - 1, description="The build's number.")]
AttemptNumber = Annotated[int, Meta(ge=1, le=10**9 - 1, description="Of which attempt; by default the newest.")]
ProjectName = Annotated[
    str, Meta(min_length=1, max_length=100, description="The project; by default that of the folder.")
]


_First = Annotated[int, Meta(ge=1)]
_Ref = Annotated[str, Meta(min_length=1, max_length=255)]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class OfProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which project."""

    project: ProjectName | None = None


class ListBuilds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which builds."""

    project: Annotated[ProjectName | None, Meta(description="Of this project; by default of all.")] = None
    state: Annotated[AttemptState | None, Meta(description="Only builds in this state.")] = None
    before: Annotated[_First | None, Meta(description="Only builds with a smaller number.")] = None
    limit: Annotated[int, Meta(ge=1, le=100, description="At most so many, the newest first.")] = 20


class OfBuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which build."""

    build: BuildNumber


class ShowFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which build failed."""

    build: Annotated[BuildNumber | None, Meta(description="By default the newest that failed.")] = None
    attempt: AttemptNumber | None = None
    project: Annotated[ProjectName | None, Meta(description="Without a build: the newest of this project.")] = None


class SearchLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to search for, and in which logs."""

    query: Annotated[str, Meta(min_length=1, max_length=1000, description="What to search for, within one line.")]
    build: Annotated[BuildNumber | None, Meta(description="In this build's log; else in all of the project's.")] = None
    attempt: AttemptNumber | None = None
    project: ProjectName | None = None
    regex: Annotated[bool, Meta(description="The query is a regular expression (RE2).")] = False
    case: Annotated[bool, Meta(description="Capital and small letters differ.")] = False
    context: Annotated[int, Meta(ge=0, le=10, description="Lines before and after each hit.")] = 2
    limit: Annotated[int, Meta(ge=1, le=200, description="At most so many hits.")] = 50
    order: Annotated[
        Literal["oldest", "newest"] | None,
        Meta(
            description="What comes first; by default the oldest hits of a build, and the newest builds of a project."
        ),
    ] = None
    after: Annotated[int, Meta(ge=0, description="Of a build's log: only records with a larger number.")] = 0


class ReadLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which part of a log."""

    build: BuildNumber
    attempt: AttemptNumber | None = None
    first: Annotated[_First | None, Meta(description="The first record; by default the last ones are read.")] = None
    records: Annotated[int, Meta(ge=1, le=MOST_RECORDS, description="At most so many records.")] = RECORDS


class RequestBuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to build."""

    project: ProjectName | None = None
    ref: Annotated[_Ref | None, Meta(description="A branch, tag or commit; else the default.")] = None
    publish: Annotated[bool, Meta(description="False: build only, publish nothing.")] = True


_A = TypeVar("_A", bound=msgspec.Struct)


class Tool(msgspec.Struct, Generic[_A], frozen=True):
    """A tool: see the module. ``changes``: it changes something; ``destroys``: what can't be taken back."""

    name: str
    title: str
    description: str
    arguments: type[_A]
    function: Callable[[Asking, _A, Budget], Awaitable[None]]
    changes: bool = False
    destroys: bool = False

    def schema(self) -> dict[str, Any]:
        """Return what the protocol says of it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": schema_of(self.arguments),
            "annotations": {
                "title": self.title,
                "readOnlyHint": not self.changes,
                "destructiveHint": self.destroys,
                "idempotentHint": not self.changes,
                "openWorldHint": False,
            },
        }

    async def call(self, asking: Asking, given: dict[str, Any], budget: Budget) -> None:
        """Do it. Raises `msgspec.ValidationError` for other arguments than it takes, and `Refused`."""
        await self.function(asking, msgspec.convert(given, self.arguments), budget)


def schema_of(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments, in one piece."""
    (root,), parts = msgspec.json.schema_components([arguments], ref_template="{name}")
    found: dict[str, Any] = _resolved(root, parts)
    return {"type": "object", "properties": found.get("properties", {}), **_kept(found)}


def _kept(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in ("required", "additionalProperties") if schema.get(name) not in (None, [])}


def _resolved(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_resolved(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: _resolved(value, parts) for name, value in schema.items() if name != "$ref"}
    return {**_resolved(parts[schema["$ref"]], parts), **rest} if "$ref" in schema else rest


# -- reading ---------------------------------------------------------------------------------------------------------


async def list_projects(asking: Asking, given: Nothing, budget: Budget) -> None:
    """See `TOOLS`."""
    found = (await asking.get(["projects"], schemas.Projects)).projects
    lines = (f"{each.name}: {each.repository} ({each.default_ref}), {each.release_url}" for each in found)
    _list(budget, lines, len(found), "projects")


async def list_builds(asking: Asking, given: ListBuilds, budget: Budget) -> None:
    """See `TOOLS`."""
    query = {"project": given.project, "state": given.state, "before": given.before, "limit": given.limit}
    page = await asking.get(["builds"], schemas.Builds, query)
    shown = _list(budget, map(_build_line, page.builds), len(page.builds), "builds")
    if shown == len(page.builds) and page.next is not None:
        budget.note(f"There are older builds: before={page.next}.")


async def show_build(asking: Asking, given: OfBuild, budget: Budget) -> None:
    """See `TOOLS`."""
    found = await _build(asking, given.build)
    budget.add(_build_line(found))
    if found.waiting is not None:
        budget.add(f"waits: {found.waiting.text}")
    for attempt in found.attempts:
        took = _between(attempt.started, attempt.ended)
        reason = f": {attempt.reason}" if attempt.reason else ""
        budget.add(_plain(f"attempt {attempt.number} {attempt.state}{reason}{f', took {took}' if took else ''}"))
        budget.add(f"  {_log_of(found, attempt)}")
        for step in attempt.steps:
            code = "" if step.exit_code is None else f", exit code {step.exit_code}"
            took = _between(step.started, step.ended)
            how = f"{step.outcome}{code}{f', took {took}' if took else ''}"
            budget.add(_plain(f"  step {step.name} ({step.command}) {how}"))
        for published in attempt.published:
            budget.add(_plain(f"  {published.name}@{published.version} {published.status}"))
        if attempt.release is not None:
            why = f": {attempt.release_why}" if attempt.release_why else ""
            budget.add(_plain(f"  release {attempt.release} {attempt.release_state}{why}"))
    for address in found.previews:
        budget.add(f"preview: {address}")
    _say_if_full(budget, "the rest of what is known of this build")


async def build_failure(asking: Asking, given: ShowFailure, budget: Budget) -> None:
    """See `TOOLS`."""
    number = given.build
    if number is None:
        project = given.project or await asking.project_here()
        query = {"project": project, "state": AttemptState.FAILED.value, "limit": 1}
        builds = (await asking.get(["builds"], schemas.Builds, query)).builds
        if not builds:
            raise Refused(f"no build{f' of {project}' if project else ''} has failed")
        number = builds[0].id
    found = await asking.get(["builds", number, "failure"], schemas.BuildFailure, {"attempt": given.attempt})
    text = failure_text(found).split("\n")
    if budget.extend(text) < len(text):
        budget.note("The rest is left out: there is no room for it.")


async def search_log(asking: Asking, given: SearchLog, budget: Budget) -> None:
    """See `TOOLS`."""
    query: dict[str, str | int | None] = {
        "q": given.query,
        "kind": "regex" if given.regex else "text",
        "case": int(given.case),
        "context": given.context,
        "limit": given.limit,
        "order": given.order,
    }
    if given.build is not None:
        query |= {"attempt": given.attempt, "after": given.after}
        where: list[str | int] = ["builds", given.build, "log", "search"]
    else:
        where = ["projects", await _project(asking, given.project), "logs", "search"]
    page = await asking.get(where, schemas.LogSearchPage, query)
    if not page.matches:
        budget.add("Nothing matches.")
    hits, left_out = _of_some_logs(page.hits)
    shown, log = 0, ""
    for hit in hits:
        name = f"{hit.build}-{hit.attempt}"
        if name != log:
            log = name
            found = await _build(asking, hit.build)
            budget.add(_log_of(found, _attempt(found, hit.attempt)))
        if budget.extend(_hit_lines(hit)) < len(hit.before) + 1 + len(hit.after):
            break
        shown += 1
    exact = "" if page.complete else " or more"
    said = f"{shown} of {page.matches}{exact} matching lines are shown."
    if page.missing:
        said += f" {page.missing} records could not be searched: removed, missing or damaged."
    if left_out or shown < len(page.hits) or page.next is not None:
        said += " Search for something longer, or in one build with `after`, to see the others."
    if page.matches or page.missing:
        budget.note(said)


async def read_log(asking: Asking, given: ReadLog, budget: Budget) -> None:
    """See `TOOLS`."""
    found = await _build(asking, given.build)
    attempt = _attempt(found, given.attempt or found.attempt)
    outline: list[str | int] = ["builds", given.build, "log", "outline"]
    records = (await asking.get(outline, schemas.LogOutline, {"attempt": attempt.number})).records
    first = given.first if given.first is not None else max(1, records - given.records + 1)
    budget.add(_log_of(found, attempt, records))
    if first > records:
        budget.add(f"It has no record {first} yet." if attempt.ended is None else f"It has no record {first}.")
        return
    limit = min(given.records, records - first + 1)
    last = first - 1
    async with aclosing(asking.log_lines(given.build, attempt.number, last, limit)) as lines:
        async for line in lines:
            number, colon, _ = line.partition(":")
            numbered = bool(colon) and number.isascii() and number.isdigit()
            if not budget.add(line):
                break
            last = int(number) if numbered else last
    wanted = min(records, first + given.records - 1)
    if budget.full:
        budget.note(f"Records {last + 1} to {wanted} are left out: there is no room. Go on with first={last + 1}.")
    elif wanted < records:
        budget.note(f"The log goes on: first={wanted + 1}.")


async def list_releases(asking: Asking, given: OfProject, budget: Budget) -> None:
    """See `TOOLS`."""
    project = await _project(asking, given.project)
    found = await asking.get(["projects", project, "releases"], schemas.Releases)
    budget.add(f"{project} is served at {found.url}")
    if found.held is not None:
        budget.add("Its releases don't go live by themselves: somebody has rolled back.")
    lines = (_release_line(each) for each in found.releases)
    _list(budget, lines, len(found.releases), "releases")


# -- changing --------------------------------------------------------------------------------------------------------


async def request_build(asking: Asking, given: RequestBuild, budget: Budget) -> None:
    """See `TOOLS`."""
    body = schemas.NewBuild(ref=given.ref, publish=given.publish)
    where = ["projects", await _project(asking, given.project), "builds"]
    made = await asking.post(where, schemas.Build, body)
    budget.add(f"Build {made.id} of {made.project} at {made.ref} is {made.state}.")
    if made.preview and given.publish:
        budget.add(_plain(f"It publishes nothing for users: {made.preview}"))


async def retry_build(asking: Asking, given: OfBuild, budget: Budget) -> None:
    """See `TOOLS`."""
    made = await asking.post(["builds", given.build, "retry"], schemas.Build)
    budget.add(f"Attempt {made.attempt} of build {made.id} is {made.state}.")


async def cancel_build(asking: Asking, given: OfBuild, budget: Budget) -> None:
    """See `TOOLS`."""
    await asking.post(["builds", given.build, "cancel"], schemas.Build)
    budget.add(f"Build {given.build} is being cancelled: it has ended when its processes have.")


async def promote_build(asking: Asking, given: OfBuild, budget: Budget) -> None:
    """See `TOOLS`."""
    done = await asking.post(["builds", given.build, "promote"], schemas.Promoted)
    if done.build is not None:
        budget.add(f"Build {done.build.id} builds the same commit for production, since {done.why}.")
    elif done.release is not None:
        budget.add(f"Release {done.release.id} is {done.release.state}.")


TOOLS: tuple[Tool[Any], ...] = (
    Tool(
        "list_projects",
        "Projects",
        "List the projects: name, repository, default ref, address.",
        Nothing,
        list_projects,
    ),
    Tool(
        "list_builds",
        "Builds",
        "List builds, newest first: state, ref, commit, who asked, how long it took, why it ended so.",
        ListBuilds,
        list_builds,
    ),
    Tool(
        "show_build",
        "Build",
        "Show one build: attempts, steps with exit codes, what was published, how its log ends.",
        OfBuild,
        show_build,
    ),
    Tool(
        "build_failure",
        "Why a build failed",
        "Say why a build failed: the line of the log that says what is wrong with 20 lines around it, what it means if "
        "that is known, and what the last success never printed. Ask this first; then read_log around its lines.",
        ShowFailure,
        build_failure,
    ),
    Tool(
        "search_log",
        "Search in logs",
        "Search the log of a build, or those of all builds of a project, by text or regular expression.",
        SearchLog,
        search_log,
    ),
    Tool(
        "read_log",
        "Read a log",
        "Read a range of a build's log, each line with its number; by default its end.",
        ReadLog,
        read_log,
    ),
    Tool(
        "list_releases",
        "Releases",
        "List a project's releases: which one is live, and why the others aren't.",
        OfProject,
        list_releases,
    ),
    Tool(
        "request_build",
        "Build",
        "Ask for a build of a project. Without a ref its default is built, which goes live if it succeeds.",
        RequestBuild,
        request_build,
        changes=True,
    ),
    Tool("retry_build", "Retry", "Run a build again, of the same commit.", OfBuild, retry_build, changes=True),
    Tool("cancel_build", "Cancel", "Cancel a build that goes on.", OfBuild, cancel_build, changes=True, destroys=True),
    Tool(
        "promote_build",
        "Promote",
        "Make what a build has made what users get, now.",
        OfBuild,
        promote_build,
        changes=True,
        destroys=True,
    ),
)


# -- what several of them need ---------------------------------------------------------------------------------------


async def _project(asking: Asking, name: str | None) -> str:
    found = name or await asking.project_here()
    if found is None:
        raise Refused(asking.no_project)
    return found


async def _build(asking: Asking, build: int) -> schemas.BuildDetail:
    return await asking.get(["builds", build], schemas.BuildDetail)


def _attempt(build: schemas.BuildDetail, number: int) -> schemas.Attempt:
    for attempt in build.attempts:
        if attempt.number == number:
            return attempt
    raise Refused(f"build {build.id} has no attempt {number}")


def _log_of(build: schemas.BuildDetail, attempt: schemas.Attempt, records: int | None = None) -> str:
    """Name a log, with what proves that it is this one."""
    count = attempt.lines if records is None else records
    name = f"log of build {build.id}, attempt {attempt.number}"
    if attempt.log_removed is not None:
        return f"{name}: removed on {_time(attempt.log_removed)}"
    if attempt.ended is None or count is None:
        so_far = f"{counted(count, 'record')} so far, " if count else ""
        return f"{name}: {so_far}it goes on, so it has no digest yet"
    proof = f", sha256 {attempt.sha256}" if attempt.sha256 else ", no digest is known"
    return (
        f"{name}: {counted(count, 'record')}{proof}, {'complete' if attempt.complete else 'not known to be complete'}"
    )


def _build_line(build: schemas.Build) -> str:
    parts = [
        f"build {build.id} of {build.project} {build.state}",
        f"{build.ref} {build.commit[:12]}".strip(),
        build.subject,
        f"asked for {_time(build.created)} by {build.requested_by}",
        f"took {took}" if (took := _between(build.started, build.ended)) else "",
        build.reason,
    ]
    return _plain("; ".join(part for part in parts if part))


def _release_line(release: schemas.Release) -> str:
    why = f": {release.why}" if release.why else ""
    return _plain(
        f"release {release.id} ({release.target}) of build {release.build}, {release.ref} {release.commit[:12]}, "
        f"{_time(release.created)}: {release.state}{why}"
    )


def _hit_lines(hit: LogHit) -> Iterator[str]:
    for line in hit.before:
        yield f" {line.record}: {escapes.plain(line.text)}"
    text = ("…" if hit.skipped else "") + "".join(hit.parts) + ("…" if hit.cut else "")
    yield f">{hit.record}: {escapes.plain(text)}"
    for line in hit.after:
        yield f" {line.record}: {escapes.plain(line.text)}"


def _of_some_logs(hits: Sequence[LogHit]) -> tuple[list[LogHit], bool]:
    """Return the hits of the first logs, and whether there are others."""
    logs = dict.fromkeys((hit.build, hit.attempt) for hit in hits)
    some = set(list(logs)[:MOST_LOGS])
    return [hit for hit in hits if (hit.build, hit.attempt) in some], len(logs) > MOST_LOGS


def _list(budget: Budget, lines: Iterator[str], count: int, what: str) -> int:
    """Add one line for each thing, and say how many there was no room for."""
    if not count:
        budget.add(f"There are no {what}.")
    shown = budget.extend(lines)
    if shown < count:
        budget.note(f"{count - shown} more {what} are left out: there is no room for them.")
    return shown


def _say_if_full(budget: Budget, what: str) -> None:
    if budget.full:
        budget.note(f"Left out, since there is no room: {what}.")


def _plain(text: str) -> str:
    return escapes.plain(text).replace("\n", " ")


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _between(start: datetime | None, end: datetime | None) -> str:
    return "" if start is None or end is None else duration((end - start).total_seconds())
