"""The same builds on a builder without isolation get what they want: so an attack that fails says something."""

from __future__ import annotations

import os

import pytest

from tests.attacks.world import ATTACKS, FOR_ROOT, HELD_ANYWAY, World

pytestmark = pytest.mark.attack

ISOLATION = "none"


@pytest.mark.parametrize("name", ATTACKS)
def test_it_would_be_noticed(world: World, name: str) -> None:
    reached, log = world.attack(name)
    held = name in HELD_ANYWAY or (name in FOR_ROOT and os.geteuid() != 0)
    assert reached is not held, log
