"""Tries the cases, one after the other, and keeps how it went. Used by ``command`` and by tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from twistedipc.conform import (
    building,
    calling,
    framing,
    greeting,
    introducing,
    items,
    plain,
    services,
    serving,
    streaming,
)
from twistedipc.conform.cases import CASES, Case, Subject
from twistedipc.conform.meeting import Meeting, NoAnswer
from twistedipc.conform.wire import Failed, NotTried

#: Imported for their cases, which they add.
MODULES = (framing, greeting, introducing, services, calling, items, streaming, plain, building, serving)

Verdict = Literal["passed", "failed", "not tried"]


@dataclass(frozen=True)
class Outcome:
    """How one case went."""

    case: Case
    verdict: Verdict
    why: str = ""


def all_cases() -> list[Case]:
    """Return all cases, by their numbers."""
    return sorted(CASES, key=lambda case: [int(part) for part in case.number.split(".")])


def chosen(subject: Subject, only: Sequence[str] = ()) -> list[Case]:
    """Return the cases of a subject, or those of them with these numbers (``2`` is all that begin with ``2.``)."""
    mine = [case for case in all_cases() if subject in case.subjects]
    return [case for case in mine if not only or any(case.number == one or _in(case.number, one) for one in only)]


def _in(number: str, chapter: str) -> bool:
    return number.startswith(f"{chapter}.")


def try_all(
    meeting: Meeting, cases: Iterable[Case], *, slow: bool = True, told: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Try cases. ``told`` is called after each. Raises `NoAnswer` if nothing can be tried at all."""
    outcomes: list[Outcome] = []
    for case in cases:
        outcome = _tried(meeting, case, slow=slow)
        meeting.close_all()
        outcomes.append(outcome)
        told(outcome)
    return outcomes


def _tried(meeting: Meeting, case: Case, *, slow: bool) -> Outcome:
    listens = not meeting.about.listens  # what is tried
    if case.end != "any" and (case.end == "listens") != listens:
        return Outcome(case, "not tried", f"it is about an end that {case.end}")
    if case.seconds and not slow:
        return Outcome(case, "not tried", f"it takes up to {case.seconds:.0f} s: add --slow")
    try:
        case.run(meeting)
    except NotTried as error:
        return Outcome(case, "not tried", str(error))
    except Failed as error:
        return Outcome(case, "failed", str(error))
    except NoAnswer as error:
        if not meeting.met:
            raise
        return Outcome(case, "failed", f"{error}, and could be before")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return Outcome(
            case, "failed", f"something that it has sent isn't as it must be: {type(error).__name__} {error}"
        )
    return Outcome(case, "passed")
