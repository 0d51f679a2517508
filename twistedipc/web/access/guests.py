"""
Guests: who sees the previews of a project by its password, without an account. ``web.access``; used by
``web.releases``.

A password that is right becomes a cookie of the preview's host: when it ends, and a digest of that, of the host and of
the password's hash, under a key of this installation. So nothing is kept, another password ends all cookies, and none
is good at another host. A program shows the password itself with each request; that it was right is remembered for its
address, since a password takes long to check. What another address has shown says nothing to this one: else it could
find out by guesses that aren't looked at.

Wrong ones are counted for each project by address (an IPv6 client's /64): after `MOST_TRIES` in `WINDOW` seconds none
of that address is looked at. A client can have many addresses, so those of all clients are counted too: after
`MOST_OF_PROJECT` in `WINDOW_OF_PROJECT` seconds only what is remembered is. Cookies are good all the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredSemaphore

from twistedipc.builds import names
from twistedipc.server.boundaries import InThread
from twistedipc.storage.password_hashes import is_hash_of
from twistedipc.web.http.clients import Client

#: Seconds that a cookie is good.
GUEST_SECONDS = 7 * 24 * 3600

#: How many wrong passwords of a project one client can try, in how many seconds.
MOST_TRIES = 10
WINDOW = 300

#: How many all clients together can. One that tries all day gets 120 in an hour: nine of them stop other guests, who
#: have no cookie yet, until the hour is over.
MOST_OF_PROJECT = 1000
WINDOW_OF_PROJECT = 3600

#: How many passwords are checked at a time, and how many wait for that.
CHECKED_AT_ONCE = 2
MOST_WAITING = 50

#: The most that is remembered: of clients and projects, and of passwords that were right. The oldest go first.
_MOST = 10_000


class TooManyTries(Exception):
    """A password isn't looked at now; ``seconds``: when one is."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong passwords: try again in {seconds} seconds")
        self.seconds = seconds


class Guests:
    """
    Checks passwords and cookies. ``now``: milliseconds since the epoch; ``key``: of this installation, and secret.
    """

    def __init__(self, now: Callable[[], int], in_thread: InThread, key: bytes) -> None:
        self._now = now
        self._in_thread = in_thread
        self._key = key
        self._turns = DeferredSemaphore(CHECKED_AT_ONCE)
        self._waiting = 0
        self._tries = _Tries(MOST_TRIES, WINDOW)  # by project and neighbourhood
        self._of_projects = _Tries(MOST_OF_PROJECT, WINDOW_OF_PROJECT)
        self._checked: dict[bytes, list[Deferred[bool]]] = {}  # passwords that are checked now, and who waits for that
        self._right: OrderedDict[bytes, None] = OrderedDict()  # digests of a hash, a right password and a neighbourhood

    def cookie(self, stored: str, host: str) -> str:
        """Return a cookie for a browser that has shown the password with this hash, at this host."""
        expires = str(self._now() // 1000 + GUEST_SECONDS)
        return f"{expires}.{self._digest('cookie', stored, host, expires).hex()}"

    def admits(self, cookie: str, stored: str, host: str) -> bool:
        """Return whether a cookie is good at this host, for the password with this hash."""
        expires, _, digest = cookie.partition(".")
        if not expires.isascii() or not expires.isdecimal() or len(expires) > 12:
            return False
        good = self._digest("cookie", stored, host, expires).hex()
        return hmac.compare_digest(digest.encode("utf-8", "replace"), good.encode()) and (
            int(expires) * 1000 > self._now()
        )

    def remembers(self, client: Client, project: str, password: str, stored: str) -> bool:
        """Return whether a client has shown that a project's hash is of this password; False: `check` knows."""
        who = client.neighbourhood
        if self._tries.wait((project, who), self._now() // 1000):
            return False  # somebody guesses there, and would be told what is right
        return self._digest("right", stored, password, who) in self._right

    async def check(self, client: Client, project: str, password: str, stored: str) -> bool:
        """Return whether a project's hash is of the password that a client shows. Raises `TooManyTries`."""
        if self.remembers(client, project, password, stored):
            return True
        digest = self._digest("right", stored, password, client.neighbourhood)
        if digest in self._checked:  # a program sends it with many requests at once
            waiting: Deferred[bool] = Deferred()
            self._checked[digest].append(waiting)
            return await waiting
        who = (project, client.neighbourhood)
        now = self._now() // 1000
        wait = max(self._tries.wait(who, now), self._of_projects.wait((project,), now))
        if wait:
            raise TooManyTries(wait)
        if self._waiting >= MOST_WAITING:
            raise TooManyTries(10)
        # They are counted before they are looked at: else many could be tried while the first one is.
        self._tries.add(who, now)
        self._of_projects.add((project,), now)
        if len(password) > names.MAX_PASSWORD:
            return False
        self._waiting += 1
        self._checked[digest] = []
        right = False
        try:
            right = await self._turns.run(self._in_thread, is_hash_of, stored, password)
            if right:
                self._tries.take_back(who)
                self._of_projects.take_back((project,))
                self._right[digest] = None
                if len(self._right) > _MOST:
                    self._right.popitem(last=False)
        finally:
            self._waiting -= 1
            for each in self._checked.pop(digest):
                each.callback(right)
        return right

    def _digest(self, *parts: str) -> bytes:
        fields = [part.encode("utf-8", "surrogatepass") for part in parts]
        data = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        return hmac.digest(self._key, data, hashlib.sha256)


class _Tries:
    """How often somebody has tried something: ``most`` times in ``window`` seconds. The time is in seconds."""

    def __init__(self, most: int, window: int) -> None:
        self._most = most
        self._window = window
        self._found: OrderedDict[tuple[str, ...], tuple[int, int]] = OrderedDict()  # since when, and how many

    def __len__(self) -> int:
        return len(self._found)

    def wait(self, who: tuple[str, ...], now: int) -> int:
        """Return in how many seconds the next try can be made; 0: now."""
        since, count = self._found.get(who, (now, 0))
        return max(since + self._window - now, 0) if count >= self._most else 0

    def add(self, who: tuple[str, ...], now: int) -> None:
        """Count a try."""
        since, count = self._found.get(who, (now, 0))
        self._found[who] = (since, count + 1) if now - since < self._window else (now, 1)
        self._found.move_to_end(who)
        if len(self._found) > _MOST:
            self._found.popitem(last=False)

    def take_back(self, who: tuple[str, ...]) -> None:
        """Count a try no more."""
        since, count = self._found.get(who, (0, 0))
        if count > 1:
            self._found[who] = (since, count - 1)
        else:
            self._found.pop(who, None)
