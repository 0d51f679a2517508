"""A platform that is attacked, with the isolation that a module of tests names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.world import World


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One platform for all attacks of a module, whose ``ISOLATION`` its builder has."""
    world = World(request.module.ISOLATION)
    try:
        yield world
    finally:
        world.close()
