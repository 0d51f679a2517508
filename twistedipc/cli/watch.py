"""`twistedipc watch` and `open`: builds as they go, without their logs; and the page, in the browser."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from twistedipc.builds.states import STATES, AttemptState, ReleaseState
from twistedipc.cli.access import with_client
from twistedipc.cli.builds import going_on, say_success
from twistedipc.cli.client import Client, Query, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.naming import HERE, LATEST, Asked, BuildType, ProjectHere, ProjectType, project_here
from twistedipc.cli.opening import open_page
from twistedipc.cli.output import Ago, Toned, cell, console, note, table_of
from twistedipc.terminal import wording
from twistedipc.terminal.amounts import duration
from twistedipc.web.api.schemas import Attempt, Build, BuildDetail, Builds, Project, Releases

_T = TypeVar("_T")

#: Seconds between two looks.
INTERVAL = 1.0

#: How many builds a list has, beside those that go on.
ENDED = 10


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=BuildType(), required=False)
@click.option("--project", type=ProjectType(), help="Only builds of this project; `.` is the folder's.")
def watch(client: Client, build_id: int | None, project: str | None) -> None:
    """Watch BUILD until it ends; without one, the builds that go on, until Ctrl-C.

    With a BUILD, exit with 0 only if it succeeds, with 1 if it doesn't, and with 8 if it waits for an approval.
    """
    if build_id is not None:
        if project is not None:
            raise click.UsageError("a BUILD is of one project anyway: leave --project out")
        with going_on(build_id):
            code = _watch_build(client, build_id)
        click.get_current_context().exit(code)
    _watch_list(client, project)


@click.command("open")
@with_client
@click.argument("what", metavar="[BUILD | PROJECT]", default=HERE)
@click.option("--release", is_flag=True, help="What the build has made, or the project's live release.")
@click.option("--print", "only_print", is_flag=True, help="Print the address alone.")
def open_command(client: Client, what: str, release: bool, only_print: bool) -> None:
    """Open the page of BUILD (a number, or latest) or of PROJECT in the browser; else of the folder's project.

    With --release, open what was built.
    """
    address = _address(client, what, release=release)
    if only_print:
        click.echo(address)
    else:
        open_page(address)


def _address(client: Client, what: str, *, release: bool) -> str:
    if what.isdecimal() or what.partition(":")[0] == LATEST:
        build = BuildType().convert(what, None, click.get_current_context())
        number = str(build.found(client) if isinstance(build, Asked) else build)
        return _made_by(client, number) if release else f"{client.url}/#/builds/{number}"
    if what == HERE and not release:
        name = project_here(client, Path.cwd())
        return f"{client.url}/#/projects/{name}" if name else f"{client.url}/"
    name = ProjectHere().found(client) if what == HERE else what
    if not release:
        return f"{client.url}/#/projects/{client.get(path('projects', name)).decode(Project).name}"
    releases = client.get(path("projects", name, "releases")).decode(Releases)
    if not releases.live:
        raise Failure(ExitCode.NOT_FOUND, f"nothing of {name} is live")
    return releases.url


def _made_by(client: Client, number: str) -> str:
    """Return where to look at what a build has made."""
    found = client.get(path("builds", number)).decode(BuildDetail)
    made = next((each for each in reversed(found.attempts) if each.release is not None), None)
    if made is not None and made.release_state is ReleaseState.LIVE and found.release_url:
        return found.release_url
    if not found.previews:
        raise Failure(ExitCode.NOT_FOUND, f"build {number} has made no release that can be looked at")
    return found.previews[0]


# -- one build -------------------------------------------------------------------------------------------------------


def _watch_build(client: Client, number: int) -> ExitCode:
    """Show a build until it ends, or waits for an approval. Return the exit code."""
    shown = _Shown()
    with shown:
        while True:
            found = shown.asked(client, lambda: client.get(path("builds", number)).decode(BuildDetail))
            over = found.ended is not None or found.state is AttemptState.WAITING_APPROVAL
            shown.show(_build_lines(found), said=_said(found))
            if over:
                break
            client.sleep(INTERVAL)
    if found.state is AttemptState.WAITING_APPROVAL:
        note(f"build {number} waits for another person's approval: `twistedipc approve {number}`")
        return ExitCode.WAITS_APPROVAL
    if found.state is AttemptState.SUCCEEDED:
        say_success(client, number, found.attempt)
        return ExitCode.OK
    note(f"build {number} {found.state.replace('_', ' ')}{f': {found.reason}' if found.reason else ''}")
    note(f"`twistedipc logs {number} --failed` shows the log of the step")
    return ExitCode.NOT_SUCCEEDED


def _newest(found: BuildDetail) -> Attempt | None:
    return next((each for each in found.attempts if each.number == found.attempt), None)


def _build_lines(found: BuildDetail) -> RenderableType:
    now = datetime.now(UTC)
    title = Text(f"build {found.id} of {found.project} at {found.ref}: ")
    title.append_text(cell(Toned(found.state.replace("_", " "), found.tone)))
    if found.started is not None:
        title.append(f", {duration(((found.ended or now) - found.started).total_seconds())}")
    lines = [title]
    if found.waiting is not None:
        lines.append(Text(f"  waits: {found.waiting.text}"))
    attempt = _newest(found)
    for step in attempt.steps if attempt is not None else []:
        tone = STATES[AttemptState(step.outcome)].tone
        line = Text("  ").append_text(cell(Toned(f"{step.outcome:<10}", tone))).append_text(cell(f" {step.name}"))
        line.append(f" {duration(((step.ended or now) - step.started).total_seconds())}")
        lines.append(line)
    if found.progress is not None:
        lines.append(cell(f"  {wording.progress(found.progress.value, found.progress.label)}"))
    for each in lines:
        each.no_wrap, each.overflow = True, "ellipsis"
    return Group(*lines)


def _said(found: BuildDetail) -> str:
    """Return what is said of a build where there is no terminal, each time that it changes."""
    attempt = _newest(found)
    going = [step.name for step in attempt.steps if step.ended is None] if attempt is not None else []
    step = f", step {going[-1]}" if going and found.ended is None else ""
    return f"build {found.id} of {found.project}: {found.state.replace('_', ' ')}{step}"


# -- the list --------------------------------------------------------------------------------------------------------


def _watch_list(client: Client, project: str | None) -> None:
    query: Query = {"project": project, "limit": 50}
    said: dict[int, str] = {}
    shown = _Shown()
    with shown:
        while True:
            builds = shown.asked(client, lambda: client.get(path("builds"), query).decode(Builds).builds)
            going = [build for build in builds if build.ended is None]
            ended = [build for build in builds if build.ended is not None][:ENDED]
            news = [_news(build) for build in reversed(builds) if said.get(build.id) not in (None, build.state)]
            news += [_news(build) for build in reversed(going) if build.id not in said]
            said.update({build.id: build.state for build in builds})
            rows = [_row(build) for build in [*going, *ended]]
            drawn = (
                table_of(_COLUMNS, rows, drop=("REF", "DETAIL"), wrap=False) if rows else Text("there are no builds")
            )
            shown.show(drawn, said="\n".join(news))
            client.sleep(INTERVAL)


_COLUMNS = ("BUILD", "PROJECT", "STATE", "REF", "ASKED FOR", "TOOK", "DETAIL")


def _row(build: Build) -> list[object]:
    began, now = build.started, datetime.now(UTC)
    took = "" if began is None else duration(((build.ended or now) - began).total_seconds())
    progress = "" if build.progress is None else wording.progress(build.progress.value, build.progress.label)
    detail = progress or build.reason or build.subject
    state = Toned(build.state.replace("_", " "), build.tone)
    return [build.id, build.project, state, build.ref[:40], Ago(build.created), took, detail]


def _news(build: Build) -> str:
    return f"build {build.id} of {build.project} at {build.ref}: {build.state.replace('_', ' ')}"


class _Shown:
    """What is watched: redrawn in its place in a terminal; elsewhere a line for each change."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self._live = Live(console=console(), auto_refresh=False, transient=False) if terminal else None
        self._last = ""
        self._lost = False

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, drawn: RenderableType, *, said: str) -> None:
        """Show how it is now; ``said``: the same in a line."""
        if self._live is not None:
            self._live.update(drawn, refresh=True)
        elif said and said != self._last:
            click.echo(said)
            sys.stdout.flush()
        self._last = said

    def asked(self, client: Client, ask: Callable[[], _T]) -> _T:
        """Return the answer to a question, however long the server is away, and say that it is."""
        while True:
            try:
                answer = ask()
            except Unreachable as error:
                if not self._lost:
                    note(f"{error.message}; it is asked again until it answers")
                    self._lost = True
                client.sleep(INTERVAL)
                continue
            if self._lost:
                note("the server is back")
                self._lost = False
            return answer
