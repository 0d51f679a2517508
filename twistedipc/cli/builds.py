"""`twistedipc build`, `builds`, `show`, `logs`, `cancel`, `retry`: asking for builds and watching them."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import click
from msgspec import UNSET

from twistedipc.builds import gist
from twistedipc.builds.attempt import Published, Used
from twistedipc.builds.counts import counted
from twistedipc.builds.egress import Egress
from twistedipc.builds.environments import PREVIEW
from twistedipc.builds.host_rules import place
from twistedipc.builds.origin import Origin, sentence
from twistedipc.builds.priorities import Priority
from twistedipc.builds.states import STATES, AttemptState, ReleaseState
from twistedipc.builds.variables import looks_secret
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Answer, Client, path
from twistedipc.cli.environment import pairs
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.grep import Asked, grep_build, grep_options, grep_project
from twistedipc.cli.logs import LogCheck, follow, read
from twistedipc.cli.naming import BuildType, ProjectType, build_argument, project_argument
from twistedipc.cli.output import (
    Ago,
    Toned,
    between,
    color_option,
    json_option,
    local_time,
    note,
    print_fields,
    print_json,
    print_table,
    wants_colour,
)
from twistedipc.cli.parts import Part, Range, part_options, range_of
from twistedipc.cli.waiting import WaitingNotes
from twistedipc.terminal import wording
from twistedipc.terminal.amounts import duration, size
from twistedipc.terminal.printer import LogPrinter, columns_of
from twistedipc.web.api import schemas

#: A ref that is a commit.
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

#: Seconds between two looks whether somebody has approved.
DECISION_INTERVAL = 3.0

wait_option = click.option(
    "--wait", is_flag=True, help="With --follow, also wait for another person's approval, if it takes one."
)
follow_option = click.option("-f", "--follow", "follow_log", is_flag=True, help="Show the log live until the end.")


@click.command()
@with_client
@project_argument
@click.option("--ref", help="Branch, tag, refs/… or commit (else the project's default).")
@click.option("--no-publish", is_flag=True, help="Build only, publish nothing.")
@click.option("--live", is_flag=True, help="Go live even if it isn't of the project's own ref, but of a protected one.")
@click.option(
    "--bump",
    default="",
    metavar="patch|minor|major|prerelease[:ID]|changesets",
    help="Raise the versions of the packages that are published.",
)
@click.option("--param", multiple=True, metavar="NAME=VALUE", help="A variable for this build; may be repeated.")
@click.option(
    "--priority", type=click.Choice(["low", "normal", "high"]), help="In the queue (else as the project's rules say)."
)
@follow_option
@wait_option
@color_option
@json_option
def build(
    client: Client,
    project: str,
    ref: str | None,
    no_publish: bool,
    live: bool,
    bump: str,
    param: tuple[str, ...],
    priority: Priority | None,
    follow_log: bool,
    wait: bool,
    colour: bool | None,
    as_json: bool,
) -> None:
    """Ask for a build of PROJECT. With --follow, exit with 0 only if it succeeds and its log is complete."""
    if live and no_publish:
        raise click.UsageError("--live and --no-publish contradict one another: what isn't published can't go live")
    if bump and no_publish:
        raise click.UsageError("--bump and --no-publish contradict one another: versions are raised to be published")
    parameters = pairs(param, "--param")
    for name in filter(looks_secret, parameters):
        note(f"note: {name} looks like a secret, and all who may see the build can read its parameters")
    body = schemas.NewBuild(
        ref=ref,
        publish=not no_publish,
        live=live,
        bump=bump,
        parameters=parameters,
        priority=UNSET if priority is None else priority,
    )
    answer = ask_for_build(client, project, body)
    made = answer.decode(schemas.Build)
    if as_json:
        print_json(answer)
    else:
        say_made(client, made)
    say_what_it_is(made)
    if follow_log:
        _finish(show_log(client, made.id, made.attempt, 0, live=True, colour=wants_colour(colour), wait=wait))


def ask_for_build(client: Client, project: str, body: schemas.NewBuild) -> Answer:
    """
    Ask for a build, and return the answer. With the key the request can be repeated when its answer gets lost, and
    makes one build all the same.
    """
    return client.post_once(path("projects", project, "builds"), body, uuid.uuid4().hex)


def say_made(client: Client, made: schemas.Build) -> None:
    """Say which build was just made, and where it can be watched."""
    note(f"build {made.id} of {made.project} at {made.ref}: {client.url}/#/builds/{made.id}")


def say_what_it_is(made: schemas.Build) -> None:
    """Say of a build that was just made what isn't published for users, and why."""
    if made.preview and made.publish:
        kind = "a preview" if made.environment in (None, PREVIEW) else f"of the environment {made.environment}"
        note(f"it is {kind}, and publishes nothing for users: {made.preview}")
    if made.canary:
        note(f"its packages are published as canaries, with the tag {made.canary}")


@click.command()
@with_client
@click.option("--project", type=ProjectType(), help="Only builds of this project; `.` is the folder's.")
@click.option("--state", type=click.Choice([state.value for state in AttemptState]), help="Only builds in this state.")
@click.option("--before", type=click.IntRange(min=1), metavar="BUILD", help="Only builds older than this one.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many builds.")
@json_option
def builds(
    client: Client, project: str | None, state: str | None, before: int | None, limit: int, as_json: bool
) -> None:
    """List builds, newest first."""
    query = {"project": project, "state": state, "before": before, "limit": limit}
    answer = client.get(path("builds"), query)
    if as_json:
        print_json(answer)
        return
    found = answer.decode(schemas.Builds)
    print_table(
        ("BUILD", "PROJECT", "STATE", "REF", "COMMIT", "ASKED FOR", "BY", "TOOK", "SAYS", "DETAIL"),
        [_row(build) for build in found.builds],
        empty="there are no builds",
        drop=("COMMIT", "BY", "SAYS", "REF", "DETAIL", "TOOK"),
        wrap=False,
    )
    if found.next is not None:
        note(f"there are older builds: add --before {found.next}")


@click.command()
@with_client
@build_argument
@json_option
def show(client: Client, build_id: int, as_json: bool) -> None:
    """Show one build: its state, attempts, steps, progress and annotations."""
    answer = client.get(path("builds", build_id))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(schemas.BuildDetail)
    print_fields(
        [
            ("build", found.id),
            ("project", found.project),
            ("state", Toned(found.state, found.tone)),
            ("reason", found.reason),
            ("cancel", "requested" if found.cancel_requested and found.ended is None else None),
            ("waiting", found.waiting.text if found.waiting is not None else None),
            ("ref", found.ref),
            ("commit", f"{found.commit[:12]} {found.subject}".strip()),
            ("author", _author(found)),
            ("environment", found.environment),
            ("preview", found.preview),
            ("versions", found.bump),
            ("variables", " ".join(f"{key}={value}" for key, value in sorted(found.parameters.items()))),
            ("asked for", f"{local_time(found.created)} by {found.requested_by}"),
            ("came from", _origin(found.origin)),
            ("release", found.release_url),
            ("look at it", ", ".join(found.previews)),
        ]
    )
    for attempt in found.attempts:
        click.echo()
        print_fields(
            [
                ("attempt", attempt.number),
                ("state", Toned(attempt.state, attempt.tone)),
                ("reason", attempt.reason),
                ("builder", attempt.builder),
                ("started", local_time(attempt.started)),
                ("took", between(attempt.started, attempt.ended)),
                ("isolation", "not isolated" if attempt.isolation == "none" else attempt.isolation),
                ("used", _used(attempt.used)),
                ("network", _egress(attempt.egress)),
                ("progress", _progress(attempt.progress)),
                ("log", _log_summary(attempt)),
                ("remarks", _remarks(attempt.annotations)),
                ("release", _release(attempt)),
                ("decision", _decision(attempt.decision)),
                *(("published", _published(p)) for p in attempt.published),
            ]
        )
        if attempt.steps:
            print_table(
                ("STEP", "OUTCOME", "EXIT", "TOOK", "DETAIL"),
                [_step_row(step) for step in attempt.steps],
                empty="",
            )
        if summary := wording.summary(attempt.summary):
            click.echo(f"\n{summary}")


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=BuildType(), required=False)
@click.option(
    "--attempt", type=click.IntRange(min=1), metavar="N", help="The log of this attempt (else of the newest)."
)
@part_options
@follow_option
@grep_options
@click.option("--numbers", is_flag=True, help="Show each line's number, as the page and --after have it.")
@click.option(
    "--project",
    metavar="PROJECT",
    type=ProjectType(),
    help="With --grep: the logs of all its builds, the newest first.",
)
@color_option
def logs(
    client: Client,
    build_id: int | None,
    attempt: int | None,
    part: Part,
    follow_log: bool,
    asked: Asked | None,
    numbers: bool,
    project: str | None,
    colour: bool | None,
) -> None:
    """Show the log of BUILD, or a part of it, and check that it is complete.

    With --follow, also exit with 1 if the build doesn't succeed. With --grep, search in it, or in those of a project,
    and exit with 1 if nothing matches.
    """
    if (build_id is None) == (project is None):
        raise click.UsageError("name a BUILD or, with --grep, a --project")
    if asked is not None:
        if follow_log:
            raise click.UsageError("--grep and --follow contradict one another: a search ends with what there is now")
        asked = replace(asked, colour=wants_colour(colour))
        if project is not None:
            _finish(grep_project(client, project, asked))
        else:
            assert build_id is not None, "one of them is named"
            _finish(grep_build(client, build_id, attempt, range_of(client, build_id, attempt, part), asked))
        return
    if build_id is None:
        raise click.UsageError("a --project is for --grep PATTERN")
    if follow_log and part.has_end:
        raise click.UsageError("--follow goes to the log's end, and --failed and --step to that of a step")
    attempt = _attempt(client, build_id, attempt)
    records = range_of(client, build_id, attempt, part)
    colour = wants_colour(colour)
    if records.last is not None:
        _finish(show_part(client, build_id, attempt, records, colour=colour, numbers=numbers))
    else:
        _finish(show_log(client, build_id, attempt, records.after, live=follow_log, colour=colour, numbers=numbers))


def _attempt(client: Client, build_id: int, attempt: int | None) -> int:
    """Return which attempt is meant: the newest, if none is named."""
    return attempt or client.get(path("builds", build_id)).decode(schemas.BuildDetail).attempt


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=BuildType(), required=False)
@click.option("--project", metavar="NAME", help="With --queued: cancel all builds of this project that are queued.")
@click.option("--queued", is_flag=True, help="Builds that have begun go on.")
def cancel(client: Client, build_id: int | None, project: str | None, queued: bool) -> None:
    """Cancel BUILD. The build has ended when its processes have: see `twistedipc show BUILD`.

    With --project NAME --queued, cancel all builds of a project that are queued.
    """
    if queued != (project is not None) or (project is None) == (build_id is None):
        raise click.UsageError("name a build, or say --project NAME --queued")
    if build_id is None:
        done = client.post(path("projects", str(project), "queue", "cancel")).decode(schemas.QueueCancelled)
        note(f"{counted(done.cancelled, 'queued build')} of {project} cancelled")
        return
    client.post(path("builds", build_id, "cancel"))
    note(f"build {build_id} is being cancelled")


@click.command()
@with_client
@build_argument
@follow_option
@wait_option
@color_option
@json_option
def retry(client: Client, build_id: int, follow_log: bool, wait: bool, colour: bool | None, as_json: bool) -> None:
    """Run BUILD again, of the same commit, as a new attempt."""
    answer = client.post(path("builds", build_id, "retry"))
    made = answer.decode(schemas.Build)
    if as_json:
        print_json(answer)
    else:
        note(f"attempt {made.attempt} of build {made.id}: {client.url}/#/builds/{made.id}")
    if follow_log:
        _finish(show_log(client, made.id, made.attempt, 0, live=True, colour=wants_colour(colour), wait=wait))


def show_log(
    client: Client,
    build_id: int,
    attempt: int,
    after: int,
    *,
    live: bool,
    colour: bool,
    wait: bool = False,
    numbers: bool = False,
) -> ExitCode:
    """
    Show an attempt's log on standard output. Say on standard error whether it is complete and, if ``live``, how the
    build ended. ``wait``: also wait for an approval; ``numbers``: show each line's. Return the exit code.
    """
    with going_on(build_id) if live else contextlib.nullcontext():
        return _show_log(client, build_id, attempt, after, live=live, colour=colour, wait=wait, numbers=numbers)


def show_part(client: Client, build_id: int, attempt: int, records: Range, *, colour: bool, numbers: bool) -> ExitCode:
    """Show some records of an attempt's log, and say which these are. Return the exit code."""
    check = LogCheck(records.after)
    columns = columns_of(sys.stdout)
    with LogPrinter(sys.stdout, colour=colour, columns=columns, live=False, numbers=numbers) as printer:
        for message in read(client, build_id, attempt, records.after, records.last):
            check.see(message)
            printer.show(message)
    code, said = check.verdict_of_part()
    note(said)
    return code


@contextlib.contextmanager
def going_on(build_id: int) -> Iterator[None]:
    """While inside, Ctrl-C ends this command, and says that it doesn't end the build."""
    try:
        yield
    except KeyboardInterrupt:
        note(
            f"build {build_id} goes on: `twistedipc logs {build_id} --follow` shows it again, "
            f"`twistedipc cancel {build_id}` ends it"
        )
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


def _show_log(
    client: Client, build_id: int, attempt: int, after: int, *, live: bool, colour: bool, wait: bool, numbers: bool
) -> ExitCode:
    check = LogCheck(after)
    alone = threading.Lock()  # `WaitingNotes` calls it in a thread of its own
    columns = columns_of(sys.stdout)
    with LogPrinter(sys.stdout, colour=colour, columns=columns, live=live, numbers=numbers) as printer:

        def say(sentence: str) -> None:
            with alone:
                printer.aside(lambda: note(sentence))

        messages = follow(client, build_id, attempt, after, say) if live else read(client, build_id, attempt, after)
        with WaitingNotes(client, build_id, say) if live else contextlib.nullcontext():
            for message in messages:
                check.see(message)
                with alone:
                    printer.show(message)
    code, verdict = check.verdict()
    note(f"log {verdict}")
    if live and check.end is not None:
        state = check.end.state
        if state == AttemptState.WAITING_APPROVAL.value:
            note(f"build {build_id} waits for another person's approval: `twistedipc approve {build_id}`")
            decided = _decided(client, build_id, attempt, wait=wait)
            if decided is None:
                return ExitCode.WAITS_APPROVAL
            if STATES[decided].delivers:
                note(f"build {build_id} is approved, and its packages are being published")
                after = check.end.lines
                return _show_log(client, build_id, attempt, after, live=True, colour=colour, wait=wait, numbers=numbers)
            state = decided.value
        if state != AttemptState.SUCCEEDED.value:
            note(f"build {build_id} {state.replace('_', ' ')}")
            return ExitCode.NOT_SUCCEEDED
        say_success(client, build_id, attempt)
    return code


def _decided(client: Client, build_id: int, attempt: int, *, wait: bool) -> AttemptState | None:
    """Return how an attempt has ended that waited for an approval; None while it waits, and nobody ``wait``s for it."""
    while True:
        found = client.get(path("builds", build_id)).decode(schemas.BuildDetail)
        state = next((made.state for made in found.attempts if made.number == attempt), AttemptState.LOST)
        if state is not AttemptState.WAITING_APPROVAL:
            return state
        if not wait:
            return None
        client.sleep(DECISION_INTERVAL)


def say_success(client: Client, build_id: int, attempt: int) -> None:
    """Say that a build has succeeded, and first of all where what it has made can be seen."""
    try:
        found = client.get(path("builds", build_id)).decode(schemas.BuildDetail)
    except Failure:
        note(f"build {build_id} succeeded")  # what has become of its release isn't known, and that much is
        return
    made = next((each for each in found.attempts if each.number == attempt and each.release is not None), None)
    if made is not None and made.release_state is ReleaseState.LIVE and found.release_url:
        note(f"live at {found.release_url}")
    elif made is not None and found.previews:
        note(f"look at it: {found.previews[0]}")
    note(f"build {build_id} succeeded")
    if made is not None and made.release_why:
        note(f"release {made.release} isn't live: {made.release_why}")
    if found.attempt > attempt:
        note(f"attempt {found.attempt} follows: `twistedipc logs {build_id} --follow`")


def _finish(code: ExitCode) -> None:
    if code is not ExitCode.OK:
        click.get_current_context().exit(code)


def _row(build: schemas.Build) -> list[object]:
    return [
        build.id,
        build.project,
        Toned(build.state, build.tone),
        build.ref[:12] if _COMMIT.fullmatch(build.ref) else build.ref,
        build.commit[:12],
        Ago(build.created),
        build.requested_by,
        between(build.started, build.ended),
        ", ".join(part for part in (_progress(build.progress), _remarks(build.annotations)) if part),
        build.reason or build.subject,
    ]


def _progress(progress: gist.Progress | None) -> str:
    return "" if progress is None else wording.progress(progress.value, progress.label)


def _remarks(annotations: gist.Annotations) -> str:
    return wording.remarks(errors=annotations.errors, warnings=annotations.warnings, notices=annotations.notices)


def _step_row(step: schemas.Step) -> list[object]:
    # A step's outcome has the name of an attempt's state, and gets that state's colour.
    outcome = Toned(step.outcome, STATES[AttemptState(step.outcome)].tone)
    return [step.name, outcome, step.exit_code, between(step.started, step.ended), step.command]


def _published(published: Published) -> str:
    notice = f": {published.notice}" if published.notice else ""
    return f"{published.name}@{published.version} ({published.status}){notice}"


def _release(attempt: schemas.Attempt) -> str:
    if attempt.release is None or attempt.release_state is None:
        return ""
    state = f"{attempt.release}, {attempt.release_state.value.replace('_', ' ')}"
    return f"{state}: {attempt.release_why}" if attempt.release_why else state


def _used(used: Used | None) -> str:
    """What the steps of an attempt have used, as far as it is known."""
    if used is None:
        return ""
    parts = [
        f"{duration(used.cpu / 1000)} of processor time" if used.cpu else "",
        f"{size(used.memory)} of memory" if used.memory else "",
        counted(used.processes, "process or thread", "processes and threads") if used.processes else "",
        f"{size(used.disk)} on the disk" if used.disk else "",
    ]
    return ", ".join(filter(None, parts))


def _egress(egress: Egress | None) -> str:
    """The hosts that an attempt contacted, and those that it was refused."""
    if egress is None:
        return ""
    contacted: dict[str, str] = {}
    for contact in egress.contacts:
        name = place(contact.host, contact.port)
        contacted.setdefault(name, f"{name} (refused: {contact.why})" if contact.why else name)
    more = [f"and {egress.more} more"] if egress.more else []
    lost = ["not all of it is known"] if egress.lost else []
    return ", ".join([*contacted.values(), *more, *lost])


def _origin(origin: Origin | None) -> str:
    """Return where a build came from, with the address at its host."""
    return "" if origin is None else f"{sentence(origin)} {origin.url}".rstrip()


def _author(build: schemas.Build) -> str:
    """Return the commit's author, and the person who that is here, if it is one."""
    return f"{build.author} ({build.author_person.name})" if build.author_person is not None else build.author


def _decision(made: schemas.Decision | None) -> str:
    if made is None:
        return ""
    what = f"{'approved' if made.approved else 'refused'} by {made.by}"
    return f"{what}: {made.reason}" if made.reason else what


def _log_summary(attempt: schemas.Attempt) -> str:
    if attempt.lines is None:
        return ""
    return f"{counted(attempt.lines, 'line')}, " + ("complete" if attempt.complete else "incomplete")
