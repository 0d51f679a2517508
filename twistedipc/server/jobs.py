"""
What the process is told that publishes, and what it says, as rows of the ledger and back. No I/O but the ledger's own;
used by ``delivering``, ``rejecting`` and ``comparing``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.logs import Lines
from twistedipc.builds.names import shown
from twistedipc.builds.word import MAX_NOTICE, MAX_REASON
from twistedipc.publish.permits import Granted
from twistedipc.publish.record import Facts, Standing
from twistedipc.publish.stored import Delivered, Job, Row, Start, StepBegins
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.storage import publications
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.permits import Answer
from twistedipc.storage.rows import PublicationRow

#: Writes a row down; fires with those secrets of the job in whose place others have come, by name; None: none has.
Writes = Callable[[Row], Deferred[dict[str, str] | None]]


class PublishProgram(Protocol):
    """The process that publishes, or compares with what is published. Implemented by ``taps``."""

    def run(self, job: Job, heard: Callable[[Lines], None], writes: Writes) -> Deferred[Delivered]:
        """
        Start the process; ``heard`` is called with what it says for the log, and ``writes`` with each row that it wants
        to be written down: it goes on when that has fired. Fires when the process has ended, whatever happens.
        """

    def end(self, attempt: str) -> None:
        """Tell the attempt's process to end, if there is one."""

    def kill_all(self) -> None:
        """Kill all processes: the next start goes on."""


def start_of(connection: Connection, attempt: str, target: str, otp: str) -> tuple[list[PublicationRow], Start]:
    """Return an attempt's publications to a target, and from where they go on."""
    rows = [each for each in publications.of_attempt(connection, attempt) if each.target == target]
    standings = [
        Standing(
            position=each.position,
            state=each.state,
            facts=Facts(
                registry=each.registry,
                mode="staged" if each.mode == "staged" else "direct" if each.mode else "",
                stage=each.stage,
                set_tag=each.set_tag,
                tag_before=each.tag_before,
                status=_status(each) if each.status else "",
                notice=each.notice,
            ),
        )
        for each in rows
    ]
    steps = publications.steps_of(connection, attempt, target)
    set_tag = f"build-{attempt.partition('-')[0]}"
    return rows, Start(standings=standings, steps=steps, set_tag=set_tag, otp=otp)


def _status(row: PublicationRow) -> Literal["published", "already-published"]:
    return "already-published" if row.status == "already-published" else "published"


def published_of(row: PublicationRow) -> Published:
    """What a row says that is published."""
    return Published(
        name=row.name,
        version=row.version,
        integrity=row.integrity,
        status=_status(row),
        registry=row.registry,
        target=row.target,
        notice=row.notice,
    )


def _shown(row: Row) -> Row:
    """Return a row with its texts as people can be shown them: the process may have them from a registry."""
    if isinstance(row, StepBegins):
        return msgspec.structs.replace(row, detail=shown(row.detail, MAX_NOTICE))
    facts = row.facts
    facts = msgspec.structs.replace(
        facts,
        registry=shown(facts.registry, MAX_NOTICE),
        stage=shown(facts.stage, MAX_NOTICE),
        set_tag=shown(facts.set_tag, MAX_NOTICE),
        tag_before=shown(facts.tag_before, MAX_NOTICE),
        notice=shown(facts.notice, MAX_NOTICE),
    )
    return msgspec.structs.replace(row, reason=shown(row.reason, MAX_REASON), facts=facts)


async def write_row(lifecycle: Lifecycle, attempt: str, target: str, row: Row, by: str) -> None:
    """Write down what the process says of a step. Raises if that can't be."""
    begins = isinstance(row, StepBegins)
    crash_point(CrashPoint.APISERVER_STEP_BEGINS if begins else CrashPoint.APISERVER_STEP_ENDS)
    await lifecycle.note_step(attempt, target, _shown(row), by)
    crash_point(CrashPoint.APISERVER_STEP_BEGUN if begins else CrashPoint.APISERVER_STEP_ENDED)


def job_of(
    project: str,
    packages: Sequence[PublicationRow],
    granted: Answer,
    secrets: dict[str, str],
    artifact_store: ArtifactStore,
    *,
    compare: bool = False,
    start: Start | None = None,
) -> Job:
    """Return what the process is told about packages of one attempt, for one target, with ``secrets`` by name."""
    assert isinstance(granted.decision, Granted)
    rejects = start is not None and start.what == "reject"  # its files may be gone
    assert granted.settings is not None
    return Job(
        attempt=packages[0].attempt,
        build=int(packages[0].attempt.partition("-")[0]),
        project=project,
        target=packages[0].target,
        settings=TARGETS.write((granted.settings,))[0],
        packages=[_package(each) for each in packages],
        tarballs=[] if rejects else [str(artifact_store.path(each.sha256)) for each in packages],
        secrets=secrets,
        folder="",
        compare=compare,
        start=start or Start(),
    )


def _package(row: PublicationRow) -> Package:
    return Package(
        file=f"package/{row.position}.tgz",
        name=row.name,
        version=row.version,
        integrity=row.integrity,
        tag=row.tag,
        settled=row.settled,
    )
