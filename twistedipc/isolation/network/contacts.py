"""
The egress ledger of one attempt: which hosts its steps have contacted, and which they were refused. Pure.

It has a bound. What comes after that is counted.
"""

from __future__ import annotations

from typing import Any

#: The most hosts, each with its port, in the ledger of an attempt; the most refusals that one step is told of.
MAX_CONTACTS = 200  # as in `builds.egress`
MAX_TOLD = 20


class Contact:
    """A host at one port, and what became of it. The fields are those of ``builds.egress.Contact``."""

    __slots__ = ("address", "connections", "first", "host", "port", "received", "sent", "step", "udp", "why")

    def __init__(self, host: str, port: int, *, why: str, step: str, first: int, udp: bool) -> None:
        self.host = host
        self.port = port
        self.why = why  # why it was refused; "": it wasn't
        self.step = step  # the step that was the first
        self.first = first  # milliseconds since the epoch
        self.udp = udp
        self.address = ""  # the one that it was reached at, or would have been
        self.connections = 0
        self.sent = 0  # bytes; what doesn't go through the gate isn't counted
        self.received = 0

    def fields(self) -> dict[str, Any]:
        """Return it as it is reported."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value or name in ("host", "port", "first")}


class Contacts:
    """All of them, in the order in which they came."""

    def __init__(self) -> None:
        self.step = ""  # the one that runs
        self.more = 0  # those that found no room
        self._all: dict[tuple[str, int, str, bool], Contact] = {}
        self._told: list[Contact] = []

    def begin(self, step: str) -> None:
        """Note which step runs from now on."""
        self.step = step
        self._told = []

    def note(self, host: str, port: int, *, now: int, address: str = "", why: str = "", udp: bool = False) -> Contact:
        """Note a connection; return where its bytes are counted."""
        key = (host, port, why, udp)
        contact = self._all.get(key)
        if contact is None:
            contact = Contact(host, port, why=why, step=self.step, first=now, udp=udp)
            if len(self._all) < MAX_CONTACTS:
                self._all[key] = contact
            else:
                self.more += 1
        contact.connections += 1
        contact.address = contact.address or address
        if why and contact not in self._told and len(self._told) < MAX_TOLD:
            self._told.append(contact)
        return contact

    def told(self) -> list[dict[str, Any]]:
        """Return what the step was refused."""
        return [contact.fields() for contact in self._told]

    def report(self) -> dict[str, Any]:
        """Return all of it."""
        return {"contacts": [contact.fields() for contact in self._all.values()], "more": self.more}
