"""
Draws docs/states.md from the tables of `twistedipc.builds.states` and `twistedipc.ipc.wire.states`.

    python -m tests.draw_states
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from twistedipc.builds.states import RELEASE_STATES, STATES, AttemptState, LeaseStatus, ReleaseState
from twistedipc.ipc.wire.states import STEPS, Act, Input, State

_State = TypeVar("_State", bound=StrEnum)

PATH = Path(__file__).parent.parent / "docs" / "states.md"

_TEXT = """\
# States

Drawn from the tables in `twistedipc/builds/states.py` and `twistedipc/ipc/wire/states.py` by
`python -m tests.draw_states`; a test holds this page to them. A change of an attempt's or a
release's state that isn't drawn here can't be committed: the ledger compares and sets.

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
shown. If the apiserver's own record doesn't bear out that an attempt has ended so (its log isn't
whole, say), it becomes what is under *unproven*.

{attempt}

## A release

{release_table}

At most one release of a project is `live`. One that was live can be made live again.

{release}

## A session of a link

Both sides of a link have a session each. The table has every input in every state: what the
session does, and the state that it goes to if that is another one. An empty field can't come
about. A frame that comes before the session is ready is read as a line of the handshake, and
breaks its rules.

{session_table}

{session}
"""


class _Info(Protocol):
    @property
    def then(self) -> Iterable[StrEnum]: ...


def page() -> str:
    """The page as it should be."""
    return _TEXT.format(
        attempt_table=_table(
            ("state", "what it is", "lease", "cancel", "tone", "unproven"),
            [
                (
                    f"`{state}`",
                    info.description,
                    "" if info.lease is LeaseStatus.NONE else info.lease.value,
                    info.cancel.value,
                    info.tone.value,
                    "" if info.unproven is None else f"`{info.unproven}`",
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
        session_table=_table(
            ("input", *(f"`{state}`" for state in State)),
            [(f"`{each}`", *(_step(state, each) for state in State)) for each in Input],
        ),
        session=_session(),
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


def _step(state: State, given: Input) -> str:
    following, act = STEPS[state][given]
    if act is Act.FORBID:
        return ""
    return str(act) if following is state else f"{act} → `{following}`"


def _session() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.CONNECTING}"]
    for state in State:
        for after in State:
            by = [str(given) for given in Input if STEPS[state][given][0] is after and after is not state]
            lines += [f"    {state} --> {after}: {', '.join(by)}"] if by else []
    return "\n".join([*lines, f"    {State.CLOSING} --> [*]", "```"])


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
