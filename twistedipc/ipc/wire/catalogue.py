"""
What one side of a link takes, as it tells the other when both are proven: `Catalogue`. Sans-IO; used by ``greeting``,
and by the connections for `Peer.understands`.

It is a list of rows: what something is, its name, and fingerprints of its schema::

    ["message", "note", "3f6a01c2d4e5b697"]
    ["call", "add", "0c1d2e3f40516273", "9d8c7b6a59483726"]      the request, and the reply to it
    ["items", "query", "1a2b3c4d5e6f7081", "e1f2a3b4c5d60718"]   the request, and the items that answer it
    ["stream", "events", "5b6f7a8c9d0e1f20"]                     its items

Rows that begin with another word, and what a row has beyond that, are a later version's, and ignored. Nothing on a link
is decoded by what a peer says of itself: one that lies is asked for what it doesn't take, and that is all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from twistedipc.ipc.wire.errors import Code, RemoteProtocolError
from twistedipc.ipc.wire.handshake import Introduction
from twistedipc.ipc.wire.messages import MOST_TYPES, TAG_LIMIT, Frame, Vocabulary, encode, name_of
from twistedipc.ipc.wire.schema import DIGITS, UNTOLD, fingerprint

#: Bytes of a line of them, with some room for what is around them: that of the handshake's other frames.
_LINE = 4000

MESSAGE, CALL, ITEMS, STREAM = "message", "call", "items", "stream"

#: How many fingerprints each of them has.
_FINGERPRINTS = {MESSAGE: 1, CALL: 2, ITEMS: 2, STREAM: 1}


class Catalogue:
    """
    What one side takes.

    :param rows: what something is with its name, and its fingerprints
    """

    def __init__(self, rows: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, what: str, name: str, fingerprints: Sequence[str] | None = None) -> bool:
        """
        Return whether something is taken.

        :param what: `MESSAGE`, `CALL`, `ITEMS` or `STREAM`
        :param fingerprints: as they are here; None: any will do
        """
        found = self._rows.get((what, name))
        if found is None or fingerprints is None:
            return found is not None
        return found == tuple(fingerprints) and UNTOLD not in found

    @property
    def rows(self) -> list[list[str]]:
        """All of it, as it is said."""
        return [[what, name, *found] for (what, name), found in self._rows.items()]

    @property
    def lines(self) -> bytes:
        """The lines that say all of it."""
        *parts, last = _in_parts(self.rows)
        return b"".join(
            [*(encode(Introduction(takes=part, more=True)) for part in parts), encode(Introduction(takes=last))]
        )


class Introduced:
    """What the peer has said so far of what it takes."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[str, ...]] = {}
        self._count = 0

    def add(self, frame: Introduction) -> None:
        """Note the next part. Raises `RemoteProtocolError` if it is too much, or nothing though more is to follow."""
        self._count += len(frame.takes)
        if self._count > MOST_TYPES:
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, f"more than {MOST_TYPES} rows of what the peer takes")
        if frame.more and not frame.takes:
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, "a part of what the peer takes has nothing in it")
        for row in frame.takes:
            count = _FINGERPRINTS.get(row[0])
            if count is None:
                continue  # of a later version
            name, found = "".join(row[1:2]), tuple(row[2 : 2 + count])
            if not 1 <= len(name) <= TAG_LIMIT or len(found) < count or any(len(each) != DIGITS for each in found):
                raise RemoteProtocolError(Code.BAD_HANDSHAKE, f"a row of what the peer takes isn't a {row[0]}")
            self._rows[row[0], name] = found

    def catalogue(self) -> Catalogue:
        """Return what was said: all of it."""
        return Catalogue(self._rows)


def catalogue_of(vocabulary: Vocabulary, streams: Mapping[str, type[msgspec.Struct]]) -> Catalogue:
    """Return what a side with this vocabulary takes, which receives these streams."""
    items = vocabulary.items.answers
    messages = [each for each in vocabulary.messages if not issubclass(each, Frame)]
    calls = {kind: reply for kind, reply in vocabulary.answers.items() if kind not in items}
    return catalogue(messages, calls, items, streams)


def catalogue(
    messages: Iterable[type[msgspec.Struct]],
    calls: Mapping[type[msgspec.Struct], Any],
    streamed: Mapping[type[msgspec.Struct], Any],
    streams: Mapping[str, type[msgspec.Struct]],
) -> Catalogue:
    """Return what a side takes that is declared so: requests with their replies, or the items that answer them."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    for kind in sorted(messages, key=name_of):
        rows[MESSAGE, name_of(kind)] = (fingerprint(kind),)
    for what, answered in ((CALL, calls), (ITEMS, streamed)):
        for kind, answer in answered.items():
            rows[what, name_of(kind)] = (fingerprint(kind), fingerprint(answer))
    for name, kind in streams.items():
        rows[STREAM, name] = (fingerprint(kind),)
    return Catalogue(rows)


def _in_parts(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Yield rows in parts that fit into a line each; one part at least."""
    part: list[list[str]] = []
    size = 0
    for row in rows:
        length = len(msgspec.json.encode(row)) + 1
        if part and size + length > _LINE:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    yield part
