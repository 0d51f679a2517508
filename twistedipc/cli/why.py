"""`twistedipc why`: why a build failed, on one screen. ``mcp`` shows the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from twistedipc.builds.counts import counted
from twistedipc.builds.states import AttemptState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.naming import LATEST, BuildType
from twistedipc.cli.output import json_option, print_json
from twistedipc.terminal import escapes
from twistedipc.web.api.schemas import BuildFailure, FailedStep, LogLine, NewInFailure, OutlineAnnotation


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=BuildType(), default=f"{LATEST}:{AttemptState.FAILED}")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt (else the newest).")
@json_option
def why(client: Client, build_id: int, attempt: int | None, as_json: bool) -> None:
    """Say why BUILD failed: the line that says what is wrong, what is around it, and what is new.

    Without BUILD it is the newest that failed. What is new is what the project's last success never printed. All of it
    is at most 8 KiB; each line has its number in the log, as `twistedipc logs` has it.
    """
    answer = client.get(path("builds", build_id, "failure"), {"attempt": attempt})
    if as_json:
        print_json(answer)
    else:
        click.echo(failure_text(answer.decode(BuildFailure)))


def failure_text(failure: BuildFailure) -> str:
    """Return a failure as text for people and their tools, without colours or controls."""
    return "\n".join(escapes.plain(line) for line in _lines(failure))


def _lines(failure: BuildFailure) -> Iterator[str]:
    state = failure.state.replace("_", " ")
    yield f"build {failure.build}-{failure.attempt} of {failure.project} {state}: {failure.reason}"
    if failure.step is not None:
        yield _step(failure.step)
    if failure.explanation is not None:
        yield f"that is known: {failure.explanation.cause}. {failure.explanation.cure}."
    if failure.error is None:
        yield "no line of its log says why"
    else:
        yield ""
        yield from _numbered(failure.around, marked=failure.error.record)
    if failure.annotations:
        yield ""
        yield from map(_annotation, failure.annotations)
    if failure.new is not None:
        yield ""
        yield from _new(failure.new)
    yield ""
    log = failure.log
    digest = f", sha256 {log.sha256}" if log.sha256 else ""
    whole = "complete" if log.complete else "not known to be complete"
    yield f"log: {counted(log.records, 'record')}{digest}, {whole}"
    if failure.omitted:
        yield f"left out: {'; '.join(failure.omitted)}"


def _new(new: NewInFailure) -> Iterator[str]:
    looked = "" if new.complete else ", as far as both were read"
    if new.lines:
        yield f"new against {new.against}, the last success{looked}:"
        yield from _numbered(new.lines)
    else:
        yield f"nothing is new against {new.against}, the last success{looked}"


def _step(step: FailedStep) -> str:
    code = "" if step.exit_code is None else f", exit code {step.exit_code}"
    records = "" if step.first is None else f", from record {step.first}"
    to = "" if step.last is None else f" to {step.last}"
    command = f" ({step.command})" if step.command else ""
    return f"step {step.name}{command} {step.outcome.replace('_', ' ')}{code}{records}{to}"


def _numbered(lines: Sequence[LogLine], marked: int | None = None) -> Iterator[str]:
    width = max((len(str(line.record)) for line in lines), default=0)
    for line in lines:
        yield f"{'>' if line.record == marked else ' '}{line.record:>{width}}  {line.text}".rstrip()


def _annotation(remark: OutlineAnnotation) -> str:
    place = f" {remark.file}:{remark.line}" if remark.line else f" {remark.file}" if remark.file else ""
    return f"{remark.level} at record {remark.record}{place}: {remark.message}"
