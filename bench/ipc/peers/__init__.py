"""The programs, one file a candidate and one process a role; `bench.ipc` starts them in pairs."""

from __future__ import annotations

from collections.abc import Sequence


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in microseconds."""
    ordered = sorted(seconds)
    return {"median": ordered[len(ordered) // 2] * 1e6, "p99": ordered[len(ordered) * 99 // 100] * 1e6}
