"""Calls that an application answers later: `Answering`. Used by ``link`` and ``plain``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.wire.errors import BadReply, CallFailed, Code, LocalProtocolError, NotConnected


class Asked(Protocol):
    """A received call."""

    @property
    def request(self) -> msgspec.Struct: ...


A = TypeVar("A", bound=Asked)


class Answering(Generic[A]):
    """
    The calls that one connection's application is answering. Each is answered or refused in the end; all are cancelled
    when the connection ends.

    :param peer: gives the peer's name, for logs
    :param answer: sends the reply to a call
    :param refuse: sends the error that a call has failed with: code, message and data. Raises `LocalProtocolError` if
        the data can't be sent
    :param is_over: whether nothing can be sent to the peer any more
    """

    _log = Logger()

    def __init__(
        self,
        peer: Callable[[], str],
        answer: Callable[[A, Any], None],
        refuse: Callable[[A, str, str, Any], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._peer = peer
        self._answer = answer
        self._refuse = refuse
        #: by their keys
        self.under_way: dict[int, Deferred[Any]] = {}
        self._is_over = is_over

    def wait(self, key: int, asked: A, answer: Awaitable[Any]) -> Deferred[None]:
        """
        Send the result of ``answer`` when there is one.

        :param key: identifies the call for `cancel`
        :returns: fires when the call was answered or refused
        """

        async def reply() -> Any:
            return await answer

        def forget(_: object) -> None:
            del self.under_way[key]

        answering = Deferred.fromCoroutine(reply())
        self.under_way[key] = answering
        answering.addCallback(lambda result: self._answer(asked, result))
        answering.addErrback(self.failed, asked)
        return answering.addBoth(forget)

    def failed(self, failure: Failure, asked: A) -> None:
        """Refuse a call that the application has failed to answer."""
        error = failure.value
        if self._is_over() and isinstance(error, CancelledError | NotConnected | CallFailed):
            return  # the peer is gone, and nothing is wrong with the application
        code, message, data = str(Code.INTERNAL), "an error inside; see the log there", None
        if isinstance(error, CallFailed):
            code, message, data = error.code, error.message, error.data
        elif isinstance(error, BadReply):
            self._log.failure("{peer}: a reply can't be sent", failure, peer=self._peer())
            code, message = error.code, error.message
        elif isinstance(error, CancelledError):
            code, message = str(Code.CLOSED), "the call was cancelled"
        else:
            request = type(asked.request).__qualname__
            self._log.failure("{peer}: {request} wasn't answered", failure, peer=self._peer(), request=request)
        try:
            self._refuse(asked, code, message, data)
        except LocalProtocolError:
            self._log.failure("{peer}: an error's data was left out", peer=self._peer())
            self._refuse(asked, code, message, None)

    def cancel(self, key: int) -> None:
        """Cancel the answer to this call, if it is still being answered."""
        if (answering := self.under_way.get(key)) is not None:
            answering.cancel()

    def end(self) -> None:
        """Cancel all answers: the connection has ended."""
        for answering in list(self.under_way.values()):
            answering.cancel()
