"""What a project may say of how it is built, on all the ways that this goes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage_fixtures import NOW, add_build, add_project, database
from twistedipc.builder.settings import Settings, spec_of
from twistedipc.builds import messages as m
from twistedipc.builds.names import BadValue
from twistedipc.builds.settings import BuildSettings, checked
from twistedipc.caches.tidying import Limits
from twistedipc.storage import attempts, projects


def test_nothing_said_is_good_and_small() -> None:
    assert checked(BuildSettings()) == BuildSettings()
    assert msgspec.json.encode(BuildSettings()) == b"{}"


def test_paths_are_written_in_one_way() -> None:
    said = BuildSettings(root="./apps//web/", output="dist/", caches=[".cache/"], watch=["!docs/*", "packages/**"])
    assert checked(said) == BuildSettings(
        root="apps/web", output="dist", caches=[".cache"], watch=["!docs/*", "packages/**"]
    )
    assert checked(BuildSettings(root=".", output=".")) == BuildSettings(output=".")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (BuildSettings(root="/srv"), "root: it must be a folder inside the repository"),
        (BuildSettings(root="../other"), "root: it must be a folder inside the repository"),
        (BuildSettings(root="a/../../b"), "without .."),
        (BuildSettings(root="apps\\web"), "written with /"),
        (BuildSettings(root=".git/hooks"), "root"),
        (BuildSettings(root="a\x00b"), "printable"),
        (BuildSettings(root="x" * 2000), "1024"),
        (BuildSettings(output="/etc"), "output: it must be a folder inside the repository"),
        (BuildSettings(output="../dist"), "output"),
        (BuildSettings(framework="Next.js !"), "framework"),
        (BuildSettings(manager="cargo"), "manager: it is one of npm, pnpm, yarn, bun"),
        (BuildSettings(manager="npm@file:../x"), "manager"),
        (BuildSettings(manager="pnpm@https://x.example/y.tgz"), "manager"),
        (BuildSettings(manager="pnpm@"), "manager"),
        (BuildSettings(node="22; rm -rf /"), "node: it is a version or a range"),
        (BuildSettings(node="$(id)"), "node"),
        (BuildSettings(install="a\0b"), "install: a command has"),
        (BuildSettings(build="x" * 40_000), "build: a command has"),
        (BuildSettings(watch=[""]), "watch: a pattern is empty"),
        (BuildSettings(watch=["!"]), "watch: a pattern is empty"),
        (BuildSettings(watch=["/etc/*"]), "watch"),
        (BuildSettings(watch=["a"] * 101), "watch: there can be at most 100"),
        (BuildSettings(packages=["../*"]), "packages"),
        (BuildSettings(caches=["."]), "caches: the whole project"),
        (BuildSettings(caches=["~/../x"]), "caches"),
    ],
)
def test_what_breaks_a_rule_is_said_with_its_key(settings: BuildSettings, sentence: str) -> None:
    with pytest.raises(BadValue) as raised:
        checked(settings)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("manager", ["npm", "pnpm@9", "yarn@^4.1", "bun@1.2.0-canary.1", "npm@>=10 <12"])
def test_managers_with_and_without_a_version(manager: str) -> None:
    assert checked(BuildSettings(manager=manager)).manager == manager


@pytest.mark.parametrize("node", ["22", "v20.11.1", "^20.11.0 || >=22", "lts/iron", "lts/*", "18.x"])
def test_versions_of_node(node: str) -> None:
    assert checked(BuildSettings(node=node)).node == node


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_a_path_that_is_taken_never_leads_out(root: str, output: str, cache: str) -> None:
    try:
        settings = checked(BuildSettings(root=root, output=output, caches=[cache] if cache else []))
    except BadValue:
        return
    for path in (settings.root, settings.output, *settings.caches):
        assert not path.startswith("/")
        assert ".." not in path.split("/")
    assert checked(settings) == settings


def test_from_the_ledger_to_the_runner(tmp_path: Path) -> None:
    """A project's settings are in what its builds are offered with, and in what the runner is told."""
    said = BuildSettings(root="apps/web", manager="pnpm@9", install="", spa=True, watch=["apps/web/**"])
    with database(tmp_path) as connection:
        add_project(connection)
        projects.update(connection, "shop", {"settings": said}, NOW)
        add_build(connection)
        (row,) = attempts.next_queued(connection, 1)
        found = projects.get(connection, "shop")
    assert found is not None
    assert found.settings == row.settings == said
    offer = m.Offer(
        attempt=row.name,
        lease="0" * 32,
        build=row.build,
        project=row.project,
        repository=row.repository,
        ref=row.ref,
        settings=row.settings,
        timeout=60.0,
        idle_timeout=60.0,
        expires=15.0,
    )
    sent = msgspec.json.decode(msgspec.json.encode(offer), type=m.Offer)
    builder = Settings(data=tmp_path, path="/bin", environment={}, timeout=60.0, idle_timeout=60.0, grace=1.0)
    assert spec_of(sent, builder, reserve=0).settings == said
    keeping = msgspec.structs.replace(builder, caches=Limits(project=1, total=1, days=1))
    ruled = msgspec.structs.replace(sent, caches_kept=7)
    assert [spec_of(each, keeping, reserve=0).caches_kept for each in (sent, ruled)] == [None, 7]
    offers = [msgspec.structs.replace(sent, caches=times) for times in (0, 1, 2, 2)]
    folders = [spec_of(each, keeping, reserve=0).caches for each in offers]
    assert folders[2] == folders[3]
    assert len(set(folders)) == 3, "nothing that was kept before is used"


def test_an_older_apiserver_says_none_and_a_newer_one_says_more() -> None:
    offer = {
        "type": "offer",
        "attempt": "1-1",
        "lease": "0" * 32,
        "build": 1,
        "project": "shop",
        "repository": "https://git.example/shop.git",
        "ref": "main",
        "timeout": 1,
        "idle_timeout": 1,
        "expires": 1,
    }
    assert msgspec.convert(offer, m.Offer).settings == BuildSettings()
    newer = msgspec.convert(offer | {"settings": {"root": "a", "later": 1}}, m.Offer)
    assert newer.settings == BuildSettings(root="a")
