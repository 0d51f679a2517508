"""When a viewer is pinged or given up, and how many frames it may send: the machines, without a socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.web.live.limits import FrameBudget, Limits, Pulse, Sign

LIMITS = Limits(progress_timeout=60, ping_interval=25, pong_timeout=30, max_frames=10, frames_per_second=2)


class Client:
    """A pulse, with its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulse = Pulse(self.now)
        self.left = 0

    def after(self, seconds: float, *, waits: bool = False, moves: bool = False, says: bool = False) -> Sign:
        """A look after so many seconds, in which it has read something, or said something, or neither."""
        self.now += seconds
        self.left += moves
        if says:
            self.pulse.heard = self.now
        return self.pulse.look(self.now, LIMITS, (self.left,), waits)


def pinged() -> Client:
    """A client that is being waited for."""
    client = Client()
    assert client.after(26) is Sign.PING
    return client


def test_a_silent_client_is_pinged_and_given_up() -> None:
    client = Client()
    assert [client.after(5) for _ in range(14)] == [Sign.NOTHING] * 5 + [Sign.PING] + [Sign.NOTHING] * 6 + [
        Sign.DEAD,
        Sign.DEAD,
    ]


def test_a_client_that_answers_is_pinged_again_only_after_silence() -> None:
    client = pinged()
    assert client.after(1, says=True) is Sign.NOTHING
    assert client.after(25) is Sign.NOTHING
    assert client.after(1) is Sign.PING


@pytest.mark.parametrize("make", [Client, pinged])
def test_what_waits_is_waited_for_as_long_as_it_moves(make: Callable[[], Client]) -> None:
    client = make()
    for _ in range(5):
        assert client.after(59, waits=True, moves=True) is Sign.NOTHING
    assert client.after(60, waits=True) is Sign.NOTHING
    assert client.after(1, waits=True) is Sign.TOO_SLOW


@pytest.mark.parametrize("make", [Client, pinged])
def test_words_dont_help_a_client_that_reads_nothing(make: Callable[[], Client]) -> None:
    client = make()
    assert client.after(1, waits=True, moves=True) is Sign.NOTHING
    assert [client.after(20, waits=True, says=True) for _ in range(4)][-1] is Sign.TOO_SLOW


def test_a_viewer_that_has_read_all_after_a_ping_gets_another_ping() -> None:
    """While something waited the pong couldn't be told from what is on its way."""
    client = pinged()
    assert client.after(20, waits=True) is Sign.NOTHING
    assert client.after(20, moves=True) is Sign.PING
    assert client.after(30) is Sign.NOTHING
    assert client.after(1) is Sign.DEAD


@given(st.lists(st.tuples(st.sampled_from([1.0, 5.0, 20.0]), st.booleans(), st.booleans(), st.booleans()), max_size=60))
def test_no_viewer_that_reads_and_answers_is_given_up(looks: list[tuple[float, bool, bool, bool]]) -> None:
    """Whatever happens besides: a client that says something at most 20 s after it was pinged, and reads on."""
    client = Client()
    answers = False
    for seconds, waits, moves, says in looks:
        sign = client.after(seconds, waits=waits, moves=moves or waits, says=says or answers)
        assert sign in (Sign.NOTHING, Sign.PING)
        answers = sign is Sign.PING


def test_frames_at_once_and_with_time() -> None:
    budget = FrameBudget(0.0, LIMITS)
    assert all(budget.spend(LIMITS, fragment=False) for _ in range(10))
    budget.refill(2.0, LIMITS)
    assert [budget.spend(LIMITS, fragment=False) for _ in range(5)] == [True] * 4 + [False]
    budget.refill(1000.0, LIMITS)
    assert sum(budget.spend(LIMITS, fragment=False) for _ in range(100)) == 10, "no more is saved up"


def test_frames_of_a_message() -> None:
    limits = Limits(max_fragments=3)
    budget = FrameBudget(0.0, limits)
    for _ in range(2):
        budget.message_begins()
        assert all(budget.spend(limits, fragment=True) for _ in range(3))
        assert budget.spend(limits, fragment=False), "a ping between them"
    assert not budget.spend(limits, fragment=True)
