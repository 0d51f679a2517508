"""Waiting on either kind of reactor: `Gate`. Used by ``body_reader`` and ``body_sender``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Gate:
    """
    What one coroutine waits at, until it is opened: in a task of asyncio's, where the reactor stands on a loop
    (`LoopReactor`), and otherwise as code for Twisted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._loop: Any = getattr(clock, "loop", None)
        self._fire: Callable[[bool], None] | None = None

    @property
    def is_waited_at(self) -> bool:
        """Whether somebody waits."""
        return self._fire is not None

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Wait until it is opened. Return False if that wasn't within ``timeout`` seconds."""
        waited: Any = Deferred() if self._loop is None else self._loop.create_future()

        def fire(is_open: bool) -> None:
            if self._loop is None:
                waited.callback(is_open)
            elif not waited.done():  # its task may have been cancelled, and not know it yet
                waited.set_result(is_open)

        self._fire = fire
        timer = None if timeout is None else self._clock.callLater(timeout, self._go_on, False)
        try:
            result: bool = await waited
        finally:
            self._fire = None
            if timer is not None and timer.active():
                timer.cancel()
        return result

    def open(self) -> None:
        """Let go on what waits, if anything does."""
        self._go_on(True)

    def _go_on(self, is_open: bool) -> None:
        fire, self._fire = self._fire, None
        if fire is not None:
            fire(is_open)


def start(clock: IReactorTime, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
    """Run a coroutine that never fails, in a task where the reactor stands on a loop. Return what cancels it."""
    loop: Any = getattr(clock, "loop", None)
    if loop is not None:
        cancel: Callable[[], object] = loop.create_task(work).cancel
        return cancel
    return Deferred.fromCoroutine(work).cancel
