"""
Builds that ask for the registry's token in their runner's name, on real services: they write ``permit.wanted`` into
their folder and wait for ``permit``. They get no token, whatever they were asked for, and nothing is audited as given.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import BARE, Platform

TOKEN = "npm_S3cretOfTheRegistry"
REGISTRY = "http://127.0.0.1:9/"

#: It asks, waits for an answer for three seconds, and prints that backwards: no masking would find the token in it.
ASK = """echo '{"package":{"file":"p.tgz","name":"mine","version":"1.0.0","integrity":"sha512-x","tag":""}}' > ../new
mv ../new ../permit.wanted
i=0; while [ ! -e ../permit ] && [ $i -lt 30 ]; do sleep 0.1; i=$((i+1)); done
cat ../permit 2>/dev/null | rev
echo asked"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    # Without walls, behind which a build can't ask at all: what holds here is the apiserver's own record.
    with Platform(tmp_path_factory.mktemp("permits"), isolation=BARE) as platform:
        yield platform


@pytest.mark.parametrize(
    ("name", "npm", "publish", "answer"),
    [
        ("npm-off", False, True, "publishes no npm package"),
        ("publish-false", True, False, "was not asked to publish"),
        ("too-early", True, True, ""),
    ],
)
def test_a_build_gets_no_token(platform: Platform, name: str, npm: bool, publish: bool, answer: str) -> None:
    settings = f"[build]\nsteps = [{{name = 'ask', run = {json.dumps(ASK)}}}]\n"
    # Only a project whose builder publishes has a token that an attempt could get.
    target = {"type": "npm", "registry": REGISTRY, "publish_at": "builder", "paused": not npm}
    platform.add_project(name, platform.repository({".twistedipc.toml": settings}), targets=[target])
    platform.api("PUT", f"/api/v1/projects/{name}/secrets/npm_token", {"value": TOKEN})
    found: dict[str, Any] = platform.wait(platform.build(name, publish=publish))
    log = platform.log(found["id"])
    assert "asked" in log
    assert TOKEN not in log
    assert TOKEN[::-1] not in log
    assert answer[::-1] in log
    if publish and npm:
        assert found["state"] == "failed"  # it packed nothing
    on_disk = subprocess.run(["grep", "-rlF", TOKEN, str(platform.folder)], capture_output=True, check=False)
    assert on_disk.stdout == b""
    assert given(platform) == 0


def given(platform: Platform) -> int:
    """How many permits the audit has."""
    ledger = Path(platform.folder) / "apiserver-data" / "ledger.sqlite"
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM audit WHERE action = 'permit.give'").fetchone()
    return int(count)
