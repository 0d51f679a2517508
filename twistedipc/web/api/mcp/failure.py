"""Why a build failed, as text for people and models. ``web.api.mcp``; `twistedipc why` shows the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twistedipc.builds.counts import counted
from twistedipc.terminal import escapes
from twistedipc.web.api.schemas import BuildFailure, FailedStep, LogLine, NewInFailure, OutlineAnnotation


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
        # An annotation has a record of its own, without text, and is named below.
        remarks = {remark.record for remark in failure.annotations}
        around = [line for line in failure.around if line.text or line.record not in remarks]
        yield from _numbered(around, marked=failure.error.record)
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
