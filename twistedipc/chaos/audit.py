"""
What is looked at when all is over, independent of what viewers saw live: every build in the ledger, every attempt's
log in the store, what is left at the builder. Blocking, for a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from twistedipc.builds.states import TERMINAL
from twistedipc.chaos.oracle import LogCheck
from twistedipc.chaos.outcome import Outcome
from twistedipc.chaos.platform import Platform
from twistedipc.chaos.workload import Seen, Workload
from twistedipc.cli.client import path
from twistedipc.cli.output import note
from twistedipc.web.api.schemas import Attempt, Build, BuildDetail, Builds

#: Seconds for the builder to have tidied up.
TIDY_DEADLINE = 20.0


def audit(platform: Platform, workload: Workload, outcome: Outcome) -> None:
    """Audit everything that the experiment has left, and count what is wrong."""
    found = {build.id for build in _builds(platform)}
    missing, unknown = workload.lines.keys() - found, found - workload.lines.keys()
    outcome.builds_lost += len(missing)
    outcome.builds_doubled += len(unknown)
    if missing or unknown:
        note(f"builds that the ledger doesn't have: {sorted(missing)}; that were not asked for: {sorted(unknown)}")
    for build in sorted(found):
        detail = platform.client.get(path("builds", build)).decode(BuildDetail)
        for attempt in detail.attempts:
            if attempt.state not in TERMINAL:
                outcome.unended += 1
                note(f"build {build}, attempt {attempt.number} is {attempt.state}")
                continue
            _check_stored(platform, workload, outcome, build, attempt)
    if folders := _left(platform.attempt_folders):
        outcome.folders_left += len(folders)
        note(f"the builder still has {folders}")
    if processes := _left(platform.processes):
        outcome.processes_left += len(processes)
        note(f"these processes are left: {processes}")


def _builds(platform: Platform) -> Iterator[Build]:
    before: int | None = None
    while True:
        page = platform.client.get(path("builds"), {"limit": 100, "before": before}).decode(Builds)
        yield from page.builds
        if page.next is None:
            return
        before = page.next


def _check_stored(platform: Platform, workload: Workload, outcome: Outcome, build: int, attempt: Attempt) -> None:
    """Check one attempt's log, from the store, and the gist that the API has of it."""
    number, state = attempt.number, attempt.state
    lines = workload.lines.get(build)
    if lines is None:
        return
    check = LogCheck(workload.seed, build, lines, workload.damages.get((build, number), []))
    after = 0
    while check.end is None:
        query: dict[str, str | int | None] = {"format": "json", "attempt": number, "after": after}
        page: dict[str, Any] = msgspec.json.decode(platform.client.get(path("builds", build, "log"), query).body)
        for message in page["batches"]:
            check.take(message)
        if page["end"] is not None:
            check.take(page["end"])
        elif page["after"] == after:
            break
        after = page["after"]
    outcome.stored += check.checked
    outcome.destroyed += check.destroyed
    outcome.stored_wrong.add(check.wrong)
    end = check.end
    stored = None if end is None else Seen(end["lines"], end["sha256"], end["state"])
    seen = workload.seen.get((build, number))
    if check.wrong.total:
        note(f"the stored log of build {build}, attempt {number}: {check.wrong}")
    if stored is None or stored.state != state.value or (seen is not None and seen != stored):
        outcome.disagreements += 1
        note(f"build {build}, attempt {number} is {state}; the store's log ends with {stored}, viewers saw {seen}")
    if (attempt.annotations.notices, attempt.summary) != (check.remarks, check.summary):
        outcome.disagreements += 1
        note(f"build {build}, attempt {number} has {check.remarks} remarks in its log, and {attempt.annotations}")


def _left(look: Callable[[], list[Any]]) -> list[Any]:
    """Return what is there even after a while."""
    until = time.monotonic() + TIDY_DEADLINE
    while (left := look()) and time.monotonic() < until:
        time.sleep(0.1)
    return left
