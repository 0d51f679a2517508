"""
For whom a project's releases are, and with which headers they are served: what its settings say, kept in memory. Used
by ``web.releases``; ``web.api`` says when a project has changed. ``web.access``.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from twistedipc.publish.targets.registry import find
from twistedipc.publish.targets.static.target import Static, StaticSettings
from twistedipc.storage import projects
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import ProjectRow


class Audience:
    """What the projects' settings say. The ledger is asked once, and again after a change."""

    #: How many projects are kept.
    MOST = 10_000

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, StaticSettings] = {}
        self._changes = 0

    def known(self, project: str) -> StaticSettings | None:
        """Return what is known of a project; None: `look_up` knows."""
        return self._known.get(project)

    async def look_up(self, project: str) -> StaticSettings | None:
        """Return what a project's settings say; None: there is no such project. Raises `LedgerUnavailable`."""
        while True:
            changes = self._changes
            looking: Deferred[ProjectRow | None] = self._ledger.read(projects.get, project)
            row = await looking
            if changes == self._changes:  # else what was read may be from before the change
                break
        if row is None:
            return None
        found = find(row.targets, Static.name)
        # A project without the target may still serve what it released once: as it was, to everybody.
        settings = found if isinstance(found, StaticSettings) else StaticSettings()
        if len(self._known) >= self.MOST:
            self._known.clear()
        self._known[project] = settings
        return settings

    def changed(self, project: str) -> None:
        """Forget what is known of a project: it has been changed, made or deleted."""
        self._changes += 1
        self._known.pop(project, None)
