"""
The attempts that this builder holds, by name. Made by ``compose``; used by the whole builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twistedipc.builder.held import HeldAttempt


class HeldAttempts:
    """What is held, and what is about to be. A copy is iterated over, so that it may change meanwhile."""

    def __init__(self) -> None:
        self._held: dict[str, HeldAttempt] = {}  # by the folder's name
        self._accepting: set[str] = set()  # attempts whose folder is being written
        self._empty: Deferred[None] | None = None  # fires when nothing is held any more

    def __iter__(self) -> Iterator[HeldAttempt]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: HeldAttempt) -> None:
        """Hold this attempt."""
        self._held[held.name] = held

    def remove(self, held: HeldAttempt) -> None:
        """Hold this attempt no longer."""
        self._held.pop(held.name, None)
        if self._empty is not None and not self._held:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def named(self, name: str) -> HeldAttempt | None:
        """Return the attempt in the folder of this name, if it is held."""
        return self._held.get(name)

    def under_lease(self, attempt: str, lease: str) -> HeldAttempt | None:
        """Return the attempt under this lease, if it is held and the apiserver isn't done with it."""
        held = self._held.get(f"{attempt}-{lease}")
        return held if held is not None and held.known else None

    def attempt(self, attempt: str) -> HeldAttempt | None:
        """Return the attempt, whatever its lease, if it is held and the apiserver isn't done with it."""
        return next((held for held in self._held.values() if held.spec.attempt == attempt and held.known), None)

    @contextmanager
    def accepting(self, attempt: str) -> Iterator[None]:
        """Keep a slot for an attempt while its folder is being written."""
        self._accepting.add(attempt)
        try:
            yield
        finally:
            self._accepting.discard(attempt)

    def has(self, attempt: str) -> bool:
        """Return whether the attempt is held, or about to be."""
        return attempt in self._accepting or self.attempt(attempt) is not None

    @property
    def slots_taken(self) -> int:
        """How many attempts run, may start, or are being accepted."""
        return sum(held.life.about.takes_slot for held in self._held.values()) + len(self._accepting)

    async def until_empty(self, clock: IReactorTime, seconds: float) -> None:
        """Wait until nothing is held any more. Raises Twisted's TimeoutError after ``seconds``."""
        if self._held:
            empty = self._empty = Deferred()
            try:
                await empty.addTimeout(seconds, clock)
            finally:
                self._empty = None
