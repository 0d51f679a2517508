"""docs/states.md is what is drawn from the tables."""

from __future__ import annotations

from tests import draw_states


def test_the_page_agrees_with_the_tables() -> None:
    assert draw_states.PATH.read_text("utf-8") == draw_states.page(), "draw it again: python -m tests.draw_states"
