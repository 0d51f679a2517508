"""
A stage that was approved or rejected at the registry itself is noticed within a minute, and the attempt goes on; on an
apiserver in memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_server_delivering import S, Steps, World
from twistedipc.builds.states import PublicationState
from twistedipc.publish.asking import Answered, Question, StageSeen
from twistedipc.publish.record import Outcome, Step
from twistedipc.publish.stored import Delivered, Needs, StepBegins, StepEnds
from twistedipc.server.watching import INTERVAL


@pytest.fixture
def staged(tmp_path: Path) -> World:
    """Two packages wait in the registry's stage."""
    world = World(tmp_path)
    world.all_stored()
    Steps(world).staged()
    return world


def minute(world: World, *waiting: str) -> list[Question]:
    """A minute goes by, in which these stages wait at the registry; what it was asked."""
    programs = world.apiserver.ask_programs
    before = len(programs.asked)
    programs.answers = lambda question: Answered(
        stages=[StageSeen(stage=each.stage, waits=each.stage in waiting) for each in question.stages]
    )
    for _ in range(2):
        world.clock.advance(INTERVAL)
    return programs.asked[before:]


def test_what_waits_goes_on_waiting(staged: World) -> None:
    asked = minute(staged, "s0", "s1")
    assert [(each.name, each.stage) for each in asked[0].stages] == [("@acme/p0", "s0"), ("@acme/p1", "s1")]
    assert staged.row.state is S.WAITING_APPROVAL


def test_one_that_was_approved_there_goes_on(staged: World) -> None:
    minute(staged, "s1")
    assert staged.row.state is S.DELIVERING
    job = staged.apiserver.programs.jobs[-1]
    assert (job.start.otp, job.start.what) == ("", "publish")
    steps = Steps(staged)
    assert steps.say(StepBegins(position=0, step=Step.APPROVE)) == ""
    ends = StepEnds(position=0, step=Step.APPROVE, outcome=Outcome.ALREADY, reached=PublicationState.APPROVED)
    assert steps.say(ends) == ""
    staged.apiserver.programs.ends(staged.attempt, Delivered(needs=Needs(reason="1 package is staged")))
    assert (staged.row.state, staged.row.reason) == (S.WAITING_APPROVAL, "1 package is staged")
    assert staged.publications[0].approved_by not in ("", "apiserver")
    assert [each.stage for each in minute(staged, "s1")[0].stages] == ["s1"]
    assert staged.row.state.value == "waiting_approval"


def test_a_registry_that_can_not_be_asked_says_nothing(staged: World) -> None:
    staged.apiserver.ask_programs.answers = lambda question: Answered(reason="it can't be reached")
    for _ in range(4):
        staged.clock.advance(INTERVAL)
    assert staged.row.state is S.WAITING_APPROVAL
