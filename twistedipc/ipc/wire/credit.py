"""
Credit: how much may be under way, unacknowledged. Used by what forwards a stream over a link.

A window may have a parent (say, one for each log and one for the link), which is spent and given back along with it.
"""

from __future__ import annotations


class CreditWindow:
    """
    A window of at most ``limit`` units (bytes, say) under way.

    :param limit: units, at least one
    :param parent: a window that is spent and given back along with this one, for several that share a link

    An item may go over the limit once, when there is any room at all: otherwise an item bigger than the whole
    window could never be sent, and the stream would stand still for ever.
    """

    def __init__(self, limit: int, parent: CreditWindow | None = None) -> None:
        if limit < 1:
            raise ValueError("a window needs room for at least one unit")
        self.limit = limit
        self.parent = parent
        self._spent = 0

    @property
    def spent(self) -> int:
        """The number of units under way."""
        return self._spent

    @property
    def free(self) -> int:
        """The number of units that may be spent now, here and in every parent; never negative."""
        own = max(0, self.limit - self._spent)
        return own if self.parent is None else min(own, self.parent.free)

    def spend(self, n: int) -> None:
        """Note that ``n`` units were sent. Raises ValueError if nothing is free."""
        if n < 0:
            raise ValueError("can't spend less than nothing")
        if self.free <= 0:
            raise ValueError("no credit is left")
        window: CreditWindow | None = self
        while window is not None:
            window._spent += n
            window = window.parent

    def give_back(self, n: int) -> None:
        """Note that ``n`` units have been acknowledged. Raises ValueError if so many weren't under way."""
        if not 0 <= n <= self._spent:
            raise ValueError(f"{n} can't be given back: {self._spent} are under way")
        window: CreditWindow | None = self
        while window is not None:
            window._spent -= n
            window = window.parent

    def give_back_all(self) -> None:
        """Give back everything: the link is gone, or the stream has ended."""
        self.give_back(self._spent)
