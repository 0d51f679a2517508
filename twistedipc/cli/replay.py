"""`twistedipc replay`: a build once more, on this machine: the same commit, settings and steps, by the same runner."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click

from twistedipc.builds.attempt import Result, StepResult
from twistedipc.builds.environments import PREVIEW, PRODUCTION
from twistedipc.builds.logs import Batch, Lines, with_events
from twistedipc.builds.messages import Offer
from twistedipc.builds.states import STATES, AttemptState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.folder import repository_of
from twistedipc.cli.local import builder_toml, state_folder
from twistedipc.cli.naming import build_argument
from twistedipc.cli.output import Toned, color_option, note, print_table, wants_colour
from twistedipc.cli.up import set_up_builder
from twistedipc.publish.targets.static.target import Static
from twistedipc.taps.builder import settings_of
from twistedipc.taps.config import ConfigError, load_builder
from twistedipc.taps.replaying import Replay
from twistedipc.terminal.amounts import duration
from twistedipc.terminal.printer import LogPrinter, columns_of
from twistedipc.web.api.schemas import Attempt, BuildDetail, Project


@click.command()
@with_client
@build_argument
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="BUILDER.TOML",
    help="Build as a builder with this configuration would (else as that of `twistedipc up`).",
)
@color_option
@click.pass_context
def replay(context: click.Context, client: Client, build_id: int, config: Path | None, colour: bool | None) -> None:
    """Run BUILD again on this machine: its commit, settings, variables and steps, without secrets. Publish nothing.

    The log is shown as it comes, then what differs. The working copy stays, to be looked at. Exit with 0 only if it
    succeeds.
    """
    found = client.get(path("builds", build_id)).decode(BuildDetail)
    if not found.commit:
        raise Failure(ExitCode.NOT_FOUND, f"build {build_id} has no commit yet, so there is nothing to replay")
    project = client.get(path("projects", found.project)).decode(Project)
    original = next((each for each in found.attempts if each.number == found.attempt), None)
    place = state_folder()
    file = config if config is not None else builder_toml(place)
    if config is None and not file.exists():
        set_up_builder(place)
    try:
        settings = settings_of(load_builder(file), file)
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    replaying = Replay(settings, place / "replay")
    if replaying.isolation.refused:
        raise Failure(ExitCode.UNAVAILABLE, replaying.isolation.refused)
    offer = _offer(found, project)
    for sentence in _differs(found, project, original, replaying.isolation.kind):
        note(f"note: {sentence}")
    columns = columns_of(sys.stdout)
    try:
        with LogPrinter(sys.stdout, colour=wants_colour(colour), columns=columns, live=True) as printer:

            def show(batch: Batch) -> None:
                printer.show(with_events(batch) if isinstance(batch, Lines) else batch)

            result, work = replaying.run(offer, client.url, show)
    except OSError as error:
        raise Failure(ExitCode.NOT_WRITTEN, f"{error.filename or place}: {error.strerror or error}") from error
    _compare(result, original)
    note(f"its working copy is {work}")
    note(f"the replay {result.outcome.replace('_', ' ')}{f': {result.reason}' if result.reason else ''}")
    context.exit(ExitCode.OK if result.outcome == AttemptState.SUCCEEDED.value else ExitCode.NOT_SUCCEEDED)


def _offer(found: BuildDetail, project: Project) -> Offer:
    """Return what a builder would be offered: the same, but for the secrets, and it publishes nothing."""
    production = found.environment == PRODUCTION
    values = {**project.environment}
    of = project.of_contexts
    values |= of.production if production else of.previews
    values |= of.environments.get(found.environment or "", {})
    return Offer(
        attempt=f"{found.id}-{found.attempt}",
        lease=secrets.token_hex(16),
        build=found.id,
        project=found.project,
        repository=_source(project, found.commit),
        ref=found.commit,
        commit=found.commit,
        targets=[],
        site=any(settings.get("type") == Static.name for settings in project.targets),
        settings=project.settings,
        parameters=found.parameters,
        environment={name: value for name, value in values.items() if value is not None},
        context="production" if production else "preview",
        environment_name=found.environment or PREVIEW,
        url=project.release_url,
        registries=[each for each in project.registries if not each.secret],
        timeout=project.timeout,
        idle_timeout=project.idle_timeout,
        expires=0.0,
    )


def _source(project: Project, commit: str) -> str:
    """Return the repository: the one of this folder if it has the commit, which needs no credentials."""
    here = repository_of(Path.cwd())
    return here.address if here is not None and here.has(commit) else project.repository


def _differs(found: BuildDetail, project: Project, original: Attempt | None, isolation: str) -> list[str]:
    """Return, in sentences, what of the replay isn't as it was."""
    said = []
    if missing := sorted({*(each.name for each in project.build_secrets)}):
        said.append(f"secrets aren't given: {', '.join(missing)}")
    if hidden := sorted(name for name, value in project.environment.items() if value is None):
        said.append(f"variables aren't given, since their values are for admins: {', '.join(hidden)}")
    if private := [each.address for each in project.registries if each.secret]:
        said.append(f"registries that want a token aren't used: {', '.join(private)}")
    if original is not None and original.isolation not in (None, isolation):
        said.append(f"it is isolated by {isolation} here, and was by {original.isolation} on {original.builder}")
    if project.updated > found.created:
        said.append("the project was changed since: its settings are those of now")
    said.append("nothing that earlier builds have kept is used, and the builder's own variables are this machine's")
    return said


def _compare(result: Result, original: Attempt | None) -> None:
    """Show the steps beside those of the build, and what was recognised otherwise."""
    before = {step.name: step for step in original.steps} if original is not None else {}
    rows = []
    for step in result.steps:
        other = before.get(step.name)
        was = "" if other is None or other.ended is None else duration((other.ended - other.started).total_seconds())
        outcome = _toned(other.outcome) if other is not None else "not there"
        rows.append((step.name, _toned(step.outcome), _took(step), outcome, was))
    click.echo("")
    print_table(("STEP", "HERE", "TOOK", "IN THE BUILD", "IT TOOK"), rows, empty="no step has begun")
    known = {each.what: each.value for each in (original.recognised if original is not None else [])}
    for finding in result.recognised:
        if finding.what in known and known[finding.what] != finding.value:
            note(f"{finding.what} is {finding.value} here, and was {known[finding.what]}")


def _toned(outcome: str) -> Toned:
    return Toned(outcome, STATES[AttemptState(outcome)].tone)


def _took(step: StepResult) -> str:
    return duration((step.ended - step.started) / 1000)
