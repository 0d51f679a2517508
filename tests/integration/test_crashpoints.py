"""
Each crash point, walked through: the process dies exactly there, comes back, and the build ends as it must. One start
or none, never two; every line once; the release there.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import BARE, Platform, wait_for
from twistedipc.attempts.crashpoints import CrashPoint
from twistedipc.builds.logs import LogDigest, lines_decoder

#: Between the durable mark and what it marks: whether a runner was spawned nobody can know, so it never is again.
MAY_BE_LOST = {CrashPoint.BUILDER_START_WRITTEN}

#: Where packages are published from what was stored: ``test_from_store`` and ``test_kills`` have these.
OF_PACKAGES = {
    CrashPoint.APISERVER_DELIVERY_BEGUN,
    CrashPoint.APISERVER_STEP_BEGINS,
    CrashPoint.APISERVER_STEP_BEGUN,
    CrashPoint.APISERVER_STEP_ENDS,
    CrashPoint.APISERVER_STEP_ENDED,
    CrashPoint.APISERVER_PERSON_NEEDED,
    CrashPoint.APISERVER_DELIVERY_LOGGED,
    CrashPoint.APISERVER_DELIVERED,
    CrashPoint.APISERVER_REQUEST_BEGUN,
    CrashPoint.APISERVER_REQUEST_DONE,
}

#: Where others are told: ``test_outbox_kills`` has these.
OF_THE_OUTBOX = {CrashPoint.APISERVER_TELLING_LEASED, CrashPoint.APISERVER_TOLD}

#: Where logs are sealed: ``test_server_sealing`` has these.
OF_SEALING = {
    CrashPoint.APISERVER_CHUNK_MADE,
    CrashPoint.APISERVER_CHUNK_FILED,
    CrashPoint.APISERVER_CHUNK_REPLACED,
}


#: Where what is too old is removed: ``test_prune_kills`` has these.
OF_PRUNING = {
    CrashPoint.APISERVER_PRUNED,
    CrashPoint.APISERVER_PRUNED_RELEASES,
    CrashPoint.APISERVER_PRUNED_FILES,
}


#: Where several apiservers share a database: ``test_several`` of this folder has these.
OF_SEVERAL = {
    CrashPoint.APISERVER_BUILDER_TAKEN,
    CrashPoint.APISERVER_BUILDERS_ADOPTED,
    CrashPoint.APISERVER_DUTY_TAKEN,
}


#: What each run of the tests has: the writes that decide, on both sides. The others are for `make test-long`.
OFTEN = {
    CrashPoint.BUILDER_RUNNER_SPAWNED,
    CrashPoint.APISERVER_LOG_COMMITTED,
    CrashPoint.APISERVER_END_COMMITTED,
}


def cases() -> Iterator[object]:
    for point in CrashPoint:
        if point not in OF_PACKAGES | OF_THE_OUTBOX | OF_SEALING | OF_PRUNING | OF_SEVERAL:
            yield pytest.param(point, marks=() if point in OFTEN else pytest.mark.long)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that survives everything, as it should, so that one is enough."""
    # Its builds note their starts on the machine, where a sandbox would not let them.
    with Platform(tmp_path_factory.mktemp("crash"), isolation=BARE) as platform:
        platform.apiserver.crashes = platform.builder.crashes = True
        script = (
            'echo $TWISTEDIPC_ATTEMPT >> "$STARTS"; '
            "i=1; while [ $i -le 30 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; "
            "mkdir -p dist && echo $TWISTEDIPC_BUILD > dist/index.html"
        )
        repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = ['''{script}''']\n"})
        platform.add_project("crash", repository, environment={"STARTS": str(platform.folder / "starts")})
        yield platform


def starts(platform: Platform) -> Counter[str]:
    """How often each attempt's step was started."""
    path = platform.folder / "starts"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def lines_of(platform: Platform, build: int) -> list[str]:
    """The step's lines as a viewer gets them; the log is verified by count and digest."""
    stream = platform.text(f"/api/v1/builds/{build}/log?format=json&follow=1")
    *batches, end = [json.loads(line) for line in stream.splitlines()]
    digest = LogDigest()
    found: list[str] = []
    for batch in batches:
        digest.add(lines_decoder.decode(json.dumps(batch)))
        found += [line for line in batch["lines"] if isinstance(line, str) and line.startswith("line ")]
    assert (end["lines"], end["sha256"], end["complete"]) == (digest.count, digest.hexdigest(), True)
    return found


@pytest.mark.parametrize("point", [*cases()], ids=lambda point: point.value)
def test_a_crash_at(point: CrashPoint, platform: Platform, tmp_path: Path) -> None:
    """The process is started with the point armed; it dies there; it is started again without."""
    service = platform.apiserver if point.value.startswith("apiserver") else platform.builder
    service.stop()
    service.start(crash_at=point.value)
    wait_for("the platform is ready", lambda: (platform.health() or {}).get("builders") == 1)
    key = {"Idempotency-Key": point.value}
    wish: tuple[Any, ...] = ("POST", "/api/v1/projects/crash/builds", {}, key)
    # An apiserver that dies may take the answer with it; what it had committed, the same key finds.
    with contextlib.suppress(OSError, HTTPException):
        platform.api(*wish)
    assert wait_for(f"a crash at {point}", service.exited) == -signal.SIGKILL
    service.start()
    wait_for("the platform is ready", lambda: (platform.health() or {}).get("builders") == 1)
    build: int = platform.api(*wish)["id"]
    found: dict[str, Any] = platform.wait(build)
    attempt = found["attempts"][0]
    assert starts(platform)[f"{build}-1"] <= 1
    if point in MAY_BE_LOST and found["state"] == "lost":
        assert "runner died" in found["reason"]
        assert starts(platform)[f"{build}-1"] == 0
        return
    assert found["state"] == "succeeded", f"{found['state']}: {found['reason']}\n{platform.log(build)}"
    assert len(found["attempts"]) == 1
    assert attempt["complete"]
    assert starts(platform)[f"{build}-1"] == 1
    assert lines_of(platform, build) == [f"line {number}" for number in range(1, 31)]
    assert platform.released("crash") == f"{build}\n"
    attempts = platform.folder / "builder-data" / "attempts"
    wait_for("the attempt's folder is gone", lambda: not list(attempts.glob(f"*{build}-1-*")))
