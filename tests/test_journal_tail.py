"""The last lines of a step, from the end of its journal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.attempts.journal import JOURNAL, Journal, segments
from twistedipc.attempts.journal_tail import MAX_BYTES, last_lines
from twistedipc.builds.logs import Lines, Notice, Record, StepEnded


def write(folder: Path, batches: list[tuple[list[Record], list[int]]], *, segment_bytes: int = 1 << 20) -> None:
    folder.mkdir(exist_ok=True)
    journal = Journal(folder, lambda: None, disk=os, segment_bytes=segment_bytes)
    for records, more in batches:
        journal.append(Lines(first=journal.count + 1, time=1, step=0, lines=records, more=more))
    journal.close()


@given(
    st.lists(st.lists(st.text("ab\x1bé", max_size=9), min_size=1, max_size=4), max_size=12),
    st.integers(1, 40),
    st.integers(40, 400),
)
def test_all_lines_from_a_record_on(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], first: int, segment_bytes: int
) -> None:
    """Over all boundaries of batches and segments."""
    folder = tmp_path_factory.mktemp("tail")
    write(folder, [(list(batch), []) for batch in batches], segment_bytes=segment_bytes)
    assert last_lines(folder, first) == [line for batch in batches for line in batch][first - 1 :]


def test_events_are_left_out_and_fragments_joined(tmp_path: Path) -> None:
    ended = StepEnded(0, "failed", 1, 2)
    write(tmp_path / "a", [(["one", "tw"], [1]), (["o", Notice("info", "x"), "three"], []), ([ended], [])])
    assert last_lines(tmp_path / "a", 1) == ["one", "two", "three"]
    assert last_lines(tmp_path / "a", 3) == ["o", "three"]
    assert last_lines(tmp_path / "a", 7) == []


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a", [([f"{number} " + "x" * 10_000] * 5, []) for number in range(100)])
    found = last_lines(tmp_path / "a", 1)
    assert found[-1].startswith("99 ")
    assert MAX_BYTES - 60_000 < sum(map(len, found)) < MAX_BYTES


def test_damage_costs_what_it_hit(tmp_path: Path) -> None:
    write(tmp_path / "a", [([f"line {number}"], []) for number in range(5)])
    path = segments(tmp_path / "a" / JOURNAL)[0][1]
    data = bytearray(path.read_bytes())
    data[data.index(b"line 2")] ^= 1
    path.write_bytes(data + b"torn")
    assert last_lines(tmp_path / "a", 1) == ["line 0", "line 1", "line 3", "line 4"]
    assert last_lines(tmp_path / "none", 1) == []
