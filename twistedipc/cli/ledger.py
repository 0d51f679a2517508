"""
One piece of work on an apiserver's ledger, by a process that runs no reactor. Used by ``token create --config``, the
demo and ``doctor``, on the apiserver's own machine; the apiserver may be running.
"""

from __future__ import annotations

import os
import pwd
import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.storage import ledger
from twistedipc.storage.errors import LedgerUnavailable, SchemaTooNew
from twistedipc.storage.ledger import Ledger
from twistedipc.taps.config import ApiserverConfig

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Seconds after which the database is given up; its own waits are shorter.
DEADLINE = 60.0


@implementer(IReactorFromThreads)
class Turns:
    """The one part of a reactor that a ledger needs: it calls in this thread what the ledger's threads want called."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def run(self, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
        """Run ``work`` to its end. Raises what it raises, or `TimeoutError`."""
        results: list[_T | TwistedFailure] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        deadline = time.monotonic() + DEADLINE
        while not results:
            try:
                call = self._calls.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError("the database doesn't answer") from None
            call()
        result = results[0]
        if isinstance(result, TwistedFailure):
            result.raiseException()
            raise AssertionError("unreachable: raiseException raises")
        return result


def write_in_ledger(
    config: ApiserverConfig,
    query: Callable[Concatenate[Connection, _P], _T],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _T:
    """Run one of the ledger's write queries. Raises `Failure` if the ledger can't be used."""
    _check_owner(config)
    turns = Turns()
    opened = Ledger(turns, config.database_url, now=milliseconds)

    async def work() -> _T:
        await opened.open()
        try:
            return await opened.write(query, *args, **kwargs)
        finally:
            await opened.close()

    try:
        return turns.run(work())
    except (LedgerUnavailable, SchemaTooNew, TimeoutError) as error:
        raise Failure(ExitCode.UNAVAILABLE, str(error)) from error


def read_beside(config: ApiserverConfig, query: Callable[[Connection], _T]) -> _T | None:
    """
    Run one of the ledger's read queries, and write nothing; None if there is no ledger of this version. Raises
    `Failure` if it can't be used.
    """
    if not config.data.exists():
        return None
    _check_owner(config)
    try:
        return ledger.read_beside(config.database_url, query)
    except LedgerUnavailable as error:
        raise Failure(ExitCode.UNAVAILABLE, str(error)) from error


def milliseconds() -> int:
    """Return the time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _check_owner(config: ApiserverConfig) -> None:
    """
    Make the data folder if there is none. Refuse another user's folder, since the apiserver couldn't use the files
    that are made in it here.
    """
    try:
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = config.data.stat().st_uid
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"the data folder {config.data} can't be used: {error.strerror}") from error
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = str(owner)
        raise Failure(
            ExitCode.NOT_ALLOWED, f"the data folder {config.data} is the user {name}'s: run this as that user"
        )
