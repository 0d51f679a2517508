"""What came of an experiment, for people and as JSON."""

from __future__ import annotations

import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from twistedipc.cli.chaos.experiment import Outcome


def as_json(outcome: Outcome) -> str:
    """One JSON object."""
    return json.dumps(
        {
            "seed": outcome.seed,
            "good": outcome.good,
            "faults": {kind.value: count for kind, count in sorted(outcome.faults.items())},
            "left_out": [kind.value for kind in outcome.left_out],
            "builds": outcome.builds,
            "attempts": outcome.attempts,
            "lines_checked": outcome.checked,
            "connections": outcome.connections,
            "counts": outcome.counts,
            "recovery_seconds": {kind.value: _times(times) for kind, times in sorted(outcome.recovery.items())},
        }
    )


def show(outcome: Outcome, console: Console) -> None:
    """Two tables and a verdict."""
    table = Table("fault", "times", "recovered: median", "p99", title=f"{outcome.faults.total()} faults")
    for kind, count in sorted(outcome.faults.items()):
        times = outcome.recovery.get(kind)
        shown = _times(times) if times else None
        table.add_row(
            kind.value,
            str(count),
            f"{shown['median']:.2f} s" if shown else "",
            f"{shown['p99']:.2f} s" if shown else "",
        )
    console.print(table)
    counts = Table("", "", show_header=False)
    for name, number in {
        "builds": outcome.builds,
        "attempts": outcome.attempts,
        "lines checked": outcome.checked,
        "viewers' connections": outcome.connections,
        **outcome.counts,
    }.items():
        counts.add_row(name, f"{number:,}")
    console.print(counts)
    for kind in outcome.left_out:
        console.print(f"left out: {kind.value} (no small file system can be mounted here; root can)")
    console.print("nothing was lost, doubled or reordered" if outcome.good else "SOMETHING WENT WRONG")


def _times(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    return {
        "times": len(ordered),
        "median": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
    }
