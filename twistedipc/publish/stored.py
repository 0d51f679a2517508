"""
What the apiserver's process is told that publishes stored packages, and what it says. The process is
``runner.from_store``; the apiserver starts it.

It is told one `Job` on its standard input, on a line. On its standard output it says, one JSON object a line: `Lines`
of the log, numbered from 1; `StepBegins` and `StepEnds`, which the apiserver writes into the ledger, and answers each
by `Written` on the process's standard input, before the process does anything more; at its end, `Delivered`.

The step that publishes, which the process runs behind walls, speaks the same with it over its standard input: it is
told a `Start`, says `StepBegins` and `StepEnds`, each answered by `Written`, and at its end `Needs` if it waits for a
person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal

import msgspec

from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.logs import Lines
from twistedipc.builds.states import PublicationState
from twistedipc.publish.compared import Compared
from twistedipc.publish.record import Facts, Outcome, Progress, RecordLost, Standing, Step

#: The most bytes of one line about a row, and of the start, which has all rows that there are.
MAX_LINE = 64 << 10
MAX_START = 16 << 20

#: The most characters of a reason or of a detail in a row.
MAX_TEXT = 4000


class Start(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a publication is, and what a person has said."""

    standings: list[Standing] = []
    steps: list[Progress] = []
    set_tag: str = ""
    otp: str = ""  # a person's one-time password; "": nobody has given one
    what: Literal["publish", "reject"] = "publish"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be published."""

    attempt: str
    build: int
    project: str
    target: str
    settings: dict[str, Any]  # the target's, as `publish.targets.registry` writes them
    packages: list[Package]  # in their order; of each, `file` is the name that it is to have
    tarballs: list[str]  # their files in the store, in the same order; none, if what is staged is taken back
    secrets: dict[str, str]  # all that the target needs, by name
    folder: str  # which the process makes, and removes
    compare: bool = False  # publish nothing: say what would change
    hidden: list[str] = []  # what the step that publishes can't see
    environment: dict[str, str] = {}  # variables for that step, PATH among them
    start: Start = Start()


class StepBegins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="begins", tag_field="type"):
    """Write down that a step begins."""

    position: int
    step: Step
    detail: str = ""


class StepEnds(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="ends", tag_field="type"):
    """Write down how the step has ended that began last for a package: see `record.Record.end`."""

    position: int
    step: Step
    outcome: Outcome
    reached: PublicationState | None = None
    reason: str = ""
    facts: Facts = Facts()


class Written(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It is written down, and durable; or why it isn't. Nothing secret is in its ``repr``."""

    why_not: str = ""
    renewed: dict[str, str] = {}  # those of the job's secrets that would end soon, by name: what takes their place

    def __repr__(self) -> str:
        return f"Written(why_not={self.why_not!r})"


class Needs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="needs", tag_field="type"):
    """A person is needed: see `record.PersonNeeded`."""

    reason: str
    password: bool = False


class Delivered(msgspec.Struct, frozen=True, kw_only=True, tag="delivered", tag_field="type"):
    """The end: what is published, and why the rest isn't."""

    published: list[Published] = []
    compared: list[Compared] = []  # what would change, if that was asked
    reason: str = ""  # "": all is published, or compared
    needs: Needs | None = None  # a person, so it isn't the end
    interrupted: bool = False  # the step was ended, or broke: it hasn't said itself how it ended


#: What the step says of rows.
Row = StepBegins | StepEnds

#: A line of what the process says.
Said = Lines | StepBegins | StepEnds | Delivered

#: A line of what the step says.
StepSaid = StepBegins | StepEnds | Needs

written: msgspec.json.Decoder[Written] = msgspec.json.Decoder(Written)


class ToldRecord:
    """
    The record of a step that runs in a process of its own: it tells each row to the process that started it, and
    waits for the answer.

    :param channel: what is read and written, a line at a time
    :param renew: takes secrets in whose place others have come, by name
    """

    def __init__(
        self, start: Start, channel: BinaryIO, renew: Callable[[dict[str, str]], object] = lambda renewed: None
    ) -> None:
        self._start = start
        self._channel = channel
        self._renew = renew

    def standings(self) -> Sequence[Standing]:
        """See `Record`."""
        return self._start.standings

    def steps(self) -> Sequence[Progress]:
        """See `Record`."""
        return self._start.steps

    def begin(self, position: int, step: Step, detail: str = "") -> None:
        """See `Record`."""
        self._say(StepBegins(position=position, step=step, detail=detail[:MAX_TEXT]))

    def end(
        self,
        position: int,
        step: Step,
        outcome: Outcome,
        *,
        reached: PublicationState | None = None,
        reason: str = "",
        facts: Facts | None = None,
    ) -> None:
        """See `Record`."""
        self._say(
            StepEnds(
                position=position,
                step=step,
                outcome=outcome,
                reached=reached,
                reason=reason[:MAX_TEXT],
                facts=facts or Facts(),
            )
        )

    def needs(self, reason: str, password: bool) -> None:
        """Say that a person is needed."""
        self._write(Needs(reason=reason[:MAX_TEXT], password=password))

    def _say(self, row: Row) -> None:
        self._write(row)
        try:
            answer = written.decode(self._channel.readline(MAX_LINE))
        except (OSError, msgspec.DecodeError) as error:
            raise RecordLost("nothing can be written down any more: the apiserver doesn't answer") from error
        self._renew(answer.renewed)
        if answer.why_not:
            raise RecordLost(f"a step can't be written down: {answer.why_not}")

    def _write(self, said: StepSaid) -> None:
        try:
            self._channel.write(msgspec.json.encode(said) + b"\n")
            self._channel.flush()
        except OSError as error:
            raise RecordLost("nothing can be written down any more: the apiserver doesn't listen") from error


def lines_of(buffer: bytearray, limit: int) -> list[bytes]:
    """Take the whole lines from a buffer. Raises ValueError if one is longer than ``limit`` bytes."""
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    if len(rest) > limit or any(len(line) > limit for line in lines):
        raise ValueError(f"a line has more than {limit} bytes")
    return lines
