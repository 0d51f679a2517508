"""
Which host names belong to the API, and which to the releases. ``web.http``; pure. The composition root makes the one
`Hosts`, for ``web.access`` and ``web.releases``.

A browser keeps one set of cookies for all ports of a host (RFC 6265, section 8.5). If the API and a release had a host
in common, the release's script could set, overwrite or push out the API's session. So no host is both: no release is
served on a host of the API, and on a host of the releases the API neither makes nor takes a session.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from twistedipc.builds.domains import is_below

#: The names by which every browser reaches its own machine. They are always the API's.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

#: A host with or without a port. Not what addresses may have beside that, and what only lenient parsers take for one: a
#: page's ``user@`` before it, something after an address in brackets, the beginning of a path.
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^][@:/?#\\\s]*)(?::[0-9]*)?")


@lru_cache(maxsize=1024)
def host_of(authority: str) -> str:
    """
    Return the host in a ``Host`` header or an address's authority, so that equal hosts are equal strings: in small
    letters, without the port, an address in its shortest form. "" if there is none.
    """
    if _AUTHORITY.fullmatch(authority) is None:
        return ""
    try:
        name = (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return ""
    address = address_of(name)
    return name if address is None else str(address)


def authority_of(authority: str, default_port: int) -> tuple[str, int]:
    """Return host and port of a ``Host`` header or an address's authority. ("", 0) if it is neither."""
    try:
        return host_of(authority), urlsplit(f"//{authority}").port or default_port
    except ValueError:
        return "", 0


@lru_cache(maxsize=1024)
def address_of(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address that this is, or None if it is a name. An IPv4 address in IPv6 form is the IPv4 address."""
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def spare_loopback(name: str) -> bool:
    """Return whether this is an address of the machine itself that the API doesn't use by default: 127.0.0.2, say."""
    address = address_of(name)
    return isinstance(address, IPv4Address) and address.is_loopback and str(address) not in LOOPBACK


class Hosts:
    """
    The hosts of one apiserver. ``api``: those of the API, beside the loopback's; ``domain``: a project's release is at
    PROJECT.DOMAIN; ``template``: it is also at this host, which has ``{project}`` in it; ``by_path``: hosts where it is
    at /PROJECT/, unless they are the API's; ``only_known``: browsers reach the API at its own hosts only.
    """

    def __init__(
        self,
        *,
        api: Iterable[str] = (),
        domain: str = "localhost",
        template: str = "",
        by_path: Iterable[str] = (),
        only_known: bool = False,
    ) -> None:
        self._api = LOOPBACK | set(map(host_of, api))
        # The parts before and after a project's name. The template goes first, since its names may be below the domain.
        templates = [host_of(template)] if "{project}" in template else []
        templates.append("{project}." + domain.lower().strip("."))
        self._names = [(before, after) for before, _, after in (each.partition("{project}") for each in templates)]
        self._by_path = set(map(host_of, by_path)) - self._api
        self._only_known = only_known
        self._at_domain: Callable[[str], str | None] = lambda name: None

    def with_domains(self, project_at: Callable[[str], str | None]) -> Hosts:
        """Return these hosts and the projects' own domains; ``project_at``: which project has this one."""
        hosts = copy.copy(self)
        hosts._at_domain = project_at
        return hosts

    def project_of(self, host: str) -> str | None:
        """
        Return the project that a ``Host`` header names, as PROJECT.DOMAIN does, or a domain of the project's own; None
        if it names none.
        """
        name = host_of(host)
        if name in self._api:
            return None
        found = self._named(name)
        if found is None:
            found = self._at_domain(name)
            return None if found is None or self.why_not(name) else found
        return found

    def _named(self, name: str) -> str | None:
        for before, after in self._names:
            if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after):
                return name[len(before) : len(name) - len(after)]
        return None

    def why_not(self, domain: str) -> str:
        """
        Return why a name can't be a project's own domain, in a sentence without its subject; "" if it can. A page can
        set cookies for the names above its own, so nothing below the API's hosts is anybody's either.
        """
        if domain in self._api:
            return "is a host of the API's"
        above = next((host for host in self._api if is_below(domain, host)), None)
        if above is not None:
            return f"is below {above}, a host of the API's, whose cookies a page there could set"
        if any(domain == host or is_below(domain, host) for host in self._by_path):
            return "is at or below the host that the releases of all projects share"
        if any(not before and f".{domain}".endswith(after) for before, after in self._names if after.startswith(".")):
            return "is at or below the domain of the platform's own addresses"
        return "" if self._named(domain) is None else "is an address that the platform gives to a project"

    def is_api(self, host: str) -> bool:
        """
        Return whether a ``Host`` header names the API. A page can give a name of its own the API's address, and then
        send requests as from the API's own origin (DNS rebinding): the header tells its name. It can't do so with an
        address, and a request without the header is from no browser.
        """
        name = host_of(host)
        return name in self._api or not host or address_of(name) is not None

    def is_above_api(self, host: str) -> bool:
        """Return whether a host of the API is below this one: what is said for all names below holds for it too."""
        return any(is_below(each, host) for each in self._api)

    def has_paths(self, host: str) -> bool:
        """Return whether releases are served below this host's path, as /PROJECT/."""
        name = host_of(host)
        return name in self._by_path or (spare_loopback(name) and name not in self._api)

    def has_sessions(self, host: str) -> bool:
        """Return whether the API may make and take sessions of browsers at this host."""
        if host_of(host) in self._api:
            return True
        return not (self._only_known or self.has_paths(host) or self.project_of(host) is not None)
