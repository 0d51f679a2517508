"""
Whether a site keeps to its budgets (`builds.site.budgets`). Used by ``pack``, which gives each file that it reads to a
`Scale`; only files of which there is a budget are compressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from twistedipc.builds.attempt import LiveFiles
from twistedipc.builds.site.budgets import Budget, Budgets, is_loaded, shown
from twistedipc.publish.archive import CantPack
from twistedipc.publish.targets.static.hashed_names import without_hash
from twistedipc.publish.targets.static.release import Release
from twistedipc.publish.targets.static.variants import sent_by_gzip

#: How many of a budget's files are named, and over how many budgets a sentence tells.
NAMED = 5
TOLD = 3

_BLOCK = 256 * 1024


class OverBudget(CantPack):
    """The site is over a budget. ``str()`` of it says over which, by how much, and what its largest files are."""


class Spent(NamedTuple):
    """What a site has of one budget."""

    budget: Budget
    size: int  # bytes that are sent
    files: Sequence[tuple[str, int]]  # the largest ones, each with what is sent of it
    others: int  # how many there are beside these

    @property
    def over(self) -> int:
        """By how many bytes it is too much; 0 if it isn't."""
        return max(self.size - self.budget.most, 0)


class Scale:
    """Weighs the files of which there is a budget."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets.of
        self._sent: dict[str, int] = {}

    def weigh(self, path: str, descriptor: int, size: int) -> None:
        """Take a file of the site, which is open, of ``size`` bytes. Raises OSError."""
        if any(budget.counts(path) for budget in self._budgets) and is_loaded(path, self._sent):
            self._sent[path] = sent_by_gzip(path, size, _blocks(descriptor, size))

    def spent(self) -> list[Spent]:
        """Return what there is of each budget."""
        return [self._of(budget) for budget in self._budgets]

    def _of(self, budget: Budget) -> Spent:
        files = [(path, sent) for path, sent in self._sent.items() if budget.counts(path)]
        files.sort(key=lambda each: (-each[1], each[0]))
        return Spent(budget, sum(sent for _, sent in files), files[:NAMED], max(len(files) - NAMED, 0))


def told(spent: Spent) -> str:
    """Return a line for the log on one budget."""
    line = f"Budget {spent.budget.name}: {shown(spent.size)} of {shown(spent.budget.most)}, as sent with gzip"
    return f"{line}: {shown(spent.over)} too much" if spent.over else line


def complaint(spent: Spent, release: Release, live: LiveFiles | None) -> str:
    """
    Return a sentence on a budget that a site is over.

    :param release: what was packed
    :param live: what is known of the live release
    """
    before = {} if live is None else _largest_first(live)
    complete = live is not None and live.complete
    files = ", ".join(
        f"{path} {shown(sent)}{_change(_name(path, release), sent, before, complete=complete)}"
        for path, sent in spent.files
    )
    more = f" and {spent.others} smaller" if spent.others else ""
    return (
        f"the site is over its budget for {spent.budget.name}: {shown(spent.size)} of {shown(spent.budget.most)}, as "
        f"sent with gzip, is {shown(spent.over)} too much. Its largest files: {files}{more}"
    )


def summed(sentences: Sequence[str]) -> str:
    """Return one sentence of those on the budgets that a site is over."""
    more = f"; and it is over {len(sentences) - TOLD} more" if len(sentences) > TOLD else ""
    return "; ".join(sentences[:TOLD]) + more


def _largest_first(live: LiveFiles) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, sent in live.files:
        found.setdefault(name, []).append(sent)
    return {name: sorted(sizes) for name, sizes in found.items()}


def _name(path: str, release: Release) -> str:
    return without_hash(path, release.folder(path.rpartition("/")[0]).forms)


def _change(name: str, sent: int, before: Mapping[str, list[int]], *, complete: bool) -> str:
    """Return how a file differs from the live release's of the same name; "" if that isn't known."""
    sizes = before.get(name)
    if not sizes:
        return " (new)" if complete else ""
    was = sizes.pop()  # of several, the largest of the files is compared with the largest
    if was == sent:
        return " (as in the live release)"
    return f" ({'+' if sent > was else '-'}{shown(abs(sent - was))} against the live release)"


def _blocks(descriptor: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size and (data := os.pread(descriptor, min(_BLOCK, size - at), at)):
        at += len(data)
        yield data
