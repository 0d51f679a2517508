"""
``python -m bench.path [--row NAME]… [--lines N] [--repetitions 5]``

The whole way: build → runner → journal → link → commit → viewer. Both services as real processes on the embedded
default (SQLite with ``synchronous=FULL``, a UNIX socket), journals and commits durable. The build is `cat` of a file of
lines of 200 bytes, so that the source costs next to nothing. Rows:

``one``    one build and one viewer: lines/s from the first record to the verified end; beside it, GNU `cat` of the
           same file into another, then `wc`
``many``   50 builds at once, a viewer on each: lines/s in sum, and Jain's index of what each had while all ran
``open``   a log of 1 GiB: milliseconds until 100 records from any line on, and what the apiserver's memory grows by
``start``  seconds from the apiserver's start to its first answer; from the request to the build's first process

One JSON line a run.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from websockets.sync.client import connect

from tests.integration.platform import DEADLINE, Platform, wait_for

#: Bytes of a line, its newline included.
LINE = 200


class _Message(msgspec.Struct):
    """What is looked at of a message of a log."""

    type: str
    first: int = 0
    time: int = 0
    lines: list[msgspec.Raw] | int = []
    complete: bool = False


_decoder = msgspec.json.Decoder(_Message)


def lines_file(path: Path, count: int, line: int = LINE) -> None:
    """A file of ``count`` numbered lines."""
    filling = "x" * (line - 12)
    with path.open("w") as file:
        for begin in range(0, count, 10_000):
            file.write("".join(f"{number:010d} {filling}\n" for number in range(begin, min(count, begin + 10_000))))


class Watch(threading.Thread):
    """A viewer of one log, from its beginning to its end: what it has seen, and when."""

    def __init__(self, platform: Platform, build: int) -> None:
        super().__init__(daemon=True)
        self._url = f"ws://127.0.0.1:{platform.port}/api/v1/builds/{build}/log/stream"
        self._headers = {"Authorization": f"Bearer {platform.token}"}
        self.records = 0
        self.seen: list[tuple[float, int]] = []  # when, and how many records there were then
        self.complete = False

    def run(self) -> None:
        """Read to the end."""
        with connect(self._url, additional_headers=self._headers, max_size=None, compression=None) as viewer:
            while True:
                message = _decoder.decode(viewer.recv(DEADLINE * 5))
                if message.type == "lines":
                    assert isinstance(message.lines, list)
                    assert message.first == self.records + 1, "a line is missing, or came twice"
                    self.records += len(message.lines)
                    self.seen.append((time.monotonic(), self.records))
                elif message.type == "end":
                    self.complete = message.complete
                    return


def project(platform: Platform, name: str, command: str) -> None:
    """A project that runs this command."""
    repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = [{json.dumps(command)}]\n"})
    platform.add_project(name, repository, publish={})


def one(platform: Platform, folder: Path, count: int) -> dict[str, Any]:
    """One build, one viewer."""
    source = folder / "lines.txt"
    if not source.exists():
        lines_file(source, count)
        project(platform, "one", f"cat {source}")
    began = time.monotonic()
    copy = folder / "copy.txt"
    subprocess.run(f"cat {source} > {copy}; wc -l {copy}", shell=True, check=True, stdout=subprocess.DEVNULL)
    cat = count / (time.monotonic() - began)
    copy.unlink()
    watch = Watch(platform, platform.build("one"))
    watch.start()
    watch.join()
    assert watch.complete, "the log is not complete"
    assert watch.records >= count
    begin, end = next(at for at, records in watch.seen if records > 10), watch.seen[-1][0]
    rate = count / (end - begin)
    return {"row": "one", "lines": count, "lines_per_s": round(rate), "cat_wc_lines_per_s": round(cat)}


def many(platform: Platform, folder: Path, count: int, builds: int) -> dict[str, Any]:
    """Many builds that begin at the same moment."""
    source, gate = folder / f"many-{count}.txt", folder / "gate"
    if not source.exists():
        lines_file(source, count)
        project(platform, "many", f"while [ ! -e {gate} ]; do sleep 0.1; done; cat {source}")
    gate.unlink(missing_ok=True)
    numbers = [platform.build("many") for _ in range(builds)]
    for number in numbers:
        platform.wait(number, {"running"})
    watches = [Watch(platform, number) for number in numbers]
    for watch in watches:
        watch.start()
    wait_for("all watch", lambda: all(watch.seen for watch in watches))
    wait_for("all builds wait", lambda: all(watch.records >= 2 for watch in watches))
    time.sleep(1.0)  # each shell polls the gate: none is in its checkout any more
    before = [watch.records for watch in watches]
    begin = time.monotonic()
    gate.touch()
    for watch in watches:
        watch.join()
    assert all(watch.complete for watch in watches), "a log is not complete"
    ends = [watch.seen[-1][0] for watch in watches]
    first_end = min(ends)
    shares = [
        max((records for at, records in watch.seen if at <= first_end), default=0) - start
        for watch, start in zip(watches, before, strict=True)
    ]
    jain = sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
    return {
        "row": "many",
        "builds": builds,
        "lines": count * builds,
        "lines_per_s": round(count * builds / (max(ends) - begin)),
        "jain": round(jain, 4),
        "first_end_s": round(first_end - begin, 2),
        "last_end_s": round(max(ends) - begin, 2),
    }


def memory(pid: int, field: str = "VmRSS") -> int:
    """KiB of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)


def opened(platform: Platform, folder: Path, size: int) -> dict[str, Any]:
    """A huge log, opened anywhere."""
    source = folder / "huge.txt"
    count = size // LINE
    lines_file(source, count)
    project(platform, "huge", f"cat {source}")
    build = platform.build("huge")
    watch = Watch(platform, build)
    watch.start()
    watch.join()
    assert watch.complete, "the log is not complete"
    source.unlink()
    platform.apiserver.stop()
    platform.apiserver.start()
    platform.linked()
    chance = random.Random(1)
    took: list[float] = []
    before = 0
    for number in range(60):
        if number == 10:  # the code is loaded, and the database's caches are filled
            before = memory(platform.apiserver.pid)
            took.clear()
        after = chance.randrange(count)
        request = urllib.request.Request(
            f"{platform.url}/api/v1/builds/{build}/log?format=json&after={after}&limit=100",
            headers={"Authorization": f"Bearer {platform.token}"},
        )
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            page = json.loads(response.read())
        took.append(time.monotonic() - began)
        assert page["batches"][0]["first"] == after + 1, "these are other records than were asked for"
    return {
        "row": "open",
        "log_bytes": count * LINE,
        "median_ms": round(statistics.median(took) * 1000, 1),
        "max_ms": round(max(took) * 1000, 1),
        "apiserver_grew_kib": memory(platform.apiserver.pid) - before,
        "apiserver_peak_kib": memory(platform.apiserver.pid, "VmHWM"),
    }


def start(platform: Platform, folder: Path) -> dict[str, Any]:
    """How long a start takes."""
    platform.apiserver.stop()
    began = time.monotonic()
    platform.apiserver.start()
    while platform.health() is None:
        time.sleep(0.002)
    answered = time.monotonic() - began
    platform.linked()
    marker = folder / "started"
    if not (folder / "start-project").exists():
        (folder / "start-project").touch()
        project(platform, "start", f"touch {marker}")
    marker.unlink(missing_ok=True)
    began, asked = time.monotonic(), time.time()
    build = platform.build("start")
    with connect(
        f"ws://127.0.0.1:{platform.port}/api/v1/builds/{build}/log/stream",
        additional_headers={"Authorization": f"Bearer {platform.token}"},
    ) as viewer:
        while (message := _decoder.decode(viewer.recv(DEADLINE))).type != "lines":
            pass
    platform.wait(build)
    return {
        "row": "start",
        "apiserver_answers_s": round(answered, 3),
        "request_to_first_step_ms": round(message.time - asked * 1000),
        "request_to_own_command_ms": round((marker.stat().st_mtime - asked) * 1000),
        "request_to_end_ms": round((time.monotonic() - began) * 1000),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    parser.add_argument("--row", action="append", choices=["one", "many", "open", "start"])
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the one build")
    parser.add_argument("--lines-each", type=int, default=40_000, help="of each of the many builds")
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the huge log")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--data", type=Path, help="an empty folder, kept")
    options = parser.parse_args()
    rows = options.row or ["start", "one", "many", "open"]
    folder = options.data or Path(tempfile.mkdtemp(prefix="path-"))
    folder.mkdir(exist_ok=True)
    try:
        with Platform(folder, slots=max(options.builds, 2)) as platform:
            for row in rows:
                for _ in range(1 if row == "open" else options.repetitions):
                    match row:
                        case "one":
                            found = one(platform, folder, options.lines)
                        case "many":
                            found = many(platform, folder, options.lines_each, options.builds)
                        case "open":
                            found = opened(platform, folder, options.bytes)
                        case _:
                            found = start(platform, folder)
                    print(json.dumps(found), flush=True)
    finally:
        if options.data is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
