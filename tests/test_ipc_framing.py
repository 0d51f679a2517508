"""`twistedipc.ipc.wire.framing` and `twistedipc.ipc.wire.credit`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter, longest_line

LIMIT = 8


def fed(chunks: list[bytes], limit: int = LIMIT) -> tuple[bytes, bool]:
    """All that came out, and whether a line was too long."""
    splitter, out = LineSplitter(limit), b""
    for chunk in chunks:
        try:
            out += splitter.feed(chunk)
        except FrameTooLong as error:
            return out + error.complete, True
        assert splitter.pending <= limit
    return out, False


def test_blocks_of_complete_lines() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b"a\nb") == b"a\n"
    assert splitter.feed(b"c") == b""
    assert splitter.pending == 2
    assert splitter.feed(b"\nd\ne\n") == b"bc\nd\ne\n"
    assert splitter.pending == 0


@pytest.mark.parametrize(("length", "too_long"), [(LIMIT - 1, False), (LIMIT, False), (LIMIT + 1, True)])
@pytest.mark.parametrize("before", [b"", b"ok\n"])
def test_the_limit(length: int, too_long: bool, before: bytes) -> None:
    line = b"x" * length
    expected = before if too_long else before + line + b"\n"
    assert fed([before + line + b"\nnext\n"]) == (expected + (b"" if too_long else b"next\n"), too_long)
    assert fed([before + line, b"\n"]) == (expected, too_long)


def test_an_endless_line_is_never_kept() -> None:
    splitter = LineSplitter(1000)
    for _ in range(1000):
        splitter.feed(b"x")
    with pytest.raises(FrameTooLong):
        splitter.feed(b"x")
    assert splitter.pending == 0


def test_a_higher_limit_holds_from_then_on() -> None:
    splitter = LineSplitter(4)
    splitter.feed(b"abc")
    splitter.limit = 10
    assert splitter.feed(b"defg\n") == b"abcdefg\n"


@given(st.lists(st.binary(max_size=LIMIT + 2).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
def test_every_cut_gives_the_same(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    good = 0
    while good < len(lines) and len(lines[good]) <= LIMIT:
        good += 1
    expected = b"".join(line + b"\n" for line in lines[:good])
    assert fed(chunks) == (expected, good < len(lines))


def test_longest_line() -> None:
    assert longest_line(b"abc\nde\n") == 3
    assert longest_line(b"\n") == 0


def test_credit_is_spent_and_given_back() -> None:
    window = CreditWindow(10)
    window.spend(4)
    assert (window.free, window.spent) == (6, 4)
    window.spend(20)  # one item may go over
    assert window.free == 0
    with pytest.raises(ValueError, match="no credit"):
        window.spend(1)
    window.give_back(20)
    assert window.free == 6
    window.give_back_all()
    assert window.free == 10


def test_credit_of_a_parent_is_shared() -> None:
    link = CreditWindow(10)
    one, other = CreditWindow(8, link), CreditWindow(8, link)
    one.spend(7)
    assert (one.free, other.free, link.free) == (1, 3, 3)
    other.spend(3)
    assert (one.free, other.free) == (0, 0)
    one.give_back_all()
    assert (link.spent, other.free) == (3, 5)


def test_credit_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="room"):
        CreditWindow(0)
    window = CreditWindow(5)
    with pytest.raises(ValueError, match="under way"):
        window.give_back(1)
    with pytest.raises(ValueError, match="less than nothing"):
        window.spend(-1)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), max_size=40))
def test_a_parent_is_the_sum_of_its_windows(items: list[tuple[int, int]]) -> None:
    link = CreditWindow(20)
    windows = [CreditWindow(12, link), CreditWindow(12, link)]
    for which, n in items:
        window = windows[which]
        if window.free:
            window.spend(n)
        else:
            window.give_back(window.spent // 2)
        assert link.spent == sum(w.spent for w in windows)
        assert link.spent < 20 + 9
        assert all(w.spent < 12 + 9 for w in windows)
