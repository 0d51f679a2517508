"""
Sets that are killed: at each request and each row, and by chance, with a registry that misbehaves. Whatever happens,
each version is staged, approved and published once, nobody who reads by `latest` finds a gap, and the ledger says in
the end what the registry has. All in memory but the ledger, which is a real one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.course_world import Killed, PersonNeeded, PublishFailed, SetWorld
from tests.npm_memory import Faults, MemoryRegistry, Reader
from tests.properties import examples
from tests.storage_fixtures import add_project, database
from twistedipc.builds.states import PublicationState

#: What a set that is refused may still be in: nothing of these is in the registry.
_NOT_BEGUN = {PublicationState.STORED, PublicationState.CHECKED}

#: Runs after which a set that isn't published is given up.
ENOUGH = 40


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


def to_its_end(world: SetWorld, chance: random.Random | None = None, *, refuses: bool = False) -> int:
    """
    Run the set until it is published, killed as the world says, or by chance. Return how often it was run. ``refuses``:
    now and then, a person refuses it where one is needed, and a new build begins.
    """
    registry = world.registry
    world.new_attempt()
    passwords = 0
    otp = ""
    for number in range(ENOUGH):
        if chance is not None:
            world.kill_at = world.boundaries + chance.randint(1, 30 * len(world.names)) if number < 20 else -1
        if number == ENOUGH // 2:
            registry.settle()
        try:
            world.go(otp)
            return number + 1
        except Killed:
            if chance is None:
                world.kill_at = -1
        except PersonNeeded:
            if chance is not None and refuses and chance.random() < 0.2:
                refused(world, chance)
                otp = ""
                continue
            passwords += 1
            otp = f"{passwords:06}"
            # One that the registry takes, or stops to take in the middle.
            taken = 99 if chance is None else chance.choice([0, 1, 3, 99])
            registry.passwords = {otp: taken}
        except PublishFailed as error:
            world.failed(str(error))
            world.new_attempt()
            otp = ""
    raise AssertionError(f"not published after {ENOUGH} runs")


def refused(world: SetWorld, chance: random.Random) -> None:
    """A person refuses the set: what is staged is taken back, and no tag stays moved."""
    registry = world.registry
    for number in range(ENOUGH):
        world.kill_at = world.boundaries + chance.randint(1, 10 * len(world.names)) if number < 10 else -1
        if number == ENOUGH // 2:
            registry.settle()
        registry.passwords = {"no": chance.choice([0, 1, 3, 99])}
        with suppress(Killed):
            if world.rejects("no") == "":
                break
    else:
        raise AssertionError(f"not taken back after {ENOUGH} runs")
    assert {row.state for row in world.rows()} <= {PublicationState.REJECTED, PublicationState.DROPPED} | _NOT_BEGUN
    assert not registry.waiting
    latest = [registry.packages[name].tags.get("latest") for name in world.names if name in registry.packages]
    old = [name for name in world.names if "1.0.0" in registry.packages[name].versions]
    assert not old or latest == ["1.0.0"] * len(old)
    world.new_attempt()


def check(world: SetWorld, reader: Reader, *, staged: bool, refused: bool = False) -> None:
    """Each once, and the ledger says what the registry has."""
    registry = world.registry
    reader.read()
    assert reader.unfit == []
    assert [why for why in world.failures if "conflict" in why] == []
    for row, package in zip(world.rows(), world.packages, strict=True):
        label = f"{package.name}@{package.version}"
        there = registry.packages[package.name]
        assert registry.counts[f"publish {label}"] == 1, label
        assert registry.counts[f"approve {label}"] == int(staged), label
        assert registry.counts[f"stage {label}"] == int(staged) + registry.counts[f"reject {label}"], label
        assert refused or registry.counts[f"reject {label}"] == 0
        assert there.versions[package.version]["integrity"] == package.integrity
        assert there.tags["latest"] == package.version
        assert row.state is PublicationState.PUBLISHED
        assert row.facts.status == "published" or world.attempt != "1-1"
        left = [tag for tag in there.tags if tag.startswith("build-")]
        assert not left or "can't be removed" in row.facts.notice, (left, row.facts)
    assert registry.waiting == {}


def a_set(
    folder: Path, connection: Connection | None, registry: MemoryRegistry, size: int, *, new: bool
) -> tuple[SetWorld, Reader]:
    """A set, of which another version is in the registry unless it is new, and somebody who reads it."""
    reader = Reader(registry)
    world = SetWorld(folder, connection, registry, size)
    if not new:
        for number, name in enumerate(world.names):
            needs = {world.names[number - 1]: "1.0.0"} if number else {}
            registry.have(name, "1.0.0", manifest={"dependencies": needs})
    return world, reader


def killed_at(folder: Path, connection: Connection | None, size: int, at: int, *, staged: bool, new: bool) -> int:
    """Kill a set once. Return how many boundaries there were."""
    world, reader = a_set(folder, connection, MemoryRegistry(stages=staged), size, new=new)
    world.kill_at = at
    assert to_its_end(world) <= 4
    check(world, reader, staged=staged)
    return world.boundaries


def killed_at_all(
    folder: Path, connection: Connection | None, size: int, *, staged: bool, new: bool, step: int = 1
) -> int:
    """Kill one set at each boundary that a run has, one after the other. Return how many there are."""
    last = killed_at(folder, connection, size, -1, staged=staged, new=new)
    for at in range(1, last + 1, step):
        killed_at(folder, connection, size, at, staged=staged, new=new)
    return last


HOW = pytest.mark.parametrize("new", [False, True], ids=["update", "new"])
WAYS = pytest.mark.parametrize("staged", [False, True], ids=["direct", "staged"])


@HOW
@WAYS
def test_killed_at_every_boundary(tmp_path: Path, staged: bool, new: bool) -> None:
    assert killed_at_all(tmp_path, None, 3, staged=staged, new=new) > 100


@WAYS
def test_killed_with_a_real_ledger(tmp_path: Path, connection: Connection, staged: bool) -> None:
    killed_at_all(tmp_path, connection, 2, staged=staged, new=False, step=12)


@pytest.mark.long
@HOW
@WAYS
def test_twenty_killed_at_every_boundary(tmp_path: Path, staged: bool, new: bool) -> None:
    kills = killed_at_all(tmp_path, None, 20, staged=staged, new=new)
    assert kills > 600
    told(kills, kills)


@pytest.mark.long
@WAYS
def test_twenty_killed_with_a_real_ledger(tmp_path: Path, connection: Connection, staged: bool) -> None:
    """``TWISTEDIPC_TESTS_EXAMPLES=10`` kills it at every fourth boundary."""
    step = 40 // examples(1) if examples(1) < 40 else 1
    last = killed_at_all(tmp_path, connection, 20, staged=staged, new=False, step=step)
    told(len(range(1, last + 1, step)), len(range(1, last + 1, step)))


def told(kills: int, sets: int) -> None:
    """Say how many there were: for who runs them all, with ``-s``."""
    print(f"\n{kills} kills of {sets} sets")


def by_chance(folder: Path, connection: Connection | None, seed: int, size: int, *, refuses: bool = False) -> int:
    """One set. Return how often it was killed."""
    chance = random.Random(seed)
    staged, new = chance.random() < 0.7, chance.random() < 0.4
    registry = MemoryRegistry(stages=staged, faults=Faults(seed, rate=chance.choice([0, 0.02, 0.1, 0.3]), left=40))
    registry.otp_to_tag = chance.random() < 0.3
    world, reader = a_set(folder, connection, registry, size, new=new)

    def others() -> None:
        """Another person approves, now and then: the lowest that waits, as the page of a registry would have it."""
        if registry.waiting and chance.random() < 0.01:
            first = min(registry.waiting, key=lambda stage: int(registry.waiting[stage].name[1:]))
            registry.approved(first, elsewhere=True)
            registry.watch()

    registry.before = others
    to_its_end(world, chance, refuses=refuses)
    check(world, reader, staged=staged, refused=refuses)
    return world.kills


def test_killed_by_chance(tmp_path: Path) -> None:
    for seed in range(100):
        by_chance(tmp_path, None, seed, 5)


def test_killed_and_refused_by_chance(tmp_path: Path) -> None:
    for seed in range(3000, 3060):
        by_chance(tmp_path, None, seed, 5, refuses=True)


@pytest.mark.long
def test_killed_by_chance_with_a_real_ledger(tmp_path: Path, connection: Connection) -> None:
    for seed in range(500, 520):
        by_chance(tmp_path, connection, seed, 8)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_kills_by_chance(tmp_path: Path, part: int) -> None:
    told(sum(by_chance(tmp_path, None, seed, 20) for seed in range(1000 + part * 100, 1100 + part * 100)), 100)


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_hundreds_killed_and_refused_by_chance(tmp_path: Path, part: int) -> None:
    seeds = range(4000 + part * 100, 4100 + part * 100)
    told(sum(by_chance(tmp_path, None, seed, 20, refuses=True) for seed in seeds), 100)
