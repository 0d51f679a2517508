"""
What tokens hold open: one registry, so that nothing outlives its token. ``web.access``; filled by ``auth``.

An authenticated caller gets a `Holding`. A response that lasts (a followed log, a WebSocket) keeps it when it takes
the connection over (`call.Takeover`). When the token or its parent is revoked, when it expires, when its person is
disabled or what they may do changes, or when a project that it is bound to is deleted, each of its holdings ends what
it keeps open.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.storage.rows import TokenRow
from twistedipc.storage.tokens import SESSION_IDLE

#: Seconds between two looks at which tokens have expired. (A clock may be set, so no timer can wait for a time of day.)
LOOK_SECONDS = 0.5


class Ending(Enum):
    """Why something that a token holds must end. The value is a sentence for people."""

    REVOKED = "the token was revoked"
    EXPIRED = "the token has expired"
    DISABLED = "the person whose token it is was disabled"
    IDLE = "nothing was asked for in this session for too long"
    CHANGED = "what the token may see has changed"  # the token is still good, and the client should ask again

    @property
    def token_is_over(self) -> bool:
        """Whether it is useless to ask again with this token."""
        return self is not Ending.CHANGED


def sees_one(token: TokenRow, project: str) -> bool:
    """Return whether the token may see this project by its name, and not because it may see all."""
    visible = token.allowance.projects_with("read")
    return visible is not None and project in visible


def is_of(token: TokenRow, person: int) -> bool:
    """Return whether the token is this person's."""
    return token.person is not None and token.person.id == person


class Holding:
    """One thing that a token holds open, from its authentication to `release`."""

    __slots__ = ("_end", "_held", "ended", "token")

    def __init__(self, held: HeldOpen, token: TokenRow) -> None:
        self._held = held
        self._end: Callable[[Ending], object] | None = None
        self.token = token
        self.ended: Ending | None = None

    def on_end(self, end: Callable[[Ending], object]) -> None:
        """Call ``end`` when this must end; at once, if it must already."""
        self._end = end
        if self.ended is not None:
            end(self.ended)

    def release(self) -> None:
        """Leave the registry: the response is over. Idempotent."""
        self._end = None
        self._held.released(self)

    def end(self, why: Ending) -> None:
        """End what the holding keeps open, now."""
        if self.ended is None:
            self.ended = why
            if self._end is not None:
                self._end(why)


class HeldOpen:
    """All holdings, by their tokens."""

    def __init__(self, clock: IReactorTime, now: Callable[[], int]) -> None:
        self._clock = clock
        self._now = now
        self._open: dict[int, set[Holding]] = {}  # by the token's id
        self._looking: IDelayedCall | None = None
        self._used: dict[int, int] = {}  # session -> when it was last used, of those that hold something
        self.changes = 0  # counts changes of tokens: what was read before a change may not hold any more

    def hold(self, token: TokenRow) -> Holding:
        """Return a new holding of this token, which is valid now."""
        holdings = self._open.setdefault(token.id, set())
        other = next(iter(holdings), None)
        # All holdings of a token share one row.
        holding = Holding(self, other.token if other is not None and other.token == token else token)
        holdings.add(holding)
        if token.session:
            self._used[token.id] = self._now()
        self._watch()
        return holding

    def released(self, holding: Holding) -> None:
        """Forget the holding; see `Holding.release`."""
        holdings = self._open.get(holding.token.id)
        if holdings is not None:
            holdings.discard(holding)
            if not holdings:
                del self._open[holding.token.id]
                self._used.pop(holding.token.id, None)
                self._watch()

    def revoked(self, token_id: int) -> None:
        """End what the token holds, and what the sessions begun with it hold."""
        self._end(Ending.REVOKED, lambda token: token_id in (token.id, token.parent))

    def project_gone(self, name: str) -> None:
        """
        End what those tokens hold that may see the deleted project, but not all: its name may come to mean another
        project.
        """
        self._end(Ending.CHANGED, lambda token: sees_one(token, name))

    def person_disabled(self, person: int) -> None:
        """End what the person's tokens and sessions hold."""
        self._end(Ending.DISABLED, lambda token: is_of(token, person))

    def person_changed(self, person: int) -> None:
        """End what the person's tokens and sessions hold, since they may do something else now."""
        self._end(Ending.CHANGED, lambda token: is_of(token, person))

    def changed(self, token_id: int) -> None:
        """End what the token holds, since it may do something else now."""
        self._end(Ending.CHANGED, lambda token: token_id == token.id)

    def tokens(self) -> list[TokenRow]:
        """Return the tokens that hold something, each once."""
        return self._tokens()

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def _end(self, why: Ending, concerned: Callable[[TokenRow], bool]) -> None:
        self.changes += 1
        for holdings in list(self._open.values()):
            for holding in list(holdings):
                if concerned(holding.token):
                    holding.end(why)

    def _watch(self) -> None:
        expiring = any(token.expires is not None for token in self._tokens())
        if expiring and self._looking is None:
            self._looking = self._clock.callLater(LOOK_SECONDS, self._look)
        elif not expiring and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        self._looking = None
        now = self._now()
        if any(token.expires is not None and token.expires <= now for token in self._tokens()):
            self._end(Ending.EXPIRED, lambda token: token.expires is not None and token.expires <= now)
        idle = {session for session, used in self._used.items() if used <= now - SESSION_IDLE}
        if idle:
            self._end(Ending.IDLE, lambda token: token.id in idle)
        self._watch()

    def _tokens(self) -> list[TokenRow]:
        """Return the tokens that have a holding, each once."""
        return [next(iter(holdings)).token for holdings in self._open.values()]
