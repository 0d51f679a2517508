"""
Sets that are killed while real requests go to a registry of the tests' own, which cuts them, fails, lags, loses tags,
and whose one-time passwords run out, by a seed; and to Verdaccio. As ``test_course_kills``, with the client between.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tests.course_world import Killed, PersonNeeded, PublishFailed, SetWorld
from tests.integration.package_sets import unfit
from tests.npm_memory import MemoryRegistry, tarball
from tests.properties import examples
from tests.registry import TOKEN, Fault, Faults, running
from tests.registry.verdaccio import running_verdaccio
from twistedipc.builds.states import PublicationState
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

#: Runs after which a set that isn't published is given up; those that may be killed; and when nothing goes wrong more.
ENOUGH, KILLED, SETTLED = 60, 20, 40

RATES = {
    Fault.CUT_BEFORE: 0.02,
    Fault.CUT_AFTER: 0.03,
    Fault.CUT_IN_ANSWER: 0.02,
    Fault.FAIL_BEFORE: 0.02,
    Fault.FAIL_AFTER: 0.02,
    Fault.BUSY: 0.02,
    Fault.PAGE: 0.01,
    Fault.LOSE_TAG: 0.05,
    Fault.REFUSE_OTP: 0.03,
    Fault.SOMEBODY_ELSE: 0.05,
}


class KilledClient(Client):
    """A client whose process may be killed before and after each request."""

    def __init__(self, address: str, token: str) -> None:
        super().__init__(address, token, Connection(Npmrc({}), {}))
        self.around: Callable[[str], None] = lambda where: None


def _killed(name: str) -> Callable[..., Any]:
    request = getattr(Client, name)

    def method(client: KilledClient, *arguments: Any, **more: Any) -> Any:
        client.around("before")
        answer = request(client, *arguments, **more)
        client.around("after")
        return answer

    return method


for _name in ("look", "upload", "has_staging", "stage", "stages", "staged", "approve", "set_tag", "remove_tag"):
    setattr(KilledClient, _name, _killed(_name))


class Way:
    """One set on its way to a registry."""

    def __init__(self, folder: Path, address: str, token: str, size: int, prefix: str) -> None:
        self.client = KilledClient(address, token)
        self.world = SetWorld(folder, None, cast(MemoryRegistry, self.client), size, prefix=prefix)
        self.conflicts: list[str] = []
        self._folder = folder

    def before(self) -> None:
        """Version 1.0.0 of each is published."""
        names = self.world.names
        for number, name in enumerate(names):
            needs = {names[number - 1]: "1.0.0"} if number else {}
            path = tarball(self._folder, {"name": name, "version": "1.0.0", "dependencies": needs})
            assert self.client.upload(path, tag="latest").kind is Kind.DONE

    def to_its_end(self, chance: random.Random, password: Callable[[], str], settle: Callable[[], None]) -> None:
        """Run it until it is published, killed by chance."""
        world, otp = self.world, ""
        world.new_attempt()
        for number in range(ENOUGH):
            world.kill_at = world.boundaries + chance.randint(1, 30 * len(world.names)) if number < KILLED else -1
            if number == SETTLED:
                settle()
            try:
                world.go(otp)
            except Killed:
                continue
            except PersonNeeded:
                otp = password()
            except PublishFailed as error:
                self.conflicts += [str(error)] if "conflict" in str(error) else []
                world.new_attempt()
                otp = ""
            else:
                return
        raise AssertionError(f"not published after {ENOUGH} runs")

    def check(self, documents: Mapping[str, Any]) -> None:
        """Nothing was a conflict, and what is written down is what the registry has."""
        assert self.conflicts == []
        for row, package in zip(self.world.rows(), self.world.packages, strict=True):
            there = documents[package.name]
            assert there["versions"][package.version]["dist"]["integrity"] == package.integrity
            assert there["dist-tags"]["latest"] == package.version
            assert row.state is PublicationState.PUBLISHED
            left = [tag for tag in there["dist-tags"] if tag.startswith("build-")]
            assert not left or "can't be removed" in row.facts.notice, (left, row.facts)


def by_chance(folder: Path, seed: int, size: int, faults: Counter[Fault]) -> int:
    """One set, to a registry that misbehaves. Return how often it was killed."""
    chance = random.Random(seed)
    staged, new = chance.random() < 0.7, chance.random() < 0.4
    with running() as registry:
        registry.state.has_stages = staged
        way = Way(folder, registry.url, TOKEN, size, f"s{seed}-")
        if not new:
            way.before()
        before = len(registry.state.changes)
        registry.faults = Faults(seed, RATES, most=chance.choice([0, 10, 40]), lag=chance.choice([0, 2]))
        found: set[str] = set()
        around = way.world.around

        def read(where: str) -> None:
            found.update(unfit(registry))
            around(where)

        way.world.around = read  # type: ignore[method-assign]

        def password() -> str:
            otp = f"{chance.randrange(10**6):06}"
            registry.state.otps = {otp: chance.choice([0, 1, 3, None])}
            return otp

        def settle() -> None:
            registry.faults = Faults()
            registry.state.otps = {}

        way.to_its_end(chance, password, settle)
        way.check(registry.packages)
        assert found == set()
        counts = Counter((change.what, change.name) for change in registry.state.changes[before:])
        for name in way.world.names:
            assert [counts[what, name] for what in ("publish", "stage", "approve")] == [not staged, staged, staged], (
                name
            )
        assert registry.state.stages == {}
        faults.update(fault for _, fault in registry.faults.had)
    return way.world.kills


def test_killed_by_chance(tmp_path: Path) -> None:
    for seed in range(5):
        by_chance(tmp_path, seed, 3, Counter())


@pytest.mark.long
def test_twenty_killed_by_chance(tmp_path: Path) -> None:
    """``TWISTEDIPC_TESTS_EXAMPLES=10`` makes hundreds of kills of it."""
    faults: Counter[Fault] = Counter()
    sets = range(100, 100 + examples(15))
    kills = sum(by_chance(tmp_path, seed, 20, faults) for seed in sets)
    print(f"\n{kills} kills of {len(sets)} sets; { {fault.value: number for fault, number in faults.items()} }")


@pytest.mark.long
def test_twenty_for_verdaccio_killed_by_chance(tmp_path: Path) -> None:
    kills = 0
    with running_verdaccio(tmp_path) as verdaccio:
        for seed in range(examples(4)):
            chance = random.Random(seed)
            way = Way(tmp_path, verdaccio.url, verdaccio.token, 20, f"v{seed}-")
            if seed % 2:
                way.before()
            way.to_its_end(chance, lambda: "", lambda: None)
            way.check({name: verdaccio.package(name) for name in way.world.names})
            kills += way.world.kills
    print(f"\n{kills} kills of {examples(4)} sets")
