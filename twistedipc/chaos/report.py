"""The results of an experiment, for people and as JSON."""

from __future__ import annotations

import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from twistedipc.chaos.experiment import SEVERAL
from twistedipc.chaos.outcome import Outcome


def as_json(outcome: Outcome) -> str:
    """One JSON object."""
    return json.dumps(
        {
            "seed": outcome.seed,
            "good": outcome.good,
            "seconds": round(outcome.seconds, 1),
            "faults": {kind.value: count for kind, count in sorted(outcome.faults.items())},
            "overlapping": outcome.overlapping,
            "left_out": [kind.value for kind in outcome.left_out],
            **_figures(outcome),
            "counts": outcome.counts,
            "first_traceback": outcome.first_traceback,
            "recovery_seconds": {kind: _times(times) for kind, times in sorted(outcome.recovery.items())},
            "recovery_seconds_of_all": _times(_all(outcome)),
            "memory_bytes": {
                name: {"begin": memory.begin, "most": memory.most, "end": memory.end}
                for name, memory in sorted(outcome.memory.items())
            },
        }
    )


def show(outcome: Outcome, console: Console) -> None:
    """Some tables and a verdict."""
    faults = outcome.faults.total()
    title = f"{faults} faults in {outcome.seconds / 60:.1f} minutes, {outcome.overlapping} of them while others lasted"
    table = Table("fault", "times", "came alone", "recovered: median", "p99", "longest", title=title)
    for kind, count in sorted(outcome.faults.items()):
        table.add_row(kind.value, str(count), *_cells(outcome.recovery.get(kind.value, [])))
    table.add_section()
    table.add_row(SEVERAL, "", *_cells(outcome.recovery.get(SEVERAL, [])))
    table.add_row("all", "", *_cells(_all(outcome)))
    console.print(table)
    counts = Table("", "", show_header=False)
    for name, number in _figures(outcome).items():
        counts.add_row(name.replace("_", " "), f"{number:,}")
    counts.add_section()
    for name, number in outcome.counts.items():
        counts.add_row(name, f"{number:,}", style="red" if number else None)
    console.print(counts)
    memory = Table("memory", "begin", "most", "end")
    for name, used in sorted(outcome.memory.items()):
        memory.add_row(name, *(f"{size / (1 << 20):.0f} MiB" for size in (used.begin, used.most, used.end)))
    console.print(memory)
    for kind in outcome.left_out:
        console.print(f"left out: {kind.value} (it needs root, or another kind of database)")
    if outcome.first_traceback:
        console.print(f"the first traceback, in {outcome.first_traceback}", markup=False, highlight=False)
    console.print("nothing was lost, doubled or reordered" if outcome.good else "SOMETHING WENT WRONG")


def _figures(outcome: Outcome) -> dict[str, int]:
    """Return the counts that aren't judged, but say how much the others are worth."""
    return {
        "builds": outcome.builds,
        "builds_cancelled": outcome.cancelled,
        "attempts": outcome.attempts,
        "lines_checked": outcome.checked,
        "lines_checked_in_the_store": outcome.stored,
        "journals_damaged": outcome.damages,
        "records_destroyed_by_that": outcome.destroyed,
        "connections": outcome.connections,
        "connections_of_strangers": outcome.thrown,
        "answers_judged": outcome.answers,
        "answers_that_refused": outcome.refused,
    }


def _all(outcome: Outcome) -> list[float]:
    return [seconds for times in outcome.recovery.values() for seconds in times]


def _cells(times: list[float]) -> list[str]:
    if not times:
        return ["0", "", "", ""]
    shown = _times(times)
    return [str(shown["times"]), *(f"{shown[name]:.2f} s" for name in ("median", "p99", "longest"))]


def _times(times: list[float]) -> dict[str, Any]:
    if not times:
        return {"times": 0}
    ordered = sorted(times)
    return {
        "times": len(ordered),
        "median": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "longest": round(ordered[-1], 3),
    }
