"""What gives way to what people wait for, and what a switch leaves for later."""

from __future__ import annotations

import contextlib
import threading

from twistedipc.server.precedence import Precedence

#: Seconds for a thread to end.
DEADLINE = 60.0


def test_work_in_a_thread_goes_on_when_nothing_is_urgent() -> None:
    precedence = Precedence(DEADLINE, after=0)
    done: list[str] = []

    def work() -> None:
        precedence.give_way()
        done.append("work")

    working = threading.Thread(target=work)
    with precedence.urgent():
        with precedence.urgent():
            working.start()
        done.append("urgent")  # another is urgent still
    working.join(DEADLINE)
    assert done == ["urgent", "work"]
    precedence.give_way()  # at once


def test_it_gives_way_for_a_while_only() -> None:
    precedence = Precedence(most=0.001)
    with precedence.urgent():
        precedence.give_way()


def test_it_gives_way_to_what_follows_on_what_was_urgent() -> None:
    now, slept = 5.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds
        if len(slept) == 1:
            with precedence.urgent():  # another
                now += 0.5

    precedence = Precedence(most=2.0, after=0.25, clock=lambda: now, sleep=sleep)
    precedence.give_way()
    assert slept == []
    with precedence.urgent():
        now += 1.0
    precedence.give_way()
    assert slept == [0.25, 0.25]
    precedence.give_way()
    assert (slept, now) == ([0.25, 0.25], 7.0)


def test_an_error_in_what_is_urgent_ends_it() -> None:
    precedence = Precedence(DEADLINE, after=0)
    with contextlib.suppress(OSError), precedence.urgent():
        raise OSError
    working = threading.Thread(target=precedence.give_way)
    working.start()
    working.join(DEADLINE / 2)
    assert not working.is_alive()
