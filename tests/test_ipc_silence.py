"""The parts of a session: how the peer's silence is counted, and the calls that wait for replies."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.ipc.wire.errors import RemoteProtocolError
from twistedipc.ipc.wire.outgoing import OutgoingCalls
from twistedipc.ipc.wire.silence import Sign, Silence


class Ask(msgspec.Struct, tag="ask"):
    pass


def test_a_peer_is_asked_before_it_is_taken_for_dead() -> None:
    silence = Silence(8.0, 24.0, now=100.0)
    assert silence.due == 108.0
    assert silence.heartbeat_passed(108.0) is Sign.PING
    assert silence.heartbeat_passed(116.0) is Sign.PING
    assert silence.heartbeat_passed(124.0) is Sign.NONE
    assert silence.lasted == 24.0


def test_it_is_asked_at_least_once() -> None:
    silence = Silence(8.0, 1.0, now=0.0)
    assert silence.heartbeat_passed(8.0) is Sign.PING
    assert silence.heartbeat_passed(16.0) is Sign.NONE


def test_a_process_that_was_stopped_for_an_hour_looks_first() -> None:
    silence = Silence(8.0, 24.0, now=0.0)
    assert silence.heartbeat_passed(3600.0) is Sign.PING
    assert silence.due == 3608.0


def test_bytes_break_the_silence() -> None:
    silence = Silence(8.0, 24.0, now=0.0)
    for now in (8.0, 16.0):
        silence.heartbeat_passed(now)
    silence.broken(17.0)
    assert silence.due == 25.0
    assert silence.heartbeat_passed(25.0) is Sign.PING


def test_silence_is_no_news_while_nothing_is_read() -> None:
    silence = Silence(8.0, 24.0, now=0.0)
    silence.reading = False
    assert {silence.heartbeat_passed(8.0 * n) for n in range(1, 9)} == {Sign.PONG}
    silence.reading = True
    assert silence.heartbeat_passed(72.0) is Sign.PING


def calls_with(deadlines: list[float]) -> OutgoingCalls:
    """As a session adds them."""
    calls = OutgoingCalls()
    for id_, deadline in enumerate(deadlines, 1):
        calls.last_id = id_
        calls.waiting[id_] = (Ask, deadline)
        calls.earliest = min(calls.earliest, deadline)
    return calls


def test_a_call_ends_once() -> None:
    calls = calls_with([5.0, 3.0])
    assert calls.end(1) is Ask
    assert calls.end(1) is None  # it was dropped, say, when the answer was on its way
    with pytest.raises(RemoteProtocolError, match="call 3, which was never made"):
        calls.end(3)


@given(deadlines=st.lists(st.floats(0, 100), max_size=20), now=st.floats(0, 100))
def test_what_has_expired_is_what_is_due(deadlines: list[float], now: float) -> None:
    calls = calls_with(deadlines)
    expired = {id_ for id_, _ in calls.expired(now)}
    assert expired == {id_ for id_, deadline in enumerate(deadlines, 1) if deadline <= now}
    for id_ in expired:
        calls.end(id_)
    assert calls.earliest <= min((deadline for _, deadline in calls.waiting.values()), default=float("inf"))
    assert calls.expired(now) == []
