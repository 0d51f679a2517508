"""
The fast path: what nearly all frames go through, both ways. Sans-IO; used by ``session``.

The general path takes frames one by one: `Vocabulary.decode_each` decodes a line, and the session looks the frame up in
its table. That costs a few calls in Python for each frame. The fast path decodes a block at once, requests and replies
included, and takes what is as it should be without a call in Python. All else it gives back to the general path. Both
paths must agree on what frames amount to: tests/test_ipc_both_ways.py holds them to that.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from twistedipc.ipc.wire.framing import longest_line
from twistedipc.ipc.wire.incoming import IncomingCalls
from twistedipc.ipc.wire.messages import (
    UNDECODABLE,
    CallReceived,
    CallReplied,
    Ping,
    Vocabulary,
    encode_lines,
    too_long,
    unsendable,
)
from twistedipc.ipc.wire.outgoing import OutgoingCalls


class FastPath:
    """
    The fast path of one session's received frames.

    :param outgoing: this side's calls that wait for replies
    :param incoming: the peer's calls
    """

    def __init__(self, vocabulary: Vocabulary, outgoing: OutgoingCalls, incoming: IncomingCalls) -> None:
        self._vocabulary = vocabulary
        self._outgoing = outgoing
        self._incoming = incoming

    def take(self, block: bytes, events: list[msgspec.Struct]) -> Iterable[Any]:
        """
        Put what comes of a ready session's ``block`` of complete lines into ``events``, and return the frames that the
        general path has to take. The result must be iterated at once: what came before a frame is in ``events`` when
        the iteration comes to the frame, and the rest isn't yet.
        """
        vocabulary, replies = self._vocabulary, self._outgoing.awaited
        try:
            if not block.isascii():
                # msgspec doesn't look at the bytes of fields that aren't declared.
                block.decode("utf-8")
            decode = vocabulary.block_decoders.get(replies) or vocabulary.block_decoder(replies)
            frames = list(map(decode, io.BytesIO(block)))
        except UNDECODABLE:
            return vocabulary.decode_each(block)
        if vocabulary.messages.issuperset(map(type, frames)):
            events.extend(frames)
            return ()
        return self._take_each(frames, events)

    def _take_each(self, frames: list[Any], events: list[msgspec.Struct]) -> Iterator[Any]:
        messages, waiting, incoming = self._vocabulary.messages, self._outgoing.waiting, self._incoming
        calls, most = incoming.open, incoming.most
        for frame in frames:
            kind = type(frame)
            if kind in messages or (kind is CallReplied and waiting.pop(frame.id, None) is not None):
                events.append(frame)
            elif (
                kind is CallReceived and frame.id not in calls and len(calls) < most and type(frame.request) is not Ping
            ):
                calls[frame.id] = type(frame.request)
                events.append(frame)
            else:
                yield frame


def encode_all(vocabulary: Vocabulary, messages: Sequence[msgspec.Struct], limit: int) -> bytes | None:
    """
    Return the lines of many messages, encoded at once; or None if each has to be encoded and looked at by itself.

    :param limit: bytes of a message
    :raises LocalProtocolError: one of them can't be sent
    """
    exact = vocabulary.exact.issuperset(map(type, messages))
    if not exact:
        vocabulary.check_all_sendable(messages)
    try:
        lines = encode_lines(messages)
    except Exception as error:
        raise unsendable(error) from None
    if not exact and vocabulary.may_be_spoilt(messages, lines):
        return None
    if len(lines) > limit + 1 and (longest := longest_line(lines)) > limit:
        raise too_long(longest, limit)
    return lines
