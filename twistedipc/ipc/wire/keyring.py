"""
The named keys that one side knows, beside the shared one. Pure; used by ``greeting``, by links, and by what adds and
revokes keys. See "Named keys" in docs/protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from twistedipc.ipc.wire.errors import BadKey
from twistedipc.ipc.wire.handshake import KEY_ID_PATTERN, MOST_KEYS, NAME_PATTERN, ROLE_PATTERN

#: The fewest bytes of a key's secret.
SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class NamedKey:
    """
    A key that says whose it is. Both sides of a link have the key, with the same ``id`` and ``secret``; each binds it
    to the other.

    :param id: says in the handshake which key is meant: 1 to 64 letters, digits and ``. _ -``. It isn't secret
    :param secret: at least 16 bytes
    :param name: the peer that the key is for: no other name can be had with it. "" is any
    :param role: the role that the peer must have, as ``calculator-client``. "" is any
    :param sole: whether the shared key isn't good for this name any longer, as the name has a key of its own. Without
        a ``name`` it means nothing
    """

    id: str
    secret: bytes = field(repr=False)
    name: str = ""
    role: str = ""
    sole: bool = True

    def __post_init__(self) -> None:
        secret: object = self.secret
        if not isinstance(secret, bytes):
            raise BadKey(f"a key is bytes, not {type(secret).__name__}")
        if len(secret) < SHORTEST_SECRET:
            raise BadKey(f"a key has at least {SHORTEST_SECRET} bytes")
        if not re.match(KEY_ID_PATTERN, self.id):
            raise BadKey(f"{self.id!r} can't be a key's id: 1 to 64 letters, digits and . _ -")
        if self.name and not re.match(NAME_PATTERN, self.name):
            raise BadKey(f"{self.name!r} can't be the name that a key is for: no peer may be called so")
        if self.role and not re.match(ROLE_PATTERN, self.role):
            raise BadKey(f"{self.role!r} can't be the role that a key is for: no peer may have it")

    def is_for(self, name: str, role: str) -> bool:
        """Return whether a peer of this name and role may have this key."""
        return self.name in ("", name) and self.role in ("", role)


class Keys:
    """
    The named keys that a side knows: for ``keys=`` of `listen` and `dial`. Several sides of one process may share them.
    They can be changed at any time:

    - `add` makes a key good from now on. A name may have several, the newest of which is preferred:
      so a key is replaced without a moment in which none is good.
    - `revoke` ends a key at once, and closes the links that were made with it.

    :param keys: the keys to begin with, the newest last
    """

    def __init__(self, *keys: NamedKey) -> None:
        self._keys: dict[str, NamedKey] = {}
        self._links: dict[str, dict[object, Callable[[], None]]] = {}
        for key in keys:
            self.add(key)

    def __contains__(self, id: object) -> bool:
        return id in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: NamedKey) -> None:
        """
        Make a key good from now on. One that is known may be given again, with another ``sole``.

        :raises BadKey: another key has this id
        """
        known = self._keys.get(key.id, key)
        if (known.secret, known.name, known.role) != (key.secret, key.name, key.role):
            raise BadKey(f"there is another key with the id {key.id}")
        self._keys[key.id] = key

    def revoke(self, id: str) -> bool:
        """End a key, and close the links that were made with it. Return whether there was one with this id."""
        found = self._keys.pop(id, None) is not None
        for close in list(self._links.pop(id, {}).values()):
            close()
        return found

    def get(self, id: str) -> NamedKey | None:
        """Return the key with this id, if it is good."""
        return self._keys.get(id)

    def of(self, name: str, role: str) -> list[NamedKey]:
        """Return the keys to prove oneself with to a peer of this name and role: the newest first, a few at most."""
        return [key for key in reversed(self._keys.values()) if key.is_for(name, role)][:MOST_KEYS]

    def has_own(self, name: str) -> bool:
        """Return whether the name has a key of its own, so that the shared key isn't good for it."""
        return any(key.sole and key.name == name for key in self._keys.values())

    def watch(self, id: str, link: object, close: Callable[[], None]) -> None:
        """Call ``close`` when the key is revoked that this link was made with. Internal to the library."""
        self._links.setdefault(id, {})[link] = close

    def forget(self, id: str, link: object) -> None:
        """Stop watching a key for a link that is gone. Internal to the library."""
        links = self._links.get(id)
        if links is not None and links.pop(link, None) is not None and not links:
            del self._links[id]
