"""
A search as one response: what is found, as it is found. ``web.logs``; made by ``web.api.searches``.

It is a stream as a log's is (`LogStream`), and a search is its cursor: asked for its next step only while the
connection takes more. A search has its turn for some seconds only, so a reader that takes nothing keeps nobody from
searching.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.server.boundaries import Search
from twistedipc.web.logs.forms import Entry, MessagesForm
from twistedipc.web.logs.stream import Entries, LogStream, LogStreams, Pace

#: Seconds in which nothing may leave for a reader until it is cut off: what it keeps waiting is more than of a log.
PATIENCE: Final = 10.0

_encoder = msgspec.json.Encoder()


def worth_saying(message: LogHit | SearchedLog) -> bool:
    """Return whether it says more than that nothing is in a log."""
    return isinstance(message, LogHit) or bool(message.matches or message.missing or not message.complete)


def found_stream(clock: IReactorTime, streams: LogStreams, search: Search, pace: Pace) -> LogStream:
    """Return a search's response: a message on each line, the `SearchEnd` last. One that is broken off has none."""
    found = _Found(search)
    pace = replace(pace, stall=PATIENCE)
    return LogStream(clock, streams, lambda wake: found, MessagesForm(), follow=False, limit=None, pace=pace)


class _Message:
    """What is found, as an entry of a stream. Implements `forms.Entry`."""

    first = end = 0

    def __init__(self, message: LogHit | SearchedLog | SearchEnd) -> None:
        self.message = _encoder.encode(message)
        self.final = isinstance(message, SearchEnd)


class _Found:
    """What a search finds, step by step. Implements `stream.Source`."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._ready: list[Entry] = []

    def take(self, limit: int) -> Entries | None:
        """See `stream.Source`."""
        taken, self._ready = self._ready, []
        return taken or None

    async def fetch(self) -> None:
        """See `stream.Source`."""
        found = await self._search.more()
        self._ready += [_Message(message) for message in found if worth_saying(message)]
        if self._search.end is not None:
            self._ready.append(_Message(self._search.end))

    def close(self) -> None:
        """See `stream.Source`."""
        self._search.close()
