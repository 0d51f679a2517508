"""
The keys by which builders link, and what the apiserver knows of each builder by its own record. Filled from the ledger
at the start; changed by the API; read by the links, by ``dispatch`` and by ``waiting``.

A builder that has a key of its own is who it says. One that links by the shared key only says so: it belongs to no
pool, and no project can be bound to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection
from twisted.logger import Logger

from twistedipc.builds.attempt import StoredTool
from twistedipc.builds.needs import BUILDER, POOL
from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.ipc import BadKey, Keys, NamedKey, PeerInfo
from twistedipc.server.workflows import Workflows
from twistedipc.storage import audit, builders
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import APISERVER, BuilderKeyRow, BuilderRow
from twistedipc.storage.secrets import SecretBox, SecretUnreadable

#: Milliseconds.
DAY = 86_400_000


class BuilderKeys:
    """``now``: milliseconds since the epoch."""

    _log = Logger()

    def __init__(self, ledger: Ledger, secret_box: SecretBox, workflows: Workflows, now: Callable[[], int]) -> None:
        #: for the links: filled by `load`
        self.keys = Keys()
        self._ledger = ledger
        self._secret_box = secret_box
        self._workflows = workflows
        self._now = now
        self._rows: dict[str, BuilderRow] = {}
        self._changes = 0  # of what is known here

    async def load(self) -> None:
        """Read all keys from the ledger. Called before the links begin."""
        rows, sealed = await self._ledger.read(_everything)
        self._rows = {row.name: row for row in rows}
        for id_, name, secret in sealed:
            self._add_sealed(id_, name, secret)

    def _add_sealed(self, id_: str, name: str, secret: bytes) -> None:
        try:
            self._add(id_, name, self._secret_box.open(secret))
        except SecretUnreadable as error:
            self._log.error("the key {id} of builder {name} can't be used: {error}", id=id_, name=name, error=error)

    async def refresh(self) -> None:
        """Read again what other apiservers may have changed. Links by a key that has ended are closed."""
        while True:
            changes = self._changes
            rows, sealed = await self._ledger.read(_everything)
            if changes == self._changes:  # else what was read may be from before the change
                break
        for row in rows:
            if row != self._rows.get(row.name):
                self.changed(row)
        for id_, name, secret in sealed:
            known = self.keys.get(id_)
            if known is None or known.sole == self._rows[name].shared:
                self._add_sealed(id_, name, secret)

    async def take_first(self, name: str, read: Callable[[], NamedKey]) -> None:
        """
        Give the builder of this name the key that ``read`` returns, if none of its name was ever known. Called before
        `load`. Raises `BadKey` if the key is another builder's, what ``read`` raises, and `LedgerUnavailable`.
        """
        if await self._ledger.read(builders.get, name) is None:
            await self._ledger.write(self._take, read())

    def _take(self, connection: Connection, key: NamedKey) -> None:
        other = builders.of_key(connection, key.id)
        if other is not None:
            raise BadKey(f"the key in its file is builder {other}'s already, also if it was revoked")
        sealed, now = self._secret_box.seal(key.secret.hex()), self._now()
        builders.add(connection, name=key.name, pools=(), shared=False, id=key.id, sealed=sealed, now=now)
        detail = {"key": key.id, "configuration": "link.first_builder"}
        audit.record(
            connection, by=APISERVER, action="builder.add", subject=key.name, project=None, detail=detail, now=now
        )

    def added(self, row: BuilderRow, key: NamedKey) -> None:
        """Take note that a key was made, and is committed."""
        self._changes += 1
        self._rows[row.name] = row
        self._add(key.id, row.name, key.secret.hex())

    def changed(self, row: BuilderRow) -> None:
        """Take note of a builder's row as it is now. Links that were made by a key that has ended are closed."""
        self._changes += 1
        self._rows[row.name] = row
        for key in row.keys:
            if key.revoked is not None:
                self.keys.revoke(key.id)

    def ends(self, peer: PeerInfo) -> int | None:
        """Return when the key ends by which a peer has proven itself, in milliseconds since the epoch; None: never."""
        key = self._key_of(peer)
        return None if key is None else key.expires

    def _key_of(self, peer: PeerInfo) -> BuilderKeyRow | None:
        row = self._rows.get(peer.name) if peer.key else None
        return None if row is None else next((key for key in row.keys if key.id == peer.key), None)

    def refuse(self, peer: PeerInfo) -> str | None:
        """
        Why a peer may not have its name: it isn't proven by a key of its own, or its key was revoked or has expired;
        None if it may.
        """
        row = self._rows.get(peer.name)
        if peer.key:
            key = self._key_of(peer)
            if key is not None and key.revoked is not None:
                return f"the key {peer.key} of builder {peer.name} was revoked"
            ends = self.ends(peer)
            return None if ends is None or ends > self._now() else self._expired(peer, ends)
        if row is None or row.shared:
            return None
        if any(key.revoked is None for key in row.keys):
            return f"builder {peer.name} has a key of its own: the shared one isn't good for it any longer"
        return f"builder {peer.name} was revoked: an admin can give it a new key (twistedipc builder add {peer.name})"

    @staticmethod
    def _expired(peer: PeerInfo, ends: int) -> str:
        return (
            f"the key {peer.key} of builder {peer.name} has expired on {date(ends)}: an admin makes another one "
            f"(twistedipc builder rotate {peer.name}), whose line is run on the builder's machine"
        )

    def linked(self, peer: PeerInfo) -> None:
        """Take note that a builder has linked."""
        if peer.key:
            ends = self.ends(peer)
            if ends is not None and ends - self._now() <= WARNED_DAYS * DAY:
                self._log.warn(
                    "the key {key} of builder {name} expires on {date}, and then it can't link any more: "
                    "twistedipc builder rotate {name}",
                    key=peer.key,
                    name=peer.name,
                    date=date(ends),
                )
            self._workflows.launch(self._used(peer), f"noting the key of builder {peer.name}")
        else:
            self._log.warn(
                "builder {name} has no key of its own: others could take its name, and the next release asks for one. "
                "Make it: twistedipc builder add {name}",
                name=peer.name,
            )

    def features(self, peer: PeerInfo) -> frozenset[str]:
        """Return what this apiserver's own record says of a linked builder, as features that builds may need."""
        row = self._rows.get(peer.name) if peer.key else None
        return frozenset() if row is None else _features(row)

    def known(self) -> dict[str, frozenset[str]]:
        """Return the same of each builder that has a key, by its name."""
        return {row.name: _features(row) for row in self._rows.values() if any(key.revoked is None for key in row.keys)}

    def drained(self, peer: PeerInfo) -> bool:
        """Return whether a person has said that a linked builder takes nothing new, by whichever key it is linked."""
        row = self._rows.get(peer.name)
        return row is not None and row.drained is not None

    def note_drained(self, names: Collection[str]) -> None:
        """Take note of which builders are drained, by the ledger: a person may have said it to another apiserver."""
        for name, row in self._rows.items():
            if (row.drained is not None) != (name in names):
                self._changes += 1
                self._rows[name] = msgspec.structs.replace(row, drained=self._now() if name in names else None)

    async def note_tools(self, peer: PeerInfo, tools: list[StoredTool]) -> None:
        """Keep which tools a linked builder has, if it has a key of its own."""
        row = self._rows.get(peer.name) if peer.key else None
        if row is None or row.tools == tools:
            return
        kept = await self._workflows.retry_until_available(
            lambda: self._ledger.write(builders.note_tools, peer.name, tools)
        )
        if kept is not None:
            self.changed(kept)

    async def _used(self, peer: PeerInfo) -> None:
        def note(connection: Connection) -> tuple[list[str], BuilderRow | None]:
            return builders.used(connection, peer.key, self._now()), builders.get(connection, peer.name)

        ended, row = await self._workflows.retry_until_available(lambda: self._ledger.write(note))
        if row is None:
            return
        for id_ in ended:
            self._log.info("builder {name} uses the key {key}: {id} ends", name=peer.name, key=peer.key, id=id_)
        known = self.keys.get(peer.key)
        if known is not None:
            self._add(known.id, known.name, known.secret.hex(), row)
        self.changed(row)

    def _add(self, id_: str, name: str, secret: str, row: BuilderRow | None = None) -> None:
        row = row or self._rows[name]
        if any(key.id == id_ and key.revoked is not None for key in row.keys):
            return
        self.keys.add(NamedKey(id_, bytes.fromhex(secret), name, "builder", sole=not row.shared))


def _everything(connection: Connection) -> tuple[list[BuilderRow], list[tuple[str, str, bytes]]]:
    """Return all builders and their sealed keys as of one moment: a key that is revoked between is in neither."""
    return builders.list_all(connection), builders.sealed_keys(connection)


def _features(row: BuilderRow) -> frozenset[str]:
    return frozenset([BUILDER + row.name, *(POOL + pool for pool in row.pools)])


def date(time: int) -> str:
    """Return the day of a time in milliseconds since the epoch."""
    return datetime.fromtimestamp(time / 1000, UTC).date().isoformat()
