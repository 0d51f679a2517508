"""The feed of state changes: who listens hears each committed change, in order. Implements `boundaries.StateFeed`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twistedipc.builds.states import STATES
from twistedipc.server.boundaries import StateChange
from twistedipc.storage.rows import AttemptRow


class Feed:
    """Calls every listener with every change. A listener that raises is logged and doesn't harm the others."""

    _log = Logger()

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[StateChange], None]] = {}

    def listen(self, heard: Callable[[StateChange], None]) -> Callable[[], None]:
        """See `boundaries.StateFeed`."""
        key = object()
        self._listeners[key] = heard

        def deafen() -> None:
            self._listeners.pop(key, None)

        return deafen

    def publish(self, change: StateChange) -> None:
        """See `boundaries.StateFeed`."""
        for heard in list(self._listeners.values()):
            try:
                heard(change)
            except Exception:
                self._log.failure("a listener of state changes failed")


def change_of(row: AttemptRow, now: int) -> StateChange:
    """The change that an attempt's new row stands for."""
    return StateChange(
        build=row.build,
        attempt=row.number,
        project=row.project,
        state=row.state.value,
        ended=STATES[row.state].ended,
        tone=STATES[row.state].tone.value,
        reason=row.reason,
        time=now,
    )
