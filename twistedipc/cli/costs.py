"""
What a line, a build and a viewer cost, as it was measured: numbers alone, each with where it is from. Used by ``plan``.

Those of processor time and memory are of docs/performance.md, "What a machine needs": `python -m bench.cost
--repetitions 5`, 2026-11-24, on 2 cores of an Intel Xeon that did nothing else, with SQLite. Those of the disk are of
docs/operating.md, "How it grows", and of docs/performance.md, "Years of history" (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: When the processor time was measured.
MEASURED: Final = "2026-11-24"

#: Microseconds of a core for each, by process.
SECOND, COMMIT, MESSAGE, LINE = "second", "commit", "link message", "line"
FRAME, SENT, BUILD_SECOND = "frame to a viewer", "KiB to viewers", "build and second"
PRICES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "apiserver": {SECOND: 552, COMMIT: 1020, MESSAGE: 89.6, LINE: 0.691, FRAME: 4.49, SENT: 0.357},
        "builder": {SECOND: 1200, MESSAGE: 303, LINE: 0.388},
        "runners": {BUILD_SECOND: 650, MESSAGE: 202, LINE: 1.11},
    }
)

#: Milliseconds of a core for a build that does nothing, from its begin to its end, by process.
BUILD: Final[Mapping[str, float]] = MappingProxyType({"apiserver": 72.4, "builder": 14.8, "runners": 182})

#: Batches of lines of one build in a second, and commits of an apiserver, at most.
MOST_MESSAGES: Final = 200.0
MOST_COMMITS: Final = 78.7

#: KiB of a line with its share of its frame, for lines of 200 bytes.
LINE_KIB: Final = 0.2

#: MiB at rest: of the apiserver, of the builder, of a runner beside what all share; and KiB of a viewer.
APISERVER_MIB, BUILDER_MIB, RUNNER_MIB = 92.9, 51.2, 9.01
VIEWER_KIB: Final = 5.21

#: Bytes of a build without its log in the database; of a line of a log that is sealed; of one that isn't yet.
BUILD_BYTES: Final = 3000
SEALED_LINE_BYTES: Final = 6
LINE_BYTES: Final = 250
