"""
Every place that depends on an attempt's state decides by the table of states: on the table as it is, and on a copy of
the package whose table has states that no other module has heard of.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.every_state import CHECKS, PACKAGE, places_that_name_states, run, tones_without_a_look
from twistedipc.builds.states import AttemptState

ROOT = PACKAGE.parent

#: One state of each kind that a row can describe.
NEW = """
    SHELVED = "shelved"
    PAUSED = "paused"
    DEFERRED = "deferred"
    EXPIRED = "expired"
"""

ROWS = """
        _A.SHELVED: StateInfo(
            then=frozenset({_A.PUBLISHING, _A.CANCELLED}),
            description="waits for a person",
            tone=Tone.WAITING,
            cancel=Cancellation.AT_ONCE,
        ),
        _A.PAUSED: StateInfo(
            then=frozenset({_A.DISCONNECTED}) | _ENDS,
            description="its builder holds it back",
            tone=Tone.WARNING,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.HELD,
            talks=True,
            reached=2,
        ),
        _A.DEFERRED: StateInfo(
            then=frozenset({_A.OFFERED, _A.CANCELLED}),
            description="waits for a builder, and isn't in a hurry",
            tone=Tone.WAITING,
            cancel=Cancellation.AT_ONCE,
            offerable=True,
            waits=Waits.FOR_BUILDER,
        ),
        _A.EXPIRED: StateInfo(
            then=frozenset(),
            description="waited for too long",
            tone=Tone.BAD,
            cancel=Cancellation.TOO_LATE,
        ),
"""

NAMES = ["shelved", "paused", "deferred", "expired"]

#: module -> the state that finds it, what it decides by the table, and how it would look with a list of its own
STUBBORN = {
    "server/gists.py": ("paused", "states_where(lambda info: info.talks)", 'frozenset({"running"})'),
    "storage/attempts.py": ("deferred", "states_where(lambda info: info.offerable)", "frozenset({_S.QUEUED})"),
    "storage/builds.py": (
        "shelved",
        "match STATES[row.state].cancel:",
        "match STATES[AttemptState.RUNNING].cancel:",
    ),
    "server/lifecycle.py": (
        "paused",
        "STATES[row.state].lease is LeaseStatus.OFFERED",
        "row.state is not AttemptState.RUNNING",
    ),
    "storage/logs.py": ("expired", "sorted(LOG_OVER)", '[state for state in LOG_OVER if state == "failed"]'),
}

#: The one of these that every run of the tests has; the others are for `make test-long`.
FOUND_OFTEN = "storage/attempts.py"


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("state", list(AttemptState))
def test_each_place_decides_by_the_table(name: str, state: AttemptState) -> None:
    run(name, state)


def test_neither_page_nor_command_has_a_list_of_states() -> None:
    assert places_that_name_states() == []
    assert tones_without_a_look() == []


def _copy(folder: Path) -> Path:
    """The package with four more states."""
    package = folder / "twistedipc"
    shutil.copytree(PACKAGE, package)  # what is compiled too
    states = package / "builds/states.py"
    source = states.read_text("utf-8")
    for before, after in (
        ('    LOST = "lost"\n', NEW),
        ("    }\n)\n\n\ndef states_where", ROWS),
    ):
        assert source.count(before) == 1, f"the table looks otherwise now: {before!r}"
        added = before + after if before.startswith("    LOST") else after + before
        source = source.replace(before, added)
    states.write_text(source, "utf-8")
    return package


def _check(folder: Path, *states: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.every_state", *states],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_new_state_needs_no_other_place(tmp_path: Path) -> None:
    _copy(tmp_path)
    checked = _check(tmp_path, *NAMES)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "module", [FOUND_OFTEN, *(pytest.param(each, marks=pytest.mark.long) for each in STUBBORN if each != FOUND_OFTEN)]
)
def test_a_place_with_a_list_of_its_own_is_found(tmp_path: Path, module: str) -> None:
    stubborn = _copy(tmp_path) / module
    source = stubborn.read_text("utf-8")
    state, before, after = STUBBORN[module]
    assert before in source, "it decides otherwise now"
    stubborn.write_text(source.replace(before, after), "utf-8")
    checked = _check(tmp_path, state)
    assert checked.returncode == 1
    assert "WRONG: " in checked.stdout, checked.stdout + checked.stderr
