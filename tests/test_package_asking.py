"""What an npm registry is asked about what is published, by the real client at a registry of the tests'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.registry import OTP, TOKEN, Account, Fault, Registry, running
from twistedipc.publish.ask import answer
from twistedipc.publish.asking import Answered, Change, Changed, Look, Question, Seen, StageLook, StageSeen
from twistedipc.publish.targets.npm import asking

UI = "@acme/ui"
MOVE = Change(kind="tag", name=UI, version="1.0.0", tag="latest", expected="1.1.0", back=True)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with two versions of a package. Nobody waits."""
    monkeypatch.setattr(asking, "PAUSES", (0.0, 0.0, 0.0))
    with running() as registry:
        registry.state.have(UI, "1.0.0")
        registry.state.have(UI, "1.1.0", deprecated="it is broken")
        yield registry


def ask(registry: Registry, *, token: str = TOKEN, **question: Any) -> Answered:
    settings = {"type": "npm", "registry": registry.url}
    return answer(Question(target="npm", settings=settings, secrets={"npm_token": token}, **question))


def changed(registry: Registry, change: Change, otp: str = "") -> Changed:
    found = ask(registry, change=change, otp=otp).changed
    assert found is not None
    return found


def latest(registry: Registry) -> str:
    return str(registry.packages[UI]["dist-tags"]["latest"])


def test_tags_and_versions_are_looked_at(registry: Registry) -> None:
    looks = [Look(name=UI), Look(name=UI, versions=["1.0.0", "1.1.0", "9.9.9"]), Look(name="nothing")]
    assert ask(registry, looks=looks).seen == [
        Seen(name=UI, registry=registry.url, tags={"latest": "1.1.0"}),
        Seen(name=UI, registry=registry.url, tags={"latest": "1.1.0"}, versions={"1.0.0": "", "1.1.0": "it is broken"}),
        Seen(name="nothing", registry=registry.url),
    ]
    assert [asked.path.rpartition("/")[2] for asked in registry.asked[:2]] == ["dist-tags", "@acme%2Fui"]


def test_a_busy_registry_is_asked_once(registry: Registry) -> None:
    registry.faults.rates[Fault.BUSY] = 1.0
    answered = ask(registry, looks=[Look(name=UI), Look(name="other")], stages=[StageLook(name=UI, stage="s1")])
    assert [bool(each.unknown) for each in answered.seen] == [True, True]
    assert answered.stages[0].waits
    assert answered.after == 1.0
    assert len(registry.asked) == 1


def test_a_stage_that_nobody_waits_for_any_more(registry: Registry) -> None:
    assert ask(registry, stages=[StageLook(name=UI, stage="gone")]).stages == [StageSeen(stage="gone", waits=False)]


def test_a_tag_is_moved_once(registry: Registry) -> None:
    assert changed(registry, MOVE) == Changed(outcome="done")
    assert latest(registry) == "1.0.0"
    assert changed(registry, MOVE) == Changed(outcome="already")
    assert len(registry.state.changes) == 1


def test_a_tag_is_removed_once_and_only_if_it_is_where_it_was(registry: Registry) -> None:
    registry.state.have(UI, "1.2.0-pr12.7")
    registry.packages[UI]["dist-tags"] |= {"latest": "1.1.0", "pr-12": "1.2.0-pr12.7"}
    remove = Change(kind="untag", name=UI, version="", tag="pr-12", expected="1.2.0-pr12.6")
    assert changed(registry, remove).outcome == "moved"
    remove = Change(kind="untag", name=UI, version="", tag="pr-12", expected="1.2.0-pr12.7")
    registry.faults.then(Fault.CUT_AFTER)
    assert changed(registry, remove).outcome == "done"
    assert registry.packages[UI]["dist-tags"] == {"latest": "1.1.0"}
    assert changed(registry, remove).outcome == "already"


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.FAIL_BEFORE, Fault.FAIL_AFTER, Fault.PAGE])
def test_after_an_answer_that_is_lost_it_looks_first(registry: Registry, fault: Fault) -> None:
    registry.faults.then(fault)
    assert changed(registry, MOVE).outcome == "done"
    assert (latest(registry), len(registry.state.changes)) == ("1.0.0", 1)


def test_what_the_registry_does_not_do_is_a_sentence(registry: Registry) -> None:
    registry.faults.rates[Fault.FAIL_BEFORE] = 1.0
    registry.faults.reads = False
    assert changed(registry, MOVE).outcome == "failed"
    assert latest(registry) == "1.1.0"
    absent = Change(kind="tag", name=UI, version="2.0.0", tag="next")
    assert changed(registry, absent) == Changed(outcome="refused", reason="@acme/ui@2.0.0 isn't in the registry")
    assert ask(registry, token="", change=MOVE).reason == "the project has no token for the registry"
    assert changed(registry, Change(kind="tag", name="nothing", version="1.0.0", tag="next")).outcome == "refused"


def test_a_tag_that_somebody_moves_meanwhile_is_left_alone(registry: Registry) -> None:
    registry.state.have(UI, "1.2.0")
    found = changed(registry, MOVE)
    assert (found.outcome, found.reason, latest(registry)) == ("moved", "latest leads to 1.2.0 now", "1.2.0")


def test_latest_goes_back_by_a_rollback_alone(registry: Registry) -> None:
    found = changed(registry, Change(kind="tag", name=UI, version="1.0.0", tag="latest", expected="1.1.0"))
    assert found.outcome == "refused"
    assert "going back is a rollback (`twistedipc packages rollback PROJECT @acme/ui --to 1.0.0`)" in found.reason
    assert changed(registry, Change(kind="tag", name=UI, version="1.0.0", tag="old")).outcome == "done"


def test_where_a_password_is_wanted(registry: Registry) -> None:
    registry.state.accounts[TOKEN] = Account(otp_to_tag=True)
    assert changed(registry, MOVE).outcome == "password"
    assert changed(registry, MOVE, "000000").outcome == "password"
    assert latest(registry) == "1.1.0"
    assert changed(registry, MOVE, OTP).outcome == "done"


def test_a_version_is_deprecated_and_no_longer(registry: Registry) -> None:
    deprecation = Change(kind="deprecate", name=UI, version="1.0.0", message="use 1.1.0")
    assert changed(registry, deprecation).outcome == "done"
    assert changed(registry, deprecation).outcome == "already"
    versions = registry.packages[UI]["versions"]
    assert versions["1.0.0"]["deprecated"] == "use 1.1.0"
    assert changed(registry, Change(kind="deprecate", name=UI, version="1.0.0")).outcome == "done"
    assert not versions["1.0.0"].get("deprecated") or not registry.packages[UI]["versions"]["1.0.0"].get("deprecated")


def test_nothing_secret_is_in_the_question_as_it_is_shown() -> None:
    question = Question(target="npm", settings={}, secrets={"npm_token": TOKEN}, otp=OTP, change=MOVE)
    assert TOKEN not in repr(question)
    assert OTP not in repr(question)
