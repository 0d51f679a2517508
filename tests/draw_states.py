"""
Draws docs/states.md from the tables of `twistedipc.builds.states`, which are the truth.

    python -m tests.draw_states
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from twistedipc.builds.states import RELEASE_STATES, STATES, AttemptState, LeaseStatus, ReleaseState

_State = TypeVar("_State", bound=StrEnum)

PATH = Path(__file__).parent.parent / "docs" / "states.md"

_TEXT = """\
# States

Drawn from the tables in `twistedipc/builds/states.py` by `python -m tests.draw_states`; a
test holds this page to them. A change of state that isn't drawn here can't be committed: the
ledger compares and sets.

## An attempt of a build

{attempt_table}

A request to cancel does what its column says:

- *at once*: nothing runs, so the attempt is cancelled with the request.
- *by the builder*: the request is noted durably, and the builder is told. The attempt is cancelled
  when its processes are gone. If the builder can't be reached, it learns of the request when it
  links again.
- *too late*: the state is terminal and never changes. Trying the build again makes a new attempt.

A builder with an *offered* lease is being asked; the offer can be taken back. Only the builder
with a *held* lease can tell how the attempt ends. The tone is the API's word for how a state is
shown.

{attempt}

## A release

{release_table}

At most one release of a project is `live`. One that was live can be made live again.

{release}
"""


class _Info(Protocol):
    @property
    def then(self) -> Iterable[StrEnum]: ...


def page() -> str:
    """The page as it should be."""
    return _TEXT.format(
        attempt_table=_table(
            ("state", "what it is", "lease", "cancel", "tone"),
            [
                (
                    f"`{state}`",
                    info.description,
                    "" if info.lease is LeaseStatus.NONE else info.lease.value,
                    info.cancel.value,
                    info.tone.value,
                )
                for state, info in STATES.items()
            ],
        ),
        attempt=_diagram(STATES, AttemptState.QUEUED),
        release_table=_table(
            ("state", "what it is", "tone"),
            [(f"`{state}`", info.description, info.tone.value) for state, info in RELEASE_STATES.items()],
        ),
        release=_diagram(RELEASE_STATES, ReleaseState.PACKED),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _diagram(table: Mapping[_State, _Info], first: _State) -> str:
    order = list(table)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state in order:
        following = set(table[state].then)
        lines += [f"    {state} --> {after}" for after in order if after in following]
        if not following:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
