"""
Sets that go to two registries: whatever one of them does, what has happened is finished or undone in both, as with one.
All in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.course_world import Killed, PersonNeeded, PublishFailed, SetWorld
from tests.npm_memory import MemoryRegistry
from twistedipc.builds.states import PublicationState
from twistedipc.publish.targets.npm.registry import Answer, Kind

OURS, THEIRS = ("p0", "p2"), ("p1", "p3")
REFUSED = Answer(kind=Kind.REFUSED, status=400, said="the registry won't")


class TwoRegistries(SetWorld):
    """A set of four, each of which needs the one before it; every second goes to another registry."""

    def __init__(self, folder: Path, *, stages: tuple[bool, bool] = (False, False), new: bool = False) -> None:
        ours, self.theirs = MemoryRegistry(stages=stages[0]), MemoryRegistry(stages=stages[1])
        self.theirs.address = "https://acme.memory.example/"
        super().__init__(folder, None, ours, 4, others=dict.fromkeys(THEIRS, self.theirs))
        self.unfit: list[str] = []
        if not new:
            for name in self.names:
                self.of(name).have(name, "1.0.0")
        self.registry.watch = self.theirs.watch = self.read
        self.new_attempt()

    def of(self, name: str) -> MemoryRegistry:
        """The registry of a package."""
        return self.others.get(name, self.registry)

    def read(self) -> None:
        """As somebody who installs by `latest`: what a package needs must be there."""
        for before, name in zip(self.names, self.names[1:], strict=False):
            package = self.of(name).packages.get(name)
            if package is None or package.tags.get("latest") != "1.1.0":
                continue
            needed = self.of(before).packages.get(before)
            if needed is None or "1.1.0" not in needed.versions:
                self.unfit.append(name)

    @property
    def latest(self) -> list[str]:
        return [self.of(name).packages[name].tags.get("latest", "") for name in self.names]

    def fails(self, otp: str = "") -> str:
        """Run it. Return why it isn't published, or what a person is needed for."""
        with pytest.raises((PublishFailed, PersonNeeded)) as raised:
            self.go(otp)
        return str(raised.value)

    def check(self) -> None:
        """All of it is there, once."""
        assert self.latest == ["1.1.0"] * 4
        assert self.unfit == []
        for name in self.names:
            there = self.of(name)
            assert there.counts[f"publish {name}@1.1.0"] == 1, name
            assert there.packages[name].tags == {"latest": "1.1.0"}
        assert not set(OURS) & self.theirs.packages.keys()
        assert not set(THEIRS) & self.registry.packages.keys()
        assert {row.state for row in self.rows()} == {PublicationState.PUBLISHED}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., TwoRegistries]:
    return lambda **how: TwoRegistries(tmp_path, **how)


def test_each_package_goes_to_its_registry_and_the_rows_say_which(make: Callable[..., TwoRegistries]) -> None:
    world = make()
    assert [each.registry for each in world.go()] == [world.of(name).address for name in world.names]
    world.check()
    assert [row.facts.registry for row in world.rows()] == [world.of(name).address for name in world.names]


def test_both_are_asked_before_anything_is_published(make: Callable[..., TwoRegistries]) -> None:
    world = make()
    world.theirs.have("p3", "1.1.0", content=b"another")
    assert "conflict" in world.fails()
    for registry in (world.registry, world.theirs):
        assert not [call for call in registry.calls if call.startswith(("upload", "tag"))]
    world = make()
    denied = Answer(kind=Kind.DENIED, status=401, said="the registry doesn't take the project's token")
    world.theirs.answers["look"] = [(denied, False)]
    assert "the registry doesn't take the project's token" in world.fails()
    assert not [call for call in world.registry.calls if call.startswith("upload")]


def test_one_that_moves_no_tag_has_them_moved_back_in_both(make: Callable[..., TwoRegistries]) -> None:
    world = make()
    world.theirs.answers["set_tag"] = [(Answer(kind=Kind.DONE), True), (REFUSED, False)]
    assert "the tag latest of p3 can't be moved to 1.1.0" in world.fails()
    assert world.latest == ["1.0.0"] * 4
    # The next build goes on with what is there.
    world.new_attempt()
    assert {each.status for each in world.go()} == {"already-published"}
    world.check()


def test_one_that_takes_no_upload_leaves_the_tags_of_both(make: Callable[..., TwoRegistries]) -> None:
    world = make()
    world.theirs.answers["upload"] = [(Answer(kind=Kind.DONE), True), (REFUSED, False)]
    assert "the registry won't" in world.fails()
    assert world.latest == ["1.0.0"] * 4
    world.new_attempt()
    world.go()
    world.check()


@pytest.mark.parametrize("new", [False, True], ids=["update", "new"])
def test_killed_at_every_boundary(make: Callable[..., TwoRegistries], new: bool) -> None:
    whole = make(new=new)
    whole.go()
    assert whole.boundaries > 100
    for at in range(1, whole.boundaries + 1):
        world = make(new=new)
        world.kill_at = at
        with pytest.raises(Killed):
            world.go()
        world.kill_at = -1
        world.go()
        world.check()


def test_a_registry_with_stages_beside_one_without(make: Callable[..., TwoRegistries]) -> None:
    """Nothing is in either before a person agrees; then all of it is."""
    world = make(stages=(True, False))
    assert "2 packages are staged at https://npm.memory.example/: a person is to approve" in world.fails()
    assert not [call for call in world.theirs.calls if call.startswith("upload")]
    assert [row.state.value for row in world.rows()] == ["staged", "checked", "staged", "checked"]
    world.registry.passwords = {"1": 1}
    assert "refuses the one-time password" in world.fails("1")
    assert not [call for call in world.theirs.calls if call.startswith("upload")]
    world.registry.passwords = {"2": 9}
    world.go("2")
    world.check()


def test_a_set_of_two_registries_is_refused(make: Callable[..., TwoRegistries]) -> None:
    world = make(stages=(True, False))
    world.fails()
    world.registry.passwords = {"1": 9}
    assert world.rejects("1") == ""
    assert (world.registry.waiting, world.latest) == ({}, ["1.0.0"] * 4)
