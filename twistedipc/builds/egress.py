"""
The network of builds: what of it a project may have, and the ledger of what a build contacted. Bottom layer, pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

#: What steps may reach: nothing, the hosts that are known (the project's repository and registries, and those that are
#: allowed), or everything public. Each of them is part of the next.
NetworkMode = Literal["none", "registries", "open"]

#: Whether, with ``registries``, a build may contact an allowed host that the last build that succeeded didn't.
EgressMode = Literal["record", "ask"]

#: The most hosts, each with its port, in the ledger of an attempt.
MAX_CONTACTS = 200

MODES: Sequence[NetworkMode] = get_args(NetworkMode)


def narrower(one: NetworkMode, other: NetworkMode) -> NetworkMode:
    """Return the mode that allows less."""
    return min(one, other, key=MODES.index)


class Contact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A host that a build contacted, or was refused, at one port."""

    host: str  # its name, where it is known; else its address
    port: int  # 0: only its name was asked for
    first: int = 0  # when that began, in milliseconds since the epoch
    step: str = ""  # the name of the step that was the first
    address: str = ""
    connections: int = 0
    sent: int = 0  # bytes; those that don't go through the gate aren't counted
    received: int = 0
    udp: bool = False
    why: str = ""  # why it was refused; "": it wasn't


class Egress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The egress ledger of an attempt."""

    contacts: list[Contact] = []
    more: int = 0  # how many found no room
    lost: bool = False  # the process that kept it has died: it isn't whole


def reached(egress: Egress) -> list[str]:
    """Return the hosts that were contacted and weren't refused."""
    return list(dict.fromkeys(contact.host for contact in egress.contacts if not contact.why))


class Network(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the network of one attempt is made of, as its builder says."""

    operators: list[str] = []  # hosts that the operator allows, and the registry that npm is set up for
    proxies: list[str] = []  # the operator's own, by which steps reach what is public
    ours: list[tuple[str, int]] = []  # where link and API listen; "" is every address of the builder's machine
    used: list[str] | None = None  # the hosts that the last build that succeeded used; None: not asked about
