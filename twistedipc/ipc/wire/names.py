"""
Which link has which name: `Names`, what becomes of a second peer of one name. Pure; used by the connections, which
claim their peers' names before they are made, and release them when they have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from twistedipc.ipc.wire.errors import Code
from twistedipc.ipc.wire.identity import PeerInfo

#: What becomes of a peer whose name another linked peer has: see `Names`.
SameName = Literal["refuse", "supersede", "allow"]


class Claimant(Protocol):
    """A link that claims its peer's name."""

    def take_name(self) -> None:
        """Make the link: the name is its own."""

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """End the link. It releases its claim once its application knows of the end."""

    def probe(self, heard: Callable[[bool], None]) -> None:
        """Find out whether the peer is alive, and tell ``heard``, once, within seconds."""


@dataclass(frozen=True, slots=True)
class _Claim:
    link: Claimant
    peer: PeerInfo


@dataclass(slots=True)
class _Name:
    """One name: the link that has it, and those that want it."""

    holder: _Claim | None = None
    is_leaving: bool = False  # the holder is being closed, or probed
    waiting: list[_Claim] = field(default_factory=list)


class Names:
    """
    The names of the peers that are linked, each of which one link at a time may have.

    The links of several sides may share one, as ``SessionSettings(names=…)``; `listen` makes one by ``same_name``.
    A link waits until the one before it has ended, and its application knows, so that an application never sees two of
    one name.

    :param policy: what becomes of a peer whose name another linked peer has:

        - ``refuse``: the linked peer is asked for a sign of life. If there is one within 2 seconds, the newcomer is
          refused, with the code ``name-taken``. If there is none, the old link is half-open: it is closed, and the
          newcomer has its place. So has a newcomer of the same incarnation, at once: it is the same process, which has
          lost the old link.
        - ``supersede``: the newcomer has the name, and the old link is closed with the code ``superseded``. Two living
          processes of one name then take it from one another, as often as they dial.
        - ``allow``: there may be several.
    """

    def __init__(self, policy: SameName) -> None:
        if policy not in ("refuse", "supersede", "allow"):
            raise ValueError(f"{policy!r} can't be done about a second peer of one name: refuse, supersede, allow")
        self.policy = policy
        self._names: dict[str, _Name] = {}
        self._claims: dict[Claimant, _Claim] = {}

    def claim(self, link: Claimant, peer: PeerInfo) -> None:
        """Claim a peer's name. The link is told when it has the name, or is closed. Internal to the library."""
        if self.policy == "allow":
            link.take_name()
            return
        claim = self._claims[link] = _Claim(link, peer)
        name = self._names.setdefault(peer.name, _Name())
        holder = name.holder
        name.waiting.append(claim)
        if holder is None:
            self._settle(name)
        elif self._gives_way(holder, claim):
            self._close_holder(name, Code.SUPERSEDED, "a newer link has its name")
        elif not name.is_leaving:
            name.is_leaving = True
            holder.link.probe(lambda alive: self._heard(name, holder, alive))

    def release(self, link: Claimant) -> None:
        """Give up a link's claim, or its name, as the link has ended. Internal to the library."""
        claim = self._claims.pop(link, None)
        if claim is None:
            return
        name = self._names[claim.peer.name]
        if name.holder is claim:
            name.holder, name.is_leaving = None, False
        else:
            name.waiting.remove(claim)
        self._settle(name)
        if name.holder is None and not name.waiting and self._names.get(claim.peer.name) is name:
            del self._names[claim.peer.name]

    def _gives_way(self, holder: _Claim, newcomer: _Claim) -> bool:
        return self.policy == "supersede" or holder.peer.incarnation == newcomer.peer.incarnation

    def _close_holder(self, name: _Name, code: str, reason: str, *, abrupt: bool = False) -> None:
        assert name.holder is not None
        name.is_leaving = True
        name.holder.link.close(code, reason, abrupt=abrupt)

    def _heard(self, name: _Name, holder: _Claim, alive: bool) -> None:
        if name.holder is not holder:
            return  # it has ended meanwhile
        if alive:
            name.is_leaving = False
            self._refuse_waiting(name, holder)
        else:
            self._close_holder(name, Code.SILENT, "it gave no sign of life when its name was claimed", abrupt=True)

    def _settle(self, name: _Name) -> None:
        """
        Give a name that no link has to the newest one that wants it, the one that was alive last. The others are
        refused.
        """
        if name.holder is None and name.waiting:
            name.holder = claim = name.waiting.pop()
            self._refuse_waiting(name, claim)
            claim.link.take_name()

    def _refuse_waiting(self, name: _Name, holder: _Claim) -> None:
        for each in list(name.waiting):
            if self._gives_way(each, holder):
                each.link.close(Code.SUPERSEDED, "a newer link has its name")
            else:
                each.link.close(Code.NAME_TAKEN, f"a peer of the name {each.peer.name} is linked already")
