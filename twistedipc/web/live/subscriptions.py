"""
Many subscriptions on one socket: builds' states and gists, and logs, as the client asks for them. ``web.live``;
docs/protocol.md describes the messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.server.boundaries import GistRound, StateChange
from twistedipc.storage import builds
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.changes import MAX_KEPT, Changes
from twistedipc.web.live.conversation import Sources, stop_nothing
from twistedipc.web.live.followers import Follower
from twistedipc.web.live.messages import StreamError, Subscribe, Subscribed, Unsubscribe, frame_of, requests
from twistedipc.web.live.output import Output

#: The most subscriptions of one socket.
MAX_SUBSCRIPTIONS = 100

#: The most requests of a client that wait for their turn.
MAX_WAITING = 2 * MAX_SUBSCRIPTIONS


class _Topics:
    """The projects whose builds the client has subscribed to, and may see."""

    __slots__ = ("_visible", "_wanted")

    def __init__(self, visible: frozenset[str] | None) -> None:
        self._visible = visible  # projects; None: all
        self._wanted: set[str | None] = set()  # projects; None: all

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, project: str | None) -> None:
        """Subscribe to the builds of a project; None: of all projects."""
        self._wanted.add(project)

    def discard(self, project: str | None) -> None:
        """End the subscription."""
        self._wanted.discard(project)

    def may_see(self, project: str) -> bool:
        """Return whether the caller's token is valid for this project."""
        return self._visible is None or project in self._visible

    def want(self, project: str) -> bool:
        """Return whether the client has subscribed to this project's builds."""
        return (None in self._wanted or project in self._wanted) and self.may_see(project)

    @property
    def want_all(self) -> bool:
        """Whether the client has subscribed to the builds of all projects."""
        return None in self._wanted and self._visible is None


class StreamConversation:
    """Answers the client's requests one after the other, in their order. Implements `conversation.Conversation`."""

    _log = Logger()

    def __init__(
        self, sources: Sources, output: Output, projects: frozenset[str] | None, *, max_kept: int = MAX_KEPT
    ) -> None:
        """
        :param projects: the projects that the caller may see; None: all.
        :param max_kept: how many changes are kept for a socket that takes nothing.
        """
        self._sources = sources
        self._output = output
        self._changes = Changes(output, max_kept)
        self._topics = _Topics(projects)
        self._followers: dict[tuple[int, int], Follower] = {}  # by build and attempt
        self._waiting: deque[bytes] = deque()  # requests
        self._answering = False
        self._closed = False
        self._stop_states: Callable[[], None] = stop_nothing
        self._stop_gists: Callable[[], None] = stop_nothing

    def begin(self) -> None:
        """See `Conversation`."""
        self._stop_states = self._sources.states.listen(self._state_changed)

    def heard(self, payload: bytes, binary: bool) -> None:
        """See `Conversation`."""
        if binary:
            self._output.say_goodbye(CloseCode.UNSUPPORTED, "text messages only")
        elif len(self._waiting) >= MAX_WAITING:
            self._output.say_goodbye(CloseCode.POLICY, "too many messages")
        else:
            self._waiting.append(payload)
            self._answer_next()

    def write_on(self) -> None:
        """See `Conversation`. The logs take turns, so that none starves the others."""
        self._answer_next()
        self._changes.write_kept()
        active = deque(self._followers.values())
        while active and not self._output.paused:
            follower = active.popleft()
            if follower.write_entries(once=True):
                active.append(follower)
        # The log that was first this time is last next time.
        for key in list(self._followers)[:1]:
            self._followers[key] = self._followers.pop(key)

    def close(self) -> None:
        """See `Conversation`."""
        self._closed = True
        self._stop_states()
        self._stop_gists()
        self._waiting.clear()
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    # -- requests

    def _answer_next(self) -> None:
        if self._may_answer() and not self._answering:
            self._answering = True
            answering = Deferred.fromCoroutine(self._answer_all())
            answering.addErrback(lambda failure: self._log.failure("a subscription failed", failure))

    def _may_answer(self) -> bool:
        """
        Return whether the next request may be answered now. While the client doesn't read, its requests wait; they are
        bounded.
        """
        return bool(self._waiting) and not self._closed and not self._output.paused

    async def _answer_all(self) -> None:
        try:
            while self._may_answer():
                await self._answer(self._waiting.popleft())
        finally:
            self._answering = False

    async def _answer(self, payload: bytes) -> None:
        try:
            request = requests.decode(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            self._say(StreamError("bad_message", str(error)))
            return
        match request:
            case Unsubscribe(topic="builds"):
                self._topics.discard(request.project)
                if not self._topics:
                    self._stop_gists()
            case Unsubscribe():
                for key in [k for k in self._followers if k[0] == request.build]:
                    if request.attempt in (None, key[1]):
                        self._followers.pop(key).close()
            case Subscribe() if len(self._topics) + len(self._followers) >= MAX_SUBSCRIPTIONS:
                self._say(StreamError("limit", f"at most {MAX_SUBSCRIPTIONS} subscriptions", request.build))
            case Subscribe(topic="builds"):
                self._subscribe_builds(request.project)
            case Subscribe():
                try:
                    await self._subscribe_log(request)
                except LedgerUnavailable as error:
                    self._say(StreamError("unavailable", str(error), request.build))

    def _subscribe_builds(self, project: str | None) -> None:
        if project is not None and not self._topics.may_see(project):
            self._say(StreamError("not_found", "there is no such project"))
            return
        self._topics.add(project)
        # A new listener is told the gists that hold now, which the client needs for this topic. It begins before the
        # old one ends, so that nothing is missed in between.
        stop, self._stop_gists = self._stop_gists, self._sources.gists.listen(self._gists_changed)
        stop()
        self._say(Subscribed("builds", project))

    async def _subscribe_log(self, request: Subscribe) -> None:
        number = request.build
        row = None
        if number is not None and 0 < number < 1 << 53 and 0 <= request.after < 1 << 53:
            row = await self._sources.ledger.read(builds.get, number)
        attempt = request.attempt or (row.attempt if row is not None else 0)
        if row is None or number is None or not self._topics.may_see(row.project) or not 1 <= attempt <= row.attempt:
            self._say(StreamError("not_found", "there is no such build, or no such attempt of it", number))
            return
        if self._closed:
            return
        key = (number, attempt)
        if key in self._followers:
            self._followers.pop(key).close()
        self._say(Subscribed("log", row.project, number, attempt))
        follower = self._followers[key] = self._sources.crowds.follow(
            self._output, f"{number}-{attempt}", request.after, lambda: self._forget(key), tagged=True
        )
        follower.write_entries()

    def _forget(self, key: tuple[int, int]) -> None:
        self._followers.pop(key, None)

    def _say(self, message: msgspec.Struct) -> None:
        if not self._closed:
            self._output.write_frames(frame_of(message))

    # -- changes

    def _state_changed(self, change: StateChange) -> None:
        if self._topics.want(change.project):
            self._changes.tell(change)

    def _gists_changed(self, round: GistRound) -> None:
        if self._topics.want_all:
            self._changes.tell_all(round, round.frames)
        elif wanted := [gist for gist in round if self._topics.want(gist.project)]:
            self._changes.tell_all(wanted, b"".join([gist.frame for gist in wanted]))
