"""
What a search says: its hits, one after the other, what became of each log, and its end. ``finding``; the API's
messages, which docs/protocol.md describes.
"""

from __future__ import annotations

import msgspec

from twistedipc.finding.blocks import Line


class LogHit(msgspec.Struct, frozen=True, kw_only=True, tag="hit", tag_field="type", omit_defaults=True, gc=False):
    """
    A line that matches, as people see it: ``parts`` joined are its text, and every second of them is a match. Of a long
    line it is the part around the first match: ``skipped`` characters are before that, and there is more if it is
    ``cut``. ``before`` and ``after``: the lines near it that were asked for.
    """

    build: int
    attempt: int
    record: int
    parts: list[str]
    skipped: int = 0
    cut: bool = False
    before: list[Line] = []
    after: list[Line] = []


class SearchedLog(msgspec.Struct, frozen=True, kw_only=True, tag="log", tag_field="type", omit_defaults=True, gc=False):
    """
    What became of one attempt's log: how many records match, of how many that were searched; how many couldn't be
    searched, since they are missing or damaged. ``complete``: the search didn't end before the log did, so ``matches``
    is exact. ``removed``: why there is nothing of it any more; empty: it is kept.
    """

    build: int
    attempt: int
    matches: int
    searched: int
    missing: int
    complete: bool
    removed: str = ""


class SearchEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="type", gc=False):
    """
    The end of a search, with the sums over its logs. ``next``: behind which record, or in a project behind which
    attempt, another search goes on to find more, in the same order; None: there is no more.
    """

    matches: int
    searched: int
    missing: int
    complete: bool
    next: int | str | None
