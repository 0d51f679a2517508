"""`twistedipc.server.intake`: what can't be read of a log is a gap in it, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds import messages as m
from twistedipc.builds.logs import Batch, Gap, Lines, encoder
from twistedipc.ipc.wire.windows import Hole
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.intake import LogIntake

LEASE = "ab" * 16


def message(batches: list[bytes], read: bool) -> m.Log | m.UnreadLog:
    """The batches in a message, as they come out of the link."""
    array = msgspec.Raw(b"[" + b",".join(batches) + b"]")
    if read:
        return m.Log(attempt="1-1", lease=LEASE, batches=msgspec.json.decode(array, type=list[Batch]))
    return m.UnreadLog(attempt="1-1", lease=LEASE, batches=array, complaint="wrong")


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Batch | bytes], int]:
    """Batches, of which some are of another version (``bytes``, in a number of records only it knows); how many."""
    found: list[Batch | bytes] = []
    next = 1
    for size, known in draw(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=12)):
        lines = Lines(next, 5, 0, [str(next + n) for n in range(size)])
        found.append(lines if known else b'{"type":"%b","first":%d}' % (draw(st.sampled_from([b"x", b"lines"])), next))
        next += size
    return found, next - 1


@given(logs(), st.data())
def test_all_that_can_be_read_is_there(log: tuple[list[Batch | bytes], int], data: st.DataObject) -> None:
    """Whatever is in one message, and however often some of it is sent again."""
    batches, lines = log
    live = LiveLog("1-1", LogLimits(), SharedFiles())
    live.restore(1, None)
    intake = LogIntake(LEASE, live)
    taken: list[Batch] = []
    at = 0
    while at < len(batches):
        again = data.draw(st.integers(0, at)) if data.draw(st.booleans()) else at
        end = data.draw(st.integers(at + 1, len(batches)))
        part = batches[again:end]
        at = end
        sent = [each if isinstance(each, bytes) else encoder.encode(each) for each in part]
        taken += [batch for _, batch in intake.take(message(sent, all(isinstance(each, Lines) for each in part)))]
    taken += [batch for _, batch in intake.conclude(lines)]
    next = 1
    shown: dict[int, object] = {}
    for batch in taken:
        assert batch.first == next
        next = batch.end
        if isinstance(batch, Lines):
            shown |= dict(enumerate(batch.lines, batch.first))
    assert next == lines + 1
    readable = [each for each in batches if isinstance(each, Lines)]
    assert shown == {number: text for each in readable for number, text in enumerate(each.lines, each.first)}
    assert sum(isinstance(batch, Gap) for batch in taken) <= len(batches) - len(readable)


@given(st.integers(2, 9), st.booleans())
def test_what_is_just_missing_is_no_gap(first: int, known: bool) -> None:
    live = LiveLog("1-1", LogLimits(), SharedFiles())
    live.restore(1, None)
    intake = LogIntake(LEASE, live)
    batch = encoder.encode(Lines(first, 5, 0, ["x"])) if known else b'{"type":"x","first":%d}' % first
    for again in (False, True):
        with pytest.raises(Hole) as raised:
            intake.take(message([batch], known))
        assert (raised.value.next, raised.value.again) == (1, again)
    assert intake.conclude(first) == []
