"""The short form of ``python -m bench.recovery``: it measures, and nothing is lost meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.platform import DEADLINE

ROOT = Path(__file__).parent.parent.parent


def test_rows_come_out_and_nothing_is_lost(tmp_path: Path) -> None:
    """Whether the bars are met is for a machine that does nothing else; here the values only have to make sense."""
    wanted = ["apiserver", "builder", "viewers", "stuck", "runner"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.recovery", "--quick", *(part for name in wanted for part in ("--row", name))],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE * 5,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["row"] for row in rows] == ["apiserver", "builder", "viewers", "stuck", "stuck", "runner"], done.stderr
    for row in rows:
        wrong = {what: row[what] for what in ("lost", "doubled", "unverified", "refused")}
        assert not any(wrong.values()), row
        assert row["records"] > 50, row
        assert row["value"] < 60, row
    assert done.stderr.count("(bar: ") == len(rows)
    assert done.returncode == (0 if all(row["ok"] for row in rows) else 1)
