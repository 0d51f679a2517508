"""
For whom a project's releases are, and with which headers they are served: what its settings say, kept in memory, and
which releases its previews are. Used by ``web.releases``; ``web.api`` says when a project has changed, and ``server``
when one of its builds has ended. ``web.access``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.builds import labels
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.storage import preview_passwords, previews, projects
from twistedipc.storage.ledger import Ledger, LedgerUnavailable


class Sought(NamedTuple):
    """What the first part of an address is: a project, or a preview of one."""

    project: str
    settings: StaticSettings
    release: int | None = None  # of the preview; None: what is live
    ends: int | None = None  # when the preview leads nowhere any more, in milliseconds since the epoch
    password: str = ""  # the hash of the one by which guests see the preview; "": they see it as others do

    @property
    def for_team(self) -> bool:
        """Whether it is for the team alone."""
        return self.settings.for_team if self.release is None else self.settings.previews_for_team

    @property
    def for_some(self) -> bool:
        """Whether it is for the team alone, or for guests with a password too."""
        return self.for_team or bool(self.password)


class Audience:
    """What the projects' settings say. The ledger is asked once, and again after a change."""

    _log = Logger()

    #: How many projects are kept.
    MOST = 10_000

    #: How many addresses are read again in one transaction.
    AT_ONCE = 100

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        """
        :param now: milliseconds since the epoch
        """
        self._ledger = ledger
        self._now = now
        self._known: dict[str, dict[str, Sought]] = {}  # by project, and then by the first part of an address
        self._changes = 0

    def known(self, name: str) -> Sought | None:
        """Return what is known of the first part of an address; None: `look_up` knows."""
        found = self._known.get(name, {}).get(name)
        preview = labels.parse(name)
        if found is None and preview is not None:
            found = self._known.get(preview[1], {}).get(name)
        return None if found is None or _is_over(found, self._now()) else found

    async def look_up(self, name: str) -> Sought | None:
        """
        Return what the first part of an address is: a project's name, or else a preview's label and its project's
        name. None: it is neither. Raises `LedgerUnavailable`.
        """
        while True:
            changes = self._changes
            looking: Deferred[Sought | None] = self._ledger.read(_seek, name, self._now())
            found = await looking
            if changes == self._changes:  # else what was read may be from before the change
                break
        if found is not None:
            if len(self._known) >= self.MOST or len(self._known.get(found.project, ())) >= self.MOST:
                self._known.clear()
            self._known.setdefault(found.project, {})[name] = found
        return found

    def changed(self, project: str) -> None:
        """Forget what is known of a project: it has been changed, made or deleted, or has made another release."""
        self._changes += 1
        self._known.pop(project, None)

    async def refresh(self) -> None:
        """
        Read again what is known, as far as that is possible now: a change can be committed whose answer was lost, also
        after `changed` was called for it.
        """
        try:
            await self.read_again()
        except LedgerUnavailable as error:
            self._log.info("for whom releases are can't be read again now: {error}", error=error)
        except Exception:
            self._log.failure("for whom releases are can't be read again")

    async def read_again(self) -> None:
        """Read again what is known. Raises `LedgerUnavailable`."""
        names = [(project, name) for project, known in self._known.items() for name in known]
        for start in range(0, len(names), self.AT_ONCE):
            await self._read_again(names[start : start + self.AT_ONCE])

    async def _read_again(self, names: Sequence[tuple[str, str]]) -> None:
        while True:
            changes = self._changes
            reading: Deferred[list[Sought | None]] = self._ledger.read(
                _seek_all, [name for _, name in names], self._now()
            )
            rows = await reading
            if changes == self._changes:  # else what was read may be from before the change
                break
        for (project, name), found in zip(names, rows, strict=True):
            known = self._known.get(project, {})
            if name not in known or known[name] == found:
                continue  # what is as it was stays the same object, by which answers that are ready are found
            if found is None or found.project != project:
                del known[name]
            else:
                known[name] = found


def _seek_all(connection: Connection, names: Sequence[str], now: int) -> list[Sought | None]:
    return [_seek(connection, name, now) for name in names]


def _seek(connection: Connection, name: str, now: int) -> Sought | None:
    row = projects.get(connection, name)
    if row is not None:
        return Sought(row.name, previews.settings_of(row))
    preview = labels.parse(name)
    row = None if preview is None else projects.get(connection, preview[1])
    if preview is None or row is None:
        return None
    found = previews.find(connection, row.name, preview[0], now)
    if found is None:
        return None
    password = preview_passwords.get(connection, row.name)
    hashed = "" if password is None else password.hash
    return Sought(row.name, previews.settings_of(row), found.release.id, found.ends, hashed)


def _is_over(sought: Sought, now: int) -> bool:
    return sought.ends is not None and sought.ends <= now
