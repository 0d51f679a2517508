"""docs/architecture.md is what is drawn, and every place on it exists."""

from __future__ import annotations

import pytest

from tests import draw_architecture


def test_the_page_is_current() -> None:
    assert draw_architecture.PATH.read_text("utf-8") == draw_architecture.page(), "draw it again: make pictures"


@pytest.mark.parametrize("place", draw_architecture.places())
def test_every_place_is_there(place: str) -> None:
    assert draw_architecture.find(place) is not None


def test_every_process_of_a_connection_is_drawn() -> None:
    page = draw_architecture.page()
    for one, other, _by in draw_architecture.CONNECTIONS:
        assert f'    {one}["' in page
        assert f'    {other}["' in page
