"""The short form of ``python -m bench.recovery``: it measures, and nothing is lost meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.common import records
from bench.common.records import Broken, Sample
from bench.recovery.rows import RECORDS_AT_LEAST
from tests.integration.platform import DEADLINE

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent


def test_rows_come_out_and_nothing_is_lost(tmp_path: Path) -> None:
    """
    Whether the bars are met is for a machine that does nothing else; here the values only have to make sense. What the
    other rows measure has tests of its own.
    """
    viewers = {"recovery/apiserver": 8, "recovery/builder": 3, "recovery/viewers": 100, "recovery/pruning": 10}
    wanted = list(viewers)
    done = subprocess.run(
        [sys.executable, "-m", "bench.recovery", "--quick", *(part for name in wanted for part in ("--only", name))],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"},
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE * 5,
        check=False,
    )
    lines = [records.decoder.decode(line) for line in done.stdout.splitlines()]
    assert not [line for line in lines if isinstance(line, Broken)], done.stderr.decode()
    samples = [line for line in lines if isinstance(line, Sample)]
    assert [sample.question for sample in samples] == wanted, done.stderr.decode()
    for sample in samples:
        assert sample.more["records"] >= viewers[sample.question] * RECORDS_AT_LEAST, sample
        assert sample.value < 60, sample
    assert done.returncode == 0
