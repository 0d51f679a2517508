"""docs/ipc-reference.md is what is drawn from the docstrings, and says something of each public name."""

from __future__ import annotations

import functools
import inspect
import re

import pytest

from tests import draw_reference
from twistedipc import ipc

#: Drawn once, and not when tests are looked for.
drawn = functools.cache(draw_reference.page)


def test_the_page_agrees_with_the_docstrings() -> None:
    assert draw_reference.PATH.read_text("utf-8") == drawn(), "draw it again: python -m tests.draw_reference"


@pytest.mark.parametrize("name", ipc.__all__)
def test_each_public_name_is_there_with_a_docstring(name: str) -> None:
    assert re.search(rf"^### {name}$", drawn(), re.MULTILINE)
    found = getattr(ipc, name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert found.__doc__


def test_all_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", drawn(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", drawn()):
        assert re.sub(r"-\d+$", "", anchor) in anchors or anchor in anchors, anchor
