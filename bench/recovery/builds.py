"""Builds that run until they are told to stop, and print the time at a steady rate."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from tests.integration.platform import Platform

# What is due is printed at once, stamped; nothing more is due after the time that it has. If its output isn't read it
# waits, as builds do, and is late.
_PRINTER = """
import os, sys, time
rate, seconds = float(os.environ["BENCH_RATE"]), float(os.environ["BENCH_SECONDS"])
stop, padding = os.environ["BENCH_STOP"], "x" * int(os.environ["BENCH_PADDING"])
begin, printed = time.monotonic(), 0
while True:
    elapsed = time.monotonic() - begin
    due = int(min(elapsed, seconds) * rate)
    if due > printed:
        now = time.time_ns()
        sys.stdout.write("".join(f"at {now} {number} {padding}\\n" for number in range(printed, due)))
        sys.stdout.flush()
        printed = due
    if elapsed >= seconds or os.path.exists(stop):
        break
    time.sleep(max(0.005, (printed + 1) / rate - elapsed))
"""

#: Seconds after which a build ends by itself, whatever becomes of the bench.
LONGEST = 1800.0


class SteadyBuilds:
    """Builds of one platform, running."""

    def __init__(self, platform: Platform) -> None:
        self.numbers: list[int] = []
        self._platform = platform
        self._stop = platform.shared / f"stop-{uuid.uuid4().hex}"
        self._project = f"steady-{uuid.uuid4().hex[:8]}"
        repository = platform.repository(
            {
                "printer.py": _PRINTER,
                ".twistedipc.toml": f'[build]\nsteps = ["{sys.executable} -I printer.py"]\n',
            }
        )
        platform.add_project(self._project, repository, publish={})

    def start(self, rate: float, *, seconds: float = LONGEST, line: int = 50) -> int:
        """One more, of some ``rate`` lines of ``line`` bytes a second; its number, when it runs."""
        parameters = {
            "BENCH_RATE": str(rate),
            "BENCH_SECONDS": str(seconds),
            "BENCH_STOP": str(self._stop),
            "BENCH_PADDING": str(max(0, line - 30)),
        }
        number = self._platform.build(self._project, parameters=parameters, publish=False)
        self.numbers.append(number)
        self._platform.wait(number, {"running"})
        return number

    @property
    def attempts(self) -> list[Path]:
        """Their folders at the builder."""
        folder = self._platform.folder / "builder-data" / "attempts"
        return [found for number in self.numbers for found in folder.glob(f"{number}-1-*")]

    def finish(self) -> None:
        """End them all; each must succeed, complete."""
        self._stop.touch()
        for number in self.numbers:
            self._platform.succeed(number)
