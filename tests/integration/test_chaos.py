"""A short run of `twistedipc chaos`: every kind of fault once, on real services, and every count is 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.platform import DEADLINE
from twistedipc.chaos.plan import NEEDS_MOUNT, FaultKind

pytestmark = pytest.mark.long


def test_every_kind_of_fault_once(tmp_path: Path) -> None:
    """The seed is fixed, so that a failure can be looked at again."""
    kinds = [kind for kind in FaultKind if kind not in NEEDS_MOUNT or os.geteuid() == 0]
    kinds = [kind for kind in kinds if kind not in (FaultKind.KILL_DATABASE, FaultKind.FREEZE_DATABASE)]
    done = subprocess.run(
        [
            *[sys.executable, "-m", "twistedipc.cli", "chaos", "--json"],
            *["--seed", "2", "--rounds", str(len(kinds)), "--lines", "600"],
            *["--data", str(tmp_path / "chaos")],
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=DEADLINE * 4,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["good"]
    assert outcome["builds"] >= 2
    assert outcome["lines_checked"] >= 600 * 6
    assert outcome["lines_checked_in_the_store"] >= 600 * 2
    assert outcome["answers_judged"] >= 50
    assert outcome["overlapping"] >= 3
    assert outcome["journals_damaged"] == 1
    assert outcome["records_destroyed_by_that"] >= 1
    assert outcome["memory_bytes"].keys() == {"apiserver", "builder"}
    assert set(outcome["faults"]) | set(outcome["left_out"]) == {kind.value for kind in FaultKind}
