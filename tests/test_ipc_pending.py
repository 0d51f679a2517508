"""`PendingReply` and Twisted's own Deferred, put through the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import (
    AlreadyCalledError,
    CancelledError,
    Deferred,
    fail,
    inlineCallbacks,
    setDebugging,
    succeed,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twistedipc.ipc.connections import pending
from twistedipc.ipc.connections.pending import PendingReply

Made = Callable[[Callable[[Deferred[Any]], None]], Deferred[Any]]


class Boom(Exception):
    """What goes wrong here."""


#: What a callback does with what it gets.
GIVES = ("the same", "none", "a number", "a failure", "a fired one", "a failed one", "a later one", "a paused one")
DOES = ("nothing", "raises", "pauses", "unpauses", "adds", "fires", "cancels")
ADDS = ("both", "callback", "errback", "pair", "with arguments", "with names")

callbacks = st.tuples(st.just("add"), st.sampled_from(ADDS), st.sampled_from(GIVES), st.sampled_from(DOES))
others = st.tuples(
    st.sampled_from(
        ("fire", "fire", "fail", "fire with a failure", "pause", "unpause", "cancel", "later", "later fails", "wait",
         "chain", "await", "generator", "time")
    )
)  # fmt: skip


class Story:
    """All that one Deferred goes through, and what is seen of it."""

    def __init__(self, made: Made) -> None:
        self.clock = Clock()
        self.seen: list[Any] = []
        self.later: list[Deferred[Any]] = []  # those that haven't fired, or wait
        self.others: list[Deferred[Any]] = []
        self.pauses = 0  # of ours: what chains have paused is theirs
        self.awaited = False
        self.deferred = made(lambda _: self.seen.append("cancelled"))

    def show(self, value: object) -> object:
        if isinstance(value, Failure):
            return type(value.value)
        return "a Deferred" if isinstance(value, Deferred) else value

    def added(self, number: int, gives: str, does: str) -> Callable[..., Any]:
        def callback(result: Any, *arguments: Any, **named: Any) -> Any:
            at_work = self.show(self.deferred.result), self.deferred.called
            self.seen.append((number, self.show(result), arguments, named, *at_work))
            self.does(does)
            return self.gives(gives, result)

        return callback

    def does(self, what: str) -> None:
        match what:
            case "raises":
                raise Boom
            case "pauses" if not self.awaited:  # Twisted's would go round for ever
                self.pause()
            case "unpauses":
                self.unpause()
            case "adds":
                self.deferred.addBoth(self.added(-1, "the same", "nothing"))
            case "fires":
                self.deferred.callback("again")
            case "cancels":
                self.deferred.cancel()

    def pause(self) -> None:
        self.pauses += 1
        self.deferred.pause()

    def unpause(self) -> None:
        if self.pauses:
            self.pauses -= 1
            self.deferred.unpause()

    def gives(self, what: str, result: Any) -> Any:
        match what:
            case "none":
                return None
            case "a number":
                return 7
            case "a failure":
                return Failure(Boom())
            case "a fired one":
                return succeed("fired")
            case "a failed one":
                return fail(Boom())
            case "a later one":
                return self._made()
            case "a paused one":
                made = self._made()
                made.pause()
                made.callback("paused")
                return made
        return result

    def _made(self) -> Deferred[Any]:
        made: Deferred[Any] = Deferred()
        self.later.append(made)
        self.others.append(made)
        return made

    def step(self, number: int, step: tuple[str, ...]) -> None:
        try:
            self._step(number, step)
        except (AlreadyCalledError, Boom) as error:
            self.seen.append(type(error))
        deferred = self.deferred
        told = deferred._debugInfo is not None and deferred._debugInfo.failResult is not None
        self.seen.append((deferred.called, deferred.paused, self.show(getattr(deferred, "result", "no result")), told))

    def _step(self, number: int, step: tuple[str, ...]) -> None:
        deferred = self.deferred
        match step:
            case ("add", how, gives, does):
                self._add(how, self.added(number, gives, does))
            case ("fire",):
                deferred.callback("it")
            case ("fail",):
                deferred.errback(Boom())
            case ("fire with a failure",):
                deferred.callback(Failure(Boom()))
            case ("pause",):
                self.pause()
            case ("unpause",):
                self.unpause()
            case ("cancel",):
                deferred.cancel()
            case ("later" | "later fails",) if self.later:
                later = self.later.pop()
                if later.called:
                    later.unpause()
                elif step[0] == "later":
                    later.callback("late")
                else:
                    later.errback(Boom())
            case ("wait",):
                deferred.addTimeout(1, self.clock)
            case ("time",):
                self.clock.advance(2)
            case ("chain",):
                # Once it is given to another, it is that one's; so it is the other that goes on.
                outer = succeed(None).addCallback(lambda _: deferred)
                self._watch(outer, number)
            case ("await",):
                self.awaited = True
                self._watch(Deferred.fromCoroutine(self._awaited()), number)
            case ("generator",):
                self.awaited = True
                self._watch(self._generated(), number)

    def _add(self, how: str, callback: Callable[..., Any]) -> None:
        match how:
            case "both":
                self.deferred.addBoth(callback)
            case "callback":
                self.deferred.addCallback(callback)
            case "errback":
                self.deferred.addErrback(callback)
            case "pair":
                self.deferred.addCallbacks(callback, callback)
            case "with arguments":
                self.deferred.addCallback(callback, 1, 2)
            case "with names":
                self.deferred.addBoth(callback, name="it")

    def _watch(self, deferred: Deferred[Any], number: int) -> None:
        self.others.append(deferred)
        deferred.addBoth(lambda result: self.seen.append((number, "other", self.show(result))))

    async def _awaited(self) -> Any:
        return await self.deferred

    @inlineCallbacks
    def _generated(self) -> Generator[Deferred[Any], Any, Any]:
        result = yield self.deferred
        return result

    def end(self) -> None:
        """Nobody is told of the failures that are left."""
        for each in self.later:
            if each.called:
                each.unpause()
        while self.pauses:
            self.unpause()
        for each in (self.deferred, *self.others):
            each.addErrback(lambda _: None)


def compare(steps: list[tuple[str, ...]]) -> None:
    """Both see the same after each of the steps."""
    theirs, ours = Story(Deferred), Story(PendingReply)
    for number, step in enumerate(steps):
        theirs.step(number, step)
        ours.step(number, step)
        assert ours.seen == theirs.seen
    theirs.end()
    ours.end()


@given(st.lists(callbacks | others, max_size=12))
def test_it_does_what_twisteds_does(steps: list[tuple[str, ...]]) -> None:
    compare(steps)


@pytest.mark.parametrize("does", DOES)
@pytest.mark.parametrize("gives", GIVES)
def test_each_way_before_it_fires(gives: str, does: str) -> None:
    compare([("add", "callback", gives, does), ("add", "both", "the same", "nothing"), ("fire",), ("later",)])


def test_it_is_a_deferred_for_whoever_awaits_it() -> None:
    reply = PendingReply(lambda _: None)

    async def wait() -> Any:
        return await reply

    waiting = Deferred.fromCoroutine(wait())
    reply.callback("it")
    heard: list[Any] = []
    waiting.addCallback(heard.append)
    assert heard == ["it"]


def test_cancelling_asks_the_canceller() -> None:
    asked: list[Deferred[Any]] = []
    reply = PendingReply(asked.append)
    failures: list[Failure] = []
    reply.addErrback(failures.append)
    reply.cancel()
    assert asked == [reply]
    assert [failure.type for failure in failures] == [CancelledError]


def test_the_canceller_is_let_go_with_the_reply() -> None:
    class Canceller:
        def cancel(self, deferred: Deferred[Any]) -> None:
            raise AssertionError("nothing is cancelled")

    canceller = Canceller()
    gone = weakref.ref(canceller)
    reply = PendingReply(canceller.cancel)
    del canceller
    assert gone() is not None
    reply.callback("it")
    assert gone() is None


def test_a_twisted_with_other_names_runs_the_callbacks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "_KNOWN", False)
    run = []
    monkeypatch.setattr(Deferred, "_runCallbacks", lambda self: run.append(self))
    reply = PendingReply(lambda _: None)
    reply.addCallback(str)
    reply.callback(1)
    assert run == [reply]


def test_debugging_tells_who_made_it_and_who_fired_it() -> None:
    setDebugging(True)
    try:
        reply = PendingReply(lambda _: None)
        reply.callback("it")
        with pytest.raises(AlreadyCalledError, match=r"(?s)test_debugging.*test_debugging"):
            reply.callback("again")
    finally:
        setDebugging(False)
