"""
Draws docs/states.md from the tables of `twistedipc.builds.states`, which are the truth.

    python -m tests.draw_states
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from twistedipc.builds.states import (
    ATTEMPT_TRANSITIONS,
    LEASED,
    RELEASE_TRANSITIONS,
    TERMINAL,
    AttemptState,
    ReleaseState,
)

_State = TypeVar("_State", bound=StrEnum)

PATH = Path(__file__).parent.parent / "docs" / "states.md"

_TEXT = """\
# States

Drawn from the tables in `twistedipc/builds/states.py` by `python -m tests.draw_states`; a test holds this page to them.
A change of state that isn't drawn here can't be committed: the ledger compares and sets.

## An attempt of a build

{attempt}

{terminal} are terminal: they never change, and trying a build again makes a new attempt. In {leased}
a builder holds the attempt's lease.

## A release

{release}

At most one release of a project is `live`. One that was live can be made live again.
"""


def page() -> str:
    """The page as it should be."""
    return _TEXT.format(
        attempt=_diagram(ATTEMPT_TRANSITIONS, AttemptState.QUEUED),
        release=_diagram(RELEASE_TRANSITIONS, ReleaseState.PACKED),
        terminal=_names([state for state in AttemptState if state in TERMINAL]),
        leased=_names([state for state in AttemptState if state in LEASED]),
    )


def _diagram(transitions: Mapping[_State, frozenset[_State]], first: _State) -> str:
    order = list(type(first))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state in order:
        following = transitions[state]
        lines += [f"    {state} --> {after}" for after in order if after in following]
        if not following:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def _names(states: list[AttemptState]) -> str:
    *most, last = [f"`{state}`" for state in states]
    return f"{', '.join(most)} and {last}"


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
