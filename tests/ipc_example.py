"""The messages and the recording application that the tests of `twistedipc.ipc` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from twistedipc.ipc.connections.peer import Application, Peer
from twistedipc.ipc.testing import settings
from twistedipc.ipc.wire.errors import CallFailed
from twistedipc.ipc.wire.messages import Vocabulary
from twistedipc.ipc.wire.settings import SessionSettings


class Note(msgspec.Struct, frozen=True, tag="note", tag_field="type"):
    n: int
    text: str = ""


class Ask(msgspec.Struct, frozen=True, tag="ask", tag_field="type"):
    what: str


class Told(msgspec.Struct, frozen=True):
    """A reply; needs no tag."""

    answer: str


VOCABULARY = Vocabulary(Note | Ask, answers={Ask: Told}, calls={Ask: Told})


class Recorder:
    """An application that notes all that happens to it, and answers as it is asked to."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.messages: list[Note] = []
        self.calls: list[Ask] = []
        self.lost: list[str] = []
        self.pauses: list[str] = []
        self.cancelled = 0
        self.pending: list[Deferred[Told]] = []
        self.on_message: Callable[[Note], object] | None = None

    def message_received(self, message: Note) -> None:
        self.messages.append(message)
        if self.on_message is not None:
            self.on_message(message)

    def call_received(self, request: Ask) -> Any:
        self.calls.append(request)
        match request.what:
            case "later":
                return self._later()
            case "coroutine":
                return self._coroutine()
            case "refuse":
                raise CallFailed("no-such-thing", "there is no such thing")
            case "fail":
                raise ZeroDivisionError("a secret of this side")
            case "wrong type":
                return Note(1)
        return Told("about " + request.what)

    def _later(self) -> Deferred[Told]:
        def cancelled(_: object) -> None:
            self.cancelled += 1

        deferred: Deferred[Told] = Deferred(cancelled)
        self.pending.append(deferred)
        return deferred

    async def _coroutine(self) -> Told:
        return Told("in time")

    def connection_lost(self, reason: str) -> None:
        self.lost.append(reason)

    def writing_paused(self) -> None:
        self.pauses.append("paused")

    def writing_resumed(self) -> None:
        self.pauses.append("resumed")


class Recorders(list[Recorder]):
    """An application factory that keeps what it made."""

    def __call__(self, peer: Peer) -> Application:
        self.append(Recorder(peer))
        return self[-1]


def builder(**changes: Any) -> SessionSettings:
    """Settings of one side."""
    return _settings({"role": "builder", "peer_role": "apiserver"} | changes)


def apiserver(**changes: Any) -> SessionSettings:
    """Settings of the other."""
    return _settings({"role": "apiserver", "peer_role": "builder"} | changes)


def _settings(changes: dict[str, Any]) -> SessionSettings:
    return settings(changes.pop("vocabulary", VOCABULARY), **changes)
