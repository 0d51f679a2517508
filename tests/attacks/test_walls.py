"""Builds that attack a builder with the best isolation that the machine can give: none gets anything."""

from __future__ import annotations

import re

import pytest

from tests.attacks.world import ATTACKS, World

pytestmark = pytest.mark.attack

ISOLATION = "auto"

#: What a person reads in the log of an attack that came to nothing: what the system says, or an error of Python's.
SENTENCES = (
    "No such file or directory|Read-only file system|Permission denied|Operation not permitted|No such process|"
    "Connection refused|Network is unreachable|No route to host|timed out|Function not implemented|"
    "No space left on device|Invalid cross-device link|prohibited|the network refused|"
    "Address family not supported"
)

#: Attacks that look around and find nothing: nothing fails.
SILENT = frozenset({"daemon", "devices", "environment_of_others", "inherited", "list_of_processes"})


@pytest.mark.parametrize("name", ATTACKS)
def test_it_gets_nothing(world: World, name: str) -> None:
    reached, log = world.attack(name)
    assert not reached, log
    assert name in SILENT or re.search(SENTENCES, log), log
