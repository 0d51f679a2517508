"""Logs in S3, by a real apiserver: they go there, are read and searched there, and an S3 that is gone harms nothing."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import BARE, DEADLINE, Platform, wait_for
from tests.s3_server import Between, new_place
from twistedipc.s3.bucket import Bucket, Place

SETTINGS = "[build]\nsteps = [{name = 'count', run = 'seq 1 5000'}]\n"


@pytest.fixture
def place() -> Place:
    return new_place("team-a/")


@pytest.fixture
def between(place: Place) -> Iterator[Between]:
    between = Between(place)
    yield between
    between.close()


@pytest.mark.long
def test_logs_are_in_s3_and_an_s3_that_is_gone_harms_nothing(tmp_path: Path, place: Place, between: Between) -> None:
    platform = Platform(tmp_path, isolation=BARE)
    (tmp_path / "s3.secret").write_text(place.secret_key)
    with (tmp_path / "apiserver.toml").open("a") as file:
        file.write(
            f'\n[logs]\narchive = "s3"\nshare = 1.0\n[stores.s3]\nbucket = "{place.bucket}"\nprefix = "team-a"\n'
            f'endpoint = "{between.place.endpoint}"\naccess_key = "tests"\nsecret_key_file = "s3.secret"\n'
        )
    with platform:
        platform.add_project("count", platform.repository({".twistedipc.toml": SETTINGS}), publish={})
        build = platform.build("count")
        platform.succeed(build)
        before = platform.log(build)
        assert "5000" in before.split()
        wait_for("it is sealed", lambda: "bytes of logs, which take" in platform.apiserver.text(), 3 * DEADLINE)
        assert list(Bucket(place).objects("logs/000000/"))
        assert platform.log(build) == before
        between.fault = lambda method, path: 500
        platform.apiserver.stop()
        platform.apiserver.start()
        platform.linked()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            platform.log(build)
        other = platform.build("count")
        platform.succeed(other)
        assert "5000" in platform.log(other).split(), "it goes on without"
        between.fault = lambda method, path: None
        wait_for("S3", lambda: read(platform, build) == before)


def read(platform: Platform, build: int) -> str | None:
    try:
        return platform.log(build)
    except urllib.error.HTTPError:
        return None
