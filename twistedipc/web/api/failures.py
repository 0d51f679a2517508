"""Why a build failed. ``web.api``; ``routes`` has this function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from twistedipc.builds.counts import counted
from twistedipc.builds.names import shown
from twistedipc.builds.states import STATES, AttemptState
from twistedipc.finding.blocks import Line
from twistedipc.sealed.outline import Remark
from twistedipc.server.boundaries import Diagnosis, TooManySearches
from twistedipc.storage import attempts
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import AttemptRow
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.queries import ShowFailure
from twistedipc.web.api.schemas import (
    BuildFailure,
    FailedStep,
    FailureExplanation,
    LogLine,
    LogProof,
    NewInFailure,
    OutlineAnnotation,
)
from twistedipc.web.api.searches import RETRY_AFTER
from twistedipc.web.http.problems import not_found, unavailable

#: The largest answer, in bytes of JSON.
MAX_FAILURE: Final = 8192


class _Room(NamedTuple):
    """How much of everything is shown: characters of a line, lines each side of the cause, and how many others."""

    width: int
    beside: int
    annotations: int
    new: int


#: The first whose answer is small enough is taken. The last always is: a character takes four bytes at most.
_ROOMS: Final = (
    _Room(500, 10, 20, 20),
    _Room(300, 10, 10, 10),
    _Room(200, 10, 5, 5),
    _Room(120, 10, 3, 3),
    _Room(120, 5, 1, 1),
    _Room(100, 1, 0, 0),
)


async def show(call: Call[ShowFailure, None]) -> Reply[BuildFailure]:
    """
    Say why a build failed: the step, the line of its log that says what is wrong with 20 lines around it, what that
    means if it is known, its annotations, and what the project's last success never printed. At most 8 KiB, with the
    number of each line and the digest of the log.
    """
    build, wanted = call.build, call.query.attempt
    number = build.attempt if wanted is UNSET else wanted
    name = f"{build.id}-{number}"
    row = await call.context.ledger.read(attempts.get, name)
    if row is None:
        raise not_found(f"build {build.id} has no attempt {number}")
    if not STATES[row.state].ended or row.state is AttemptState.SUCCEEDED:
        raise NotPossible(f"build {build.id} has not failed: its attempt {number} is {row.state.value}")
    who = f"token {call.actor.token}" if call.actor.person is None else f"person {call.actor.person}"
    try:
        found = await call.context.diagnoses.diagnose(name, who)
    except TooManySearches as error:
        raise unavailable(str(error), retry_after=RETRY_AFTER) from error
    if found is None:
        raise not_found(f"build {build.id} has no attempt {number}")
    return Reply(body=bounded(found))


def bounded(found: Diagnosis) -> BuildFailure:
    """Return a diagnosis as the answer, with as much as fits into `MAX_FAILURE`."""
    for room in _ROOMS:
        answer = _answer(found, room)
        if len(msgspec.json.encode(answer)) <= MAX_FAILURE:
            break
    return answer


def _answer(found: Diagnosis, room: _Room) -> BuildFailure:
    row, cause = found.row, found.cause
    near = [line for line in found.around if cause is not None and abs(line.record - cause.record) <= room.beside]
    return BuildFailure(
        build=row.build,
        attempt=row.number,
        project=row.project,
        state=row.state,
        reason=shown(row.reason, 2 * room.width),
        commit=row.commit,
        step=_step(found, room),
        error=None if cause is None else _line(cause, room),
        explanation=None
        if found.explanation is None
        else FailureExplanation(cause=found.explanation.cause, cure=found.explanation.cure),
        around=_lines(near, room),
        annotations=[_annotation(remark, room) for remark in found.remarks[: room.annotations]],
        new=None
        if found.new is None
        else NewInFailure(
            against=found.new.attempt,
            lines=_lines(found.new.lines[: room.new], room),
            count=found.new.count,
            complete=found.new.complete,
        ),
        log=LogProof(records=found.records, sha256=row.sha256, complete=row.complete),
        omitted=list(_omitted(found, row, near, room)),
    )


def _step(found: Diagnosis, room: _Room) -> FailedStep | None:
    step = found.step
    if step is None:
        return None
    outcome: Any = step.outcome  # one of the schema's, by the ledger's own rule
    return FailedStep(
        index=step.index,
        name=shown(step.name, room.width),
        command=shown(step.command, room.width),
        outcome=outcome,
        exit_code=step.exit_code,
        first=found.first,
        last=found.last,
    )


def _lines(lines: Sequence[Line], room: _Room) -> list[LogLine]:
    return [_line(line, room) for line in lines]


def _line(line: Line, room: _Room) -> LogLine:
    return LogLine(record=line.record, text=shown(line.text.expandtabs(8), room.width))


def _annotation(remark: Remark, room: _Room) -> OutlineAnnotation:
    return OutlineAnnotation(
        record=remark.record,
        step=remark.step,
        level=remark.level,
        message=shown(remark.message, room.width),
        file=shown(remark.file, room.width),
        line=remark.line,
        column=remark.column,
    )


def _omitted(found: Diagnosis, row: AttemptRow, near: Sequence[Line], room: _Room) -> list[str]:
    """Say what isn't in the answer."""
    said: list[str] = []
    if row.removal:
        said.append(row.removal)
    if found.first is not None and found.read_from > found.first + 1:
        said.append(f"of the step's records before {found.read_from} only what is surely an error was looked for")
    if len(near) < len(found.around):
        said.append(f"{counted(len(found.around) - len(near), 'line')} around the error")
    if len(found.remarks) > room.annotations:
        said.append(counted(len(found.remarks) - room.annotations, "annotation"))
    if found.new is not None and (more := found.new.count - min(room.new, len(found.new.lines))):
        said.append(f"{counted(more, 'kind')} of lines that are new")
    return said
