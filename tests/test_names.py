"""Each test has a name of its own: of those with the same one, several workers together run only one."""

from __future__ import annotations

from collections import Counter

import pytest


def test_each_test_has_a_name_of_its_own(request: pytest.FixtureRequest) -> None:
    names = Counter(item.nodeid for item in request.session.items)
    assert [name for name, times in names.items() if times > 1] == []
