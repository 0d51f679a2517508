"""
``python -m bench.latency [--rates 20,200,1000] [--seconds 5] [--repetitions 3]``

Both services as real processes, on the embedded default (SQLite, a UNIX socket), with durable journals and commits. A
build prints the time at a steady rate; a viewer in another process (this one, by the ``websockets`` package) reads
the log by WebSocket and compares it with its own clock. One JSON line a run: milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from websockets.sync.client import connect

from tests.integration.platform import DEADLINE, Platform

_PRINTER = """
import sys, time
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
begin = time.monotonic()
for number in range(int(rate * seconds)):
    time.sleep(max(0, begin + number / rate - time.monotonic()))
    print("at", time.time_ns(), flush=True)
"""


def measure(platform: Platform, rate: int, seconds: float) -> dict[str, float]:
    """One build at ``rate`` lines a second; its lines' delays."""
    name = f"rate-{rate}"
    if not any(project["name"] == name for project in platform.api("GET", "/api/v1/projects")["projects"]):
        repository = platform.repository(
            {
                "printer.py": _PRINTER,
                ".twistedipc.toml": f'[build]\nsteps = ["{sys.executable} printer.py {rate} {seconds}"]\n',
            }
        )
        platform.add_project(name, repository, publish={})
    asked = time.time()
    build = platform.build(name)
    delays: list[float] = []
    first_process = 0.0
    with connect(
        f"ws://127.0.0.1:{platform.port}/api/v1/builds/{build}/log/stream",
        additional_headers={"Authorization": f"Bearer {platform.token}"},
        max_size=None,
    ) as viewer:
        while True:
            message = json.loads(viewer.recv(DEADLINE))
            now = time.time_ns()
            if message["type"] == "lines":
                first_process = first_process or message["time"] / 1000 - asked
                for line in message["lines"]:
                    if isinstance(line, str) and line.startswith("at "):
                        delays.append((now - int(line[3:])) / 1e6)
            elif message["type"] == "end":
                assert message["complete"], message
                break
    assert len(delays) == int(rate * seconds), "a line is missing"
    delays.sort()
    return {
        "rate": rate,
        "lines": len(delays),
        "median_ms": round(statistics.median(delays), 2),
        "p99_ms": round(delays[int(len(delays) * 0.99)], 2),
        "max_ms": round(delays[-1], 2),
        "request_to_first_record_ms": round(first_process * 1000, 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--rates", default="20,200,1000", help="lines a second, separated by commas")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each run")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder)) as platform:
        for _ in range(options.repetitions):
            for rate in options.rates.split(","):
                print(json.dumps(measure(platform, int(rate), options.seconds)), flush=True)


if __name__ == "__main__":
    main()
