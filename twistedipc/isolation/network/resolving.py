"""
The little of the DNS that the gate's resolver speaks (RFC 1035): one question for addresses, and its answer. Pure.

Only addresses are answered. What a build could carry out in other records isn't forwarded, and has no answer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from twistedipc.builds.host_rules import Address, is_name

A, AAAA = 1, 28

#: Answers: all is well (also if there is no address of this kind), the server failed, there is no such name.
OK, SERVFAIL, NXDOMAIN, NOTIMP = 0, 2, 3, 4

#: Seconds for which an answer may be kept. Policies change with the step.
TTL = 5

#: The most addresses in an answer: it fits into the 512 bytes that every resolver takes.
MAX_ANSWERS = 8

_HEADER = struct.Struct("!6H")


class Question(NamedTuple):
    """A question that can be answered."""

    number: int
    name: str  # in small letters, without the final dot; "" if it isn't a host's
    kind: int
    raw: bytes  # the question as it stands in the query
    recursion: int  # the bit by which recursion was asked for


def question(query: bytes) -> Question | None:
    """Return the question of a query; None if it isn't a query with one question."""
    if len(query) < _HEADER.size or len(query) > 512:
        return None
    number, flags, questions, _, _, _ = _HEADER.unpack_from(query)
    if flags & 0x8000 or flags & 0x7800 or questions != 1:
        return None
    place, labels = _HEADER.size, []
    while True:
        if place >= len(query):
            return None
        length = query[place]
        place += 1
        if length == 0:
            break
        if length > 63 or place + length > len(query):
            return None  # also a pointer, which no question needs
        labels.append(query[place : place + length])
        place += length
    if place + 4 > len(query):
        return None
    kind, of_class = struct.unpack_from("!2H", query, place)
    name = b".".join(labels).decode("latin-1").lower()
    return Question(
        number=number,
        name=name if of_class == 1 and is_name(name) else "",
        kind=kind,
        raw=query[_HEADER.size : place + 4],
        recursion=flags & 0x0100,
    )


def answer(asked: Question, addresses: Sequence[Address] = (), code: int = OK) -> bytes:
    """Return the answer to a question: those of the addresses that are of the kind that was asked for."""
    packed = [address.packed for address in addresses if (asked.kind, address.version) in ((A, 4), (AAAA, 6))][
        :MAX_ANSWERS
    ]
    head = _HEADER.pack(asked.number, 0x8080 | asked.recursion | code, 1, len(packed), 0, 0)
    # 0xC00C points at the question's name, which begins right after the header.
    records = [struct.pack("!3HIH", 0xC00C, asked.kind, 1, TTL, len(each)) + each for each in packed]
    return head + asked.raw + b"".join(records)
