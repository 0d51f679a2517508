"""The feed of state changes: each listener hears each committed change, in order. See `boundaries.StateFeed`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twistedipc.server.boundaries import StateChange


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
