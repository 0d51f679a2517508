"""
What `twistedipc doctor` says of certificates and of projects' domains, from the apiserver's machine. ``cli``; used by
``doctor``.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from sqlalchemy import Connection

from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.cli.failures import Failure
from twistedipc.cli.ledger import read_beside
from twistedipc.cli.output import local_time, note
from twistedipc.storage import domains, projects
from twistedipc.storage.rows import DomainRow
from twistedipc.taps.certificates import BadCertificate, Certificate, Pair, read_certificate
from twistedipc.taps.config import ApiserverConfig, is_tls
from twistedipc.web.http.hosts import address_of, host_of

#: Seconds for all names together, how many of them are looked up at a time, and how many at all.
SECONDS = 10.0
AT_A_TIME = 16
MOST = 200

#: Where names lead: their addresses, none if a name is known nowhere. What isn't in it wasn't found out in time.
Resolve = Callable[[Sequence[str]], Mapping[str, Collection[str]]]


def look_at_hosting(config: ApiserverConfig, resolve: Resolve | None = None) -> Iterator[str]:
    """Say what is wrong with the certificates, and with the domains that the ledger has, as far as it can be read."""
    try:
        found = read_beside(config, _hosted) or ([], [])
    except Failure:
        found = [], []  # what the ledger says can't be seen: that was said
    rows, names = found
    rows = [row for row in rows if not config.hosts.why_not(row.name)]
    yield from _certificates(config, rows, names)
    yield from _records(config, rows[:MOST], resolve or look_up)


def _hosted(connection: Connection) -> tuple[list[DomainRow], list[str]]:
    return domains.everything(connection), [row.name for row in projects.list_all(connection, None)]


def _certificates(config: ApiserverConfig, rows: Sequence[DomainRow], names: Sequence[str]) -> Iterator[str]:
    of_projects = [_host_of_project(config, name) for name in names]
    domains_of_projects = [row.name for row in rows]
    api = host_of(urlsplit(config.api_url).netloc)
    usable: list[Certificate] = []
    for files in config.certificates:
        try:
            usable.append(read_certificate(Pair(files.chain, files.key)))
        except BadCertificate as error:
            yield f"certificates: {error}"
    if config.certificates and not config.tls_endpoints:
        yield "certificates: none is used: neither http.listen nor releases.listen has an endpoint such as tls:443"
    for certificate in usable:
        yield from _one_certificate(certificate, {api, *of_projects, *domains_of_projects})
    wanted = [*domains_of_projects, *of_projects] if any(map(is_tls, config.releases.endpoints)) else []
    wanted += [api] if is_tls(config.http.listen) else []
    lacking = [name for name in wanted if address_of(name) is None and not any(each.covers(name) for each in usable)]
    if usable and lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        yield (
            f"no certificate is for {', '.join(lacking[:5])}{more}: browsers refuse what they get there. Name one in "
            "[[certificates]]"
        )


def _one_certificate(certificate: Certificate, served: Collection[str]) -> Iterator[str]:
    if certificate.pair.key.stat().st_mode & 0o004:
        yield f"{certificate.pair.key}, the key of a certificate, can be read by every user of this machine: chmod 640"
    what = f"the certificate in {certificate.pair.chain}, for {', '.join(certificate.names)},"
    now = datetime.now(UTC)
    if certificate.ends - now <= timedelta(days=WARNED_DAYS):
        when = "has ended" if certificate.ends <= now else "ends"
        yield f"{what} {when} on {local_time(certificate.ends)}: renew it (the apiserver reads new files itself)"
    if not any(map(certificate.covers, served)):
        yield f"{what} is for no host at which this apiserver serves anything"


def _records(config: ApiserverConfig, rows: Sequence[DomainRow], resolve: Resolve) -> Iterator[str]:
    if not rows:
        return
    own = sorted({host_of(urlsplit(config.api_url).netloc), _host_of_project(config, rows[0].project)})
    found = resolve([*own, *(row.name for row in rows)])
    here = {address for name in own for address in found.get(name, ())}
    for row in rows:
        addresses = found.get(row.name)
        if addresses is None:
            note(f"where {row.name} leads couldn't be found out: no name server has answered in time")
        elif not addresses:
            yield f"{row.name}, a domain of project {row.project}, has no address: set an A or AAAA record for it"
        elif not here.intersection(addresses) and not any(map(_is_own, addresses)):
            note(
                f"{row.name}, a domain of project {row.project}, leads to {_listed(addresses)}, and the platform is at "
                f"{_listed(here) or 'no address that is known here'}: that is right only if what is there passes it on"
            )


def look_up(names: Sequence[str]) -> dict[str, Collection[str]]:
    """Return where names lead, as `Resolve` has it. Blocks for `SECONDS` at most."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)
    found: dict[str, Collection[str]] = {}
    # A name server that doesn't answer holds a thread for longer than anybody waits here.
    threads = [threading.Thread(target=_work, args=(waiting, found), daemon=True) for _ in names[:AT_A_TIME]]
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    return dict(found)


def _work(waiting: SimpleQueue[str], found: dict[str, Collection[str]]) -> None:
    while True:
        try:
            name = waiting.get_nowait()
        except Empty:
            return
        try:
            found[name] = {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN:
                found[name] = ()
        except (OSError, UnicodeError):
            found[name] = ()


def _host_of_project(config: ApiserverConfig, project: str) -> str:
    return host_of(urlsplit(config.release_urls(project)[0]).netloc)


def _is_own(address: str) -> bool:
    """Return whether this machine has the address: only such a one can be bound."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as trying:
            trying.bind((address, 0))
    except OSError:
        return False
    return True


def _listed(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses)[:4])
