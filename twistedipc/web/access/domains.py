"""
The projects' own domains, kept in memory, and where a project's releases are. ``web.access``; asked with each request
by ``web.releases``, and for addresses by ``web.api`` and ``server``. The composition root makes the one `Domains`.

All domains of all projects are in memory (`storage.domains.MOST` at most), so that a request never asks the ledger,
also not for a host of no project. What changes them says so here when it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.storage import domains
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import DomainRow
from twistedipc.web.http.hosts import Hosts


class Domains:
    """
    The domains. ``hosts``: those without them; ``addresses_of``: where a project's release is without them, the best
    address first, or a preview of one.
    """

    _log = Logger()

    def __init__(self, hosts: Hosts, addresses_of: Callable[[str], list[str]]) -> None:
        self._of: dict[str, Sequence[DomainRow]] = {}  # by project, the main one first
        self._at: dict[str, DomainRow] = {}
        self._urls: dict[str, list[str]] = {}  # by project, of those that serve
        self._changes = 0
        self._addresses_of = addresses_of
        self._without = hosts
        self.hosts = hosts.with_domains(self._project_at)

    async def load(self, ledger: Ledger) -> None:
        """Read all of them: at the start, and when others have changed anything. Raises `LedgerUnavailable`."""
        while True:
            changes = self._changes
            reading: Deferred[list[DomainRow]] = ledger.read(domains.everything)
            rows = await reading
            if changes == self._changes:  # else what was read may be from before the change
                break
        of: dict[str, list[DomainRow]] = {project: [] for project in self._of}
        for row in rows:
            of.setdefault(row.project, []).append(row)
        for project, mine in of.items():
            self.changed(project, mine)

    async def refresh(self, ledger: Ledger) -> None:
        """Read them again, as far as that is possible now: a change can be committed whose answer was lost."""
        try:
            await self.load(ledger)
        except LedgerUnavailable as error:
            self._log.info("domains can't be read again now: {error}", error=error)
        except Exception:
            self._log.failure("domains can't be read again")

    def changed(self, project: str, rows: Iterable[DomainRow]) -> None:
        """These are the domains of a project from now on. To be called in the order of the commits."""
        self._changes += 1
        for row in self._of.pop(project, ()):
            if self._at[row.name].project == project:  # else another project has got it meanwhile
                del self._at[row.name]
        self._urls.pop(project, None)
        of = sorted(rows, key=lambda row: not row.main)
        if not of:
            return
        self._of[project] = of
        self._at.update({row.name: row for row in of})
        served = [row.name for row in of if not row.redirect and not self.why_not_served(row.name)]
        self._urls[project] = [self.address_of(name) for name in served]

    def of_project(self, project: str) -> Sequence[DomainRow]:
        """Return a project's domains, the main one first."""
        return self._of.get(project, ())

    def sent_to(self, host: str) -> str:
        """Return the domain to which this one leads; "" if it serves, or is no project's."""
        row = self._at.get(host)
        if row is None or not row.redirect:
            return ""
        main = self._of[row.project][0].name
        return "" if self.why_not_served(main) else main

    def why_not_served(self, name: str) -> str:
        """Return why a domain leads nowhere, in a sentence without its subject; "" if it is served."""
        return self._without.why_not(name)

    def address_of(self, name: str) -> str:
        """Return the address of a domain, with a final slash: as the platform's own addresses of releases are."""
        parts = urlsplit(self._addresses_of("project")[0])
        return f"{parts.scheme}://{name}{'' if parts.port is None else f':{parts.port}'}/"

    def urls_of(self, name: str) -> list[str]:
        """
        Return where a project's live release is, or a preview of one, each with a final slash: at the project's main
        domain first, at its others, and at the platform's own addresses.
        """
        return [*self._urls.get(name, ()), *self._addresses_of(name)]

    def url_of(self, name: str) -> str:
        """Return the first of `urls_of`."""
        return self.urls_of(name)[0]

    def _project_at(self, name: str) -> str | None:
        row = self._at.get(name)
        return None if row is None else row.project
