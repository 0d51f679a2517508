"""
A disk that destroys a part of a journal, on real services: the lines that it hit are called missing, all others come,
to viewers that were there before and to those that come later, and the build ends as it did.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import BARE, DEADLINE, Platform, wait_for
from tests.integration.test_platform import messages
from tests.integration.test_viewers import socket

#: It prints 120 lines, and waits for a file before the 41st and another before the 101st.
SCRIPT = """i=1
while [ $i -le 120 ]; do
  if [ $i -eq 41 ]; then while [ ! -e $FILES-41 ]; do sleep 0.02; done; fi
  if [ $i -eq 101 ]; then while [ ! -e $FILES-101 ]; do sleep 0.02; done; fi
  echo line $i
  i=$((i+1))
  sleep 0.01
done"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(tmp_path, isolation=BARE) as platform:
        settings = f"[build]\nsteps = [{{name = 'count', run = {json.dumps(SCRIPT)}}}]\n"
        platform.add_project("count", platform.repository({".twistedipc.toml": settings}), publish={})
        yield platform


def attempt_folder(platform: Platform) -> Path:
    """The one attempt's folder at the builder."""
    (folder,) = (platform.folder / "builder-data" / "attempts").glob("1-1-*")
    return folder


def journal(platform: Platform) -> bytes:
    """All of its journal."""
    return b"".join(path.read_bytes() for path in sorted((attempt_folder(platform) / "journal").iterdir()))


def destroy(platform: Platform, text: bytes) -> None:
    """One bit of it."""
    for path in (attempt_folder(platform) / "journal").iterdir():
        with path.open("r+b") as file:
            at = file.read().find(text)
            if at >= 0:
                file.seek(at)
                file.write(bytes((text[0] ^ 1,)))
                return
    raise AssertionError(f"{text!r} is not in the journal")


def follower(platform: Platform, build: int, output: Path) -> subprocess.Popen[bytes]:
    """A person that runs ``twistedipc logs --follow``."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "twistedipc.cli", "logs", str(build), "--follow"],
            env={
                "HOME": str(platform.folder),
                "LANG": "C.UTF-8",
                "TWISTEDIPC_URL": platform.url,
                "TWISTEDIPC_TOKEN": platform.token,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def numbers_of(message: dict[str, Any]) -> range:
    """The records that a message stands for."""
    if message["type"] == "gap":
        return range(message["from"], message["to"] + 1)
    return range(message["first"], message["first"] + len(message["lines"]))


def check(found: list[dict[str, Any]], after: int = 0) -> dict[str, Any]:
    """All numbers once, in order; the one gap has the destroyed line, all else is there; the gap."""
    *batches, end = found
    numbers = [number for batch in batches for number in numbers_of(batch)]
    assert numbers == list(range(after + 1, end["lines"] + 1))
    assert (end["type"], end["state"], end["complete"]) == ("end", "failed", False)
    (gap,) = [batch for batch in batches if batch["type"] == "gap"]
    assert gap["reason"] == "the journal is damaged: the checksum doesn't match"
    lines = {line for batch in batches if batch["type"] == "lines" for line in batch["lines"] if isinstance(line, str)}
    expected = {f"line {number}" for number in range(1, 121)}
    if after == 0:
        missing = expected - lines
        assert {"line 59", "line 60", "line 61"} <= missing
        assert len(missing) == gap["to"] - gap["from"] + 1
    return gap


@pytest.mark.parametrize("ended", [pytest.param(True, marks=pytest.mark.long), False], ids=["ended", "running"])
def test_a_destroyed_line_is_a_gap_and_nothing_else_is_lost(platform: Platform, ended: bool) -> None:
    """Destroyed while the apiserver is down, before the line was sent."""
    files = platform.shared / "go-on"
    build = platform.build("count", parameters={"FILES": str(files)})
    output = platform.folder / "viewer.txt"
    viewer = follower(platform, build, output)
    try:
        wait_for("the viewer sees lines", lambda: "line 3\n" in output.read_text())
        platform.apiserver.kill()
        files.with_name("go-on-41").touch()
        if ended:
            files.with_name("go-on-101").touch()
            wait_for("the result", (attempt_folder(platform) / "result.json").exists)
        else:
            wait_for("lines behind it", lambda: b'"line 63"' in journal(platform))
        for number in (59, 60, 61):
            destroy(platform, b"line %d" % number)
        platform.apiserver.start()
        wait_for("the apiserver answers", platform.health)
        if not ended:
            wait_for("the gap", lambda: "are missing" in output.read_text())
            files.with_name("go-on-101").touch()
        found = platform.wait(build)
        assert found["state"] == "failed"
        assert "every step succeeded, but its log isn't whole, so it counts as failed: lines of it" in found["reason"]
        assert [(each["state"], each["complete"]) for each in found["attempts"]] == [("failed", False)]
        gap = check(messages(platform, build))
        code = viewer.wait(DEADLINE)
    finally:
        viewer.kill()
        viewer.wait()
    # The viewer that watched all the time, over the restart.
    count = gap["to"] - gap["from"] + 1
    said = output.read_text()
    shown = said.splitlines()
    assert f"… {count} lines are missing here: {gap['reason']}" in shown
    assert [line for line in shown if line.startswith("line ")] == [
        f"line {number}" for number in range(1, 121) if f"line {number}" in shown
    ]
    assert {"line 40", "line 80", "line 120"} <= set(shown)
    lines = messages(platform, build)[-1]["lines"]
    assert f"incomplete: {count} of {lines} lines are missing" in said
    assert code == 1  # the build has failed, which its log says too
    # Viewers that come later, from within the gap, or by the WebSocket.
    rest = {**gap, "from": gap["from"] + 1}
    assert check(messages(platform, build, after=gap["from"]), gap["from"]) == rest
    for after in (0, gap["from"]):
        with socket(platform, f"/api/v1/builds/{build}/log/stream?after={after}") as stream:
            received: list[dict[str, Any]] = [json.loads(message) for message in stream]
        assert stream.close_code == 1000
        assert check(received[1:], after) == (rest if after else gap)
    # It stays so: what the apiserver has stored is what it was told.
    platform.apiserver.stop()
    platform.apiserver.start()
    wait_for("the apiserver answers", platform.health)
    assert check(messages(platform, build)) == gap
    page = json.loads(platform.text(f"/api/v1/builds/{build}/log?after={gap['from'] - 1}&limit=1"))
    assert page["batches"] == [gap]
    assert f"==> records {gap['from']} to {gap['to']} are missing: {gap['reason']}" in platform.log(build)
