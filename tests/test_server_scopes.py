"""Registries of scopes, on an apiserver in memory: which secrets are needed, given and void, what is locked."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, update

from tests.storage_fixtures import NOW, add_project, database
from tests.test_server_delivering import DATA, PACKAGES, REGISTRY, World
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Published
from twistedipc.builds.states import AttemptState
from twistedipc.publish.asking import Answered, Question, Seen
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.server.watching import INTERVAL
from twistedipc.storage import projects, publications
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.tables import publications as table

ACME = "https://npm.acme.example"
STORED = NpmSettings(registry=REGISTRY, scopes=[f"@acme={ACME}/"], packages=["@acme/*"], publish_at="apiserver")
BUILDER = replace(STORED, publish_at="builder")
TOKEN = "npm_TokenOfTheScope"


def with_token(world: World) -> World:
    sealed = world.apiserver.secret_box.seal(TOKEN)
    world.ledger.now(projects.set_secret, "hello", "npm_token@acme", sealed, 8)
    return world


def test_only_the_tokens_that_the_packages_need_are_given(tmp_path: Path) -> None:
    world = with_token(World(tmp_path, npm=STORED))
    world.ledger.now(projects.delete_secret, "hello", "npm_token")
    world.all_stored()
    (job,) = world.apiserver.programs.jobs
    assert job.secrets == {"npm_token@acme": TOKEN}
    # They are locked where they go.
    wanted = {ACME: ["@acme/p0"]}
    assert world.ledger.now(publications.take_locks_at, wanted, "9-1", 5) == world.attempt
    assert world.ledger.now(publications.take_locks, "https://r.example", ["@acme/p0"], "9-1", 5) == ""


def test_a_builder_is_given_the_token_of_the_scope_alone(tmp_path: Path) -> None:
    world = with_token(World(tmp_path, npm=BUILDER))
    permit = world.permit()
    assert (permit.granted, permit.token, permit.secrets) == (True, "", {"npm_token@acme": TOKEN})


def test_a_token_that_is_missing_is_named(tmp_path: Path) -> None:
    permit = World(tmp_path, npm=STORED).permit()
    assert not permit.granted
    assert permit.reason == (
        "project hello has no npm_token@acme: `twistedipc project secret set hello npm_token@acme` sets it"
    )


@pytest.mark.parametrize(("registry", "believed"), [(f"{ACME}/", True), (REGISTRY, False)])
def test_a_builder_that_says_another_registry_is_not_believed(tmp_path: Path, registry: str, believed: bool) -> None:
    world = with_token(World(tmp_path, npm=BUILDER))
    assert world.permit().granted
    published = [
        Published(name=each.name, version=each.version, integrity=each.integrity, status="published",
                  registry=registry, target="npm")
        for each in PACKAGES
    ]  # fmt: skip
    world.built(packed=[], published=published)
    assert world.row.state is (AttemptState.SUCCEEDED if believed else AttemptState.FAILED)
    assert [each.registry for each in world.row.published] == ([registry] * 2 if believed else [])


def test_a_project_that_changed_the_registry_of_a_scope_is_built_again(tmp_path: Path) -> None:
    world = with_token(World(tmp_path, npm=STORED))
    world.permit()
    for position, data in enumerate(DATA):
        world.upload(position, data)
    world.ledger.now(projects.update, "hello", {"targets": (replace(STORED, scopes=[]),)}, 99)
    world.built()
    assert world.apiserver.programs.jobs == []
    assert "the registry of the packages of @acme of project hello has changed since this build began" in (
        world.row.reason
    )


def test_builders_that_know_no_scopes_are_offered_none(tmp_path: Path) -> None:
    """They would publish to the wrong registry, or refuse what is right."""
    old = [each for each in m.FEATURES if each != "scopes"]
    with pytest.raises(ValueError, match="not enough values"):
        World(tmp_path, npm=STORED, features=old)


def test_a_registry_that_is_busy_keeps_no_other_from_being_watched(tmp_path: Path) -> None:
    world = with_token(World(tmp_path, npm=STORED))
    world.all_stored()
    world.apiserver.programs.ends(world.attempt)
    assert world.row.state is AttemptState.SUCCEEDED
    asked: list[str] = []

    def answers(question: Question) -> Answered:
        asked.extend(each.name for each in question.looks)
        return Answered(seen=[Seen(name=each.name, registry=REGISTRY, unknown="busy") for each in question.looks])

    world.apiserver.ask_programs.answers = answers
    world.ledger.now(_in_two_registries)
    world.clock.advance(INTERVAL)
    assert sorted(asked) == ["@acme/p0", "@acme/p1"]
    assert len(world.apiserver.ask_programs.asked) == 2


def _in_two_registries(connection: Connection) -> None:
    for position, registry in enumerate((REGISTRY, f"{ACME}/")):
        connection.execute(update(table).where(table.c.position == position).values(registry=registry))


# -- in the ledger -----------------------------------------------------------------------------------------------------


def test_a_token_of_a_scope_is_void_when_its_registry_is_another(tmp_path: Path) -> None:
    both = replace(STORED, scopes=["@acme=https://a.example/", "@word=https://w.example/"])
    with database(tmp_path) as ledger:
        add_project(ledger)
        projects.update(ledger, "shop", {"targets": (both,)}, NOW)
        for name in ("npm_token", "npm_token@acme", "npm_token@word"):
            projects.set_secret(ledger, "shop", name, name.encode(), NOW)
        assert projects.sealed_secret(ledger, "shop", "npm_token@acme") == b"npm_token@acme"
        changed = replace(both, scopes=["@acme=https://evil.example/", "@word=https://w.example/"])
        row = projects.update(ledger, "shop", {"targets": (changed,)}, NOW)
        assert row is not None
        assert row.secrets == ["npm_token", "npm_token@word"]
        row = projects.update(ledger, "shop", {"targets": (replace(both, scopes=[]),)}, NOW)
        assert row is not None
        assert row.secrets == ["npm_token"]
        with pytest.raises(NotPossible, match="has nothing that needs npm_token@acme"):
            projects.set_secret(ledger, "shop", "npm_token@acme", b"x", NOW)
        projects.update(ledger, "shop", {"targets": (both,)}, NOW)
        with pytest.raises(NotPossible, match=r"publishes to https://a\.example now"):
            projects.set_secret(ledger, "shop", "npm_token@acme", b"x", NOW, "https://w.example/")
