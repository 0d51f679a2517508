"""What gives way to what people wait for, and what a switch leaves for later."""

from __future__ import annotations

import contextlib
import threading

from twistedipc.server.precedence import Precedence

#: Seconds for a thread to end.
DEADLINE = 60.0


def test_work_in_a_thread_goes_on_when_nothing_is_urgent() -> None:
    precedence = Precedence(DEADLINE)
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


def test_an_error_in_what_is_urgent_ends_it() -> None:
    precedence = Precedence(DEADLINE)
    with contextlib.suppress(OSError), precedence.urgent():
        raise OSError
    working = threading.Thread(target=precedence.give_way)
    working.start()
    working.join(DEADLINE / 2)
    assert not working.is_alive()
