"""Turns that people share: nobody takes them all while others wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from twistedipc.server.turns import Turns


class Line:
    """Those who have a turn, in the order in which they got it."""

    def __init__(self, most: int = 2) -> None:
        self.turns = Turns(most)
        self.had: list[str] = []

    def ask(self, *everybody: str) -> list[Deferred[None]]:
        return [self.turns.acquire(who).addCallback(self._has, who) for who in everybody]

    def _has(self, _: None, who: str) -> None:
        self.had.append(who)


def test_who_is_alone_has_all_turns() -> None:
    line = Line()
    line.ask("ada", "ada", "ada")
    assert (line.had, line.turns.waiting, line.turns.waiting_of("ada")) == (["ada", "ada"], 1, 1)
    line.turns.release("ada")
    assert (line.had, line.turns.waiting) == (["ada"] * 3, 0)


def test_who_has_none_comes_before_who_has_one() -> None:
    line = Line()
    line.ask("ada", "ada", "ada", "ada", "bob", "bob")
    assert line.turns.waiting_of("bob") == 2
    line.turns.release("ada")
    line.turns.release("ada")
    assert line.had == ["ada", "ada", "bob", "ada"]
    line.turns.release("ada")
    assert line.had[4:] == ["ada"]  # bob has one


def test_people_take_turns() -> None:
    line = Line(1)
    line.ask("ada", "ada", "ada", "bob", "bob")
    line.turns.release("ada")
    line.ask("eve")
    for who in ("ada", "bob", "ada", "eve"):
        line.turns.release(who)
    assert line.had == ["ada", "ada", "bob", "ada", "eve", "bob"]


def test_who_does_not_wait_any_more_is_forgotten() -> None:
    line = Line(1)
    _, first, second = line.ask("ada", "bob", "bob")
    for each in (first, second):
        each.cancel()
        with pytest.raises(CancelledError):
            raise each.result.value  # type: ignore[attr-defined]
        each.addErrback(lambda _: None)
    assert line.turns.waiting == 0
    line.ask("eve")
    line.turns.release("ada")
    line.turns.release("eve")
    line.ask("ada")
    assert line.had == ["ada", "eve", "ada"]


@given(st.integers(1, 3), st.lists(st.sampled_from(["a", "b", "c", "release"])))
def test_no_turn_is_lost_or_given_twice(most: int, events: list[str]) -> None:
    line = Line(most)
    asked = released = 0
    holding: list[str] = []
    for event in events:
        if event != "release":
            line.ask(event)
            asked += 1
        elif holding:
            line.turns.release(holding.pop(0))
            released += 1
        holding += line.had[len(holding) + released :]
        assert len(holding) == min(most, asked - released)
        assert line.turns.waiting == asked - released - len(holding)
