"""Two builders, each with a key of its own, as real services: joined, bound, robbed, given another key, revoked."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform, Service, wait_for
from tests.ports import free_port

LONG = {".twistedipc.toml": '[build]\nsteps = ["until [ -e DONE ]; do sleep 0.1; done"]\n'}
SHORT = {".twistedipc.toml": '[build]\nsteps = ["echo hello"]\n'}


def join(platform: Platform, line: str, config: Path) -> None:
    """Do what the line says that `builder add` has printed, on "another machine"."""
    echo, _, command = line.strip().partition(" | twistedipc ")
    words = shlex.split(command)
    done = platform.command(*words, "--config", str(config), text=echo.removeprefix("echo ") + "\n")
    assert done.returncode == 0, done.stderr
    assert (config.with_name("builder.key").stat().st_mode & 0o777) == 0o600


def command(platform: Platform, *words: str) -> str:
    done = platform.command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def builders(platform: Platform) -> dict[str, dict[str, Any]]:
    found = json.loads(command(platform, "builder", "list", "--json"))["builders"]
    assert found == platform.api("GET", "/api/v1/builders")["builders"]
    return {each["name"]: each for each in found}


def linked(platform: Platform) -> set[str]:
    found = platform.api("GET", "/api/v1/builders")["builders"]
    return {each["name"] for each in found if each["link"] is not None}


@pytest.fixture
def services() -> dict[str, Service]:
    """The builders of the test, by name."""
    return {}


@pytest.fixture
def platform(tmp_path: Path, services: dict[str, Service]) -> Iterator[Platform]:
    """An apiserver that listens for builders, which come later."""
    platform = Platform(tmp_path, apiserver_link={"listen": [f"tcp:{free_port()}:interface=127.0.0.1"]})
    platform.apiserver.start()
    try:
        platform.token = platform.make_token("admin", "admin")
        wait_for("the apiserver answers", lambda: answers(platform))
        yield platform
    finally:
        for service in (platform.apiserver, *services.values()):
            service.kill()
        for name in services:
            for attempt in (tmp_path / name / "builder" / "attempts").glob("*"):
                platform._kill_runner(attempt)


def add(platform: Platform, services: dict[str, Service], name: str, *pools: str) -> None:
    """Add a builder, join it and start it; its line is good for one joining."""
    line = command(platform, "builder", "add", name, *pools)
    (platform.folder / name).mkdir()
    config = platform.folder / name / "builder.toml"
    join(platform, line, config)
    services[name] = Service("buildipc", config)
    services[name].start()
    again = platform.command(*shlex.split(line.partition(" | twistedipc ")[2]), "--config", str(config), text="x:y")
    assert again.returncode == 2


def test_a_builder_with_a_key_of_its_own(platform: Platform, services: dict[str, Service]) -> None:
    add(platform, services, "one", "--pool", "trusted")
    platform.add_project("short", platform.repository(SHORT), publish={"static": False})
    command(platform, "project", "set", "short", "--pool", "trusted")
    assert platform.succeed(platform.build("short", publish=False))["attempts"][-1]["builder"] == "one"
    command(platform, "builder", "revoke", "one")
    wait_for("it is refused", lambda: "the key of this link was revoked" in services["one"].text())
    assert linked(platform) == set()


@pytest.mark.long
def test_builders_with_keys_of_their_own(platform: Platform, services: dict[str, Service]) -> None:
    add(platform, services, "one", "--pool", "trusted")
    add(platform, services, "two")
    wait_for("both are linked", lambda: linked(platform) == {"one", "two"})
    bound_to_builders_and_pools(platform, services)
    a_name_that_is_stolen(platform, services)
    a_key_is_replaced_while_it_builds(platform, services)
    a_builder_is_revoked_while_it_builds(platform)
    a_key_expires(platform, services)


def answers(platform: Platform) -> bool:
    try:
        return bool(platform.api("GET", "/healthz"))
    except OSError:
        return False


def bound_to_builders_and_pools(platform: Platform, services: dict[str, Service]) -> None:
    platform.add_project("short", platform.repository(SHORT), publish={"static": False})
    for options, name in ((["--pool", "trusted"], "one"), (["--builders", "two"], "two")):
        command(platform, "project", "set", "short", *options)
        for _ in range(2):
            build = platform.wait(platform.build("short", publish=False))
            assert (build["state"], build["attempts"][-1]["builder"]) == ("succeeded", name)
    services["two"].stop()
    wait_for("two is gone", lambda: linked(platform) == {"one"})
    build_id = platform.build("short", publish=False)
    waiting = platform.api("GET", f"/api/v1/builds/{build_id}")["waiting"]
    assert waiting["text"].startswith("the project is bound to builder two, and none is linked")
    services["two"].start()
    assert platform.wait(build_id)["attempts"][-1]["builder"] == "two"


def a_name_that_is_stolen(platform: Platform, services: dict[str, Service]) -> None:
    """A build has read the key of two, and takes the name of one while that is away."""
    services["one"].stop()
    wait_for("one is gone", lambda: linked(platform) == {"two"})
    folder = platform.folder / "thief"
    folder.mkdir()
    shutil.copy(platform.folder / "two" / "builder.key", folder / "builder.key")
    text = (platform.folder / "two" / "builder.toml").read_text().replace('name = "two"', 'name = "one"')
    (folder / "builder.toml").write_text(text)
    thief = Service("buildipc", folder / "builder.toml")
    thief.start()
    try:
        wait_for("it is refused", lambda: "is for two (builder), not for one" in thief.text())
        assert linked(platform) == {"two"}
    finally:
        thief.kill()
    services["one"].start()
    wait_for("one is back", lambda: linked(platform) == {"one", "two"})


def a_key_is_replaced_while_it_builds(platform: Platform, services: dict[str, Service]) -> None:
    command(platform, "project", "set", "short", "--builders", "", "--pool", "")
    platform.add_project("long", platform.repository(LONG), publish={"static": False})
    command(platform, "project", "set", "long", "--builders", "one")
    build = platform.build("long", publish=False)
    platform.wait(build, {"running"})
    line = command(platform, "builder", "rotate", "one")
    join(platform, line, platform.folder / "one" / "builder.toml")
    assert [key["revoked"] for key in builders(platform)["one"]["keys"]] == [None, None]
    services["one"].stop()
    services["one"].start()

    def only_the_new_one() -> bool:
        (one,) = (each for each in platform.api("GET", "/api/v1/builders")["builders"] if each["name"] == "one")
        return (
            one["link"] is not None and one["link"]["key"] == one["keys"][1]["id"] and bool(one["keys"][0]["revoked"])
        )

    wait_for("the new key is used, and the old one has ended", only_the_new_one)
    (work,) = (platform.folder / "one" / "builder" / "attempts").glob("*/work")
    (work / "DONE").touch()
    found = platform.succeed(build)
    assert len(found["attempts"]) == 1


def a_builder_is_revoked_while_it_builds(platform: Platform) -> None:
    command(platform, "project", "set", "long", "--builders", "two")
    build = platform.build("long", publish=False)
    platform.wait(build, {"running"})
    command(platform, "builder", "revoke", "two")
    found = platform.wait(build)
    assert (found["state"], found["reason"]) == ("lost", "builder two was revoked")
    assert linked(platform) == {"one"}
    assert "the key of this link was revoked" in (platform.folder / "two" / "builder.log").read_text()


def a_key_expires(platform: Platform, services: dict[str, Service]) -> None:
    """It is good for a minute at least: so its end is moved, as if that had passed while the apiserver was down."""
    line = command(platform, "builder", "rotate", "one", "--days", "1")
    join(platform, line, platform.folder / "one" / "builder.toml")
    id_ = line.partition(":")[0].removeprefix("echo ")
    services["one"].stop()
    services["one"].start()

    def key_in_use() -> Any:
        (one,) = (each for each in platform.api("GET", "/api/v1/builders")["builders"] if each["name"] == "one")
        return one["link"] and one["link"]["key"]

    wait_for("it uses the new key", lambda: key_in_use() == id_)
    assert "expires on " in platform.apiserver.text(), "that is soon"
    platform.apiserver.stop()
    with sqlite3.connect(platform.folder / "apiserver-data" / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE builder_keys SET expires = 1 WHERE id = ?", [id_])
    ledger.close()
    platform.apiserver.start()
    said = f"the key {id_} of builder one has expired on 1970-01-01"
    wait_for("it is refused, and both say why", lambda: said in services["one"].text())
    assert said in platform.apiserver.text()
