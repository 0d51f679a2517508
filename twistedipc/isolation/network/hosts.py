"""
Which hosts a step may reach: the addresses that are nobody's on the internet, and the verdict for one connection.
Pure, with the standard library alone: the gate is a process that stays small.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from twistedipc.builds.host_rules import Address, Rule, matches

#: What no build reaches unless the operator, or what its project is made of, allows it: this machine, its networks,
#: services of a cloud that answer by link-local addresses, and what isn't an address of one machine.
PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

#: Where clouds answer with what a machine may do. Only the operator can allow these.
METADATA = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fe80::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
    )
)


def within(address: Address, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


class Policy(NamedTuple):
    """
    What one step may reach.

    - ``open``: everything public; without it the allowed hosts alone
    - ``allowed``: hosts that follow from the project: its repository, its registries, those that it names
    - ``operators``: hosts that the operator of the builder allows
    - ``elsewhere``: what follows from the project is reached at no address of this machine
    - ``used``: with ``ask``, the hosts that the last green build used; None: they aren't asked about
    """

    open: bool = False
    allowed: Sequence[Rule] = ()
    operators: Sequence[Rule] = ()
    used: Collection[str] | None = None
    elsewhere: bool = False

    def names(self, host: str, port: int) -> bool:
        """Return whether a host is allowed by name."""
        return matches(self.allowed, host, port) or matches(self.operators, host, port)


class Verdict(NamedTuple):
    """Where a connection may go, in this order; or, if nowhere, why not."""

    addresses: Sequence[Address] = ()
    why: str = ""  # after "the network refused HOST: "


#: What is said of hosts that aren't allowed. What to set stands in `SET`.
NOT_KNOWN = "it isn't one of the hosts that this project's builds may reach"
IS_PRIVATE = "it is at a private address"
IS_METADATA = "it is at a link-local address, or another at which clouds have metadata services"
IS_LOCAL = "it is the builder's machine itself"
IS_OURS = "it is the platform itself"
NOT_USED = "the last build that succeeded didn't use it"
UNRESOLVED = "it has no address"


def cure(why: str, host: str, project: str) -> str:
    """Return the sentence that says what to do about a refusal."""
    if why in (NOT_KNOWN, NOT_USED):
        return f'If its builds need it: twistedipc project set {project} --host "{host}"'
    if why in (IS_PRIVATE, IS_METADATA):
        return f'The operator of the builder can allow it: allow = ["{host}"] under [isolation] in builder.toml'
    if why == IS_LOCAL:
        return "The operator of the apiserver can allow the host by http.internal_repositories in its configuration"
    return "No build reaches it" if why == IS_OURS else ""


def verdict(
    policy: Policy,
    host: str,
    port: int,
    addresses: Sequence[Address],
    *,
    ours: Collection[tuple[Address | None, int]],
    local: Collection[Address] = (),
) -> Verdict:
    """
    Return where a connection to a host may go.

    :param host: the name or the address that was asked for, in small letters
    :param addresses: what the host's name stands for
    :param ours: where link and API listen; None is every address of this machine
    :param local: this machine's own addresses
    """
    by_operator = matches(policy.operators, host, port)
    named = by_operator or matches(policy.allowed, host, port)
    if not named and not policy.open:
        return Verdict(why=NOT_KNOWN)
    if not addresses:
        return Verdict(why=UNRESOLVED)
    if policy.used is not None and not by_operator and host not in policy.used:
        return Verdict(why=NOT_USED)
    fine: list[Address] = []
    why = ""
    for address in addresses:
        wrong = _wrong_with(address, port, named, by_operator, ours, local)
        if not wrong and policy.elsewhere and not by_operator and (address in local or address.is_loopback):
            wrong = IS_LOCAL
        why = why or wrong
        if not wrong:
            fine.append(address)
    return Verdict(addresses=fine, why="" if fine else why)


def _wrong_with(
    address: Address,
    port: int,
    named: bool,
    by_operator: bool,
    ours: Collection[tuple[Address | None, int]],
    local: Collection[Address],
) -> str:
    """Return why one address can't be connected to; "" if it can."""
    own = address in local or address.is_loopback or address.is_unspecified
    if (address, port) in ours or (own and (None, port) in ours):
        return IS_OURS
    if within(address, METADATA) and not by_operator:
        return IS_METADATA
    return IS_PRIVATE if not named and (own or within(address, PRIVATE)) else ""
