"""Builds that run wild, on a builder with limits: they are ended with a reason, and another build on it goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.integration.platform import Platform
from tests.test_limits import BOMB, FILES_HOG, MEMORY_HOG, MIB

COUNTS = "for n in $(seq 40); do echo $n; sleep 0.1; done"


@pytest.mark.long
def test_hogs_beside_a_build_that_goes_on(tmp_path: Path) -> None:
    limits = {"processes": 64, "memory": 100 * MIB, "open_files": 500}
    with Platform(tmp_path, limits=limits) as platform:
        steps = {"bomb": BOMB, "memory": MEMORY_HOG, "files": FILES_HOG}
        for name, script in steps.items():
            plan = f"[build]\nsteps = [{json.dumps(f'{sys.executable} hog.py')}]\n"
            platform.add_project(name, platform.repository({".twistedipc.toml": plan, "hog.py": script}), targets=[])
        plan = f"[build]\nsteps = [{json.dumps(COUNTS)}]\n"
        platform.add_project("counts", platform.repository({".twistedipc.toml": plan}), targets=[])
        other = platform.build("counts", publish=False)
        builds = {name: platform.build(name, publish=False) for name in steps}
        ended = {name: platform.wait(build) for name, build in builds.items()}
        assert {name: build["state"] for name, build in ended.items()} == dict.fromkeys(steps, "failed")
        assert "processes and threads, the most that this builder allows (limits.processes)" in ended["bomb"]["reason"]
        assert "of memory, the most that this builder allows (limits.memory)" in ended["memory"]["reason"]
        assert "files open, and this builder allows 500 (limits.open_files)" in ended["files"]["reason"]
        assert platform.succeed(other)["attempts"][-1]["used"]["cpu"] > 0
        assert "of processor time" in platform.command("show", str(other)).stdout
