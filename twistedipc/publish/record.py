"""
What is written down of a publication while it is under way: the seam between the step that publishes (`Target.deliver`)
and the ledger. Pure.

Each step of a publication is two rows' worth: it has begun, and it has ended so. Both are durable before anything
follows. A start after a crash reads them: a step that has begun, and of which nobody knows how it ended, isn't done
again before the registry was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from twistedipc.builds.states import PublicationState, check_publication


class Step(StrEnum):
    """What is done with one package."""

    PREFLIGHT = "preflight"  # the registry is asked whether it can be published
    UPLOAD = "upload"
    STAGE = "stage"
    APPROVE = "approve"
    REJECT = "reject"
    VERIFY = "verify"  # what the registry has is read, and compared
    TAG = "tag"  # its tag is moved to it
    UNTAG = "untag"  # the tag under which it went up is removed
    UNDO_TAG = "undo_tag"  # its tag is moved back to where it was


class Outcome(StrEnum):
    """How a step has ended."""

    DONE = "done"
    ALREADY = "already"  # it was so before
    REFUSED = "refused"  # by the registry, for good
    FAILED = "failed"  # it may go well next time


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was written down."""

    position: int  # the package's, in the attempt's permit, from 0
    step: Step
    detail: str = ""  # what it is done with: a tag, a version, a stage's id
    outcome: Outcome | None = None  # None: it is under way, or was when a crash came
    reason: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a publication, beside its state. "": not known, or as it was."""

    registry: str = ""
    mode: Literal["", "direct", "staged"] = ""
    stage: str = ""
    set_tag: str = ""
    tag_before: str = ""
    status: Literal["", "published", "already-published"] = ""
    notice: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where one publication is."""

    position: int
    state: PublicationState
    facts: Facts = Facts()


class Record(Protocol):
    """The rows of one attempt's packages for one target."""

    def standings(self) -> Sequence[Standing]:
        """Return where each publication is, in the order of the positions."""

    def steps(self) -> Sequence[Progress]:
        """Return all steps that were written down, in their order."""

    def begin(self, position: int, step: Step, detail: str = "") -> None:
        """Write down that a step begins. It is durable when this returns. Raises `RecordLost`."""

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
        """
        Write down how the step that has begun last for this package has ended, the state that the publication has
        reached by it, and what is known now. It is durable when this returns. Raises `RecordLost`.
        """


class RecordLost(Exception):
    """Nothing can be written down (any more), so nothing more may be done."""


class PersonNeeded(Exception):
    """
    A publication goes on when a person has said so: raised by `Target.deliver`. ``str()`` of it is a sentence for
    people. ``password``: that one was refused which was given, or has run out.
    """

    def __init__(self, reason: str, *, password: bool = False) -> None:
        super().__init__(reason)
        self.password = password


class MemoryRecord:
    """A record that ends with this process: where nothing is staged, the registry says what is there already."""

    def __init__(self, packages: int) -> None:
        self._standings = [Standing(position=position, state=PublicationState.STORED) for position in range(packages)]
        self._steps: list[Progress] = []

    def standings(self) -> Sequence[Standing]:
        """See `Record`."""
        return list(self._standings)

    def steps(self) -> Sequence[Progress]:
        """See `Record`."""
        return list(self._steps)

    def begin(self, position: int, step: Step, detail: str = "") -> None:
        """See `Record`."""
        self._steps.append(Progress(position=position, step=step, detail=detail))

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
        for number in range(len(self._steps) - 1, -1, -1):
            each = self._steps[number]
            if (each.position, each.step, each.outcome) == (position, step, None):
                self._steps[number] = msgspec.structs.replace(each, outcome=outcome, reason=reason)
                break
        before = self._standings[position]
        if reached is not None:
            check_publication(before.state, reached)
        known = {} if facts is None else {name: v for name in facts.__struct_fields__ if (v := getattr(facts, name))}
        self._standings[position] = Standing(
            position=position,
            state=reached or before.state,
            facts=msgspec.structs.replace(before.facts, **known),
        )
