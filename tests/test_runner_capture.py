"""Capture: lines, fragments, characters and numbers, at every cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.logs import MAX_BATCH_BYTES, MAX_LINE_BYTES, Lines, Notice, valid_shape
from twistedipc.runner.capture import BLOCK_BYTES, Capture


def records(batches: list[Lines]) -> list[tuple[str, bool]]:
    """(record, whether it goes on) of all batches, whose numbers are checked."""
    found: list[tuple[str, bool]] = []
    for batch in batches:
        assert valid_shape(batch)
        assert batch.first == len(found) + 1
        for index, record in enumerate(batch.lines):
            assert isinstance(record, str)
            found.append((record, index in batch.more))
    return found


def joined(found: list[tuple[str, bool]]) -> str:
    """What the records stand for."""
    return "".join(record + ("" if more else "\n") for record, more in found)


def test_lines() -> None:
    capture = Capture()
    assert capture.feed(b"one\ntwo\r\n50%\r99%\nth", 7, 2) == [
        Lines(first=1, time=7, step=2, lines=["one", "two\r", "50%\r99%"])
    ]
    assert capture.feed(b"re", 8, 2) == []
    assert capture.feed(b"e\n\n", 9, 2) == [Lines(first=4, time=9, step=2, lines=["three", ""])]
    assert capture.end_output(10, 2) == []
    assert capture.next == 6


def test_last_line_without_an_end() -> None:
    capture = Capture()
    assert capture.feed(b"no end", 1, 0) == []
    assert capture.end_output(2, 0) == [Lines(first=1, time=2, step=0, lines=["no end"])]
    assert capture.end_output(3, 0) == []


def test_lengths_around_the_limit() -> None:
    for length, expected in [(15, [15]), (16, [16]), (17, [16, 1]), (32, [16, 16]), (33, [16, 16, 1])]:
        capture = Capture(max_line=16)
        found = records(capture.feed(b"x" * length + b"\n", 1, 0))
        assert [len(record) for record, _more in found] == expected
        assert [more for _record, more in found] == [True] * (len(expected) - 1) + [False]


def test_a_character_is_never_cut() -> None:
    capture = Capture(max_line=16)
    found = records(capture.feed("€€€€€€€\n".encode(), 1, 0))
    assert found == [("€€€€€", True), ("€€", False)]


def test_partial_line_is_shown_as_a_fragment() -> None:
    capture = Capture()
    assert capture.feed(b"Continue? ", 1, 0) == []
    waits = capture.pending
    assert capture.flush_partial(2, 0) == [Lines(first=1, time=2, step=0, lines=["Continue? "], more=[0])]
    assert (waits, capture.pending) == (True, False)
    assert capture.flush_partial(3, 0) == []
    assert capture.feed(b"y\n", 4, 0) == [Lines(first=2, time=4, step=0, lines=["y"])]


def test_fragment_that_nothing_follows_is_closed_by_an_empty_line() -> None:
    capture = Capture()
    capture.feed(b"prompt", 1, 0)
    capture.flush_partial(1, 0)
    assert capture.end_output(2, 0) == [Lines(first=2, time=2, step=0, lines=[""])]


def test_an_event_cuts_no_line() -> None:
    capture = Capture()
    capture.feed(b"half", 1, 0)
    event = Notice("info", "hear, hear")
    assert capture.event(event, 2, 0) == [Lines(first=1, time=2, step=0, lines=[event])]
    assert capture.feed(b" a line\n", 3, 0) == [Lines(first=2, time=3, step=0, lines=["half a line"])]


def test_an_event_ends_a_line_that_is_shown_in_part() -> None:
    capture = Capture()
    capture.feed(b"half", 1, 0)
    capture.flush_partial(1, 0)
    event = Notice("info", "hear, hear")
    assert capture.event(event, 2, 0) == [
        Lines(first=2, time=2, step=0, lines=[""]),
        Lines(first=3, time=2, step=0, lines=[event]),
    ]
    assert capture.feed(b" a line\n", 3, 0) == [Lines(first=4, time=3, step=0, lines=[" a line"])]


def test_flush_never_shows_the_beginning_of_a_secret() -> None:
    capture = Capture(["hunter2!"])
    capture.feed(b"pw hunt", 1, 0)
    assert records(capture.flush_partial(2, 0)) == [("pw ", True)]
    assert not capture.pending
    assert capture.feed(b"er2!\n", 3, 0)[0].lines == ["***"]


def test_fragments_never_show_a_secret() -> None:
    secret = "hunter2!"
    for offset in range(20):
        capture = Capture([secret], max_line=16)
        batches = capture.feed(b"." * offset + secret.encode() + b"." * 20, 1, 0) + capture.end_output(1, 0)
        text = joined(records(batches))
        assert text == "." * offset + "***" + "." * 20 + "\n"


def test_a_block_fits_one_batch() -> None:
    capture = Capture()
    capture.feed(b"x" * MAX_LINE_BYTES, 1, 0)
    assert len(capture.feed(b"\n" + b"x" * 199 + b"\n" * (BLOCK_BYTES - 200), 1, 0)) == 1


def test_batches_are_bounded() -> None:
    capture = Capture()
    batches = capture.feed((b"\xff" * 1000 + b"\n") * 60, 1, 0)  # each of those bytes becomes three
    assert len(batches) > 1
    assert len(records(batches)) == 60
    for batch in batches:
        assert sum(len(str(record).encode()) for record in batch.lines) <= MAX_BATCH_BYTES


def test_long_line_in_single_bytes() -> None:
    capture = Capture()
    batches = [batch for _ in range(40_000) for batch in capture.feed(b"x", 1, 0)] + capture.end_output(1, 0)
    assert [len(record) for record, _more in records(batches)] == [16384, 16384, 7232]


def test_hostile_bytes() -> None:
    capture = Capture()
    data = "x\n".encode("utf-16") + b"\0\x1b[2J\n\xc0\xaf\xed\xa0\x80\n\xf0\x9f"
    found = records(capture.feed(data, 1, 0) + capture.end_output(1, 0))
    assert joined(found) == data.decode("utf-8", "replace") + "\n"


_data = st.lists(
    st.one_of(
        st.binary(max_size=20), st.text(max_size=20).map(str.encode), st.sampled_from([b"\n", b"\r\n", b"sesame"])
    ),
    max_size=30,
).map(b"".join)


@given(data=_data, cuts=st.lists(st.integers(0, 400), max_size=30), limit=st.integers(4, 40))
def test_every_cut_gives_the_same_records(data: bytes, cuts: list[int], limit: int) -> None:
    whole = Capture(["sesame"], max_line=limit)
    expected = records(whole.feed(data, 1, 0) + whole.end_output(1, 0))
    capture = Capture(["sesame"], max_line=limit)
    batches: list[Lines] = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        batches += capture.feed(data[at:cut], 1, 0)
        at = max(at, min(cut, len(data)))
    assert records(batches + capture.end_output(1, 0)) == expected
    assert all(len(record.encode()) <= limit for record, _more in expected)
    text = data.replace(b"sesame", b"***").decode("utf-8", "replace")
    assert joined(expected) == text + ("" if text.endswith("\n") or not text else "\n")


@given(
    data=_data, cuts=st.lists(st.integers(0, 400), max_size=30), flush=st.lists(st.booleans(), min_size=31, max_size=31)
)
def test_flushes_change_no_text(data: bytes, cuts: list[int], flush: list[bool]) -> None:
    capture = Capture(["sesame"], max_line=32)
    batches: list[Lines] = []
    at = 0
    for cut, flushed in zip([*sorted(cuts), len(data)], flush, strict=False):
        batches += capture.feed(data[at:cut], 1, 0)
        at = max(at, min(cut, len(data)))
        if flushed:
            batches += capture.flush_partial(1, 0)
    text = joined(records(batches + capture.end_output(1, 0)))
    expected = data.replace(b"sesame", b"***").decode("utf-8", "replace")
    assert text in (expected, expected + "\n")
    assert "sesame" not in text
