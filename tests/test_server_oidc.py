"""
Publishing by the apiserver's own word, on an apiserver in memory: what is signed, when, for whom, and of which attempt;
and that no token of the project's is needed or given.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from tests.test_server_delivering import ANN, COMMIT, DATA, REGISTRY, Steps, World
from twistedipc.builds import messages as m
from twistedipc.builds.states import AttemptState, PublicationState
from twistedipc.publish.record import Outcome, Step
from twistedipc.publish.stored import Delivered, StepBegins, StepEnds
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.target_secrets import RENEWED
from twistedipc.server.watching import INTERVAL
from twistedipc.storage import projects
from twistedipc.storage.id_tokens import LIFETIME, Issuer

ISSUER = "https://builds.example.org"
SETTINGS = NpmSettings(registry=REGISTRY, packages=["@acme/*"], auth="oidc")
STORED, BUILDER = replace(SETTINGS, publish_at="apiserver"), replace(SETTINGS, publish_at="builder")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An apiserver's key, which takes half a second to be made."""
    path = tmp_path_factory.mktemp("issuer") / "id-tokens.key"
    Issuer(path, ISSUER, now=time.time).keys()
    return path


@pytest.fixture
def folder(key: Path, tmp_path: Path) -> Path:
    shutil.copy2(key, tmp_path / "id-tokens.key")
    return tmp_path


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def test_a_builder_that_publishes_gets_an_id_token_with_its_permit(folder: Path) -> None:
    world = World(folder, npm=BUILDER, api_url=ISSUER)
    permit = world.permit()
    assert (permit.granted, permit.token, list(permit.secrets)) == (True, "", ["npm_id_token"])
    said = claims(permit.secrets["npm_id_token"])
    assert {name: said[name] for name in ("iss", "sub", "aud", "project", "attempt", "ref", "environment")} == {
        "iss": ISSUER,
        "sub": "project:hello:environment:production",
        "aud": "npm:r.example",
        "project": "hello",
        "attempt": world.attempt,
        "ref": "main",
        "environment": "production",
    }
    assert said["exp"] - said["iat"] == LIFETIME
    assert said["project_id"] == world.ledger.now(projects.live_id, "hello")
    assert said["repository"] == world.offer.repository


def test_the_apiserver_signs_when_it_publishes(folder: Path) -> None:
    """Not when the build begins, which may be weeks before; and again for each process that publishes."""
    world = World(folder, npm=STORED, api_url=ISSUER)
    world.all_stored()
    (job,) = world.apiserver.programs.jobs
    assert list(job.secrets) == ["npm_id_token"]
    first = claims(job.secrets["npm_id_token"])
    assert (first["commit"], first["attempt"], first["aud"]) == (COMMIT, world.attempt, "npm:r.example")
    Steps(world).staged()
    assert world.apiserver.state(world.attempt) is AttemptState.WAITING_APPROVAL
    world.apiserver.time += 3_600_000
    world.ask(world.apiserver.lifecycle.approve_build(1, ANN, "123456"))
    again = claims(world.apiserver.programs.jobs[-1].secrets["npm_id_token"])
    assert again["iat"] >= first["iat"] + 3600
    assert again["jti"] != first["jti"]
    # While a process publishes, it is told another one before that ends: with a row, as it has one for each step.
    told: list[object] = []
    row = StepBegins(position=0, step=Step.APPROVE, detail="s0")
    world.apiserver.programs.writes[-1](row).addBoth(told.append)
    world.clock.advance(RENEWED)
    world.apiserver.time += int(RENEWED * 1000)
    ends = StepEnds(position=0, step=Step.APPROVE, outcome=Outcome.DONE, reached=PublicationState.APPROVED)
    world.apiserver.programs.writes[-1](ends).addBoth(told.append)
    world.apiserver.programs.writes[-1](StepBegins(position=1, step=Step.APPROVE)).addBoth(told.append)
    nothing, renewed, too_early = told
    assert (nothing, too_early) == (None, None)
    assert isinstance(renewed, dict)
    assert claims(renewed["npm_id_token"])["exp"] >= again["exp"] + RENEWED
    # What is asked about packages later is asked by the word of the attempt that has published them.
    steps = Steps(world)
    steps.done(0, Step.VERIFY, PublicationState.PRESENT, status="published")
    ends = StepEnds(position=1, step=Step.APPROVE, outcome=Outcome.DONE, reached=PublicationState.APPROVED)
    assert steps.say(ends) == ""
    steps.done(1, Step.VERIFY, PublicationState.PRESENT, status="published")
    for position in range(2):
        steps.done(position, Step.VERIFY, PublicationState.PUBLISHED)
    world.apiserver.programs.ends(world.attempt, Delivered())
    assert world.row.state is AttemptState.SUCCEEDED
    world.clock.advance(INTERVAL)
    said = claims(world.apiserver.ask_programs.asked[-1].secrets["npm_id_token"])
    assert (said["attempt"], said["sub"]) == (world.attempt, "project:hello:environment:production")


def test_what_is_compared_is_asked_for_by_the_word_too(folder: Path) -> None:
    world = World(folder, npm=STORED, api_url=ISSUER, approval=1)
    world.apiserver.programs.compares = lambda job: Delivered(reason="not now")
    world.all_stored()
    world.ask(world.apiserver.server.comparing.compare("hello", world.publications))
    (job,) = world.apiserver.programs.jobs
    assert (job.compare, list(job.secrets)) == (True, ["npm_id_token"])


@pytest.mark.parametrize("npm", [STORED, BUILDER])
@pytest.mark.parametrize(
    ("issuer", "why"),
    [
        ("http://builds.example.org", "no registry trusts the word of an apiserver at http://builds.example.org"),
        ("http://127.0.0.1:8080", "no registry elsewhere can check the word of an apiserver at http://127.0.0.1:8080"),
    ],
)
def test_a_word_that_nobody_can_check_is_not_given(folder: Path, npm: NpmSettings, issuer: str, why: str) -> None:
    """It is said before anything is uploaded or published."""
    world = World(folder, npm=npm, api_url=issuer)
    permit = world.permit()
    assert not permit.granted
    assert permit.reason.startswith(why)
    assert permit.reason.endswith(
        "set http.public_url in apiserver.toml to the https address at which registries reach the apiserver"
    )
    assert world.publications == []


def test_a_registry_of_this_machine_can_check_its_word() -> None:
    assert TARGETS.why_no_word(replace(SETTINGS, registry="http://127.0.0.1:4873/"), "http://127.0.0.1:8080") == ""
    assert TARGETS.why_no_word(replace(SETTINGS, auth=""), "http://builds.example.org") == ""


def test_a_key_that_others_can_read_signs_nothing(folder: Path) -> None:
    (folder / "id-tokens.key").chmod(0o644)
    world = World(folder, npm=BUILDER, api_url=ISSUER)
    assert "the apiserver can't sign its word: " in world.permit().reason


def test_a_project_with_another_repository_is_built_again(folder: Path) -> None:
    """As with a token, which is for one repository: what is said of the project must hold for what is published."""
    world = World(folder, npm=STORED, api_url=ISSUER)
    world.permit()
    world.ledger.now(projects.update, "hello", {"repository": "https://evil.example/x.git"}, 99)
    permit = world.permit()
    assert (permit.granted, "or is built from another repository" in permit.reason) == (False, True)


def test_a_project_may_come_to_publish_by_oidc_while_something_waits(folder: Path) -> None:
    """What counts is what it says when the apiserver publishes."""
    world = World(folder, npm=replace(STORED, auth=""), api_url=ISSUER)
    world.permit()
    world.ledger.now(projects.update, "hello", {"targets": (STORED,)}, 99)
    for position, data in enumerate(DATA):
        world.upload(position, data)
    world.built()
    (job,) = world.apiserver.programs.jobs
    assert list(job.secrets) == ["npm_id_token"]


def test_builders_that_know_no_id_tokens_are_offered_none(folder: Path) -> None:
    old = [each for each in m.FEATURES if each != "id-tokens"]
    with pytest.raises(ValueError, match="not enough values"):
        World(folder, npm=BUILDER, api_url=ISSUER, features=old)
    assert World(folder, npm=STORED, api_url=ISSUER, features=old).offer, "the apiserver publishes: it matters not"
