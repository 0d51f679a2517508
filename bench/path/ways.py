"""
The measurements, a function each. Each starts both services, as real processes in a folder of its own; everything is
durable. A log that isn't complete, or a line that doesn't come in its turn, is a failure.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from websockets.sync.client import connect

from bench.common.runs import Measured
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


@functools.cache
def _sources() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="twistedipc-bench-")


@functools.cache
def lines_file(count: int) -> Path:
    """A file of ``count`` numbered lines, made once a run."""
    path = Path(_sources().name) / f"{count}.txt"
    filling = "x" * (LINE - 12)
    with path.open("w") as file:
        for begin in range(0, count, 10_000):
            file.write("".join(f"{number:010d} {filling}\n" for number in range(begin, min(count, begin + 10_000))))
    return path


@contextmanager
def platform(slots: int = 2, profiled: Callable[[Path], Sequence[str]] | None = None) -> Iterator[Platform]:
    """
    Both services, in a folder that is gone afterwards. ``profiled`` makes another command that does what twistd
    does, for a folder of each service's own in there: ``NAME-profile``.
    """
    folder = Path(tempfile.mkdtemp(prefix="twistedipc-bench-"))
    try:
        made = Platform(folder, slots=slots)
        if profiled is not None:
            for service in (made.apiserver, made.builder):
                own = folder / f"{service.name}-profile"
                own.mkdir()
                service.program = profiled(own)
        with made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def project(platform: Platform, name: str, command: str) -> None:
    """A project that runs this command."""
    repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = [{json.dumps(command)}]\n"})
    platform.add_project(name, repository, publish={})


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


def cat(count: int) -> Measured:
    """GNU `cat` of the lines into a file, then `wc`: lines/s."""
    source = lines_file(count)
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-") as folder:
        copy = Path(folder) / "copy.txt"
        began = time.monotonic()
        subprocess.run(f"cat {source} > {copy}; wc -l {copy}", shell=True, check=True, stdout=subprocess.DEVNULL)
        return Measured(count / (time.monotonic() - began))


def one(count: int) -> Measured:
    """One build that is `cat`, one viewer: lines/s from the first record to the verified end."""
    with platform() as services:
        project(services, "one", f"cat {lines_file(count)}")
        watch = Watch(services, services.build("one"))
        watch.start()
        watch.join()
    assert watch.complete, "the log is not complete"
    assert watch.records >= count
    begin, end = next(at for at, records in watch.seen if records > 10), watch.seen[-1][0]
    return Measured(count / (end - begin))


def many(count: int, builds: int) -> Measured:
    """
    Builds that begin at the same moment, a viewer on each: lines/s in sum, and Jain's index of what each had when the
    first one ended.
    """
    with platform(builds) as services:
        gate = services.shared / "gate"
        project(services, "many", f"while [ ! -e {gate} ]; do sleep 0.1; done; cat {lines_file(count)}")
        numbers = [services.build("many") for _ in range(builds)]
        for number in numbers:
            services.wait(number, {"running"})
        watches = [Watch(services, number) for number in numbers]
        for watch in watches:
            watch.start()
        wait_for("all builds wait, and are watched", lambda: all(watch.records >= 2 for watch in watches))
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
    return Measured(
        count * builds / (max(ends) - begin),
        {"Jain's index": jain, "first end, s": first_end - begin, "last end, s": max(ends) - begin},
    )


def opened(size: int) -> Measured:
    """A huge log, opened anywhere, by an apiserver that has just begun: milliseconds for 100 records, the longest."""
    return opened_file(lines_file(size // LINE), size // LINE)


def opened_file(path: Path, count: int, while_stopped: Callable[[Platform], None] = lambda services: None) -> Measured:
    """The same of a file's ``count`` lines. ``while_stopped``: what is done before the apiserver begins."""
    with platform() as services:
        readable = services.shared / path.name  # what builds in a sandbox can read
        shutil.copyfile(path, readable)
        project(services, "huge", f"cat {readable}")
        build = services.build("huge")
        watch = Watch(services, build)
        watch.start()
        watch.join()
        assert watch.complete, "the log is not complete"
        assert watch.records > count, "the build didn't print what it should"
        services.apiserver.stop()
        while_stopped(services)
        services.apiserver.start()
        services.linked()
        chance = random.Random(1)
        took: list[float] = []
        before = 0
        for number in range(60):
            if number == 10:  # the code is loaded, and the database's caches are filled
                before = memory(services.apiserver.pid)
                took.clear()
            after = chance.randrange(count)
            request = urllib.request.Request(
                f"{services.url}/api/v1/builds/{build}/log?format=json&after={after}&limit=100",
                headers={"Authorization": f"Bearer {services.token}"},
            )
            began = time.monotonic()
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                page = json.loads(response.read())
            took.append(time.monotonic() - began)
            assert page["batches"][0]["first"] == after + 1, "these are other records than were asked for"
        grown = memory(services.apiserver.pid) - before
    return Measured(
        max(took) * 1000,
        {"median, ms": sorted(took)[len(took) // 2] * 1000, "the apiserver's growth, KiB": grown},
    )


def memory(pid: int) -> int:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError(f"process {pid} has no memory")


def start() -> Measured:
    """Seconds from the apiserver's start to its first answer; milliseconds from a request to what the build does."""
    with platform() as services:
        services.apiserver.stop()
        began = time.monotonic()
        services.apiserver.start()
        while services.health() is None:
            time.sleep(0.002)
        answered = time.monotonic() - began
        services.linked()
        # It stays for as long as it takes to look.
        project(services, "start", "touch started; sleep 1")
        asked = time.time()
        build = services.build("start")
        with connect(
            f"ws://127.0.0.1:{services.port}/api/v1/builds/{build}/log/stream",
            additional_headers={"Authorization": f"Bearer {services.token}"},
        ) as viewer:
            while (message := _decoder.decode(viewer.recv(DEADLINE))).type != "lines":
                pass
        attempts = services.folder / "builder-data" / "attempts"
        marker: Path = wait_for("the build's command runs", lambda: next(attempts.glob("*/work/started"), None))
        began_at = marker.stat().st_mtime
        services.succeed(build)
        return Measured(
            answered,
            {
                "from the request to the first process, ms": message.time - asked * 1000,
                "to the build's own command, ms": (began_at - asked) * 1000,
            },
        )
