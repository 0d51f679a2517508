"""The next link of a remote: everything that can happen, in every outlook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.links.next_link import NextLink, Outlook
from twistedipc.ipc.wire.errors import LinkRefused, NotConnected

PEER = cast(Peer, object())


class Waiting:
    """Callers that wait."""

    def __init__(self, outlook: Outlook) -> None:
        self.clock = Clock()
        self.next = NextLink(self.clock)
        match outlook:
            case Outlook.OPEN:
                pass
            case Outlook.REFUSED:
                self.next.refuse("unauthorized", "another key")
            case Outlook.CLOSED:
                self.next.close("closed here")
            case Outlook.OVER:
                self.next.close("closed here")
                self.next.end()
        assert self.next.outlook is outlook
        self.outcomes: list[Any] = []
        self.ends: list[str] = []
        self.next.ended().addCallback(self.ends.append)

    def wait(self, timeout: float | None = None) -> Deferred[Peer]:
        return self.next.wait(timeout).addBoth(self.outcomes.append)


HAPPENS: dict[str, Callable[[NextLink], object]] = {
    "delay": lambda link: link.delay("nobody listens"),
    "refuse": lambda link: link.refuse("refused", "another name"),
    "close": lambda link: link.close("closed twice"),
    "end": lambda link: link.end(),
}

O = Outlook  # noqa: E741

#: what happens -> outlook -> the next one
NEXT: dict[str, dict[Outlook, Outlook]] = {
    "delay": {O.OPEN: O.OPEN, O.REFUSED: O.OPEN, O.CLOSED: O.CLOSED, O.OVER: O.OVER},
    "refuse": {O.OPEN: O.REFUSED, O.REFUSED: O.REFUSED, O.CLOSED: O.CLOSED, O.OVER: O.OVER},
    "close": {O.OPEN: O.CLOSED, O.REFUSED: O.CLOSED, O.CLOSED: O.CLOSED, O.OVER: O.OVER},
    "end": {O.OPEN: O.OVER, O.REFUSED: O.OVER, O.CLOSED: O.OVER, O.OVER: O.OVER},
}


@pytest.mark.parametrize("outlook", Outlook)
@pytest.mark.parametrize("what", HAPPENS)
def test_what_happens_in_each_outlook(what: str, outlook: Outlook) -> None:
    world = Waiting(outlook)
    why = world.next.why
    taken = HAPPENS[what](world.next)
    following = NEXT[what][outlook]
    assert world.next.outlook is following
    assert world.next.fails_now is (following is not Outlook.OPEN)
    assert world.next.is_closed is (following in (Outlook.CLOSED, Outlook.OVER))
    if what == "end":
        assert world.next.why == why
    else:
        assert taken is (outlook not in (Outlook.CLOSED, Outlook.OVER))
        assert (world.next.why == why) is not taken
    assert world.ends == ([world.next.why] if following is Outlook.OVER else [])
    error = world.next.error()
    assert type(error) is (LinkRefused if following is Outlook.REFUSED else NotConnected)
    assert str(error) == world.next.why
    assert world.next.error() is not error


def test_the_wait_ends_by_a_link_a_failure_the_time_or_its_caller() -> None:
    world = Waiting(Outlook.OPEN)
    world.wait()
    world.next.made(PEER, lambda: True)
    assert world.outcomes == [PEER]
    world.next.delay("nobody listens")
    world.wait(5.0)
    world.clock.advance(5.0)
    assert world.outcomes.pop().getErrorMessage() == "no link within 5 seconds: nobody listens"
    world.wait().cancel()
    assert world.outcomes.pop().check(CancelledError)
    world.wait(5.0)
    world.next.refuse("unauthorized", "another key")
    world.next.fail_waiting()
    assert world.outcomes.pop().value.code == "unauthorized"
    world.next.made(PEER, lambda: True)  # nothing waits any more
    assert world.outcomes == [PEER]
    assert world.clock.getDelayedCalls() == []


def test_the_first_may_end_the_link_again() -> None:
    world = Waiting(Outlook.OPEN)
    world.wait()
    world.wait()
    world.next.made(PEER, lambda: not world.outcomes)
    assert world.outcomes == [PEER]
    world.next.made(PEER, lambda: True)
    assert world.outcomes == [PEER, PEER]
