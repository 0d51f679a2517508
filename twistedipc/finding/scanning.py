"""
The work of a search: blocks of a log, one after the other, in a thread of their own. ``finding``; pure.

A scan has a bound on what it keeps, whatever it finds, and ends soon after it is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from twistedipc.finding.blocks import Block, Found, Line, Matches, around, matches, show
from twistedipc.finding.query import Needle


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is searched for: the first ``most`` lines that match, with ``context`` records before and after each, of at
    most about ``room`` characters; ``newest``: from the end of the log back.
    """

    needle: Needle
    newest: bool = False
    most: int = 100
    context: int = 0
    room: int = 1 << 20


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A line that matches, and what is near it in the same block."""

    found: Found
    before: list[Line]
    after: list[Line]

    @property
    def size(self) -> int:
        """Its characters."""
        near_it = sum([len(line.text) for line in self.before]) + sum([len(line.text) for line in self.after])
        return sum(map(len, self.found.parts)) + near_it


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was found. There may be more hits than are in ``hits``. ``searched``: how many records; ``reached``: the last
    of them, in the order of the search; 0: none, it was stopped before.
    """

    matches: int
    searched: int
    reached: int
    hits: list[Hit]


def scan(wanted: Wanted, blocks: Iterable[Block], first: int, last: int, stopped: Callable[[], bool]) -> Scanned:
    """
    Search the records ``first`` to ``last`` of these blocks, which come in the order of the search. If it is stopped in
    a block, nothing of that one counts.
    """
    count = searched = reached = 0
    hits: list[Hit] = []
    room = wanted.room
    for block in blocks:
        inside = block.part(first, last)
        if not inside.records:
            continue
        most = wanted.most - len(hits) if room > 0 else 0
        matching = matches(wanted.needle, inside, most, newest=wanted.newest, stopped=stopped)
        found = None if matching is None else _hits(wanted, block, inside, matching, room, stopped)
        if matching is None or found is None:
            break
        count += matching.count
        searched += inside.records
        reached = inside.first if wanted.newest else inside.first + inside.records - 1
        hits += found
        room -= sum(hit.size for hit in found)
    return Scanned(matches=count, searched=searched, reached=reached, hits=hits)


def _hits(
    wanted: Wanted, block: Block, inside: Block, matching: Matches, room: int, stopped: Callable[[], bool]
) -> list[Hit] | None:
    """Return what matches in a part of a block as it is shown, until it has ``room`` characters; None: stopped."""
    hits: list[Hit] = []
    begin = block.offset(inside.first)
    for record, start in matching.lines:
        if stopped():
            return None
        before, after = around(block, record, begin + start, wanted.context) if wanted.context else ([], [])
        hits.append(Hit(show(wanted.needle, inside, record, start), before, after))
        room -= hits[-1].size
        if room <= 0:
            break
    return hits
