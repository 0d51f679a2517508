"""The options of an experiment, and its results. Used by all of this package."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from twistedipc.chaos.oracle import Wrong
from twistedipc.chaos.plan import FaultKind


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of an experiment."""

    folder: Path
    seed: int
    rounds: int | None  # faults; None: as many as fit into `seconds`
    seconds: float | None
    builds: int = 2  # at a time
    viewers: int = 3  # of each build
    lines: int = 1500  # of each build
    pause: float = 0.02  # of the oracle, after each ten lines
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    database: str = ""  # see `database.database`


@dataclass
class Memory:
    """Resident bytes of one service."""

    begin: int = 0  # when the platform was ready, before the first fault
    most: int = 0  # as seen after each recovery
    end: int = 0  # after the last


@dataclass
class Outcome:
    """The results of an experiment."""

    seed: int
    faults: Counter[FaultKind] = field(default_factory=Counter)
    overlapping: int = 0  # faults that joined another
    left_out: list[FaultKind] = field(default_factory=list)  # kinds that this machine can't have
    seconds: float = 0.0  # from the first fault to the last recovery
    builds: int = 0
    attempts: int = 0
    cancelled: int = 0  # builds
    checked: int = 0  # oracle's lines, over all viewers
    stored: int = 0  # oracle's lines, as the store has them in the end
    connections: int = 0  # of all viewers
    damages: int = 0  # to journals
    destroyed: int = 0  # records, by these, as the store has them in the end
    answers: int = 0  # to what was asked in the middle of a fault
    refused: int = 0  # of these, with a 429 or 503
    thrown: int = 0  # connections of strangers
    wrong: Wrong = field(default_factory=Wrong)  # at the viewers
    stored_wrong: Wrong = field(default_factory=Wrong)  # in the store
    builds_lost: int = 0  # asked for with a 201, and not ended as they must
    builds_doubled: int = 0  # more than were asked for
    extra_starts: int = 0
    disagreements: int = 0  # ends on which viewers, the API and the store don't agree
    unended: int = 0  # attempts that are not in a terminal state in the end
    folders_left: int = 0  # of attempts, at the builder
    processes_left: int = 0  # of builds that have ended
    wrong_answers: int = 0  # neither done nor refused as it must be
    died: int = 0  # services that ended by themselves
    tracebacks: int = 0  # in the services' logs
    first_traceback: str = ""
    not_recovered: int = 0
    recovery: dict[str, list[float]] = field(default_factory=dict)  # seconds, by kind, of faults that came alone
    memory: dict[str, Memory] = field(default_factory=dict)  # by service

    @property
    def counts(self) -> dict[str, int]:
        """Everything that must be 0."""
        return {
            "lines lost": self.wrong.lost,
            "lines duplicated": self.wrong.duplicated,
            "lines reordered": self.wrong.reordered,
            "lines changed": self.wrong.changed,
            "logs not verified": self.wrong.unverified,
            "damages not said": self.wrong.unsaid,
            "faults in stored logs": self.stored_wrong.total,
            "builds lost": self.builds_lost,
            "builds doubled": self.builds_doubled,
            "extra starts": self.extra_starts,
            "ends that disagree": self.disagreements,
            "attempts not ended": self.unended,
            "folders left": self.folders_left,
            "processes left": self.processes_left,
            "wrong answers": self.wrong_answers,
            "services that died": self.died,
            "tracebacks in logs": self.tracebacks,
            "not recovered": self.not_recovered,
        }

    @property
    def good(self) -> bool:
        """Whether every count is 0."""
        return not any(self.counts.values())
