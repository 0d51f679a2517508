"""The chaos command's own parts: the plan is its seed's, and the oracle sees each thing that can be wrong."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.logs import Lines, LogDigest, StepStarted, encoder
from twistedipc.cli.chaos.oracle import LogCheck
from twistedipc.cli.chaos.plan import FaultKind, faults


def test_the_same_seed_injects_the_same_faults() -> None:
    """To the millisecond; another seed others."""
    kinds = list(FaultKind)
    first, again, other = (list(itertools.islice(faults(seed, kinds), 100)) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert {fault.kind for fault in first[: len(kinds)]} == set(kinds)


SEED, BUILD, LINES = 3, 42, 30


def records() -> list[Any]:
    """The records of an oracle's log."""
    printed = [
        f"o {number} {hashlib.sha256(f'{SEED}:{BUILD}:{number}'.encode()).hexdigest()[:16]}"
        for number in range(1, LINES + 1)
    ]
    return [StepStarted(0, "oracle", "python"), "Fetching …", *printed]


def stream(found: list[Any], cuts: list[int], sha256: str | None = None) -> list[dict[str, Any]]:
    """The messages of a log with these records, cut into batches at these numbers."""
    digest = LogDigest()
    messages = []
    edges = sorted({0, len(found), *(cut for cut in cuts if cut < len(found))})
    for begin, end in itertools.pairwise(edges):
        batch = Lines(begin + 1, 0, 0, found[begin:end])
        digest.add(batch)
        messages.append(json.loads(encoder.encode(batch)))
    end_message = {
        "type": "end",
        "lines": len(found),
        "sha256": sha256 or digest.hexdigest(),
        "state": "succeeded",
        "complete": True,
    }
    return [*messages, end_message]


def check(messages: list[dict[str, Any]]) -> LogCheck:
    """What a viewer who gets these messages counts."""
    found = LogCheck(SEED, BUILD, LINES)
    for message in messages:
        found.take(message)
    return found


@given(st.lists(st.integers(1, LINES + 1)))
def test_a_right_log_is_right_however_it_is_cut(cuts: list[int]) -> None:
    """Nothing wrong, all checked."""
    found = check(stream(records(), cuts))
    assert found.wrong == type(found.wrong)()
    assert found.checked == LINES


@given(st.integers(1, LINES), st.integers(0, 1000))
def test_each_fault_is_seen(number: int, seed: int) -> None:
    """A line that is missing, doubled, swapped, changed; and an end that doesn't agree."""
    chance = random.Random(seed)
    right = records()
    at = number + 1
    missing = stream(right, [at, at + 1])
    del missing[1]
    assert check(missing).wrong.lost >= 1
    doubled = stream(right, [at, at + 1])
    doubled.insert(1, doubled[0])
    assert check(doubled).wrong.duplicated >= 1
    unprinted = [record for index, record in enumerate(right) if index != at]
    wrong = check(stream(unprinted, [])).wrong
    assert wrong.reordered + wrong.lost >= 1
    if number < LINES:
        swapped = right.copy()
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
        assert check(stream(swapped, [])).wrong.reordered >= 1
    changed = right.copy()
    changed[at] = changed[at][:-1] + chance.choice("xyz")
    assert check(stream(changed, [])).wrong.changed == 1
    assert check(stream(right, [], sha256="0" * 64)).wrong.unverified == 1


def test_a_gap_counts_as_lost() -> None:
    """It is said, and it is a loss."""
    found = LogCheck(SEED, BUILD, LINES)
    found.take({"type": "gap", "from": 1, "to": 7, "reason": "damaged"})
    assert found.wrong.lost == 7


@given(st.integers(1, LINES), st.integers(1, LINES))
def test_what_comes_after_a_gap_is_checked_on(first: int, last: int) -> None:
    """The gap is the loss, and its log isn't verified; nothing else is wrong with it."""
    first, last = sorted((first, last))
    messages = stream(records(), [first, last + 1])
    begin = messages[1]["first"]
    gap = {"type": "gap", "from": begin, "to": begin + len(messages[1]["lines"]) - 1, "reason": "damaged"}
    wrong = check([messages[0], gap, *messages[2:]]).wrong
    assert wrong == type(wrong)(lost=last + 1 - first, unverified=1)
