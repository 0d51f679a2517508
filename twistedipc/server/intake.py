"""
What comes of one attempt's log by one builder's link. Made by ``builder_link``; puts batches into a `LiveLog`. Sans-IO.

A batch may be of a kind that isn't known here (the builder is newer), or may be none at all. It costs its records, and
nothing else: a gap takes their place, as soon as something else says how many they were. That is the number of the
batch after it, or how many lines the attempt's end counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from twistedipc.builds import messages as m
from twistedipc.builds.logs import MAX_REASON, MAX_RECORD, Batch, Gap, batch_decoder, valid_shape
from twistedipc.server.fanout.entries import Entry
from twistedipc.server.fanout.live import BadBatch, LiveLog

#: Messages in a row that may bring nothing that can be read or skipped. The credit is used up by some more.
MAX_UNREAD = 8

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Unreadable(Exception):
    """So much of the log can't be read that it won't be whole, nor have a gap: the attempt's end must say so."""


class _Unread(msgspec.Struct):
    """A batch that can't be taken, and why. ``first``: its number, 0 if that can't be told."""

    first: int
    complaint: str


class _Numbered(msgspec.Struct):
    """What all kinds of batches have."""

    type: str
    first: int | None = None
    from_: int | None = msgspec.field(name="from", default=None)


class LogIntake:
    """
    One attempt's log, as long as one link writes it under one lease.

    :param live: the log, with its window of what has come
    """

    def __init__(self, lease: str, live: LiveLog) -> None:
        self.lease = lease
        self.live = live
        #: what is wrong with what was to come next, and hasn't been skipped; ""
        self.complaint = ""
        self._unread = 0  # messages in a row in which there was nothing else

    def take(self, log: m.Log | m.UnreadLog) -> list[tuple[Entry, Batch]]:
        """
        Take the batches of a message, all or none: the new entries, as `LiveLog.append` gives them.

        :raises Hole: something is missing before them
        :raises BadBatch: the log has ended
        :raises Unreadable: nothing could be read for too long
        """
        if isinstance(log, m.Log) and not self.complaint:
            try:
                return self.live.append(log.batches)
            except BadBatch:
                if self.live.ended:
                    raise
        return self._take_each(log.batches if isinstance(log, m.Log) else _read(log))

    def conclude(self, lines: int) -> list[tuple[Entry, Batch]]:
        """The attempt has ended, with so many records. What couldn't be read before them is a gap."""
        if not self.complaint or not self.live.next <= lines <= MAX_RECORD:
            return []
        gap, self.complaint = self._gap(self.live.next, lines, self.complaint), ""
        return self.live.append([gap])

    def _take_each(self, batches: Iterable[Batch | _Unread]) -> list[tuple[Entry, Batch]]:
        good: list[Batch] = []
        next, complaint = self.live.next, self.complaint
        for each in batches:
            batch = each if isinstance(each, _Unread) else _checked(each)
            if batch.first > next:
                if not complaint:
                    self.live.window.skip(batch.first, batch.first + 1, after=next)  # raises `Hole`
                good.append(self._gap(next, batch.first - 1, complaint))
                next, complaint = batch.first, ""
            if isinstance(batch, _Unread):
                complaint = batch.complaint
            elif batch.end > next:
                good.append(batch)
                next, complaint = batch.end, ""
        added = self.live.append(good)
        self._unread = 0 if added or not complaint else self._unread + 1
        self.complaint = complaint
        if self._unread > MAX_UNREAD:
            raise Unreadable(f"the builder's log can't be read: {complaint}")
        return added

    @staticmethod
    def _gap(first: int, to: int, complaint: str) -> Gap:
        reason = f"the builder has sent what can't be read: {complaint}"
        return Gap(first, to, "".join(each if each.isprintable() else "?" for each in reason)[:MAX_REASON])


def _read(log: m.UnreadLog) -> Sequence[Batch | _Unread]:
    """The batches of a message that isn't as it should be, with those that can be read among them."""
    if isinstance(log.batches, msgspec.UnsetType):
        return [_Unread(0, log.complaint)]
    try:
        parts: list[msgspec.Raw] = msgspec.json.decode(log.batches, type=list[msgspec.Raw])
    except _UNREADABLE:
        return [_Unread(0, log.complaint)]
    return [_batch(part) for part in parts]


def _batch(part: msgspec.Raw) -> Batch | _Unread:
    data: Any = bytes(part)
    try:
        return batch_decoder.decode(data.decode("utf-8"))
    except _UNREADABLE as error:
        complaint = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    try:
        known = msgspec.json.decode(data, type=_Numbered)
    except _UNREADABLE:
        return _Unread(0, complaint)
    if known.type not in ("lines", "gap"):
        complaint = f"a batch of the kind {known.type[:32]!r}"
    return _unread(known.first or known.from_ or 0, complaint)


def _checked(batch: Batch) -> Batch | _Unread:
    if valid_shape(batch) and batch.first <= MAX_RECORD:
        return batch
    return _unread(batch.first, f"batch {batch.first} is not well formed")


def _unread(first: int, complaint: str) -> _Unread:
    return _Unread(first if 1 <= first <= MAX_RECORD else 0, complaint)
