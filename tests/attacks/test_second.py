"""
Builds that attack a builder whose steps Landlock confines, as where user namespaces are denied: none gets anything but
what ``docs/security.md`` says isn't promised there.
"""

from __future__ import annotations

import re

import pytest

from tests.attacks.test_walls import SENTENCES, SILENT
from tests.attacks.world import ATTACKS, WITHOUT_NAMESPACES, World
from tests.test_isolation_landlock import needs_landlock

pytestmark = [pytest.mark.attack, needs_landlock]

ISOLATION = "landlock"


@pytest.mark.parametrize("name", ATTACKS)
def test_it_gets_nothing_but_what_is_not_promised(world: World, name: str) -> None:
    reached, log = world.attack(name)
    assert reached is (name in WITHOUT_NAMESPACES), log
    assert name in SILENT or reached or re.search(SENTENCES, log), log
