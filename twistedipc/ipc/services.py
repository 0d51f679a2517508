"""
Links as services of Twisted's, for `twistd` and other applications: `listening_service`, `dialling_service`.

::

    def makeService(options):
        return listening_service(reactor, options["endpoint"], Calculator())

Several are put together in a `MultiService`. Each starts and stops with the application, and what keeps it from
starting ends `twistd` with a sentence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.application.service import Service as TwistedService
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from twistedipc.ipc.remote import Remote, dial
from twistedipc.ipc.service import Listening, listen
from twistedipc.ipc.wire.errors import BadEndpoint, BadKey

P = ParamSpec("P")
T = TypeVar("T", bound=Remote | Listening)
F = TypeVar("F")
S = TypeVar("S", bound=TwistedService)


class CannotStart(BadEndpoint, SystemExit):
    """
    A service can't start: its endpoint, its key or its name is wrong, or the endpoint is in use. ``str()`` says why.
    Where nothing catches it, as in `twistd`, the process prints that and ends with the code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message  # what Python prints when it ends by a SystemExit


class _LinkService(TwistedService, Generic[T]):
    """What both have in common: something that is made at the start, and closed at the end."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] = make
        self._made: T | None = None

    def startService(self) -> None:
        """Begin. Raises `CannotStart`."""
        try:
            self._made = self._make()
        except (BadEndpoint, BadKey, ValueError, OSError) as error:
            raise CannotStart(str(error)) from None
        super().startService()

    def stopService(self) -> Deferred[None]:
        """End the links. The Deferred fires when all are closed, within 5 seconds."""
        super().stopService()
        made, self._made = self._made, None
        return succeed(None) if made is None else made.close()

    def _running(self) -> T:
        if self._made is None:
            raise RuntimeError("the service isn't running")
        return self._made


class ListeningService(_LinkService[Listening]):
    """Listens while it runs. Made by `listening_service`."""

    @property
    def listening(self) -> Listening:
        """What `listen` has returned. RuntimeError while the service doesn't run."""
        return self._running()


class DiallingService(_LinkService[Remote]):
    """Stays linked while it runs. Made by `dialling_service`."""

    @property
    def remote(self) -> Remote:
        """What `dial` has returned. RuntimeError while the service doesn't run."""
        return self._running()


def _as_service(make: Callable[P, F]) -> Callable[[Callable[[Callable[[], F]], S]], Callable[P, S]]:
    """Decorate what makes a service of ``make``, to be called at the start with the parameters that are given now."""

    def decorated(service: Callable[[Callable[[], F]], S]) -> Callable[P, S]:
        @functools.wraps(service)
        def made(*args: P.args, **kwargs: P.kwargs) -> S:
            return service(lambda: make(*args, **kwargs))

        return made

    return decorated


@_as_service(listen)
def listening_service(begin: Callable[[], Coroutine[Any, Any, Listening]]) -> ListeningService:
    """
    Make an `IService` that listens while it runs. Takes what `listen` takes.

    Nothing is opened before it starts. If it can't start, `CannotStart` is raised, and ends `twistd`. Once it runs,
    its ``listening`` is what `listen` returns.
    """

    def make() -> Listening:
        outcome: list[Listening | Failure] = []
        Deferred.fromCoroutine(begin()).addBoth(outcome.append)  # it listens, or fails, at once
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    return ListeningService(make)


@_as_service(dial)
def dialling_service(begin: Callable[[], Remote]) -> DiallingService:
    """
    Make an `IService` that stays linked with a service while it runs. Takes what `dial` takes.

    If it can't start, `CannotStart` is raised, and ends `twistd`; that no process listens just now doesn't keep it from
    starting. Once it runs, its ``remote`` is what `dial` returns.
    """
    return DiallingService(begin)
