"""One log on a socket of its own. ``web.live``; docs/protocol.md describes the messages."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.server.boundaries import StateChange
from twistedipc.storage import attempts
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.changes import Changes
from twistedipc.web.live.conversation import Sources, stop_nothing
from twistedipc.web.live.followers import Follower
from twistedipc.web.live.output import Output


class LogConversation:
    """
    One log from behind record ``after`` to its end: `state`, `lines`, `gap`, `end`, and a close with 1000. Implements
    `conversation.Conversation`.
    """

    __slots__ = (
        "_after",
        "_attempt",
        "_build",
        "_changes",
        "_closed",
        "_follower",
        "_output",
        "_sources",
        "_stop_listening",
        "_told",
    )

    _log = Logger()

    def __init__(self, sources: Sources, output: Output, build: int, attempt: int, after: int) -> None:
        self._sources = sources
        self._output = output
        self._build = build
        self._attempt = f"{build}-{attempt}"
        self._after = after
        self._changes = Changes(output)
        self._follower: Follower | None = None
        self._told = False  # whether a change of this attempt's state was told
        self._closed = False
        self._stop_listening: Callable[[], None] = stop_nothing

    def begin(self) -> None:
        """See `Conversation`."""
        self._stop_listening = self._sources.states.listen(self._state_changed)
        beginning = Deferred.fromCoroutine(self._begin())
        beginning.addErrback(lambda failure: self._log.failure("a log's stream failed", failure))

    async def _begin(self) -> None:
        """Tell the state as it is, then follow the log."""
        try:
            row = await self._sources.ledger.read(attempts.get, self._attempt)
        except LedgerUnavailable:
            self._output.say_goodbye(CloseCode.UNAVAILABLE, "the log can't be read now; try again")
            return
        except Exception:
            self._output.say_goodbye(CloseCode.INTERNAL, "the log can't be read")
            raise
        if self._closed:
            return
        if row is None:  # it was deleted since the handshake began
            self._output.say_goodbye(CloseCode.INTERNAL, "there is no such attempt any more")
            return
        if not self._told:  # else a newer state was told meanwhile
            self._changes.tell(StateChange.of(row, self._sources.now()))
        self._follower = self._sources.crowds.follow(self._output, self._attempt, self._after, self._ended)
        self._follower.write_entries()

    def _ended(self) -> None:
        self._output.say_goodbye(CloseCode.NORMAL, "the log has ended")

    def heard(self, payload: bytes, binary: bool) -> None:
        """See `Conversation`."""
        self._output.say_goodbye(CloseCode.POLICY, "nothing is to be sent on this socket")

    def write_on(self) -> None:
        """See `Conversation`."""
        self._changes.write_kept()
        if self._follower is not None:
            self._follower.write_entries()

    def close(self) -> None:
        """See `Conversation`."""
        self._closed = True
        self._stop_listening()
        if self._follower is not None:
            self._follower.close()

    def _state_changed(self, change: StateChange) -> None:
        if change.build == self._build:
            self._told = self._told or f"{change.build}-{change.attempt}" == self._attempt
            self._changes.tell(change)
